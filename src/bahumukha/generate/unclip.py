"""DALL-E 2's way (Ramesh et al. 2022): a caption becomes the embedding of a picture, the embedding a picture.

    unclip = Unclip.load("starter/unclip")
    *_, last = generate(unclip, "a red fish above a blue car", count=9, seed=7)

The embedding is a point of CLIP's space: what is in the picture, in which style, about where. The rest, which the
decoder makes up, is the noise that it begins with. So a picture can be changed by either alone (`generate.variations`).
A model may name a DALL-E, and the decoder then begins with a sketch of the sentence under noise (`generate.sketch`).

Every picture has random numbers of its own: picture k of `seed` is the one of `seed + k` drawn alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bahumukha.errors import ModelError, UsageError
from bahumukha.generate.diffusion import (
    SAMPLER_NAMES,
    SAMPLERS,
    Denoise,
    Guidance,
    PictureNoise,
    SamplerName,
    guided,
    keeping,
    thresholded,
    times_of,
)
from bahumukha.generate.priors import PriorSampling, rows_of, sample_embeddings
from bahumukha.generate.sketch import Sketcher, SketchSampling
from bahumukha.generate.upsample import UpsamplerSampling, upsampled
from bahumukha.models.denoiser import Condition, Denoiser, enlarged
from bahumukha.models.spaces import Latents, Pixels, Space
from bahumukha.models.text import TextFeatures
from bahumukha.protocols import ImageTextEncoder, Step
from bahumukha.zoo.unclip import LoadedUnclip, LoadedUpsampler, Sight

Size = tuple[int, int]
"""Width and height, in pixels."""
NOISE, SKETCHED = 1, 3
"""Parts of a seed's random numbers; the prior has the one before, the upsampler that between."""


@dataclass(frozen=True)
class DecoderSampling:
    """How an embedding becomes a picture. Raises UsageError for values out of range."""

    steps: int = 20
    sampler: SamplerName = "dpm++"
    guidance: float = 4.0
    """1 for none, above it closer to the embedding and the caption, and stronger in colour."""
    rescale: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)
    """These two as `generate.diffusion.Guidance` has them."""
    shift: float = 1.0
    """Above 1 more of the steps where there is much noise, for pictures larger than those trained on."""
    threshold: float | None = None
    """In pixels: the share of numbers that must lie in [-1, 1] (`generate.diffusion.thresholded`), as 0.995."""

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLER_NAMES:
            raise UsageError(f"sampler: {self.sampler!r} was given; it takes one of {', '.join(SAMPLER_NAMES)}")
        times_of(self.steps, self.shift)
        _ = self.strength  # checks its own
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UsageError(f"threshold: {self.threshold} was given; it takes a number above 0, at most 1")

    @property
    def strength(self) -> Guidance:
        """Of guidance."""
        return Guidance(self.guidance, self.rescale, self.interval)

    @property
    def times(self) -> list[float]:
        """From noise to data."""
        return times_of(self.steps, self.shift)


@dataclass(frozen=True)
class UnclipSampling:
    """Of all three networks."""

    prior: PriorSampling = field(default_factory=PriorSampling)
    decoder: DecoderSampling = field(default_factory=DecoderSampling)
    upsampler: UpsamplerSampling | None = field(default_factory=UpsamplerSampling)
    """None leaves pictures small."""
    sketch: SketchSampling | None = field(default_factory=SketchSampling)
    """Of sentences, where the model names a DALL-E; None begins with noise."""


