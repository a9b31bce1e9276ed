"""The training loop that every model shares: warm-up and cosine, a time budget, whole checkpoints, exact resuming.

A model brings two things: batches and `step(batch) -> {name: loss}`, of which `loss` is minimised.

    for report in train(model, batches, step, LoopConfig(minutes=30), out): print(report)

`out` then holds `checkpoint.pt` (the last state, all of it), `best.pt` (the weights of the best score),
`metrics.jsonl`, `curves.png` and `loop.json`. A run that is resumed goes on bit for bit as if it had never stopped,
when its batches can be asked for by step (`Addressable`) and its end is a number of steps and not of minutes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from bahumukha.errors import Interrupted, UsageError
from bahumukha.nn.precision import Precision, autocast, bfloat16_is_fast
from bahumukha.runtime import stop_signals
from bahumukha.train import processes
from bahumukha.train.averaging import WeightMean
from bahumukha.train.checkpoints import BEST, LAST, random_state, read_checkpoint, set_random_state, write_whole
from bahumukha.train.optimizers import optimizer_for, rate_at, take_up
from bahumukha.train.parallel import Copies, Parallel, shared_as
from bahumukha.train.record import Record

__all__ = ["Addressable", "LoopConfig", "Report", "bfloat16_is_fast", "optimizer_for", "rate_at", "train"]

Step = Callable[[Any], dict[str, Tensor]]
Validate = Callable[[nn.Module], dict[str, float]]


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
    """Longest gradient, all parameters together; 0 for no limit."""
    log_every: int = 50
    checkpoint_minutes: float = 5.0
    seed: int = 0
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon` for the matrices of linear maps, AdamW for the rest (`train.optimizers`)."""
    no_weight_decay: tuple[str, ...] = ()
    """Parts of names of parameters that are not decayed, whatever their shape."""
    layer_decay: float = 1.0
    """Rate of each group of layers over that of the one above it, where a model tells its layers; 1 for all alike."""
    accumulate: int = 1
    """Batches whose mean gradient makes one step. (A contrastive loss is not a mean over parts: see `train.clip`.)"""
    average: float = 0.0
    """Decay of the running mean of the weights (EMA), as 0.999; 0 for none. A run with it ends on the mean."""
    precision: Precision = "auto"
    """Of matrix products; the weights stay float32. `auto`: bfloat16 where the processor has it."""
    parallel: Parallel = "ddp"
    """Of several processes: each holds the model (`ddp`), or its part of every weight (`fsdp`; `train.sharding`)."""
    validate_every: int = 0
    """Steps between validations; 0 for one at the end, if there is anything to validate with."""
    best_score: str = ""
    """Name of the score whose best weights are kept in `best.pt`; empty for none."""
    best_is: Literal["highest", "lowest"] = "highest"
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1 is needed")
        for name in ("learning_rate", "layer_decay"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("warmup_steps", "weight_decay", "clip_norm", "validate_every", "checkpoint_minutes", "final_rate"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"minutes is {self.minutes}; it must be above 0")
        if not 0 <= self.average < 1:
            raise ValueError(f"average is {self.average}; it must be at least 0 and below 1, as 0.999")


def check_best(optimisation: LoopConfig, validates: bool, weights: str) -> None:
    """Whether the best weights can be told, in a config that says which are wanted, "last" or "best", and whether it
    has a [validation]. Raises ValueError."""
    if optimisation.best_score and not validates:
        raise ValueError("optimisation.best_score needs a [validation] to take the score from")
    if weights == "best" and not optimisation.best_score:
        raise ValueError("output.weights is 'best'; name the score in optimisation.best_score")


@dataclass(frozen=True)
class Report:
    """Mean losses since the last report; `progress` runs from 0 to 1."""

    step: int
    progress: float
    seconds: float
    learning_rate: float
    losses: dict[str, float]
    scores: dict[str, float] = field(default_factory=dict)
    """Of the validation at this step, if there was one."""

    def __str__(self) -> str:
        values = "  ".join(f"{name} {value:.4f}" for name, value in (self.losses | self.scores).items())
        return f"{self.step:6d}  {self.progress:5.1%}  {self.seconds:6.0f} s  lr {self.learning_rate:.2e}  {values}"


@runtime_checkable
class Addressable(Protocol):
    """Batches of which each is a function of its number, so that a resumed run sees what it would have seen."""

    def starting_at(self, number: int) -> Iterator[Any]:
        """Batch `number` and those after it."""
        ...


class Stateful(Protocol):
    """Something whose state a checkpoint holds beside the model's, such as a critic with an optimiser of its own."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> Any:
        """Inverse of `state_dict`."""
        ...


def train(
    model: nn.Module,
    batches: Iterator[Any] | Addressable,
    step: Step,
    config: LoopConfig,
    out: Path,
    resume: bool = False,
    *,
    validate: Validate | None = None,
    before_step: Callable[[int, float], None] | None = None,
    rates: Mapping[str, float] | None = None,
    later: tuple[str, ...] = (),
    beside: Stateful | None = None,
) -> Iterator[Report]:
    """Train in place, yielding a report every `log_every` steps, after each validation, and at the end.

    With `resume` everything is taken up as `out/checkpoint.pt` has it: weights, optimiser, mean, clock, random
    generators, and the place among the batches if they are `Addressable` (an iterator is taken from where it stands).

    `validate(model) -> {name: score}` is called in eval mode without gradients, on the mean of the weights if there is
    one. `before_step(step, progress)` may lock and unlock parameters; those that are locked at first are named in
    `later`. `rates`: factors of the learning rate by parameter name. `beside`: what else a resumed run takes up.

    Ctrl-C (or SIGTERM) ends the step in hand, writes a checkpoint and raises Interrupted, which says how to go on.
    Raises UsageError when the loss is not finite any more; the checkpoint before stays.
    """
    out.mkdir(parents=True, exist_ok=True)
    shared = shared_as(config.parallel, model, step)
    run = _Run(shared, config, out, optimizer_for(model, config, rates=rates, later=later), beside)
    if processes.are_several():
        torch.manual_seed(config.seed + 1 + processes.rank())  # the same weights everywhere, other units dropped
    if resume:
        run.take_up()
    number = run.step * config.accumulate
    taken = batches.starting_at(number) if isinstance(batches, Addressable) else batches
    model.train()
    with run.record(), stop_signals() as stop:
        begun = run.step
        run.start_clock()
        while True:
            progress, stopping, age = processes.largest([run.progress(), float(stop.is_set()), run.age()], run.device)
            if progress >= 1:
                break
            if stopping:
                run.save()
                raise Interrupted(f"stopped after step {run.step}, which {out / LAST} holds; go on with --resume {out}")
            if age > 60 * config.checkpoint_minutes:
                run.save()
            if before_step is not None:
                before_step(run.step, progress)
            rate = rate_at(progress, run.step, config)
            if not run.take_step(taken, rate):
                break  # the batches have ended
            scores = run.scores(validate) if run.validates_now() else {}
            if scores or run.step % config.log_every == 0:
                yield run.report(progress, rate, scores)
        scores = {}
        if validate is not None and begun < run.step != run.validated_at:
            run.save()  # whatever the last validation comes to
            scores = run.scores(validate)
        if run.window or scores:
            yield run.report(run.progress(), rate_at(run.progress(), run.step, config), scores)
        run.save()
    if run.mean is not None:
        model.load_state_dict(run.mean.mean)
    shared.end()
    model.eval()


class _Run:
    """The state of a run: all that a checkpoint holds, and the folder it is written to."""

    def __init__(self, shared: Copies, config: LoopConfig, out: Path, optimizer: Any, beside: Stateful | None = None):
        self.shared, self.config, self.out, self.optimizer, self.beside = shared, config, out, optimizer, beside
        self.model = model = shared.model
        self.device = next(model.parameters()).device
        self.trained = [p for group in optimizer.param_groups for p in group["params"]]
        self.mean = WeightMean(model, config.average) if config.average else None
        self.step, self.spent = 0, 0.0
        self.best: float | None = None
        self.window: dict[str, list[Tensor]] = {}
        """Losses since the last report, unread: asking for a number would make a GPU wait."""
        self.validated_at = -1
        self.autocast = autocast(config.precision, self.device.type)
        self._record: Record | None = None
        self.start_clock()

    # --- the clock --------------------------------------------------------------------------------------------

    def start_clock(self) -> None:
        self.started = self.saved = time.monotonic()

    def age(self) -> float:
        """Seconds since the last checkpoint."""
        return time.monotonic() - self.saved

    def seconds(self) -> float:
        """Of training, over all sittings."""
        return self.spent + time.monotonic() - self.started

    def progress(self) -> float:
        """From 0 to 1, by steps or minutes, whichever is further."""
        by_time = self.seconds() / (60 * self.config.minutes) if self.config.minutes else 0.0
        return max(self.step / self.config.steps, by_time)

    # --- one step ---------------------------------------------------------------------------------------------

    def take_step(self, batches: Iterator[Any], rate: float) -> bool:
        """Forward, backward, update; False when there are no more batches."""
        self.optimizer.zero_grad(set_to_none=True)
        for _ in range(self.config.accumulate):
            batch = next(batches, None)
            if batch is None:
                return False
            with self.autocast:
                losses = self.shared.step(batch)
            loss = losses["loss"]
            (loss / self.config.accumulate if self.config.accumulate > 1 else loss).backward()
            for name, value in losses.items():
                self.window.setdefault(name, []).append(value.detach().clone())
        self.shared.finish_gradients(self.trained, self.config.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("rate", 1.0)
        self.optimizer.step()
        self.step += 1
        if self.mean is not None:
            self.mean.update(self.model)
        return True

    # --- reports ----------------------------------------------------------------------------------------------

    def validates_now(self) -> bool:
        every = self.config.validate_every
        return bool(every) and self.step % every == 0

    def scores(self, validate: Validate | None) -> dict[str, float]:
        """Validate, and keep the weights in `best.pt` if they are the best so far."""
        if validate is None:
            return {}
        with self.mean.swapped_in(self.model) if self.mean else nullcontext():
            self.model.eval()
            with self.shared.whole(), torch.no_grad(), self.autocast:
                scores = validate(self.model)
            self.model.train()
            self.validated_at = self.step
            self._keep_if_best(scores)
        return scores

    def _keep_if_best(self, scores: dict[str, float]) -> None:
        name = self.config.best_score
        if not name:
            return
        if name not in scores:
            raise UsageError(f"best_score is {name!r}; the validation gives {', '.join(sorted(scores)) or 'no scores'}")
        sign = 1 if self.config.best_is == "highest" else -1
        if self.best is None or sign * scores[name] > sign * self.best:
            self.best = scores[name]
            weights = self.shared.gathered(self.model.state_dict())
            if processes.rank() == 0:
                write_whole(self.out / BEST, {"model": weights, "step": self.step, "score": self.best})

    def report(self, progress: float, rate: float, scores: dict[str, float]) -> Report:
        """Means over the steps since the last report and over the processes; written down, then given out."""
        losses = processes.average(self._means(), self.device)
        self._check_finite(losses)
        self.window = {}
        report = Report(self.step, progress, self.seconds(), rate, losses, scores)
        if self._record is not None:
            self._record.add(report)
        return report

    def _means(self) -> dict[str, float]:
        return {name: float(torch.stack(v).cpu().double().mean()) for name, v in self.window.items()}

    def _check_finite(self, losses: Mapping[str, float]) -> None:
        for name, value in losses.items():
            if value - value != 0:  # of infinity and of not-a-number it is not a number
                raise UsageError(
                    f"step {self.step}: the {name} is {value}; lower learning_rate or raise warmup_steps"
                    f" ({self.out / LAST} holds the run before that, if it exists)"
                )

    @contextmanager
    def record(self) -> Iterator[None]:
        """`metrics.jsonl` and the rest are open inside the block, on the first process only."""
        if processes.rank() == 0:
            self._record = Record(self.out, self.step, self.config.tensorboard)
        try:
            yield
        finally:
            if self._record is not None:
                self._record.close()

    # --- checkpoints ------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the whole state, if it is one to go on from."""
        self._check_finite(processes.average(self._means(), self.device))
        generators = processes.everyones(random_state())
        self.saved = time.monotonic()
        held = {
            "model": dict(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "mean": self.mean.state_dict() if self.mean else None,
        }
        held = self.shared.gathered(held)
        if processes.rank() != 0:
            return
        state = held | {
            "step": self.step,
            "seconds": self.seconds(),
            "best": self.best,
            "window": {name: torch.stack(values).cpu() for name, values in self.window.items()},
            "random": generators,
            "beside": self.beside.state_dict() if self.beside else None,
        }
        write_whole(self.out / LAST, state)
        settings = {"step": self.step, "seconds": self.seconds(), **asdict(self.config)}
        write_whole(self.out / "loop.json", json.dumps(settings, indent=1))
        if self._record is not None:
            self._record.draw()

    def take_up(self) -> None:
        """Go on from the checkpoint. Those of earlier versions hold weights, optimiser and clock only."""
        state = read_checkpoint(self.out)
        try:
            self.model.load_state_dict(self.shared.scattered(state["model"], self.model.state_dict()))
            take_up(self.optimizer, state["optimizer"])
            self.shared.scatter_optimizer(self.optimizer)
            if self.beside is not None and state.get("beside") is not None:
                self.beside.load_state_dict(state["beside"])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UsageError(
                f"{self.out / LAST}: is of another model or optimiser than asked for ({reason})"
            ) from error
        self.step, self.spent, self.best = state["step"], state["seconds"], state.get("best")
        if self.mean is not None and state.get("mean"):
            mean = state["mean"]
            self.mean.load_state_dict(mean | {"mean": self.shared.scattered(mean["mean"], self.mean.mean)})
        self.window = {k: list(v.to(self.device)) for k, v in state.get("window", {}).items()}
        generators = state.get("random", [])
        if processes.rank() < len(generators):
            set_random_state(generators[processes.rank()])
