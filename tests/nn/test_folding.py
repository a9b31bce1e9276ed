"""Batch norms folded into convolutions: the same function, the same gradient, and nothing folded that must not be."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

from bahumukha.nn.folding import folded


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def lived_in(network: nn.Module) -> nn.Module:
    """With statistics and factors that are not those of the start."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias, std=0.3)
    return network.eval().requires_grad_(False)


def answer(network: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
    pixels = pixels.clone().requires_grad_()
    out = network(pixels)
    out.square().sum().backward()
    assert pixels.grad is not None
    return out.detach(), pixels.grad


def test_the_same_function_and_gradient() -> None:
    torch.manual_seed(0)
    for name in ("tf_efficientnet_lite0", "resnet18"):
        network = lived_in(timm.create_model(name, num_classes=10)).double()
        pixels = torch.randn(2, 3, 64, 64, dtype=torch.float64)
        faster = folded(network, pixels[:1])
        assert norms(network) > 15 and norms(faster) == 0
        for now, before in zip(answer(faster, pixels), answer(network, pixels), strict=True):
            assert torch.allclose(now, before, rtol=1e-8, atol=1e-8 * float(before.abs().max()))


class Twice(nn.Module):
    """One convolution before two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.first, self.second, self.third = nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.conv(self.first(self.conv(x)))).relu())


def test_what_runs_twice_and_what_no_convolution_feeds_stays() -> None:
    torch.manual_seed(0)
    network = lived_in(Twice())
    pixels = torch.randn(2, 3, 16, 16)
    faster = folded(network, pixels[:1])
    assert norms(faster) == 3 and torch.allclose(faster(pixels), network(pixels), atol=1e-5)


class Looked(nn.Module):
    """What the convolution gives is also looked at before the norm: folding would change it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        middle = self.conv(x)
        return self.norm(middle) + middle


def test_a_copy_that_differs_is_not_taken() -> None:
    torch.manual_seed(0)
    network = lived_in(Looked())
    assert folded(network, torch.randn(1, 3, 16, 16)) is network


def test_without_norms_the_network_is_itself() -> None:
    network = nn.Conv2d(3, 3, 3).eval()
    assert folded(network, torch.randn(1, 3, 16, 16)) is network
