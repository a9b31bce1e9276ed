"""Who decays, who learns how fast, and what Muon gets."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bahumukha.models.clip import Clip, ClipConfig, ImageTowerConfig, TextTowerConfig
from bahumukha.models.vit import ViTConfig
from bahumukha.train.loop import LoopConfig
from bahumukha.train.optimizers import MuonAndAdamW, layer_groups, layer_rates, optimizer_for

TEXT = TextTowerConfig(50, 8, 32, 2, 4)


@pytest.fixture
def clip() -> Clip:
    return Clip(ClipConfig(16, ViTConfig(32, 8, 32, 3, 4), TEXT))


def test_groups_go_from_the_stem_to_the_head(clip: Clip) -> None:
    groups = layer_groups(clip.image)
    assert len(groups) == 5  # stem, three blocks, head
    assert {"class_token", "position", "patches.weight", "norm_pre.weight"} <= set(groups[0])
    assert all(name.startswith("blocks.1.") for name in groups[2])
    assert set(groups[4]) == {"norm.weight", "norm.bias", "projection.weight"}
    assert sorted(n for names in groups for n in names) == sorted(n for n, _ in clip.image.named_parameters())
    assert "token.weight" in layer_groups(clip.text)[0]


def test_groups_of_a_convolution_net_are_its_stages() -> None:
    tower = Clip(ClipConfig(16, ImageTowerConfig("tf_efficientnet_lite0", 32), TEXT)).image
    groups = layer_groups(tower)
    assert len(groups) == 9 and any("conv_stem" in name for name in groups[0])
    assert "projection.weight" in groups[-1] and any("conv_head" in name for name in groups[-1])
    assert sum(map(len, groups)) == len(list(tower.named_parameters()))


def test_layer_decay_reaches_the_optimizer(clip: Clip) -> None:
    rates = layer_rates(clip.image, 0.5, "image.")
    assert rates["image.projection.weight"] == 1 and rates["image.blocks.2.attention.qkv.weight"] == 0.5
    assert rates["image.position"] == 0.5**4
    optimizer = optimizer_for(clip, LoopConfig(), rates=rates)
    of = {id(p): group["rate"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in clip.named_parameters():
        assert of[id(parameter)] == rates.get(name, 1.0), name


def test_a_slower_layer_moves_less() -> None:
    from bahumukha.train.loop import train

    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    before = [p.detach().clone() for p in model.parameters()]

    def step(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": model(x).square().mean()}

    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        config = LoopConfig(steps=1, weight_decay=0.0, warmup_steps=0)
        list(train(model, iter([torch.randn(8, 4)]), step, config, Path(folder), rates={"0.weight": 0.1}))
    slow, fast = ((p.detach() - b).abs().mean() for p, b in zip(model.parameters(), before, strict=True))
    assert float(slow / fast) == pytest.approx(0.1, rel=1e-3)  # Adam's first step is the rate itself


def test_names_can_be_spared_from_decay(clip: Clip) -> None:
    optimizer = optimizer_for(clip, LoopConfig(no_weight_decay=("position", "token")))
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    names = {name for name, p in clip.named_parameters() if id(p) in decayed}
    assert "image.blocks.0.attention.qkv.weight" in names and "image.projection.weight" in names
    assert not any("position" in name or "token" in name or "bias" in name for name in names)
    assert "log_scale" not in names


def test_muon_takes_the_matrices_of_linear_maps_and_adamw_the_rest(clip: Clip) -> None:
    optimizer = optimizer_for(clip, LoopConfig(optimizer="muon"))
    assert isinstance(optimizer, MuonAndAdamW)
    muon = {id(p) for g in optimizer.muon.param_groups for p in g["params"]}
    adamw = {id(p) for g in optimizer.adamw.param_groups for p in g["params"]}
    assert not muon & adamw and len(muon | adamw) == len(list(clip.parameters()))
    names = {name for name, p in clip.named_parameters() if id(p) in muon}
    assert "image.blocks.0.mlp.0.weight" in names
    assert not names & {"text.token.weight", "image.position", "image.patches.weight", "log_scale"}


def test_muon_learns(tmp_path) -> None:  # noqa: ANN001
    from bahumukha.train.loop import train

    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 6)), torch.randn(32, 6)

    def step(batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (model(batch) - batch).square().mean()}

    config = LoopConfig(steps=120, learning_rate=2e-2, log_every=20, optimizer="muon", weight_decay=0.0, warmup_steps=5)
    reports = list(train(model, iter([x] * 200), step, config, tmp_path))
    assert reports[-1].losses["loss"] < reports[0].losses["loss"] / 5


def test_locked_parameters_are_left_out_unless_they_come_later(clip: Clip) -> None:
    clip.image.requires_grad_(False)
    count = sum(len(g["params"]) for g in optimizer_for(clip, LoopConfig()).param_groups)
    assert count == len(list(clip.text.parameters())) + 1
    later = optimizer_for(clip, LoopConfig(), later=["image.projection.weight"])
    assert sum(len(g["params"]) for g in later.param_groups) == count + 1


@pytest.mark.parametrize("shape", [(24, 16), (16, 24)])
def test_muon_in_float32_is_pytorchs(shape: tuple[int, int]) -> None:
    from bahumukha.train.optimizers import Float32Muon

    torch.manual_seed(0)
    start, gradients = torch.randn(shape), [torch.randn(shape) for _ in range(3)]
    found = []
    for kind in (torch.optim.Muon, Float32Muon):
        weight = nn.Parameter(start.clone())
        optimizer = kind([weight], lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimizer.step()
        found.append(weight.detach() - start)
    assert float((found[0] - found[1]).norm() / found[0].norm()) < 0.02  # what bfloat16 rounds away
