"""Pictures made larger by unCLIP's upsampler, large ones in tiles that overlap.

The network looks at a tile of the size it was trained on. At every step the estimates of all tiles are laid over each
other, each weighed by how far a place is from its tile's edge, before the step is taken: so no seam can grow (Bar-Tal
et al. 2023, "MultiDiffusion"). Noise belongs to the whole picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bahumukha.errors import UsageError
from bahumukha.generate.diffusion import SAMPLER_NAMES, SAMPLERS, Denoise, PictureNoise, SamplerName, times_of
from bahumukha.models.denoiser import Condition, Denoiser, enlarged
from bahumukha.zoo.unclip import LoadedUpsampler

NOISE = 2
"""Part of a seed's random numbers."""


@dataclass(frozen=True)
class UpsamplerSampling:
    """How pictures are enlarged. Raises UsageError for values out of range."""

    steps: int = 8
    sampler: SamplerName = "dpm++"
    noise: float = 0.1
    """Part of noise in what the network is given, in [0, 1), which it is told: more makes up more, and forgives more of
    the small picture's faults. At most what it was trained with."""
    overlap: float = 0.25
    """Of tiles, as a part of their side, in [0, 0.5]."""

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLER_NAMES:
            raise UsageError(f"sampler: {self.sampler!r} was given; it takes one of {', '.join(SAMPLER_NAMES)}")
        times_of(self.steps)
        if not 0 <= self.noise < 1:
            raise UsageError(f"noise: {self.noise} was given; it takes a number from 0 up, below 1")
        if not 0 <= self.overlap <= 0.5:
            raise UsageError(f"overlap: {self.overlap} was given; it takes a number from 0 to 0.5")


@torch.no_grad()
def upsampled(
    upsampler: LoadedUpsampler, pictures: Tensor, *, sampling: UpsamplerSampling = UpsamplerSampling(), seed: int = 0
) -> Iterator[Tensor]:
    """Pictures (B, 3, h, w) in [-1, 1] -> after each step what they are expected to become, (B, 3, factor h, factor w),
    at last what they are. Any size; picture k has the random numbers of `seed + k`."""
    model, b = upsampler.model, len(pictures)
    given, height, width = _whole_patches(enlarged(pictures.float(), upsampler.factor), model.config.patch)
    noise = PictureNoise(seed, b, given.shape[1:], given.device, part=NOISE)
    given = torch.lerp(given, noise(), sampling.noise)
    told = torch.full((b,), sampling.noise, device=given.device)
    denoise = tiled(model, given, told, sampling.overlap)
    for step, moment in enumerate(SAMPLERS[sampling.sampler](denoise, noise(), times_of(sampling.steps), noise), 1):
        shown = moment.x if step == sampling.steps else moment.clean
        yield shown[:, :, :height, :width].clamp(-1, 1)


def tiled(model: Denoiser, given: Tensor, noise: Tensor, overlap: float) -> Denoise:
    """The network on tiles of what it was trained on; given (B, 3, H, W), whole patches; noise (B,), what is in it."""
    side, patch = model.config.grid, model.config.patch
    rows, columns = (_starts(length, side, overlap, patch) for length in given.shape[2:])
    high, wide = min(side, given.shape[2]), min(side, given.shape[3])
    weight = _ramp(high, overlap).to(given)[:, None] * _ramp(wide, overlap).to(given)

    def denoise(x: Tensor, t: float) -> Tensor:
        at = torch.full((len(x),), t, device=x.device)
        total, weights = torch.zeros_like(x), torch.zeros_like(x[:1, :1])
        for top in rows:
            for left in columns:
                place = (..., slice(top, top + high), slice(left, left + wide))
                condition = Condition(given=given[place], given_noise=noise)
                total[place] += weight * model.clean(x[place], at, condition)
                weights[place] += weight
        return total / weights

    return denoise


def _starts(length: int, side: int, overlap: float, patch: int) -> list[int]:
    """Where tiles of `side` begin, so that they cover `length` and overlap at least by so much: on whole patches."""
    if length <= side:
        return [0]
    stride = max(patch, int(side * (1 - overlap)) // patch * patch)
    return [*range(0, length - side, stride), length - side]


def _ramp(side: int, overlap: float) -> Tensor:
    """Weights along a tile: rising over the overlap, never 0."""
    at = torch.arange(side) + 0.5
    reach = max(1.0, side * overlap)
    return (torch.minimum(at, side - at) / reach).clamp(max=1.0)


def _whole_patches(x: Tensor, patch: int) -> tuple[Tensor, int, int]:
    """Filled up at the right and below with its own edge, and the height and width it had."""
    height, width = x.shape[2:]
    down, across = -height % patch, -width % patch
    return torch.nn.functional.pad(x, (0, across, 0, down), mode="replicate"), height, width
