"""Perceptual distances: LPIPS by its formula, the trunk's first stages alone, edges."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.errors import ModelError
from bahumukha.models.perceptual import Lpips, TrunkDistance, edge_loss
from bahumukha.zoo.perceptual import lpips, trunk_distance


def pictures(count: int = 2, side: int = 64, seed: int = 0) -> Tensor:
    small = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return F.interpolate(small, (side, side), mode="bilinear")


@pytest.fixture(scope="module")
def trunk() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("tf_efficientnet_lite0", num_classes=0)


def vgg_weights() -> dict[str, Tensor]:
    from torchvision.models.vgg import cfgs, make_layers

    torch.manual_seed(0)
    return {f"features.{name}": value for name, value in make_layers(cfgs["D"]).state_dict().items()}


def head_weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    widths = (64, 128, 256, 512, 512)
    return {f"lin{i}.model.1.weight": torch.rand(1, w, 1, 1, generator=generator) for i, w in enumerate(widths)}


def reference_lpips(x: Tensor, y: Tensor) -> Tensor:
    """As its repository computes it, with torchvision's VGG16."""
    from torchvision.models.vgg import cfgs, make_layers

    network, heads = make_layers(cfgs["D"]), list(head_weights().values())
    network.load_state_dict({name.removeprefix("features."): value for name, value in vgg_weights().items()})
    shift = torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[None, :, None, None]
    x, y = (x - shift) / scale, (y - shift) / scale
    total = torch.zeros(len(x))
    taken = {3: 0, 8: 1, 15: 2, 22: 3, 29: 4}  # relu1_2, relu2_2, relu3_3, relu4_3, relu5_3
    for number, layer in enumerate(network):
        x, y = layer(x), layer(y)
        if number in taken:
            a, b = (each / (each.square().sum(1, keepdim=True).sqrt() + 1e-10) for each in (x, y))
            total = total + ((a - b).square() * heads[taken[number]]).sum(1).mean((1, 2))
    return total


def test_lpips_is_its_formula() -> None:
    with torch.no_grad():
        ours = Lpips.from_weights(vgg_weights(), head_weights())(pictures(seed=1), pictures(seed=2))
        assert torch.allclose(ours, reference_lpips(pictures(seed=1), pictures(seed=2)), rtol=1e-4)
    assert ours.shape == (2,) and ours.min() > 0.01


def test_lpips_from_its_files(tmp_path: Path) -> None:
    for name, state in (("vgg16.pth", vgg_weights()), ("heads.pth", head_weights())):
        torch.save(state, tmp_path / name)
    model = lpips(tmp_path / "vgg16.pth", tmp_path / "heads.pth")
    with torch.no_grad():
        expected = Lpips.from_weights(vgg_weights(), head_weights())(pictures(seed=1), pictures(seed=2))
        assert torch.equal(model(pictures(seed=1), pictures(seed=2)), expected)
    with pytest.raises(ModelError, match="not the weights of VGG16 and LPIPS"):
        lpips(tmp_path / "vgg16.pth", tmp_path / "vgg16.pth")
    with pytest.raises(ModelError, match="no such file"):
        lpips(tmp_path / "nothing.pth", tmp_path / "heads.pth")


def test_a_distance_is_nothing_for_the_same_and_grows(trunk: nn.Module) -> None:
    distance = TrunkDistance(trunk)
    x = pictures()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        values = [distance(x, x + strength * noise) for strength in (0.0, 0.05, 0.2, 0.8)]
    assert values[0].abs().max() < 1e-6 and values[0].shape == (2,)
    assert all((later > earlier).all() for earlier, later in zip(values, values[1:], strict=False))


def test_the_gradient_goes_to_the_second_picture_and_to_no_weight(trunk: nn.Module) -> None:
    distance = TrunkDistance(trunk)
    x, y = pictures(seed=1).requires_grad_(), pictures(seed=2).requires_grad_()
    distance(x, y).sum().backward()
    assert x.grad is None and y.grad is not None and y.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in distance.parameters())
    smaller = (y - 0.1 * y.grad / y.grad.norm()).detach()
    with torch.no_grad():
        assert distance(x, smaller).sum() < distance(x, y).sum()


def test_it_stays_in_eval_mode_and_computes_no_later_stage(trunk: nn.Module) -> None:
    distance = TrunkDistance(trunk).train()
    assert not any(module.training for module in distance.modules())
    seen: list[int] = []
    handles = [block.register_forward_hook(lambda *_, n=n: seen.append(n)) for n, block in enumerate(trunk.blocks)]  # type: ignore[arg-type]
    maps = distance.features(pictures())
    for handle in handles:
        handle.remove()
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 32, 32), (24, 16, 16), (40, 8, 8)] and max(seen) == 2


def test_the_trunk_of_a_clip(tiny_clip: Path) -> None:
    with pytest.raises(ModelError, match="no model"):
        trunk_distance("nothing/here")
    with torch.no_grad():
        blurred = F.avg_pool2d(pictures(), 5, 1, 2)
        values = trunk_distance()(pictures(), blurred)
    assert values.shape == (2,) and values.min() > 1e-4


def test_edges_see_blur_and_not_tone() -> None:
    x = pictures()
    assert float(edge_loss(x, x + 0.3)) < 1e-6
    blurs = [float(edge_loss(x, F.avg_pool2d(x, k, 1, k // 2, count_include_pad=False))) for k in (1, 3, 7)]
    assert blurs[0] == 0 and 0 < blurs[1] < blurs[2]


def test_edges_by_the_formula() -> None:
    x, y = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    y[0, 0, 1, 1] = 1.0  # four steps of 1 among 24; at half size one cell of 1/4 among four, two steps
    assert float(edge_loss(x, y, scales=1)) == pytest.approx((2 / 12 + 2 / 12) / 2)
    assert float(edge_loss(x, y, scales=2)) == pytest.approx((4 / 12 + 0.25 / 2 + 0.25 / 2) / 4)
