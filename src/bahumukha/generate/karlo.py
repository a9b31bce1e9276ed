"""Pictures by Karlo (`zoo.karlo`), on the same samplers as all else: prior, decoder at 64 pixels, two networks that
make 256 of them. Its networks were trained under DDPM's process with a cosine table, which is rectified flow at another
scale (`generate.diffusion.TableProcess`).

Left out is the variance that the decoder learned: `ddpm` draws with the least that its steps allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bahumukha.errors import UsageError
from bahumukha.generate.diffusion import (
    SAMPLER_NAMES,
    SAMPLERS,
    Denoise,
    Guidance,
    Moment,
    PictureNoise,
    SamplerName,
    TableProcess,
    guided,
)
from bahumukha.generate.priors import rows_of
from bahumukha.generate.unclip import as_images, check_every
from bahumukha.models.text import TextFeatures
from bahumukha.protocols import Step
from bahumukha.zoo.karlo import Karlo, Process


@dataclass(frozen=True)
class KarloSampling:
    """Steps and strengths, its makers' by default. Raises UsageError for values out of range."""

    prior_steps: int = 25
    prior_guidance: float = 4.0
    decoder_steps: int = 25
    decoder_guidance: float = 8.0
    large_steps: int = 7
    """Of the networks that enlarge; the last step is the second network's."""
    sampler: SamplerName = "ddpm"

    def __post_init__(self) -> None:
        for name in ("prior_steps", "decoder_steps", "large_steps"):
            if getattr(self, name) < 2:
                raise UsageError(f"{name}: {getattr(self, name)} was given; it takes a whole number from 2 up")
        if self.sampler not in SAMPLER_NAMES:
            raise UsageError(f"sampler: {self.sampler!r} was given; it takes one of {', '.join(SAMPLER_NAMES)}")
        Guidance(self.prior_guidance)
        Guidance(self.decoder_guidance)


def generate(
    karlo: Karlo,
    prompt: str,
    *,
    count: int = 1,
    sampling: KarloSampling = KarloSampling(),
    seed: int = 0,
    every: int = 1,
) -> Iterator[Step]:
    """Draw `count` pictures at once; a step every `every` denoisings after the prior's, as `generate.unclip` has it.

    Picture k of `seed` is the one of `seed + k` drawn alone. Networks are read in turn. Raises UsageError before the
    first step, ModelError where a part is broken.
    """
    if not prompt.strip():
        raise UsageError("prompt: an empty one was given; say what to show")
    if count < 1:
        raise UsageError(f"pictures: {count} were asked for; it takes a whole number above 0")
    check_every(every)
    return _steps(karlo, prompt, count, sampling, seed, every)


