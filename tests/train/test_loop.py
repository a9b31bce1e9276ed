"""The loop: losses fall, the schedule ends where it should, a run goes on from its checkpoint bit for bit."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bahumukha.errors import Interrupted, ModelError, UsageError
from bahumukha.train import loop
from bahumukha.train.checkpoints import read_checkpoint
from bahumukha.train.loop import LoopConfig, Report, bfloat16_is_fast, optimizer_for, rate_at, train
from bahumukha.train.record import curves, read_metrics


def problem(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(64, 5, generator=generator)
    y = x @ torch.randn(5, 1, generator=generator)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1))
    return model, itertools.repeat((x, y))


def step_of(model):
    return lambda batch: {"loss": (model(batch[0]) - batch[1]).square().mean()}


def test_loss_falls_and_reports_are_means(tmp_path):
    model, batches = problem()
    config = LoopConfig(steps=200, learning_rate=1e-2, warmup_steps=10, log_every=20, weight_decay=0.0)
    reports = list(train(model, batches, step_of(model), config, tmp_path))
    assert [r.step for r in reports] == list(range(20, 201, 20))
    assert reports[-1].losses["loss"] < reports[0].losses["loss"] / 5
    assert "loss" in str(reports[0]) and not model.training


def test_checkpoint_resumes_weights_optimizer_and_step(tmp_path):
    model, batches = problem()
    list(train(model, batches, step_of(model), LoopConfig(steps=30, log_every=10), tmp_path))
    other, batches = problem(1)
    reports = list(train(other, batches, step_of(other), LoopConfig(steps=40, log_every=10), tmp_path, resume=True))
    assert [r.step for r in reports] == [40]
    assert not (tmp_path / "checkpoint.pt.new").exists()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_settings_that_were_changed_are_those_that_a_run_goes_on_with(tmp_path, optimizer):
    model, batches = problem()
    before = LoopConfig(steps=3, optimizer=optimizer, weight_decay=0.05, betas=(0.9, 0.98))
    list(train(model, batches, step_of(model), before, tmp_path))
    seen: list[dict] = []
    after = replace(before, steps=4, weight_decay=5.0, betas=(0.5, 0.5))
    made = loop.optimizer_for

    def kept(*arguments, **options):
        seen.append(made(*arguments, **options))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "optimizer_for", kept)
        list(train(model, batches, step_of(model), after, tmp_path, resume=True))
    (built,) = seen
    assert {group["weight_decay"] for group in built.param_groups} == {5.0, 0.0}
    assert all(tuple(group["betas"]) == (0.5, 0.5) for group in built.param_groups if "betas" in group)


def test_a_last_validation_that_fails_loses_no_step(tmp_path):
    model, batches = problem()

    def fails(_):
        raise RuntimeError("judged badly")

    with pytest.raises(RuntimeError, match="judged badly"):
        list(train(model, batches, step_of(model), LoopConfig(steps=7), tmp_path, validate=fails))
    assert read_checkpoint(tmp_path)["step"] == 7


def test_time_budget_ends_a_run(tmp_path):
    model, batches = problem()
    config = LoopConfig(steps=10**9, minutes=0.01, log_every=10)
    reports = list(train(model, batches, step_of(model), config, tmp_path))
    assert reports and reports[-1].step < 10**8


def test_schedule():
    config = LoopConfig(learning_rate=1.0, warmup_steps=10, final_rate=0.1)
    assert rate_at(0.0, 0, config) == pytest.approx(0.1)
    assert rate_at(0.0, 9, config) == pytest.approx(1.0)
    assert rate_at(0.5, 1000, config) == pytest.approx(0.55)
    assert rate_at(1.0, 1000, config) == pytest.approx(0.1)


def test_decay_spares_biases():
    model, _ = problem()
    decayed, spared = optimizer_for(model, LoopConfig()).param_groups
    assert all(p.dim() >= 2 for p in decayed["params"]) and decayed["weight_decay"] > 0
    assert all(p.dim() < 2 for p in spared["params"]) and spared["weight_decay"] == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("steps", 0),
        ("learning_rate", 0.0),
        ("layer_decay", -1.0),
        ("accumulate", 0),
        ("average", 1.0),
        ("clip_norm", -1.0),
        ("minutes", 0.0),
    ],
)
def test_bad_options_are_named(option, value):
    with pytest.raises(ValueError, match=option):
        LoopConfig(**{option: value})


def test_bfloat16_detection_answers_without_failing():
    assert bfloat16_is_fast() in (True, False)


# --- exact resuming


class Noisy(nn.Module):
    """Everything that could make two runs differ: dropout, a batch norm, NumPy's and Python's generators."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(
            nn.Linear(5, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Tanh(), nn.Linear(16, 16), nn.Linear(16, 1)
        )

    def step(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        x, y = batch
        shaken = x + 0.1 * torch.from_numpy(np.random.normal(size=x.shape)).float() + random.random()
        return {"loss": (self.layers(shaken) - y).square().mean(), "size": x.abs().mean()}


class Numbered:
    """Batch n is a function of n."""

    def starting_at(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        for n in itertools.count(number):
            generator = torch.Generator().manual_seed(n)
            x = torch.randn(8, 5, generator=generator)
            yield x, x.sum(1, keepdim=True)


CONFIG = LoopConfig(
    steps=24, log_every=5, learning_rate=1e-2, warmup_steps=4, average=0.9, accumulate=2, validate_every=7
)


def seeded() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


def score(model: nn.Module) -> dict[str, float]:
    assert not model.training and not torch.is_grad_enabled()
    return {"norm": float(sum(p.abs().sum() for p in model.parameters()))}


def run(
    out: Path, config: LoopConfig = CONFIG, *, resume: bool = False, stop_at: int | None = None
) -> tuple[Noisy, list[Report]]:
    """Train; a step before `stop_at` asks to stop as Ctrl-C would."""
    model, seen = Noisy(), []

    def before_step(step: int, progress: float) -> None:
        if step + 1 == stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    reports = train(model, Numbered(), model.step, config, out, resume, validate=score, before_step=before_step)
    try:
        seen.extend(reports)
    except Interrupted as error:
        assert f"--resume {out}" in str(error) and stop_at is not None and f"step {stop_at}" in str(error)
    return model, seen


def told(reports: list[Report]) -> list[dict]:
    """All but the clock."""
    return [{key: value for key, value in asdict(r).items() if key != "seconds"} for r in reports]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("stops", [(1,), (7,), (12, 13), (23,)])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, optimizer: str, stops: tuple[int, ...]) -> None:
    from dataclasses import replace

    config = replace(CONFIG, optimizer=optimizer)  # type: ignore[arg-type]
    seeded()
    whole, expected = run(tmp_path / "whole", config)
    seeded()
    reports: list[Report] = []
    for place, stop in enumerate((*stops, None)):
        model, more = run(tmp_path / "parts", config, resume=place > 0, stop_at=stop)
        reports += more
        seeded()  # what another program may do in between
        random.seed(99)
    assert told(reports) == told(expected)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    rows = [read_metrics(tmp_path / folder) for folder in ("whole", "parts")]
    for row in itertools.chain(*rows):
        del row["seconds"]
    assert rows[0] == rows[1] and [row["step"] for row in rows[0]] == [5, 7, 10, 14, 15, 20, 21, 24]


def test_resuming_twice_differs_if_the_generators_are_not_restored(tmp_path: Path) -> None:
    """That the test above can fail: the same with the random states thrown away."""
    seeded()
    _, expected = run(tmp_path / "whole")
    seeded()
    run(tmp_path / "parts", stop_at=12)
    state = torch.load(tmp_path / "parts/checkpoint.pt", weights_only=True)
    torch.save(state | {"random": []}, tmp_path / "parts/checkpoint.pt")
    _, reports = run(tmp_path / "parts", resume=True)
    assert told(reports) != told(expected[-len(reports) :])


def test_a_checkpoint_of_an_earlier_version_is_taken_up(tmp_path: Path) -> None:
    """It held weights, optimiser, step and seconds, and groups without a rate."""
    model, batches = problem()
    list(train(model, batches, step_of(model), LoopConfig(steps=10), tmp_path))
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    for group in state["optimizer"]["param_groups"]:
        del group["rate"]
        group["fused"] = None
    torch.save({k: state[k] for k in ("model", "optimizer", "step", "seconds")}, tmp_path / "checkpoint.pt")
    other, batches = problem(1)
    reports = list(train(other, batches, step_of(other), LoopConfig(steps=12, log_every=2), tmp_path, resume=True))
    assert [r.step for r in reports] == [12]


def test_a_finished_run_resumed_does_nothing(tmp_path: Path) -> None:
    run(tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    _, reports = run(tmp_path, resume=True)
    assert reports == [] and (tmp_path / "metrics.jsonl").read_text() == before


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no run to go on with"):
        run(tmp_path, resume=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match="not a checkpoint"):
        run(tmp_path, resume=True)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    model, batches = problem()
    with pytest.raises(UsageError, match="another model or optimiser"):
        list(train(model, batches, step_of(model), CONFIG, tmp_path, resume=True))


def test_checkpoints_are_not_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "owned"),)

    torch.save({"model": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError):
        run(tmp_path, resume=True)
    assert not (tmp_path / "owned").exists()


KILLED = """
import itertools, sys, torch
from pathlib import Path
from torch import nn
from bahumukha.train.loop import LoopConfig, train
torch.set_num_threads(1)
model = nn.Linear(400, 400)
step = lambda x: {"loss": model(x).square().mean()}
config = LoopConfig(steps=10**9, checkpoint_minutes=0, log_every=10)
for report in train(model, itertools.repeat(torch.randn(4, 400)), step, config, Path(sys.argv[1])):
    print(report.step, flush=True)
"""


def test_a_kill_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """Killed while it writes one after each step."""
    running = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None and running.stdout.readline()
    time.sleep(0.05)
    running.kill()
    running.wait()
    running.stdout.close()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] >= 9 and state["model"]["weight"].shape == (400, 400)
    assert all(row["step"] > 0 for row in read_metrics(tmp_path))


