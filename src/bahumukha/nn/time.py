"""How much noise there is, as a vector: t in [0, 1] in sines and cosines, then a small network (Ho et al. 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SLOWEST = 10_000.0
"""The longest wave over the shortest."""
TIMES = 1000.0
"""t is counted in thousandths, as most networks do."""


def waves(t: Tensor, count: int) -> Tensor:
    """t (B,) in [0, 1] -> (B, count), half cosines and half sines; count even."""
    half = count // 2
    frequency = torch.exp(-math.log(SLOWEST) / half * torch.arange(half, device=t.device))
    angles = TIMES * t.float()[:, None] * frequency
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimeEmbedding(nn.Module):
    """t (B,) in [0, 1] -> (B, width)."""

    def __init__(self, width: int, count: int = 256):
        """count: waves, an even number."""
        super().__init__()
        self.count = count
        self.mlp = nn.Sequential(nn.Linear(count, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """(B,) -> (B, width)."""
        return self.mlp(waves(t, self.count))
