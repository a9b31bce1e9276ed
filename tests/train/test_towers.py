"""Locked towers: what moves before the unlocking, at it, and after it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from bahumukha.errors import UsageError
from bahumukha.models.clip import Clip, ClipConfig, ImageTowerConfig, TextTowerConfig
from bahumukha.models.vit import ViTConfig
from bahumukha.train.clip_config import TowerConfig, TowersConfig
from bahumukha.train.loop import LoopConfig, train
from bahumukha.train.towers import Locks, rates_of, with_patch_dropout
from tests.train.test_objective import batch_of, objective, tiny_clip

TEXT = TextTowerConfig(50, 8, 32, 2, 4)


def trained(tower: nn.Module) -> set[str]:
    return {name for name, p in tower.named_parameters() if p.requires_grad}


def image_locks(model: Clip, **options: object) -> Locks:
    return Locks(model, TowersConfig(image=TowerConfig(lock=True, **options)))  # type: ignore[arg-type]


def test_a_locked_tower_trains_nothing_and_the_other_everything() -> None:
    model = tiny_clip("clip")
    locks = image_locks(model)
    assert not trained(model.image) and len(trained(model.text)) == len(list(model.text.parameters()))
    locks(10**6, 1.0)
    assert not trained(model.image) and locks.later == ()


def test_open_groups_are_counted_from_the_head() -> None:
    model = tiny_clip("clip")
    image_locks(model, open_groups=2)
    names = trained(model.image)
    assert "projection.weight" in names and "norm.weight" in names
    assert all(name.startswith(("projection", "norm.", "blocks.1.")) for name in names)


@pytest.mark.parametrize("moment", [{"unlock_at_step": 10}, {"unlock_at_share": 0.5}])
def test_unlocking(moment: dict[str, float]) -> None:
    model = tiny_clip("clip")
    locks = image_locks(model, unlock_groups=2, **moment)
    locks(9, 0.49)
    assert not trained(model.image) and not model.image.training and model.text.training
    locks(10, 0.5)
    unlocked = trained(model.image)
    assert model.image.training and model.image.blocks[1].training  # patches are dropped again, say
    assert {f"image.{name}" for name in unlocked} == set(locks.later)
    assert "blocks.1.mlp.0.weight" in unlocked and "blocks.0.mlp.0.weight" not in unlocked
    locks(3, 0.2)  # a resumed run may be earlier than what was set before
    assert not trained(model.image)


def test_the_loop_unlocks_and_what_is_locked_does_not_move(tmp_path: Path) -> None:
    model = tiny_clip("clip")
    locks = image_locks(model, open_groups=1, unlock_at_step=3)
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    stem, head = "image.patches.weight", "image.projection.weight"
    seen = {}

    def before_step(step: int, progress: float) -> None:
        locks(step, progress)
        seen[step] = {n: torch.equal(dict(model.named_parameters())[n], start[n]) for n in (stem, head)}

    config = LoopConfig(steps=6, log_every=1, warmup_steps=0)
    batches = iter([batch_of(8, seed) for seed in range(6)])
    list(train(model, batches, objective(model, "clip"), config, tmp_path, before_step=before_step, later=locks.later))
    assert [seen[step][stem] for step in range(6)] == [True, True, True, True, False, False]
    assert [seen[step][head] for step in range(3)] == [True, False, False]


def test_running_means_of_a_locked_tower_are_locked() -> None:
    model = Clip(ClipConfig(16, ImageTowerConfig("tf_efficientnet_lite0", 32), TEXT))
    for options in ({}, {"open_groups": 1}):
        locks = image_locks(model, **options)
        model.train()
        locks(0, 0.0)
        norms = [m for m in model.image.modules() if isinstance(m, nn.BatchNorm2d)]
        before = [norm.running_mean.clone() for norm in norms]  # type: ignore[union-attr]
        model.encode_image(torch.randn(2, 3, 32, 32))
        moved = [not torch.equal(b, n.running_mean) for b, n in zip(before, norms, strict=True)]  # type: ignore[arg-type]
        assert not any(moved[:-1]) and moved[-1] == bool(options)


def test_too_many_groups_are_named() -> None:
    with pytest.raises(UsageError, match="towers.image.open_groups is 9; this tower has 4 groups"):
        image_locks(tiny_clip("clip"), open_groups=9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"open_groups": 1}, "lock = true"),
        ({"lock": True, "unlock_at_step": 1, "unlock_at_share": 0.1}, "give one"),
        ({"lock": True, "unlock_at_share": 1.5}, "from 0 to 1"),
        ({"lock": True, "unlock_at_step": 1, "unlock_groups": 0}, "at least 1"),
    ],
)
def test_options_that_contradict_each_other(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TowerConfig(**options)


def test_patch_dropout_is_set_on_towers_with_patches() -> None:
    model = tiny_clip("clip")
    with_patch_dropout(model, 0.5)
    assert (
        model.image.config.patch_dropout == 0.5 and model.image.train().embed(torch.zeros(1, 3, 32, 32)).shape[1] == 9
    )
    convolutions = Clip(ClipConfig(16, ImageTowerConfig("tf_efficientnet_lite0", 32), TEXT))
    with pytest.raises(UsageError, match="has no patches"):
        with_patch_dropout(convolutions, 0.5)
    with pytest.raises(UsageError, match="patch_dropout is 1.0"):
        with_patch_dropout(model, 1.0)


def test_grad_checkpointing_is_switched_on_and_changes_no_gradient() -> None:
    model = tiny_clip("clip").train()
    objective(model, "clip")(batch_of(4))["loss"].backward()
    plain = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    again = TowerConfig(grad_checkpointing=True)
    Locks(model, TowersConfig(again, again))
    assert model.image.grad_checkpointing and model.text.grad_checkpointing  # type: ignore[union-attr]
    objective(model, "clip", 2)(batch_of(4))["loss"].backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(plain[name], parameter.grad, atol=1e-5), name  # type: ignore[arg-type]


def test_rates_cover_both_towers() -> None:
    model = Clip(ClipConfig(16, ViTConfig(32, 8, 32, 2, 4), TEXT))
    assert rates_of(model, 1.0) == {}
    rates = rates_of(model, 0.5)
    assert set(rates) == {n for n, _ in model.named_parameters()} - {"log_scale"}
    assert rates["text.token.weight"] == 0.5**3 and rates["text.projection.weight"] == 1
