"""The training loop that every model shares: AdamW, warm-up and cosine, a time budget, atomic checkpoints.

A model brings two things: batches (any iterator) and `step(batch) -> {name: loss}`, of which `loss` is minimised.

    for report in train(model, batches, step, LoopConfig(minutes=30), out): print(report)
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast. The schedule ends at `steps` or after `minutes`, whichever is first."""

    steps: int = 10_000
    minutes: float | None = None
    learning_rate: float = 1e-3
    final_rate: float = 0.01
    """The rate at the end, as a part of `learning_rate`."""
    warmup_steps: int = 100
    weight_decay: float = 0.05
    """On matrices only: not on biases and norms."""
    betas: tuple[float, float] = (0.9, 0.98)
    clip_norm: float = 1.0
    log_every: int = 50
    checkpoint_minutes: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; at least 1 is needed")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be above 0")


@dataclass(frozen=True)
class Report:
    """Mean losses since the last report; `progress` runs from 0 to 1."""

    step: int
    progress: float
    seconds: float
    learning_rate: float
    losses: dict[str, float]

    def __str__(self) -> str:
        losses = "  ".join(f"{name} {value:.4f}" for name, value in self.losses.items())
        return f"{self.step:6d}  {self.progress:5.1%}  {self.seconds:6.0f} s  lr {self.learning_rate:.2e}  {losses}"


def bfloat16_is_fast() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; elsewhere autocast is many times slower."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def rate_at(progress: float, step: int, config: LoopConfig) -> float:
    """Linear warm-up, then half a cosine down to `final_rate` of the peak."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    low = config.final_rate
    return config.learning_rate * warm * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def optimizer_for(model: nn.Module, config: LoopConfig) -> torch.optim.AdamW:
    """AdamW with decay on matrices only."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)


def train(
    model: nn.Module,
    batches: Iterator[Any],
    step: Callable[[Any], dict[str, Tensor]],
    config: LoopConfig,
    out: Path,
    resume: bool = False,
) -> Iterator[Report]:
    """Train in place, yielding a report every `log_every` steps; `out/checkpoint.pt` is always whole.

    With `resume` the weights, optimiser and clock of `out` are taken up. The batches are the caller's, who may
    skip those already seen (`Report.step`).
    """
    out.mkdir(parents=True, exist_ok=True)
    optimizer = optimizer_for(model, config)
    at, spent = _resume(model, optimizer, out) if resume else (0, 0.0)
    started = saved = time.monotonic()
    sums: dict[str, float] = {}
    autocast = bfloat16_is_fast()
    device = next(model.parameters()).device.type
    model.train()
    while True:
        seconds = spent + time.monotonic() - started
        progress = max(at / config.steps, seconds / (60 * config.minutes) if config.minutes else 0.0)
        if progress >= 1:
            break
        rate = rate_at(progress, at, config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            losses = step(next(batches))
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        at += 1
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if at % config.log_every == 0:
            means = {name: value / config.log_every for name, value in sums.items()}
            sums = {}
            yield Report(at, progress, spent + time.monotonic() - started, rate, means)
        if time.monotonic() - saved > 60 * config.checkpoint_minutes:
            save_checkpoint(model, optimizer, at, spent + time.monotonic() - started, config, out)
            saved = time.monotonic()
    save_checkpoint(model, optimizer, at, spent + time.monotonic() - started, config, out)
    model.eval()


def save_checkpoint(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
    config: LoopConfig,
    out: Path,
) -> None:
    """Written aside and renamed, so that a kill at any moment leaves the last whole one."""
    aside = out / "checkpoint.pt.new"
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "seconds": seconds}
    torch.save(state, aside)
    os.replace(aside, out / "checkpoint.pt")
    (out / "loop.json").write_text(json.dumps({"step": step, "seconds": seconds, **asdict(config)}, indent=1))


def _resume(model: nn.Module, optimizer: torch.optim.Optimizer, out: Path) -> tuple[int, float]:
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["seconds"]
