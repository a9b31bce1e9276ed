"""What stands where: a small head that looks at the regions of a convolutional trunk's feature maps.

A classifier's trunk averages its last map over all places, and what is averaged no longer says that the fish is left of
the car, nor that it is the fish that is red. The head keeps a token for each place,

    t_p = W [deep_p, middle_p, colour_p] + position_p

from the trunk's last stage, from the stage before (which still knows colour and texture) and from the pixels
themselves, whose histogram tells a red apple on a green ground from a brown mixture of both. Convolutional blocks
(`mixers`) may follow, so that a token can hold what the sum of its parts cannot: that this thing has this colour. A few
learned queries ask all tokens (a Perceiver resampler, Jaegle et al. 2021, as in Flamingo, Alayrac et al. 2022), and
their answers side by side become a correction of the pooled embedding, let through by a gate that closes for
photographs, where the pooled feature is what the tower was trained for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.nn.attention import Attention, mlp, zeroed
from bahumukha.nn.grid import ConvBlock

COLOURS = 12
"""Numbers a place that come from the pixels: mean, deviation, least and greatest of each channel."""

DROPOUT = 0.15
"""Part of the tokens' numbers that training leaves out."""


@dataclass(frozen=True)
class RegionHeadConfig:
    """Sizes of the head; `grid` is the side of the map for which positions are stored (others are interpolated)."""

    width: int = 192
    heads: int = 4
    layers: int = 2
    queries: int = 12
    grid: int = 9
    levels: int = 0
    """Steps of each channel in the tokens' histograms of colours (`colour_histogram`); 0 for none."""
    mixers: int = 0
    """Convolutional blocks on the map of tokens, before the queries."""
    mixer_ratio: float = 3.0
    """Width of such a block's hidden layer over `width`."""

    def __post_init__(self) -> None:
        if self.levels == 1 or self.levels < 0:
            raise ValueError(f"image.head.levels is {self.levels}; give 2 or more, or 0 for none")
        if self.mixers < 0 or not self.mixer_ratio > 0:
            raise ValueError("image.head.mixers must be at least 0, image.head.mixer_ratio above 0")
        if self.width % self.heads or self.width % 4:
            raise ValueError(
                f"image.head.width {self.width} is not a multiple of 4 and of image.head.heads {self.heads}"
            )


def colour_channels(levels: int) -> int:
    """How many numbers of a token, its last ones, come from the pixels, with histograms of `levels` steps a channel."""
    return COLOURS + levels**3


def colour_histogram(pixels: Tensor, levels: int) -> Tensor:
    """Pixels (B, 3, H, W) in [-1, 1] -> parts of each 32 x 32 region in each colour, (B, levels ** 3, h, w).

    The colours are a lattice in the RGB cube; a pixel counts for the eight around it by trilinear weights, so the parts
    sum to 1 and have a gradient. Pairs of neighbours are averaged first.
    """
    halved = F.avg_pool2d(pixels.clamp(-1, 1), 2, 2, ceil_mode=True, count_include_pad=False)
    place = (halved + 1) * ((levels - 1) / 2)  # (B, 3, H / 2, W / 2)
    steps = torch.arange(levels, dtype=pixels.dtype, device=pixels.device)[:, None, None]
    red, green, blue = (1 - (place[:, :, None] - steps).abs()).clamp(min=0).unbind(1)  # each (B, levels, H / 2, W / 2)
    pairs = (red[:, :, None] * green[:, None]).flatten(1, 2)
    parts = (pairs[:, :, None] * blue[:, None]).flatten(1, 2)
    return F.avg_pool2d(parts, 16, 16, ceil_mode=True, count_include_pad=False)


