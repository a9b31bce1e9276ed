"""How different two pictures look, rather than their pixels: distances between features, and between edges.

    d(x, y) = mean_l w_l · |normalize(f_l(x)) - normalize(f_l(y))|²        over the layers l of a frozen network

with the features at each place brought to length 1 (Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features
as a Perceptual Metric"). LPIPS has VGG16 and learned weights w_l a channel; without its files, the first stages of a
classifier of the EfficientNet-Lite family do, as the starter CLIP has one, every channel alike. `edge_loss` needs no
network. Pictures are (B, 3, H, W) in [-1, 1]. Files are read by `zoo.perceptual`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-10
VGG_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of VGG16's convolutions; a pooling lies between the groups."""
LPIPS_SHIFT, LPIPS_SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""ImageNet's mean and deviation for pixels in [-1, 1]."""


class PerceptualDistance(nn.Module, ABC):
    """Two batches of pictures -> one number a pair. Frozen, always in eval mode; gradients flow to the pictures."""

    @abstractmethod
    def features(self, x: Tensor) -> list[Tensor]:
        """Maps (B, C_l, h_l, w_l) of pictures, one a layer."""

    def layer_distance(self, layer: int, square: Tensor) -> Tensor:
        """Squared differences (B, C, h, w) of layer number `layer` -> (B, h, w)."""
        return square.sum(1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, 3, H, W) twice -> distances (B,), at least 0. Only y is given a gradient."""
        with torch.no_grad():
            goal = [F.normalize(f, dim=1, eps=EPSILON) for f in self.features(x)]
        found = [F.normalize(f, dim=1, eps=EPSILON) for f in self.features(y)]
        pairs = enumerate(zip(goal, found, strict=True))
        parts = [self.layer_distance(i, (a - b).square()).mean((1, 2)) for i, (a, b) in pairs]
        return self.combine(torch.stack(parts))

    def combine(self, parts: Tensor) -> Tensor:
        """Distances by layer (layers, B) -> (B,)."""
        return parts.mean(0)

    def train(self, mode: bool = True) -> PerceptualDistance:
        """Stays in eval mode: its norms are part of the measure."""
        return super().train(False)


class TrunkDistance(PerceptualDistance):
    """On the maps of a timm trunk that takes pixels in [-1, 1], such as `tf_efficientnet_lite2`."""

    def __init__(self, trunk: nn.Module, stages: Sequence[int] = (0, 1, 2)):
        """`stages`: of the maps, 0 the largest; the first three are of half, a quarter and an eighth of the side."""
        super().__init__()
        self.trunk, self.stages = trunk, list(stages)
        self.eval().requires_grad_(False)

    def features(self, x: Tensor) -> list[Tensor]:
        """Maps of the stages asked for; no later one is computed."""
        options = {"indices": self.stages, "intermediates_only": True, "stop_early": True}
        return self.trunk.forward_intermediates(x, **options)  # type: ignore[operator]


class Lpips(PerceptualDistance):
    """LPIPS 0.1 on VGG16: what VQGANs are trained with, for whoever has the two files."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.groups = nn.ModuleList()
        before = 3
        for widths in VGG_WIDTHS:
            group = nn.Sequential()
            for width in widths:
                group.append(nn.Conv2d(before, width, 3, padding=1)).append(nn.ReLU())
                before = width
            self.groups.append(group)
        self.heads = nn.ParameterList(torch.ones(widths[-1]) for widths in VGG_WIDTHS)
        self.register_buffer("shift", torch.tensor(LPIPS_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(LPIPS_SCALE).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    @classmethod
    def from_weights(cls, vgg: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> Lpips:
        """torchvision's VGG16 (`features.0.weight`, …) and LPIPS's linear layers (`lin0.model.1.weight`, …).

        Raises KeyError for a tensor that is missing and RuntimeError for one of another shape.
        """
        model = cls()
        kernels = [m for m in model.groups.modules() if isinstance(m, nn.Conv2d)]
        numbers = sorted({int(name.split(".")[1]) for name in vgg if name.startswith("features.")})
        if len(numbers) != len(kernels):
            raise KeyError(f"{len(kernels)} convolutions features.N are needed, there are {len(numbers)}")
        with torch.no_grad():
            for number, kernel in zip(numbers, kernels, strict=True):
                kernel.load_state_dict({k: vgg[f"features.{number}.{k}"] for k in ("weight", "bias")})
            for i, head in enumerate(model.heads):
                head.copy_(heads[f"lin{i}.model.1.weight"].flatten())
        return model

    def features(self, x: Tensor) -> list[Tensor]:
        """The last map before each pooling, and the last of all."""
        x = (x - self.shift) / self.scale
        maps = []
        for i, group in enumerate(self.groups):
            x = group(F.max_pool2d(x, 2) if i else x)
            maps.append(x)
        return maps

    def layer_distance(self, layer: int, square: Tensor) -> Tensor:
        """Weighted by channel."""
        return (square * self.heads[layer].view(1, -1, 1, 1)).sum(1)

    def combine(self, parts: Tensor) -> Tensor:
        """LPIPS adds its layers up."""
        return parts.sum(0)


def edge_loss(x: Tensor, y: Tensor, scales: int = 3) -> Tensor:
    """Mean absolute difference of the pictures' gradients, at full size, half, …: blurred edges cost, shifts of tone
    do not. (B, 3, H, W) twice -> a scalar; H and W at least 2^scales."""
    error = y - x  # differences are linear, and so is a mean over cells
    total = error.new_zeros(())
    for scale in range(scales):
        if scale:
            error = F.avg_pool2d(error, 2)
        across, down = error[..., :, 1:] - error[..., :, :-1], error[..., 1:, :] - error[..., :-1, :]
        total = total + across.abs().mean() + down.abs().mean()
    return total / (2 * scales)
