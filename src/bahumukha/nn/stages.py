"""Convolutional stages around a transformer, as a U-Net has them: pixels -> its tokens, and its tokens -> pixels.

    x -> [blocks, half the side] … -> tokens,    tokens -> [twice the side, what was remembered, blocks] … -> x

What is near is seen by convolutions, which need far fewer pictures for it than attention does, what is far by the
transformer (Hoogeboom et al. 2023, "simple diffusion"). Each block is told a scale and a shift, as those of ADM are
(Dhariwal and Nichol 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.nn.attention import zeroed

GROUPS = 8
"""Of channels that are normalised together."""


class Conv(nn.Linear):
    """A convolution that keeps the size: a linear map of the square around each place, whose weight is a matrix, so
    that Muon trains it."""

    def __init__(self, channels: int, out: int, side: int = 1):
        super().__init__(channels * side**2, out)
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """x (B, channels, H, W) -> (B, out, H, W)."""
        kernel = self.weight.unflatten(1, (-1, self.side, self.side))
        return F.conv2d(x, kernel, self.bias, padding=self.side // 2)


class ResBlock(nn.Module):
    """x + convolutions of x, with a scale and a shift from outside between them; at first it does nothing."""

    def __init__(self, channels: int, told: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels)
        self.conv1 = Conv(channels, channels, 3)
        self.norm2 = nn.GroupNorm(GROUPS, channels)
        self.tell = nn.Linear(told, 2 * channels)
        self.conv2 = Conv(channels, channels, 3)
        zeroed(self.tell, self.conv2)

    def forward(self, x: Tensor, about: Tensor) -> Tensor:
        """x (B, channels, H, W), about (B, told) -> like x."""
        scale, shift = self.tell(about)[:, :, None, None].chunk(2, dim=1)
        y = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(torch.addcmul(shift, self.norm2(y), 1 + scale)))


class Stages(nn.Module):
    """Down to the tokens and up again; see above."""

    def __init__(self, channels: int, widths: Sequence[int], width: int, *, out: int, square: int = 1):
        """channels: of what comes in, out: of what goes out; widths: of the stages, that of the largest picture
        first; width: of a token; square: side of the pixels that the first stage takes as one."""
        super().__init__()
        self.square = square
        sizes = list(zip(widths, [*widths[1:], width], strict=True))
        self.stem = Conv(channels * square**2, widths[0], 3)
        self.down = nn.ModuleList(ResBlock(w, width) for w in widths)
        self.shrink = nn.ModuleList(Conv(4 * w, after) for w, after in sizes)
        self.enlarge = nn.ModuleList(Conv(after, 4 * w) for w, after in sizes)
        self.join = nn.ModuleList(Conv(2 * w, w) for w in widths)
        self.up = nn.ModuleList(ResBlock(w, width) for w in widths)
        self.norm = nn.GroupNorm(GROUPS, widths[0])
        self.pixels = Conv(widths[0], out * square**2, 3)
        zeroed(self.pixels)

    def to_tokens(self, x: Tensor, about: Tensor) -> tuple[Tensor, list[Tensor]]:
        """x (B, channels, H, W), about (B, width) -> (B, width, h, w), and what each stage remembers."""
        x = self.stem(F.pixel_unshuffle(x, self.square).contiguous(memory_format=torch.channels_last))
        remembered = []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            x = block(x, about)
            remembered.append(x)
            x = shrink(F.pixel_unshuffle(x, 2))
        return x, remembered

    def to_pixels(self, x: Tensor, remembered: Sequence[Tensor], about: Tensor) -> Tensor:
        """(B, width, h, w), and what was remembered -> (B, out, H, W)."""
        stages = list(zip(self.enlarge, remembered, self.join, self.up, strict=True))
        for enlarge, before, join, block in reversed(stages):
            x = block(join(torch.cat([F.pixel_shuffle(enlarge(x), 2), before], dim=1)), about)
        return F.pixel_shuffle(self.pixels(F.silu(self.norm(x))), self.square)