# --- mean of the weights, accumulation, validation, what is left to look at


def test_mean_of_the_weights_is_the_formula(tmp_path: Path) -> None:
    model, batches = problem()
    seen = [p.detach().clone() for p in model.parameters()]
    expected = [p.clone() for p in seen]
    steps = 0

    def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        nonlocal steps
        if steps:  # the weights after the step before
            decay = min(0.9, steps / (9 + steps))
            for mean, p in zip(expected, model.parameters(), strict=True):
                mean.mul_(decay).add_(p.detach(), alpha=1 - decay)
        steps += 1
        return step_of(model)(batch)

    for _ in train(model, batches, step, LoopConfig(steps=20, average=0.9, learning_rate=1e-2), tmp_path):
        last = [p.detach().clone() for p in model.parameters()]
    decay = 20 / 29
    for mean, own, final in zip(expected, last, model.parameters(), strict=True):
        assert torch.allclose(mean * decay + own * (1 - decay), final, atol=1e-6)
        assert not torch.allclose(own, final, atol=1e-4)


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    model, batches = problem()
    x, y = next(batches)
    config = LoopConfig(steps=5, learning_rate=1e-2, warmup_steps=0, precision="float32")
    list(train(model, batches, step_of(model), config, tmp_path / "whole"))
    parts, _ = problem()
    quarters = itertools.cycle(zip(x.chunk(4), y.chunk(4), strict=True))
    from dataclasses import replace

    list(train(parts, quarters, step_of(parts), replace(config, accumulate=4), tmp_path / "parts"))
    for a, b in zip(model.parameters(), parts.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_validation_keeps_the_best(tmp_path: Path) -> None:
    model, batches = problem()
    given = iter([0.2, 0.9, 0.4])
    config = LoopConfig(steps=30, log_every=100, validate_every=10, best_score="right")
    reports = []
    weights = {}
    for report in train(model, batches, step_of(model), config, tmp_path, validate=lambda _: {"right": next(given)}):
        reports.append(report)
        weights[report.step] = model[0].weight.detach().clone()  # type: ignore[index]
    assert [(r.step, r.scores["right"]) for r in reports] == [(10, 0.2), (20, 0.9), (30, 0.4)]
    assert all(r.losses for r in reports) and "right 0.9000" in str(reports[1])
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert (best["step"], best["score"]) == (20, 0.9) and torch.equal(best["model"]["0.weight"], weights[20])


def test_a_best_score_that_is_none_is_named(tmp_path: Path) -> None:
    model, batches = problem()
    config = LoopConfig(steps=2, best_score="wrong")
    with pytest.raises(UsageError, match="'wrong'.*right"):
        list(train(model, batches, step_of(model), config, tmp_path, validate=lambda _: {"right": 1.0}))


def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoint(tmp_path: Path) -> None:
    model, batches = problem()
    list(train(model, batches, step_of(model), LoopConfig(steps=5), tmp_path))
    good = (tmp_path / "checkpoint.pt").read_bytes()

    def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {"loss": step_of(model)(batch)["loss"] * float("nan")}

    with pytest.raises(UsageError, match="step 10: the loss is nan; lower learning_rate"):
        list(train(model, batches, step, LoopConfig(steps=20, log_every=10), tmp_path, resume=True))
    assert (tmp_path / "checkpoint.pt").read_bytes() == good


def test_gradients_are_clipped(tmp_path: Path) -> None:
    model, batches = problem()
    norms = []

    def before_step(step: int, progress: float) -> None:
        if step:
            norms.append(torch.stack([p.grad.norm() for p in model.parameters()]).norm())  # type: ignore[union-attr]

    def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {"loss": 1e3 * step_of(model)(batch)["loss"]}

    config = LoopConfig(steps=4, clip_norm=0.5)
    list(train(model, batches, step, config, tmp_path, before_step=before_step))
    assert norms and all(float(n) == pytest.approx(0.5, abs=1e-4) for n in norms)


def test_batches_that_end_end_the_run(tmp_path: Path) -> None:
    model, batches = problem()
    few = itertools.islice(batches, 7)
    reports = list(train(model, few, step_of(model), LoopConfig(steps=100, log_every=5), tmp_path))
    assert [r.step for r in reports] == [5, 7]


def test_a_run_leaves_metrics_curves_and_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model, batches = problem()
    config = LoopConfig(steps=20, log_every=5, validate_every=10, tensorboard=True)
    reports = list(train(model, batches, step_of(model), config, tmp_path, validate=lambda _: {"right": 0.5}))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [5, 10, 15, 20] == [r.step for r in reports]
    assert rows[1]["scores"] == {"right": 0.5} and rows[0]["losses"] == reports[0].losses
    with Image.open(tmp_path / "curves.png") as picture:
        colours = picture.convert("RGB").getcolors(1 << 20)
    assert any(colour == (31, 97, 165) for _, colour in colours or [])
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"train/loss", "validation/right", "rate"} <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("train/loss")] == [5, 10, 15, 20]


def test_curves_of_odd_values() -> None:
    assert curves([]) is None
    row = {"step": 1, "rate": 0.1, "losses": {"loss": float("nan"), "flat": 2.0}, "scores": {}}
    picture = curves([row, row | {"step": 2}])
    assert picture is not None and picture.size == (840, 240)  # "flat" and the rate; no panel without a number


@pytest.fixture
def ctrl_c_heard() -> Iterator[None]:
    """Python's own answer to Ctrl-C, also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_signals_are_given_back(tmp_path: Path, ctrl_c_heard: None) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    model, batches = problem()
    reports = train(model, batches, step_of(model), LoopConfig(steps=50, log_every=5), tmp_path)
    next(reports)
    assert signal.getsignal(signal.SIGINT) != before[0]
    reports.close()  # type: ignore[attr-defined]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
