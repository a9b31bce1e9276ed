"""Which parameter is trained how: AdamW or Muon, which weights decay, how the rate falls from the head to the stem.

- Weight decay pulls on matrices and kernels, not on biases, norms or the temperature, nor on names left out by hand.
- Layer-wise decay of the rate (as in BEiT, Bao et al. 2022): group g of a tower's G groups, stem first, learns at
  rate * decay^(G - 1 - g): what pretraining made general moves least.
- Muon (Jordan et al. 2024) makes the update of a matrix orthogonal; PyTorch's own, with its size matched to AdamW's
  (Moonshot 2025), so that one rate serves both. Everything that is not the matrix of a linear map stays with AdamW.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bahumukha.nn.precision import bfloat16_is_fast

if TYPE_CHECKING:
    from bahumukha.train.loop import LoopConfig

NUMBERED = re.compile(r"(?:^|\.)(?:blocks|resblocks|layers|stages|layer)\.?(\d+)\.")
"""`blocks.3.attention.qkv.weight`: block 3. The outermost number counts, as in EfficientNet's stages of blocks."""


SETTINGS = ("lr", "weight_decay", "betas", "rate")
"""Of a group of parameters: what a config says and no step changes, or every step sets anew."""


def take_up(optimizer: torch.optim.Optimizer | MuonAndAdamW, state: Mapping[str, Any]) -> None:
    """Load what a checkpoint holds of an optimiser but its settings, which are those of the run that goes on."""
    asked = [{key: group[key] for key in SETTINGS if key in group} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)  # type: ignore[arg-type]
    for group, own in zip(optimizer.param_groups, asked, strict=True):
        group.update(own)


def rate_at(progress: float, step: int, config: LoopConfig) -> float:
    """Linear warm-up, then half a cosine down to `final_rate` of the peak."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    low = config.final_rate
    return config.learning_rate * warm * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def layer_groups(tower: nn.Module) -> list[list[str]]:
    """Names of a tower's parameters from the stem to the head: [stem, block 0, block 1, …, head].

    The stem is what is registered before the first block (patches, tokens, positions), the head what comes after the
    last one (norm, pooling) and every `projection`. A tower without numbered blocks is one group.
    """
    stem: list[str] = []
    blocks: dict[int, list[str]] = {}
    head: list[str] = []
    for name, _ in tower.named_parameters():
        if found := NUMBERED.search(f".{name}"):
            blocks.setdefault(int(found[1]), []).append(name)
        elif blocks or name.startswith(("projection", "proj", "head")):
            head.append(name)
        else:
            stem.append(name)
    return [names for names in (stem, *(blocks[i] for i in sorted(blocks)), head) if names]


def layer_rates(tower: nn.Module, decay: float, prefix: str = "") -> dict[str, float]:
    """Parameter name (with `prefix`) -> its factor of the rate, 1 for the head."""
    groups = layer_groups(tower)
    return {prefix + name: decay ** (len(groups) - 1 - g) for g, names in enumerate(groups) for name in names}


def optimizer_for(
    model: nn.Module,
    config: LoopConfig,
    *,
    rates: Mapping[str, float] | None = None,
    later: Iterable[str] = (),
) -> AdamW | MuonAndAdamW:
    """The optimiser of the parameters that require a gradient, and of those in `later`, which will.

    `rates`: factors of the learning rate by parameter name, 1 where not given. A group's factor is its `rate`.
    """
    rates, later = rates or {}, set(later)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad or n in later}
    matrices: dict[str, nn.Parameter] = {}
    if config.optimizer == "muon":
        linear = {f"{n}.weight" if n else "weight" for n, m in model.named_modules() if isinstance(m, nn.Linear)}
        matrices = {n: p for n, p in trained.items() if n in linear}
    rest = {n: p for n, p in trained.items() if n not in matrices}
    fused = all(p.device.type in ("cpu", "cuda") for p in rest.values())  # one pass over the weights, not eight
    adamw = AdamW(_groups(rest, config, rates), lr=config.learning_rate, betas=config.betas, fused=fused or None)
    if not matrices:
        return adamw
    sharded = any(_is_sharded(p) for p in matrices.values())
    kind = torch.optim.Muon if bfloat16_is_fast() and not sharded else Float32Muon
    muon = kind(_groups(matrices, config, rates), lr=config.learning_rate, adjust_lr_fn="match_rms_adamw")
    return MuonAndAdamW(muon, adamw)


def _groups(
    parameters: Mapping[str, nn.Parameter], config: LoopConfig, rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Decayed and spared parameters of each rate; the first two groups are those of rate 1, empty or not."""

    def decays(name: str, parameter: nn.Parameter) -> bool:
        return parameter.dim() >= 2 and not any(part in name for part in config.no_weight_decay)

    groups = []
    for factor in [1.0, *sorted({rates.get(n, 1.0) for n in parameters} - {1.0}, reverse=True)]:
        chosen = [(n, p) for n, p in parameters.items() if rates.get(n, 1.0) == factor]
        for decayed in (True, False):
            members = [p for n, p in chosen if decays(n, p) == decayed]
            if members or factor == 1.0:
                weight_decay = config.weight_decay if decayed else 0.0
                groups.append({"params": members, "weight_decay": weight_decay, "rate": factor})
    return groups


