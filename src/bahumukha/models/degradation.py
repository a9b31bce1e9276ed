"""Small pictures made worse, so that an upsampler learns to live with what a decoder really gives it: blurred, noised,
and with the rings and squares of JPEG (Ramesh et al. 2022: blur for 64 -> 256 px, BSR degradation above; Zhang et al.
2021, "Designing a Practical Degradation Model for Deep Blind Image Super-Resolution")."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bahumukha.nn.draws import Draws

BLOCK = 8
"""Pixels along a side of JPEG's squares."""
REACH = 3
"""Pixels that a blur looks to each side."""
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""JPEG's own table (ITU T.81, annex K), used for all three channels."""


@dataclass(frozen=True)
class DegradationConfig:
    """How much worse; every probability in [0, 1]."""

    blur: float = 0.5
    """Probability of a blur."""
    blur_most: float = 0.8
    """Standard deviation of the widest, in pixels of the small picture."""
    noise_most: float = 0.3
    """Largest part of noise in (1 - s) x + s ε; how much it is, the network is told (Ho et al. 2021, "Cascaded")."""
    jpeg: float = 0.3
    """Probability of JPEG's losses."""
    quality: tuple[float, float] = (40.0, 95.0)
    """Of JPEG, 1 to 100."""

    def __post_init__(self) -> None:
        for name in ("blur", "jpeg"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        if not self.blur_most > 0:
            raise ValueError(f"blur_most is {self.blur_most}; it must be above 0")
        if not 0 <= self.noise_most < 1:
            raise ValueError(f"noise_most is {self.noise_most}; it must be at least 0 and below 1")
        low, high = self.quality
        if not 1 <= low <= high <= 100:
            raise ValueError(f"quality is {[low, high]}; it takes two numbers from 1 to 100, the smaller first")


def degraded(x: Tensor, config: DegradationConfig, draws: Draws = Draws()) -> tuple[Tensor, Tensor]:
    """x (B, 3, h, w) in [-1, 1] -> worse ones, each in its own way, and how noised each is, (B,)."""
    b = len(x)
    sigma = config.blur_most * draws.uniform(b, x).clamp(min=0.05)
    x = torch.where((draws.uniform(b, x) < config.blur).view(-1, 1, 1, 1), blurred(x, sigma), x)
    low, high = config.quality
    quality = low + (high - low) * draws.uniform(b, x)
    x = torch.where((draws.uniform(b, x) < config.jpeg).view(-1, 1, 1, 1), like_jpeg(x, quality), x)
    noise = config.noise_most * draws.uniform(b, x)
    return torch.lerp(x, draws.normal(x), noise.view(-1, 1, 1, 1)), noise


def blurred(x: Tensor, sigma: Tensor) -> Tensor:
    """x (B, C, h, w) under normal blurs of standard deviations (B,), in pixels; edges are repeated."""
    b, channels, height, width = x.shape
    at = torch.arange(-REACH, REACH + 1, device=x.device)
    kernel = torch.exp(-0.5 * (at / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, dim=0)  # (B C, 7)
    padded = F.pad(x, (REACH,) * 4, mode="replicate").reshape(1, b * channels, height + 2 * REACH, width + 2 * REACH)
    down = F.conv2d(padded, kernel[:, None, :, None], groups=b * channels)
    return F.conv2d(down, kernel[:, None, None], groups=b * channels).view_as(x)


def like_jpeg(x: Tensor, quality: Tensor) -> Tensor:
    """x (B, C, h, w) in [-1, 1], its 8 x 8 squares as coarse in frequency as JPEG of these qualities (B,) has them."""
    b, channels, height, width = x.shape
    down, across = (-side % BLOCK for side in (height, width))
    padded = F.pad(x, (0, across, 0, down), mode="replicate") * 127.5
    blocks = padded.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK)).transpose(3, 4)  # (B, C, rows, columns, 8, 8)
    waves = _cosines().to(x)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    steps = (scale.view(-1, 1, 1, 1, 1, 1) * torch.tensor(_LUMINANCE).to(x)).clamp(min=1)
    kept = (waves @ blocks @ waves.T / steps).round() * steps
    back = (waves.T @ kept @ waves).transpose(3, 4).reshape(b, channels, height + down, width + across)
    return (back / 127.5).clamp(-1, 1)[:, :, :height, :width]


def _cosines() -> Tensor:
    """The orthonormal discrete cosine transform of eight numbers, (8, 8)."""
    k, n = torch.arange(BLOCK)[:, None], torch.arange(BLOCK)
    waves = torch.cos(torch.pi / BLOCK * (n + 0.5) * k) * (2 / BLOCK) ** 0.5
    waves[0] /= 2**0.5
    return waves