def region_tokens(pixels: Tensor, middle: Tensor, deep: Tensor, levels: int = 0) -> Tensor:
    """Pixels (B, 3, H, W) and maps of stride 16 (B, M, …) and 32 (B, D, h, w) -> (B, h, w, D + M + 12 + levels ** 3).

    Nothing is learned here, so for a frozen trunk these are computed once and kept.
    """
    middle = F.avg_pool2d(middle, 2, 2, ceil_mode=True, count_include_pad=False)

    def pool(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 32, 32, ceil_mode=True, count_include_pad=False)

    mean = pool(pixels)
    deviation = (pool(pixels * pixels) - mean * mean).clamp(min=1e-6).sqrt()
    greatest = F.max_pool2d(pixels, 32, 32, ceil_mode=True)
    least = -F.max_pool2d(-pixels, 32, 32, ceil_mode=True)
    maps = [deep, middle, mean, deviation, least, greatest]
    if levels:
        maps.append(colour_histogram(pixels, levels))
    return torch.cat(maps, 1).permute(0, 2, 3, 1)


def waves(width: int, grid: int) -> Tensor:
    """Sines and cosines of row and column, (width, grid, grid): where positions start from (as in MoCo v3's ViT).

    Drawn at random and small, they would take hundreds of steps before left and right mean anything.
    """
    frequency = 2 ** torch.linspace(0, math.log2(grid), width // 4)
    angle = math.pi * torch.linspace(-0.5, 0.5, grid)[:, None] * frequency  # (grid, width / 4)
    wave = torch.cat([angle.sin(), angle.cos()], 1).T  # (width / 2, grid)
    rows, columns = wave[:, :, None].expand(-1, -1, grid), wave[:, None, :].expand(-1, grid, -1)
    return torch.cat([rows, columns])


class _Layer(nn.Module):
    """The queries ask the tokens and each other, then an MLP; both residual."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm_tokens, self.norm_queries = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = mlp(width, 4.0, "gelu")

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """queries (B, Q, width), tokens (B, L, width) -> (B, Q, width)."""
        asking = self.norm_queries(queries)
        heard = torch.cat([self.norm_tokens(tokens), asking], 1)
        queries = queries + self.attention(heard, queries=asking)
        return queries + self.mlp(self.norm_mlp(queries))


class RegionHead(nn.Module):
    """Tokens of `region_tokens` -> a correction (B, dim) of a unit embedding, its gate in (0, 1) applied.

    It starts at zero: an untrained head changes nothing, nor do its mixers. `mean` and `deviation` bring each number of
    a token to like size; they are measured once on the training pictures (`standardise`).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: RegionHeadConfig, channels: int, dim: int):
        super().__init__()
        width = config.width
        self.levels = config.levels
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.token = nn.Linear(channels, width)
        self.position = nn.Parameter(0.5 * waves(width, config.grid))
        self.mixers = nn.ModuleList(ConvBlock(width, config.mixer_ratio).silent() for _ in range(config.mixers))
        self.queries = nn.Parameter(0.02 * torch.randn(config.queries, width))
        self.layers = nn.ModuleList(_Layer(width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(config.queries * width, 1)
        self.projection = nn.Linear(config.queries * width, dim)
        zeroed(self.projection)

    @torch.no_grad()
    def standardise(self, tokens: Tensor) -> None:
        """Measure mean and deviation on tokens (N, h, w, channels)."""
        flat = tokens.flatten(0, 2).float()
        self.mean.copy_(flat.mean(0))
        self.deviation.copy_(flat.std(0).clamp(min=1e-3))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, h, w, channels) -> (B, dim)."""
        correction, gate = self.gated(tokens)
        return correction * gate

    def gated(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, h, w, channels) -> the correction (B, dim) before its gate, and the gate (B, 1) in (0, 1)."""
        x = self.token((tokens - self.mean) / self.deviation)
        position: Tensor = self.position
        if tuple(position.shape[1:]) != tuple(tokens.shape[1:3]):
            position = F.interpolate(position[None], tokens.shape[1:3], mode="bilinear", align_corners=False)[0]
        x = F.dropout(x + position.permute(1, 2, 0), DROPOUT, self.training)
        for block in self.mixers:
            x = block(x)
        x = x.flatten(1, 2)  # (B, h * w, width)
        queries = self.queries.expand(len(x), -1, -1)
        for layer in self.layers:
            queries = layer(queries, x)
        answers = self.norm(queries).flatten(1)
        return self.projection(answers), torch.sigmoid(self.gate(answers))
