"""What unCLIP's decoder may begin with in place of noise: a sketch of the sentence that DALL-E draws, under noise.

    x_t = (1 - t) sketch + t ε,    and from there the decoder's own way down to t = 0

Noise of t hides what is finer than it (Meng et al. 2021, "SDEdit"): what stands where is DALL-E's, what things look
like the decoder's. Near 1 nothing is left of the sketch, near 0 it stays as it is. Several are drawn for each picture,
and the one is taken up that CLIP finds nearest to the sentence, as with the prior's embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from bahumukha.errors import UsageError
from bahumukha.generate.dalle import USUAL, sample_ids
from bahumukha.generate.tokens import OPEN, check_pair, decoded, shown
from bahumukha.images.ranges import to_uint8
from bahumukha.models.vqgan import Codec
from bahumukha.nn.sampling import Sampling
from bahumukha.protocols import ImageTextEncoder, Step
from bahumukha.zoo.codecs import load_codec
from bahumukha.zoo.dalle import LoadedDalle, load_dalle

AT_ONCE = 64
"""Tries that are decoded and looked at together."""
SAME = 1e-6
"""Times nearer to each other than this are one."""


@dataclass(frozen=True)
class SketchSampling:
    """How sentences are sketched. Raises UsageError for values out of range."""

    noise: float = 0.4
    """t at which the decoder takes a sketch up, above 0, below 1."""
    tries: int = 8
    """For each picture; the one that is nearest to the sentence is kept."""
    codes: Sampling = USUAL
    """How DALL-E draws."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise) and 0 < self.noise < 1):
            raise UsageError(f"noise: {self.noise} was given; it takes a number above 0, all of the sketch, below 1")
        if self.tries < 1:
            raise UsageError(f"tries: {self.tries} was given; it takes a whole number above 0")

    def rest(self, times: Sequence[float]) -> list[float]:
        """Of the decoder's times those from here on."""
        return [self.noise, *(t for t in times if t < self.noise - SAME)]


@dataclass(frozen=True)
class Sketcher:
    """A DALL-E, its codec, and a CLIP that chooses."""

    dalle: LoadedDalle
    codec: Codec
    encoder: ImageTextEncoder

    @classmethod
    def load(cls, name: str, encoder: ImageTextEncoder) -> Sketcher:
        """The DALL-E called `name` or in a folder. Raises ModelError."""
        dalle = load_dalle(name)
        return cls(dalle, load_codec(dalle.codec), encoder)

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of codes for pictures of a height and a width: of that shape, and no fewer than the model
        knows."""
        places = [side / self.codec.downsampling for side in size]
        larger = max(1.0, *(least / many for least, many in zip(self.dalle.model.config.grid, places, strict=True)))
        rows, columns = (math.ceil(many * larger - 1e-6) for many in places)
        return rows, columns

    def steps(
        self,
        prompts: Sequence[str],
        size: tuple[int, int],
        *,
        count: int,
        sampling: SketchSampling,
        seed: int,
        every: int = 1,
    ) -> Iterator[Step]:
        """Sketches of a height and a width; a step every `every` rows of codes, and the last. Picture k of `seed` is
        that of `seed + k`. prompts: one for all, or one a picture. What was shown may give way to another try."""
        check_pair(self.dalle.model, self.codec, every)
        grid, texts, tries = self.grid(size), self.dalle.encode(prompts), sampling.tries
        options: dict[str, Any] = {"grid": grid, "sampling": sampling.codes, "seed": seed}
        drawn = sample_ids(self.dalle.model, texts, count=count, variants=tries, **options)
        for step in shown(self._one_of(drawn, prompts, tries), self.codec, grid, every):
            yield Step(step.index, step.total, _sized(torch.from_numpy(step.images), size).numpy())

    def _one_of(self, drawn: Iterator[Tensor], prompts: Sequence[str], tries: int) -> Iterator[Tensor]:
        """Of the ids of each picture's tries (count * tries, rows, columns) those of the first, (count, rows, columns),
        and of finished ones those of the nearest."""
        for ids in drawn:
            yield ids[::tries] if tries == 1 or bool((ids == OPEN).any()) else self._nearest(ids, prompts, tries)

    def _nearest(self, ids: Tensor, prompts: Sequence[str], tries: int) -> Tensor:
        """Of each picture's tries the one whose picture is nearest to its sentence."""
        pictures = [to_uint8(decoded(some, self.codec)) for some in ids.split(AT_ONCE)]
        seen = [self.encoder.encode_images([Image.fromarray(each) for each in some]) for some in pictures]
        near = np.concatenate(seen).reshape(-1, tries, seen[0].shape[1]) @ self.encoder.encode_texts(prompts)[..., None]
        best = torch.from_numpy(near[..., 0].argmax(1)).to(ids.device)
        return ids[torch.arange(len(best), device=ids.device) * tries + best]


def left_of_sketch(t: Tensor, noise: Tensor) -> Tensor:
    """How much of a sketch, in [0, 1], still stands under the noise of t on the way from it under `noise` to x, if the
    decoder tells x all along; t and noise (B,), t the lesser:

        x_t = (1 - t) (x + left (sketch - x)) + t ε,    left = t / (1 - t)  (1 - noise) / noise
    """
    return t / (1 - t) * (1 - noise) / noise


def _sized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H, W, 3) in [0, 1], of another height and width."""
    if tuple(images.shape[1:3]) == size:
        return images
    resized = F.interpolate(images.permute(0, 3, 1, 2), size, mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 1).permute(0, 2, 3, 1).contiguous()
