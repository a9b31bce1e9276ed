"""The critic of a VQGAN: a convolutional net that says of each patch of a picture whether it is real.

PatchGAN (Isola et al. 2017, "Image-to-Image Translation with Conditional Adversarial Networks"), hinge loss (Lim and
Ye 2017), spectral norm (Miyato et al. 2018), and the weight of the VQGAN paper (Esser et al. 2021):

    critic      (relu(1 - D(x)) + relu(1 + D(x̂))) / 2
    codec       -D(x̂), weighted by λ = |∇ reconstruction| / (|∇ -D(x̂)| + δ), both at the decoder's last layer
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["batch", "group", "none"]
GROUPS = 16
"""Channels a group of a group norm."""
DELTA, LARGEST_WEIGHT = 1e-4, 1e4


@dataclass(frozen=True)
class PatchCriticConfig:
    """The defaults are the paper's 70 px patches; on a processor, `width` 32 and `layers` 2 cost a quarter."""

    width: int = 64
    """Channels of the first layer."""
    layers: int = 3
    """Layers that halve the picture; a logit then sees patches of 16, 34, 70 or 142 pixels for 1, 2, 3 or 4."""
    norm: Norm = "batch"
    """`batch` is the paper's; `group` does not mix the pictures of a batch."""
    spectral: bool = False
    """Divide each kernel by its largest singular value."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.layers < 1:
            raise ValueError("width and layers must be at least 1")
        if self.norm == "group" and self.width % GROUPS:
            raise ValueError(f"width is {self.width}; with norm = 'group' it must be a multiple of {GROUPS}")

    @property
    def smallest_side(self) -> int:
        """Pixels of a picture that gives one logit."""
        return 3 * 2**self.layers


class PatchCritic(nn.Module):
    """Pictures -> a logit a patch, above 0 where it seems real. Module numbers are those of taming-transformers."""

    def __init__(self, config: PatchCriticConfig):
        super().__init__()
        self.config = config
        layers: list[nn.Module] = [self._kernel(3, config.width, 2), nn.LeakyReLU(0.2)]
        before = config.width
        for level in range(1, config.layers + 1):
            width = config.width * min(2**level, 8)
            stride = 2 if level < config.layers else 1
            layers += [self._kernel(before, width, stride, bias=config.norm != "batch"), self._norm(width)]
            layers += [nn.LeakyReLU(0.2)]
            before = width
        layers.append(self._kernel(before, 1, 1))
        self.main = nn.Sequential(*layers)

    @property
    def patch(self) -> int:
        """Side of the square of pixels that a logit sees."""
        side = 1
        for stride in [1, 1, *[2] * self.config.layers]:  # from the logit back, kernels of 4
            side = (side - 1) * stride + 4
        return side

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> logits (B, 1, h, w), with h = H / 2^layers - 2."""
        return self.main(x)

    def _kernel(self, before: int, width: int, stride: int, bias: bool = True) -> nn.Module:
        kernel = nn.Conv2d(before, width, 4, stride, padding=1, bias=bias)
        nn.init.normal_(kernel.weight, std=0.02)
        return nn.utils.parametrizations.spectral_norm(kernel) if self.config.spectral else kernel

    def _norm(self, width: int) -> nn.Module:
        if self.config.norm == "none":
            return nn.Identity()
        if self.config.norm == "group":
            return nn.GroupNorm(width // GROUPS, width)
        norm = nn.BatchNorm2d(width)
        nn.init.normal_(norm.weight, mean=1.0, std=0.02)
        return norm


def critic_loss(real: Tensor, made: Tensor) -> Tensor:
    """Logits of real pictures and of reconstructions -> what the critic minimises: both beyond a margin of 1."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + made).mean())


def adversarial_loss(made: Tensor) -> Tensor:
    """Logits of reconstructions -> what the codec minimises."""
    return -made.mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor) -> Tensor:
    """λ, a scalar, from the gradients that both losses have at the same weight: equal lengths once multiplied."""
    return (torch.linalg.vector_norm(reconstruction) / (torch.linalg.vector_norm(adversarial) + DELTA)).clamp(
        0, LARGEST_WEIGHT
    )