class AdamW(torch.optim.AdamW):
    """PyTorch's, for weights of which some are sharded (`train.sharding`) and some are not: its fused step takes
    either, not both at once."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update."""
        groups = self.param_groups
        if not any(_is_sharded(p) for group in groups for p in group["params"]):
            super().step()
            return
        try:
            for sharded in (True, False):
                self.param_groups = [
                    group | {"params": [p for p in group["params"] if _is_sharded(p) == sharded]} for group in groups
                ]
                super().step()
        finally:
            self.param_groups = groups


def _is_sharded(parameter: Tensor) -> bool:
    return hasattr(parameter, "to_local")  # a DTensor, whose module is not imported for this


class Float32Muon(torch.optim.Muon):
    """PyTorch's Muon with its iteration in float32, for processors without bfloat16 arithmetic, on which PyTorch's own
    takes more than a second for one matrix of 256 x 1024; with it, it takes a quarter of this one's time."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """momentum <- mix of momentum and gradient; weights -= rate * size * orthogonal(momentum)."""
        for group in self.param_groups:
            momentum, rate = group["momentum"], group["lr"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                buffer = state.setdefault("momentum_buffer", torch.zeros_like(p.grad))
                buffer.lerp_(p.grad, 1 - momentum)
                update = p.grad.lerp(buffer, momentum) if group["nesterov"] else buffer
                p.mul_(1 - rate * group["weight_decay"])
                size = 0.2 * math.sqrt(max(p.shape))  # the root mean square of an AdamW update
                p.add_(_orthogonal(update, group["ns_coefficients"], group["ns_steps"]), alpha=-rate * size)


def _orthogonal(x: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    """As `orthogonal`; each process works out the whole of a sharded matrix, and keeps its part."""
    if not _is_sharded(x):
        return orthogonal(x, coefficients, steps)
    from bahumukha.train.sharding import part_of

    return part_of(orthogonal(x.full_tensor(), coefficients, steps), x)  # type: ignore[attr-defined]


def orthogonal(x: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    """Newton-Schulz iteration: a matrix whose singular values all come near 1 (from 0.7 to 1.2)."""
    a, b, c = coefficients
    tall = x.shape[0] > x.shape[1]
    y = x.T if tall else x
    y = y / y.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = y @ y.T
        y = torch.addmm(y, torch.addmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    return y.T if tall else y


class MuonAndAdamW:
    """Two optimisers that are stepped, stored and scheduled as one."""

    def __init__(self, muon: torch.optim.Muon, adamw: AdamW):
        self.muon, self.adamw = muon, adamw

    @property
    def parts(self) -> tuple[Float32Muon | torch.optim.Muon, AdamW]:
        """The two."""
        return self.muon, self.adamw

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Of both."""
        return [*self.muon.param_groups, *self.adamw.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients."""
        self.muon.zero_grad(set_to_none)
        self.adamw.zero_grad(set_to_none)

    def step(self) -> None:
        """One update of everything that has a gradient."""
        self.muon.step()
        self.adamw.step()

    def state_dict(self) -> dict[str, Any]:
        """By the optimiser's name."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.muon.load_state_dict(state["muon"])
        self.adamw.load_state_dict(state["adamw"])
