"""Blocks on grids (B, h, w, width) of any size: attention with rotary positions, in windows once the grid is large.

Positions are rotations of queries and keys (`nn.rotary`), so no size of a grid is special. One with a side longer than
`window` is cut into even windows, every other block in the middle of the last one's (Liu et al. 2021, "Swin
Transformer"): no place then looks further than in training, and the cost grows with the area, not with its square.
"""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.nn.attention import Attention, mlp, zeroed
from bahumukha.nn.dot_product import attend
from bahumukha.nn.rotary import grid_positions, rotated, rotation


class GridAttention(Attention):
    """Self-attention of the places of a grid."""

    def __init__(self, width: int, heads: int, window: int, shifted: bool):
        """`shifted`: windows, where there are any, begin half a window off the corner."""
        super().__init__(width, heads)
        if width // heads % 4:
            raise ValueError(f"a head of {width // heads} channels; rotary positions take a multiple of 4")
        self.window, self.shifted = window, shifted

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, h, w, width) -> (B, h, w, width)."""
        b, rows, columns, width = x.shape
        if max(rows, columns) <= self.window:
            turns = rotation(grid_positions(rows, columns, x.device), width // self.heads)
            return self._attend(x.flatten(1, 2), turns).view_as(x)
        down, across = (_Cut.of(side, self.window, self.shifted) for side in (rows, columns))
        padded = F.pad(x, (0, 0, *across.padding, *down.padding))
        cells = padded.view(b, down.count, down.side, across.count, across.side, width).transpose(2, 3)
        inside = down.inside(x.device)[:, None, :, None] & across.inside(x.device)[None, :, None]  # of no padding
        mask = inside.flatten(2).flatten(0, 1).repeat(b, 1)[:, None, None]  # (B windows, 1, 1, L)
        turns = rotation(grid_positions(down.side, across.side, x.device), width // self.heads)
        y = self._attend(cells.reshape(-1, down.side * across.side, width), turns, mask)
        y = y.view_as(cells).transpose(2, 3).reshape_as(padded)
        top, left = down.padding[0], across.padding[0]
        return y[:, top : top + rows, left : left + columns]

    def _attend(self, x: Tensor, turns: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (N, L, width); mask bool (N, 1, 1, L), True where attention may look."""
        n, length, width = x.shape
        qkv = self.qkv(x).view(n, length, 3, self.heads, -1)
        q, k = rotated(qkv[:, :, :2].float(), turns).to(qkv.dtype).permute(2, 0, 3, 1, 4)  # (N, heads, L, d) each
        y = attend(q, k, qkv[:, :, 2].transpose(1, 2), mask)
        return self.out(y.transpose(1, 2).reshape(n, length, width))


class _Cut:
    """How a side of `length` places is cut: `count` windows of `side` places, after `padding` before and behind."""

    def __init__(self, length: int, side: int, offset: int):
        self.length, self.side = length, side
        self.count = math.ceil((length + offset) / side)
        self.padding = (offset, self.count * side - length - offset)

    @classmethod
    def of(cls, length: int, window: int, shifted: bool) -> _Cut:
        """Even windows of at most `window` places; those of a side that fits into one are not shifted."""
        count = math.ceil(length / window)
        side = math.ceil(length / count)
        return cls(length, side, side // 2 if shifted and count > 1 else 0)

    def inside(self, device: torch.device) -> Tensor:
        """bool (count, side): where there is a place and no padding."""
        at = torch.arange(self.count * self.side, device=device) - self.padding[0]
        return ((at >= 0) & (at < self.length)).view(self.count, self.side)


class GridBlock(nn.Module):
    """x + depthwise(x), then x + attention(norm(x)), then x + mlp(norm(x)).

    The depthwise convolution, which begins at zero, knows neighbours and borders (Chu et al. 2021, "Conditional
    Positional Encodings").
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float, window: int, shifted: bool):
        super().__init__()
        self.neighbours = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm_attention = nn.LayerNorm(width)
        self.attention = GridAttention(width, heads, window, shifted)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = mlp(width, mlp_ratio, "gelu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, width) -> (B, h, w, width)."""
        x = x + channels_last(self.neighbours(channels_first(x)))
        x = x + self.attention(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))

    def silent(self) -> Self:
        """The same block as x -> x, until it has learned something."""
        zeroed(self.neighbours, self.attention.out, _last(self.mlp))
        return self


class ConvBlock(nn.Module):
    """x + mlp(norm(depthwise 5x5(x))) (Liu et al. 2022, "A ConvNet for the 2020s")."""

    def __init__(self, width: int, mlp_ratio: float):
        super().__init__()
        self.neighbours = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.mlp = mlp(width, mlp_ratio, "gelu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, width) -> (B, h, w, width)."""
        return x + self.mlp(self.norm(channels_last(self.neighbours(channels_first(x)))))

    def silent(self) -> Self:
        """The same block as x -> x, until it has learned something."""
        zeroed(_last(self.mlp))
        return self


def _last(maps: nn.Sequential) -> nn.Linear:
    last = maps[-1]
    assert isinstance(last, nn.Linear)
    return last


def channels_first(x: Tensor) -> Tensor:
    """(B, h, w, C) -> (B, C, h, w), without a copy: PyTorch's channels_last memory, fast for depthwise kernels."""
    return x.permute(0, 3, 1, 2)


def channels_last(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h, w, C), a view."""
    return x.permute(0, 2, 3, 1)
