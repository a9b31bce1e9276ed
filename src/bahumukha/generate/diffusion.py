"""Diffusion on one screen: one forward process, one callable, and samplers that can be told apart by eye.

    x_t     = (1 - t) x_0 + t ε                 t from 0, data, to 1, noise; ε normal
    dx / dt = ε - x_0 = (x_t - x̂_0) / t         x̂_0 = denoise(x_t, t) = E[x_0 | x_t]

This is rectified flow (Liu et al. 2022, "Flow Straight and Fast"; Lipman et al. 2022, "Flow Matching"). Its paths are
nearly straight, so that few steps lose little; its velocities are about as large everywhere, so that a plain squared
loss neglects no part of the way; it needs no table; and beside DDPM's process it did better at every size of network
(Ma et al. 2024, "SiT"). Nothing is lost by having one only: any other x = α x_0 + σ ε, divided by α + σ, is this one at
t = σ / (α + σ) (`TableProcess`), and the steps below are the same in every scale. With λ = log((1 - t) / t), half the
logarithm of the signal-to-noise ratio, a step from t to s < t is

    ddim     x_s = (1 - s) x̂_0 + sqrt(s² - c²) ε̂ + c z          c = η s sqrt(1 - e^(2 (λ_t - λ_s))), z new noise
    ddpm     the same with η = 1: what is drawn is the posterior of x_s given x_t and x̂_0
    euler    x_s = x_t + (s - t) v(x_t, t)                       which is ddim with η = 0, written another way
    heun     x_s = x_t + (s - t) (v(x_t, t) + v(x', s)) / 2      x' is Euler's; two calls a step
    dpm++    x_s = (s / t) x_t + (1 - s) (1 - e^(λ_t - λ_s)) (x̂_0 + (λ_s - λ_t) Δx̂_0 / 2 Δλ)    Δ: since the step before

(Song et al. 2020, "DDIM"; Ho et al. 2020, "DDPM"; Karras et al. 2022, "EDM"; Lu et al. 2022, "DPM-Solver++", its 2M.)
Guidance, thresholds and what must stay wrap a `denoise` and return one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from bahumukha.errors import UsageError

Denoise = Callable[[Tensor, float], Tensor]
"""(x_t (B, …), t in (0, 1]) -> x̂_0 of the same shape."""
Noise = Callable[[], Tensor]
"""-> new normal noise, (B, …)."""
SamplerName = Literal["ddpm", "ddim", "euler", "heun", "dpm++"]
SAMPLER_NAMES: tuple[SamplerName, ...] = get_args(SamplerName)
Prediction = Literal["clean", "noise", "velocity"]
"""What a network of another process tells: x_0, ε, or v = α ε - σ x_0 (Salimans and Ho 2022)."""

GOLDEN = 0x9E3779B9


class Moment(NamedTuple):
    """Where a step has led."""

    x: Tensor
    """x_s."""
    clean: Tensor
    """x̂_0, the estimate that led there: what a half-drawn picture looks like."""


# --- samplers: from times[0] down to times[-1]


def ddim(denoise: Denoise, x: Tensor, times: Sequence[float], noise: Noise, eta: float = 0.0) -> Iterator[Moment]:
    """Straight towards x̂_0, and `eta` in [0, 1] of the noise that is left renewed."""
    for t, s in pairwise(times):
        clean = denoise(x, t)
        epsilon = (x - (1 - t) * clean) / t
        renewed = eta * math.sqrt(1 - _kept(t, s) ** 2)
        x = (1 - s) * clean + s * math.sqrt(1 - renewed**2) * epsilon
        if s * renewed:
            x = x + s * renewed * noise()
        yield Moment(x, clean)


def ddpm(denoise: Denoise, x: Tensor, times: Sequence[float], noise: Noise) -> Iterator[Moment]:
    """Ancestral sampling."""
    return ddim(denoise, x, times, noise, eta=1.0)


def euler(denoise: Denoise, x: Tensor, times: Sequence[float], noise: Noise | None = None) -> Iterator[Moment]:
    """Along the velocity; first order."""
    for t, s in pairwise(times):
        clean = denoise(x, t)
        x = x + (s - t) * (x - clean) / t
        yield Moment(x, clean)


def heun(denoise: Denoise, x: Tensor, times: Sequence[float], noise: Noise | None = None) -> Iterator[Moment]:
    """Along the mean of the velocities here and there; second order, twice the work."""
    for t, s in pairwise(times):
        clean = denoise(x, t)
        velocity = (x - clean) / t
        if s > 0:
            there = x + (s - t) * velocity
            velocity = (velocity + (there - denoise(there, s)) / s) / 2
        x = x + (s - t) * velocity
        yield Moment(x, clean)


def dpm_solver(denoise: Denoise, x: Tensor, times: Sequence[float], noise: Noise | None = None) -> Iterator[Moment]:
    """x̂_0 taken to change evenly with λ, as it did in the step before; second order for one call a step."""
    before, taken = x, math.inf
    for t, s in pairwise(times):
        clean, kept = denoise(x, t), _kept(t, s)
        step = -math.log(kept) if kept else math.inf  # λ_s - λ_t
        is_known = math.isfinite(step) and math.isfinite(taken)  # no λ is finite at pure noise, nor at data
        ahead = clean + step / (2 * taken) * (clean - before) if is_known else clean
        x = s / t * x + (1 - s) * (1 - kept) * ahead
        before, taken = clean, step
        yield Moment(x, clean)


SAMPLERS: dict[SamplerName, Callable[[Denoise, Tensor, Sequence[float], Noise], Iterator[Moment]]] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "euler": euler,
    "heun": heun,
    "dpm++": dpm_solver,
}


def inverted(denoise: Denoise, x: Tensor, times: Sequence[float], rounds: int = 3) -> Tensor:
    """The noise that `euler` would make x of: x (B, …) at times[-1], data, -> at times[0]; `times` as Euler takes them.

    Each step is undone by looking, `rounds` times, for the x_t that it would lead to x_s from; one is DDIM's inversion
    (Song et al. 2020), more come back closer (Pan et al. 2023, "Accelerated Iterative Diffusion Inversion").
    """
    for s, t in pairwise(reversed(times)):
        wanted = x
        for _ in range(rounds):
            x = wanted + (t - s) * (x - denoise(x, t)) / t
    return x


def _kept(t: float, s: float) -> float:
    """e^(λ_t - λ_s): how much of the noise at s is that of t; 0 from pure noise and at data."""
    return (1 - t) * s / ((1 - s) * t)


# --- times and noise


def times_of(steps: int, shift: float = 1.0) -> list[float]:
    """1 to 0 in so many steps: even ones, or for a `shift` above 1 smaller ones where there is much noise.

    t' = shift t / (1 + (shift - 1) t): larger pictures keep their outlines longer under noise (Esser et al. 2024).
    Raises UsageError.
    """
    if steps < 1:
        raise UsageError(f"steps: {steps} was given; it takes a whole number above 0")
    if not (math.isfinite(shift) and shift > 0):
        raise UsageError(f"shift: {shift} was given; it takes a number above 0, 1 for even steps")
    even = (1 - k / steps for k in range(steps + 1))
    return [shift * t / (1 + (shift - 1) * t) for t in even]


class PictureNoise:
    """Normal noise of pictures that each have a random generator of their own: picture k of `seed` is the one of
    `seed + k` drawn alone, however many are drawn at once."""

    def __init__(
        self, seed: int, count: int, shape: Sequence[int], device: torch.device | None = None, *, part: int = 0
    ):
        """shape: of one picture, as (3, 64, 64). part: other numbers of the same seed, for another network."""
        other = part * GOLDEN % 2**32  # PyTorch's generators look at the last 32 bits alone
        self.generators = [torch.Generator().manual_seed((seed + k) ^ other) for k in range(count)]
        self.shape, self.device = tuple(shape), device

    def __call__(self) -> Tensor:
        """float32 (count, *shape), the next of each."""
        drawn = torch.stack([torch.randn(self.shape, generator=each) for each in self.generators])
        return drawn if self.device is None else drawn.to(self.device)


# --- what wraps a denoiser


@dataclass(frozen=True)
class Guidance:
    """How much more a condition counts than in the data. Raises UsageError for values out of range."""

    scale: float = 1.0
    """x̂_0 = u + scale (c - u), c and u the estimates with and without the condition (Ho and Salimans 2022); 1: none."""
    rescale: float = 0.0
    """Part, in [0, 1], to which the spread of the result is brought back to that of c (Lin et al. 2023)."""
    interval: tuple[float, float] = (0.0, 1.0)
    """Of t, where it acts: at the ends it costs variety and helps little (Kynkäänniemi et al. 2024)."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise UsageError(f"scale: {self.scale} was given; it takes a number from 0 up, 1 for no guidance")
        if not 0 <= self.rescale <= 1:
            raise UsageError(f"rescale: {self.rescale} was given; it takes a number from 0 to 1")
        low, high = self.interval
        if not 0 <= low <= high <= 1:
            raise UsageError(f"interval: {[low, high]} was given; it takes two numbers from 0 to 1, the smaller first")


