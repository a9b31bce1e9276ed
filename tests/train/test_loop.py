"""The loop: losses fall, the schedule ends where it should, a run goes on from its checkpoint."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from bahumukha.train.loop import LoopConfig, bfloat16_is_fast, optimizer_for, rate_at, train


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


@pytest.mark.parametrize(("option", "value"), [("steps", 0), ("learning_rate", 0.0)])
def test_bad_options_are_named(option, value):
    with pytest.raises(ValueError, match=option):
        LoopConfig(**{option: value})


def test_bfloat16_detection_answers_without_failing():
    assert bfloat16_is_fast() in (True, False)
