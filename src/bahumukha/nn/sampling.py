"""From logits to a choice: guidance, temperature, top-k, top-p (nucleus, Holtzman et al. 2019), and the draw.

guided = u + s (c - u)          c, u: logits with and without the condition (Ho and Salimans 2022)
p      = softmax(guided / temperature), the unlikely left out, the rest scaled to sum to 1
choice = the first i with p_0 + … + p_i > a number drawn evenly from [0, 1)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bahumukha.errors import UsageError


@dataclass(frozen=True)
class Sampling:
    """How boldly tokens are drawn. Raises UsageError for values out of range."""

    temperature: float = 1.0
    """Below 1 more likely tokens, above 1 more varied ones; 0 takes the likeliest."""
    top_k: int | None = None
    """Only the k likeliest tokens; None for all."""
    top_p: float | None = None
    """Only the likeliest tokens that together have this probability, in (0, 1]; after `top_k`. None for all."""
    guidance: float = 1.0
    """s above: 1 for none, above 1 closer to the condition, 0 ignores it."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UsageError(f"temperature: {self.temperature} was given; it takes a number from 0 up")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"top_k: {self.top_k} was given; it takes a whole number above 0")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"top_p: {self.top_p} was given; it takes a number above 0, at most 1")
        if not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise UsageError(f"guidance: {self.guidance} was given; it takes a number from 0 up")


def guided(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Logits moved along what the condition changes; new memory, so the next token's are untouched."""
    return torch.lerp(unconditional, conditional, scale)


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Logits (..., codes), guided already -> float64 probabilities of the same shape, 0 for what is left out."""
    logits = logits.double()
    if sampling.temperature == 0:
        return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
    # Shifted first: a temperature near 0 must not make infinities of ordinary logits.
    p = ((logits - logits.amax(-1, keepdim=True)) / sampling.temperature).softmax(-1)
    if sampling.top_k is not None and sampling.top_k < p.shape[-1]:
        kept, places = p.topk(sampling.top_k, dim=-1)
        p = torch.zeros_like(p).scatter_(-1, places, kept / kept.sum(-1, keepdim=True))
    if sampling.top_p is not None:
        p = nucleus(p, sampling.top_p)
    return p


def nucleus(p: Tensor, mass: float) -> Tensor:
    """The fewest likeliest tokens whose probabilities sum to `mass` or more, scaled to sum to 1; p (..., codes)."""
    ranked, places = p.sort(dim=-1, descending=True)
    before = ranked.cumsum(-1) - ranked
    ranked = ranked.where(before < mass, 0)
    return torch.zeros_like(p).scatter_(-1, places, ranked / ranked.sum(-1, keepdim=True))


def draw(p: Tensor, uniform: Tensor) -> Tensor:
    """Probabilities (B, codes) and numbers (B,) in [0, 1) -> ids int64 (B,); never one whose probability is 0."""
    below = p.double().cumsum(-1)
    total = below[:, -1:]
    wanted = torch.minimum(uniform.double()[:, None] * total, total.nextafter(torch.zeros_like(total)))
    return (below <= wanted).sum(-1)