def guided(given: Denoise, null: Denoise, guidance: Guidance) -> Denoise:
    """`given` knows the condition, `null` does not; where guidance does not act, only the first is asked."""
    low, high = guidance.interval

    def denoise(x: Tensor, t: float) -> Tensor:
        clean = given(x, t)
        if guidance.scale == 1 or not low <= t <= high:
            return clean
        strong = torch.lerp(null(x, t), clean, guidance.scale)
        if guidance.rescale:
            strong = strong * (1 + guidance.rescale * (_spread(clean) / _spread(strong) - 1))
        return strong

    return denoise


def thresholded(denoise: Denoise, share: float) -> Denoise:
    """For pixels in [-1, 1]: where more than 1 - `share` of a picture's numbers lie outside, all are divided by what
    brings so many inside, and the rest is clipped (Saharia et al. 2022, "Imagen": dynamic thresholding)."""

    def within(x: Tensor, t: float) -> Tensor:
        clean = denoise(x, t)
        most = torch.quantile(clean.flatten(1).abs().float(), share, dim=1).clamp(min=1).to(clean.dtype)
        most = most.view(-1, *[1] * (clean.dim() - 1))
        return torch.minimum(torch.maximum(clean, -most), most) / most

    return within


def keeping(denoise: Denoise, known: Tensor, is_open: Tensor) -> Denoise:
    """x̂_0 is `known` where `is_open` (bool, broadcastable) is False, so that there every sampler ends on it and
    passes, on its way, through `known` under its own noise: what is open sees all the time what it must fit."""
    return lambda x, t: torch.where(is_open, denoise(x, t), known)