@torch.no_grad()
def _steps(karlo: Karlo, prompt: str, count: int, s: KarloSampling, seed: int, every: int) -> Iterator[Step]:
    text, null = (rows_of(each, torch.zeros(count, dtype=torch.int64)) for each in karlo.read_texts([prompt]))
    embeddings = imagined(karlo, text, null, s, seed)
    calls = s.decoder_steps + s.large_steps
    side = int(karlo.settings("super_res_first")["sample_size"])
    small = embeddings
    for call, drawn in enumerate(decoded(karlo, embeddings, text, null, s, seed), 1):
        small = drawn
        if call % every == 0:
            yield Step(call // every - 1, -(-calls // every), as_images(_enlarged(small, side)))
    for call, drawn in enumerate(enlarged(karlo, small, s, seed), s.decoder_steps + 1):
        if call % every == 0 or call == calls:
            yield Step(-(-call // every) - 1, -(-calls // every), as_images(drawn))


def imagined(karlo: Karlo, text: TextFeatures, null: TextFeatures, s: KarloSampling, seed: int) -> Tensor:
    """Embeddings of pictures of captions, (B, dim); text, null: captions and as many empty ones."""
    network = karlo.network("prior")

    def under(said: TextFeatures) -> Callable[[Tensor, int], Tensor]:
        def told(z: Tensor, k: int) -> Tensor:
            return network(
                z,
                timestep=k,
                proj_embedding=said.embedding,
                encoder_hidden_states=said.tokens,
                attention_mask=said.seen,
            ).predicted_image_embedding

        return told

    run = _Table(karlo.prior_process, s.prior_steps)
    noise = PictureNoise(seed, len(text.embedding), (network.config.embedding_dim,))
    denoise = run.denoise(under(text), under(null), s.prior_guidance)
    *_, last = run.moments(s.sampler, denoise, noise)
    return network.post_process_latents(last.x)


def decoded(
    karlo: Karlo, embeddings: Tensor, text: TextFeatures, null: TextFeatures, s: KarloSampling, seed: int
) -> Iterator[Tensor]:
    """After each step the small pictures that are expected, (B, 3, h, w) in [-1, 1], at last those that are drawn."""
    projection, network = karlo.network("text_proj"), karlo.network("decoder")

    def under(picture: Tensor | None, said: TextFeatures) -> Callable[[Tensor, int], Tensor]:
        tokens, time = projection(picture, said.embedding, said.tokens)
        seen = F.pad(said.seen, (projection.tokens, 0), value=True)

        def told(x: Tensor, k: int) -> Tensor:
            out = network(x, k, encoder_hidden_states=tokens, class_labels=time, attention_mask=seen).sample
            return out[:, : x.shape[1]]  # the rest is the learned variance

        return told

    run = _Table(karlo.decoder_process, s.decoder_steps)
    side = int(network.config.sample_size)
    noise = PictureNoise(seed, len(embeddings), (int(network.config.in_channels), side, side), part=1)
    denoise = run.denoise(under(embeddings, text), under(None, null), s.decoder_guidance)
    for call, moment in enumerate(run.moments(s.sampler, denoise, noise), 1):
        yield (moment.x if call == s.decoder_steps else moment.clean).clamp(-1, 1)


def enlarged(karlo: Karlo, small: Tensor, s: KarloSampling, seed: int) -> Iterator[Tensor]:
    """The same of large pictures, of small ones (B, 3, h, w) in [-1, 1]."""
    network: Any = karlo.network("super_res_first")
    run = _Table(karlo.large_process, s.large_steps)
    side = int(network.config.sample_size)
    given = _enlarged(small, side)

    def told(x: Tensor, k: int) -> Tensor:
        nonlocal network
        if k == run.numbers[-1]:
            network = karlo.network("super_res_last")  # and the first is let go
        return network(torch.cat([x, given], dim=1), k).sample

    noise = PictureNoise(seed, len(small), (3, side, side), part=2)
    denoise = run.denoise(told, told, 1.0)
    for call, moment in enumerate(run.moments(s.sampler, denoise, noise), 1):
        yield (moment.x if call == s.large_steps else moment.clean).clamp(-1, 1)


class _Table:
    """A process, and which of its steps are taken."""

    def __init__(self, process: Process, steps: int):
        if steps > process.steps:
            raise UsageError(f"steps: {steps} were asked for; this network was trained on {process.steps}")
        self.process, self.table = process, TableProcess.cosine(process.steps)
        even = torch.arange(steps, dtype=torch.float64) * ((process.steps - 1) / (steps - 1))
        self.numbers = [int(k) for k in even.round().flip(0)]

    def denoise(
        self, given: Callable[[Tensor, int], Tensor], null: Callable[[Tensor, int], Tensor], guidance: float
    ) -> Denoise:
        """What networks tell, guided, then clipped."""
        limit, predicts = self.process.limit, self.process.predicts
        strong = guided(self.table.denoise(given, predicts), self.table.denoise(null, predicts), Guidance(guidance))
        return strong if limit is None else lambda x, t: strong(x, t).clamp(-limit, limit)

    def moments(self, sampler: SamplerName, denoise: Denoise, noise: PictureNoise) -> Iterator[Moment]:
        """From noise, as the table has it at its first step, to data."""
        x = noise() / self.table.scale(self.numbers[0])
        return SAMPLERS[sampler](denoise, x, self.table.times(self.numbers), noise)


def _enlarged(small: Tensor, side: int) -> Tensor:
    """(B, 3, h, w) -> (B, 3, side, side), as Karlo's networks were given it."""
    return F.interpolate(small, (side, side), mode="bicubic", align_corners=False, antialias=True)
