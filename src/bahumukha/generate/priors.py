"""Embeddings of pictures for captions: unCLIP's prior, of either kind, asked several times, the best of each kept.

Which one is best says its dot product with the caption's embedding (Ramesh et al. 2022: the better of two).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bahumukha.errors import UsageError
from bahumukha.generate.diffusion import (
    SAMPLER_NAMES,
    SAMPLERS,
    Guidance,
    PictureNoise,
    SamplerName,
    guided,
    times_of,
)
from bahumukha.models.embedding_tokens import TokenPrior
from bahumukha.models.prior import DiffusionPrior
from bahumukha.models.text import TextFeatures
from bahumukha.nn.sampling import Sampling, draw, probabilities
from bahumukha.nn.sampling import guided as guided_logits


@dataclass(frozen=True)
class PriorSampling:
    """How embeddings are drawn. Raises UsageError for values out of range."""

    steps: int = 1
    """Of the diffusion prior: one tells the mean of what a caption may mean, which is what is nearest to most pictures,
    more draw one meaning of many. The other kind takes a step for each number."""
    sampler: SamplerName = "dpm++"
    """Of the diffusion prior."""
    guidance: float = 1.0
    """1 for none, above it closer to the caption."""
    tries: int = 4
    """For each picture; the one that is nearest to the caption is kept."""
    temperature: float = 1.0
    """Of the other kind; below 1 likelier embeddings."""

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLER_NAMES:
            raise UsageError(f"sampler: {self.sampler!r} was given; it takes one of {', '.join(SAMPLER_NAMES)}")
        if self.tries < 1:
            raise UsageError(f"tries: {self.tries} was given; it takes a whole number above 0")
        times_of(self.steps)
        Guidance(self.guidance)
        Sampling(self.temperature, guidance=self.guidance)


@torch.no_grad()
def sample_embeddings(
    prior: DiffusionPrior | TokenPrior,
    text: TextFeatures,
    *,
    count: int = 1,
    sampling: PriorSampling = PriorSampling(),
    seed: int = 0,
) -> Tensor:
    """Embeddings of pictures, (count, dim) of norm 1; text: of one caption, or of `count`.

    Picture k of `seed` is the one of `seed + k` alone. The prior is put in eval mode. Raises UsageError.
    """
    if count < 1:
        raise UsageError(f"pictures: {count} were asked for; it takes a whole number above 0")
    if len(text.embedding) not in (1, count):
        raise UsageError(f"captions: {len(text.embedding)} were given for {count} pictures; give one, or one for each")
    prior.eval()
    text = rows_of(text, torch.arange(count) % len(text.embedding))
    many = rows_of(text, torch.arange(count).repeat_interleave(sampling.tries))
    drawn = _diffused(prior, many, sampling, seed, count) if isinstance(prior, DiffusionPrior) else None
    if drawn is None:
        assert isinstance(prior, TokenPrior)
        drawn = _spelled(prior, many, sampling, seed, count)
    drawn = drawn.view(count, sampling.tries, -1)
    best = (drawn * text.embedding[:, None]).sum(2).argmax(1)
    return drawn[torch.arange(count), best]


def rows_of(text: TextFeatures, places: Tensor) -> TextFeatures:
    """Some of the captions, int64 (n,), any of them several times."""
    return TextFeatures(text.embedding[places], text.tokens[places], text.seen[places])


def _diffused(prior: DiffusionPrior, text: TextFeatures, sampling: PriorSampling, seed: int, count: int) -> Tensor:
    """(count * tries, dim), the tries of the first picture first."""
    device = prior.query.device
    noise = PictureNoise(seed, count, (sampling.tries, prior.config.dim), device)
    dropped = torch.ones(len(text.embedding), dtype=torch.bool, device=device)

    def estimate(z: Tensor, t: float, without: Tensor | None) -> Tensor:
        return prior(z, torch.full((len(z),), t, device=device), text, without).float()

    denoise = guided(
        lambda z, t: estimate(z, t, None), lambda z, t: estimate(z, t, dropped), Guidance(sampling.guidance)
    )
    sampler = SAMPLERS[sampling.sampler]
    *_, last = sampler(denoise, noise().flatten(0, 1), times_of(sampling.steps), lambda: noise().flatten(0, 1))
    return prior.standard.back(last.x)


def _spelled(prior: TokenPrior, text: TextFeatures, sampling: PriorSampling, seed: int, count: int) -> Tensor:
    """The same, number by number, all of them among the better half of matches."""
    c, rows = prior.config, len(text.embedding)
    generators = [torch.Generator().manual_seed(seed + k) for k in range(count)]
    uniform = torch.cat([torch.rand(sampling.tries, 1 + c.axes, generator=g, dtype=torch.float64) for g in generators])
    uniform = uniform.to(prior.places.device)
    least = c.matches // 2
    match = least + (uniform[:, 0] * (c.matches - least)).long()
    both = sampling.guidance != 1
    if both:
        text, match = rows_of(text, torch.arange(rows).repeat(2)), match.repeat(2)
    dropped = torch.arange(len(match), device=match.device) >= rows
    choice = Sampling(sampling.temperature)
    cache, seen, logits = prior.begin(text, match, dropped if both else None)
    ids: list[Tensor] = []
    for axis in range(c.axes):
        if axis:
            logits = prior.extend(cache, seen, ids[-1].repeat(2) if both else ids[-1], axis - 1)
        told = guided_logits(logits[:rows], logits[rows:], sampling.guidance) if both else logits
        ids.append(draw(probabilities(told, choice), uniform[:, 1 + axis]))
    return prior.code.embeddings(torch.stack(ids, dim=1))