class Unclip:
    """All that takes part: the networks, the CLIP whose embeddings they know, and where pictures are diffused."""

    def __init__(
        self,
        loaded: LoadedUnclip,
        encoder: ImageTextEncoder,
        read: Callable[[Sequence[str]], TextFeatures],
        space: Space,
    ):
        """encoder: of pictures and sentences; read: sentences -> what the text tower makes of each token. Raises
        ModelError where these are no parts of the CLIP that the networks were trained with."""
        sight = loaded.decoder.sight
        if encoder.fingerprint != sight.fingerprint:
            raise ModelError(
                f"{loaded.name}: was trained with {sight.clip} of other weights than {encoder.name} has; import that"
                " CLIP again, or take a model that fits it"
            )
        self.loaded, self.encoder, self.read, self.space = loaded, encoder, read, space
        if space.channels != self.decoder.config.channels:
            raise ModelError(
                f"{loaded.name}: its decoder draws {self.decoder.config.channels} numbers a place; the codec"
                f" {loaded.decoder.codec or 'of pixels'} has {space.channels}"
            )

    @classmethod
    def load(cls, name: str | Path) -> Unclip:
        """The unCLIP called `name` or in a folder, with its CLIP and codec. Raises ModelError."""
        from bahumukha.zoo.unclip import load_unclip

        return cls.of(load_unclip(name))

    @classmethod
    def of(cls, loaded: LoadedUnclip) -> Unclip:
        """With the CLIP and the codec that its parts name. Raises ModelError."""
        from bahumukha import zoo
        from bahumukha.zoo.codecs import load_codec
        from bahumukha.zoo.pytorch import TextReader

        sight: Sight = loaded.decoder.sight
        codec = loaded.decoder.codec
        space: Space = Latents(load_codec(codec)) if codec else Pixels()
        return cls(loaded, zoo.load(sight.clip), TextReader.load(sight.clip), space)

    @cached_property
    def sketcher(self) -> Sketcher | None:
        """What sketches sentences, if the model names it; loaded when first asked for. Raises ModelError."""
        return Sketcher.load(self.loaded.sketch, self.encoder) if self.loaded.sketch else None

    @property
    def decoder(self) -> Denoiser:
        """The network that draws."""
        return self.loaded.decoder.model

    @property
    def size(self) -> int:
        """Side of the pictures that the decoder was trained on, in pixels."""
        return self.decoder.config.grid * self.space.downsampling

    @property
    def step(self) -> int:
        """Pixels of which each side of a picture must be a multiple."""
        return self.decoder.config.patch * self.space.downsampling

    def embed(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Pictures (RGB) -> their embeddings, (N, dim) of norm 1."""
        return torch.from_numpy(self.encoder.encode_images(pictures))

    def imagine(self, text: TextFeatures, count: int, sampling: PriorSampling, seed: int) -> Tensor:
        """Captions -> embeddings of pictures of them, (count, dim) of norm 1."""
        return sample_embeddings(self.loaded.prior.model, text, count=count, sampling=sampling, seed=seed)

    def grid(self, size: Size | None = None) -> tuple[int, int]:
        """Rows and columns of what is diffused, for pictures of a size, or those trained on. Raises UsageError."""
        if size is None:
            return self.decoder.config.grid, self.decoder.config.grid
        width, height = size
        if min(size) < self.step or width % self.step or height % self.step:
            raise UsageError(f"size: {width}x{height} was given; it takes multiples of {self.step} from {self.step} up")
        return height // self.space.downsampling, width // self.space.downsampling

    def denoise(self, condition: Condition, sampling: DecoderSampling, guidance: float | None = None) -> Denoise:
        """The decoder under a condition, guided; `guidance` in place of the settings'."""
        scale = sampling.guidance if guidance is None else guidance

        def under(said: Condition) -> Denoise:
            return lambda x, t: self.decoder.clean(x, torch.full((len(x),), t, device=x.device), said)

        denoise = guided(under(condition), under(Condition()), Guidance(scale, sampling.rescale, sampling.interval))
        is_pixels = self.space.downsampling == 1
        return thresholded(denoise, sampling.threshold) if sampling.threshold and is_pixels else denoise

    def condition(self, embeddings: Tensor, text: TextFeatures | None = None) -> Condition:
        """What the decoder is told."""
        return Condition(embeddings, text if self.decoder.config.text_width else None)

    def noise(self, seed: int, count: int, grid: tuple[int, int]) -> PictureNoise:
        """Of pictures with these seeds."""
        return PictureNoise(seed, count, (self.decoder.config.channels, *grid), part=NOISE)


def generate(
    unclip: Unclip,
    prompts: str | Sequence[str],
    *,
    count: int = 1,
    size: Size | None = None,
    sampling: UnclipSampling = UnclipSampling(),
    seed: int = 0,
    every: int = 1,
) -> Iterator[Step]:
    """Draw `count` pictures at once; a step every `every` denoisings, the last one with the finished pictures.

    prompts: one for all, or one a picture. size: before the upsampler, which makes it `factor` times as large.
    `Step.images` is float32 (count, H, W, 3) in [0, 1], of one size from first to last: half-drawn pictures are what
    the network expects them to become. Raises UsageError before the first step.
    """
    captions = [prompts] if isinstance(prompts, str) else list(prompts)
    if not captions or not all(caption.strip() for caption in captions):
        raise UsageError("prompt: an empty one was given; say what to show")
    if count < 1 or len(captions) not in (1, count):
        raise UsageError(f"prompts: {len(captions)} were given for {count} pictures; give one for all, or one for each")
    grid = unclip.grid(size)
    check_every(every)
    text = unclip.read(captions)
    text = rows_of(text, torch.arange(count) % len(captions))
    embeddings = unclip.imagine(text, count, sampling.prior, seed)
    options: dict[str, Any] = {"grid": grid, "sampling": sampling, "seed": seed, "every": every}
    if sampling.sketch is None or unclip.sketcher is None:
        return draw(unclip, embeddings, text, **options)
    size = (grid[0] * unclip.space.downsampling, grid[1] * unclip.space.downsampling)
    drawn = unclip.sketcher.steps(captions, size, count=count, sampling=sampling.sketch, seed=seed, every=every)
    rows, _ = unclip.sketcher.grid(size)
    return _from_sketch(unclip, drawn, rows, sampling.sketch, embeddings, text, **options)


@torch.no_grad()
def _from_sketch(
    unclip: Unclip,
    drawn: Iterator[Step],
    rows: int,
    sketch: SketchSampling,
    embeddings: Tensor,
    text: TextFeatures,
    *,
    grid: tuple[int, int],
    sampling: UnclipSampling,
    seed: int,
    every: int,
) -> Iterator[Step]:
    """Sketch, a step every `every` of its `rows` of codes, then as `draw`; a row counts as a denoising."""
    rest, larger = sketch.rest(sampling.decoder.times), _Enlarging.of(unclip, sampling)
    calls = rows + len(rest) - 1 + (larger.sampling.steps if larger else 0)
    for step in drawn:
        pictures = torch.from_numpy(step.images).permute(0, 3, 1, 2) * 2 - 1
        if (step.index + 1) * every <= rows:  # the last one may come before its time
            shown = as_images(larger.roughly(pictures)) if larger else step.images
            yield Step(step.index, -(-calls // every), shown)
    x = unclip.space.encode(pictures).float()
    start = torch.lerp(x, PictureNoise(seed, len(x), x.shape[1:], part=SKETCHED)(), sketch.noise)
    options: dict[str, Any] = {"grid": grid, "sampling": sampling, "seed": seed, "every": every}
    yield from draw(unclip, embeddings, text, start=start, times=rest, before=rows, **options)


def draw(
    unclip: Unclip,
    embeddings: Tensor,
    text: TextFeatures | None = None,
    *,
    grid: tuple[int, int] | None = None,
    start: Tensor | None = None,
    times: Sequence[float] | None = None,
    before: int = 0,
    known: tuple[Tensor, Tensor] | None = None,
    guidance: float | None = None,
    sampling: UnclipSampling = UnclipSampling(),
    seed: int = 0,
    every: int = 1,
) -> Iterator[Step]:
    """Pictures of embeddings (B, dim), and captions for each of them if there are any; the rest as `generate` has it.

    start: noise to begin with, (B, channels, *grid); of the seeds by default.
    times: from that of `start` to 0; the settings' by default. before: steps that have led there.
    known: what stays, and a bool mask that is True where it does not, both broadcastable to `start`.
    guidance: in place of the settings'.
    """
    s, count, grid = sampling.decoder, len(embeddings), grid or unclip.grid()
    noise = unclip.noise(seed, count, grid)
    x = noise() if start is None else start
    denoise = unclip.denoise(unclip.condition(embeddings, text), s, guidance)
    if known is not None:
        denoise = keeping(denoise, *known)
    way = list(s.times if times is None else times)
    return _steps(unclip, denoise, x, noise, way, before, sampling, seed, every)


class _Enlarging(NamedTuple):
    """What makes pictures larger in the end."""

    upsampler: LoadedUpsampler
    sampling: UpsamplerSampling

    @classmethod
    def of(cls, unclip: Unclip, sampling: UnclipSampling) -> _Enlarging | None:
        """None where nothing does."""
        upsampler, own = unclip.loaded.upsampler, sampling.upsampler
        return None if upsampler is None or own is None else cls(upsampler, own)

    def roughly(self, pictures: Tensor) -> Tensor:
        """Half-drawn ones, of the size of finished ones."""
        return enlarged(pictures, self.upsampler.factor)


@torch.no_grad()
def _steps(
    unclip: Unclip,
    denoise: Denoise,
    x: Tensor,
    noise: PictureNoise,
    times: Sequence[float],
    before: int,
    sampling: UnclipSampling,
    seed: int,
    every: int,
) -> Iterator[Step]:
    """Decoder, then upsampler; all pictures of the last one's size."""
    larger, drawn_by = _Enlarging.of(unclip, sampling), before + len(times) - 1
    calls = drawn_by + (larger.sampling.steps if larger else 0)
    total = -(-calls // every)

    def step(call: int, pictures: Tensor) -> Step:
        return Step(-(-call // every) - 1, total, as_images(pictures))

    pictures = x
    for call, moment in enumerate(SAMPLERS[sampling.decoder.sampler](denoise, x, times, noise), before + 1):
        is_last = call == drawn_by
        if call % every == 0 or is_last:
            pictures = unclip.space.decode(moment.x if is_last else moment.clean)
            if call % every == 0 or call == calls:
                yield step(call, larger.roughly(pictures) if larger else pictures)
    if larger is None:
        return
    made = upsampled(larger.upsampler, pictures, sampling=larger.sampling, seed=seed)
    for call, drawn in enumerate(made, drawn_by + 1):
        if call % every == 0 or call == calls:
            yield step(call, drawn)


def as_images(pictures: Tensor) -> np.ndarray:
    """(B, 3, H, W) in [-1, 1] -> float32 (B, H, W, 3) in [0, 1]."""
    return pictures.float().add(1).div(2).clamp(0, 1).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def check_every(every: int) -> None:
    """Raises UsageError."""
    if every < 1:
        raise UsageError(f"every: {every} was given; it takes a whole number above 0")


def last(steps: Iterator[Step]) -> Any:
    """The finished pictures, float32 (B, H, W, 3) in [0, 1]."""
    *_, final = steps
    return final.images