def _spread(x: Tensor) -> Tensor:
    """Standard deviation of each of a batch, (B, 1, …)."""
    return x.flatten(1).std(1).clamp(min=1e-6).view(-1, *[1] * (x.dim() - 1))


# --- networks of other processes


class TableProcess:
    """x_k = sqrt(ā_k) x_0 + sqrt(1 - ā_k) ε for k = 0 … K - 1: the process of DDPM, under which most public networks
    were trained."""

    def __init__(self, alphas_cumprod: Tensor):
        """ā, falling, (K,)."""
        self.signal, self.noise = alphas_cumprod.double().sqrt(), (1 - alphas_cumprod.double()).sqrt()
        self.of_step = (self.noise / (self.signal + self.noise)).tolist()
        """The t of each k, rising."""

    @classmethod
    def cosine(cls, steps: int) -> TableProcess:
        """ā(u) = cos² of nearly u π / 2, no β above 0.999 (Nichol and Dhariwal 2021)."""
        at = torch.arange(steps + 1, dtype=torch.float64) / steps
        signal = torch.cos((at + 0.008) / 1.008 * math.pi / 2) ** 2
        beta = (1 - signal[1:] / signal[:-1]).clamp(max=0.999)
        return cls((1 - beta).cumprod(0))

    def scale(self, k: int) -> float:
        """x_k over x_t."""
        return float(self.signal[k] + self.noise[k])

    def times(self, steps: Sequence[int]) -> list[float]:
        """Of these k, the noisiest first, and 0."""
        return [self.of_step[k] for k in steps] + [0.0]

    def step(self, t: float) -> int:
        """The k that is nearest to t."""
        return min(range(len(self.of_step)), key=lambda k: abs(self.of_step[k] - t))

    def denoise(self, network: Callable[[Tensor, int], Tensor], predicts: Prediction) -> Denoise:
        """A network that takes x_k and k, as a `Denoise` of the process above."""

        def clean(x: Tensor, t: float) -> Tensor:
            k = self.step(t)
            signal, noise = float(self.signal[k]), float(self.noise[k])
            x = x * self.scale(k)
            told = network(x, k)
            if predicts == "clean":
                return told
            return (x - noise * told) / signal if predicts == "noise" else signal * x - noise * told

        return clean
