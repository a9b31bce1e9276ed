"""What a picture's embedding and its noise make possible (Ramesh et al. 2022, sections 3.1 to 3.3).

A picture is two things here: its embedding z, which says what it is, and the noise x_1 that the decoder would make it
of, found by going the decoder's way backwards (`generate.diffusion.inverted`), which says all the rest.

    vary        z, and noise between x_1 and new noise
    blend       z between those of two pictures, on the sphere; their noises as well, or one noise for all, of a few
                the one whose strip CLIP finds to change most evenly
    edit        z turned towards normalize(z_target - z_source), a difference of captions, and x_1
    inpaint     z of a caption, where the picture is open; what is closed stays
    explore     z cut down to its first principal axes, or moved along one of them

Where noise is the picture's own, the way back is Euler's and without guidance, and so is the way there, as far as the
picture should stay: guidance grows with the change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from bahumukha.errors import UsageError
from bahumukha.generate.diffusion import inverted
from bahumukha.generate.priors import rows_of
from bahumukha.generate.unclip import Unclip, UnclipSampling, check_every, draw, last
from bahumukha.images.ranges import to_float01, to_uint8
from bahumukha.protocols import Step

ROUNDS = 3
"""In which a step is undone."""


@dataclass(frozen=True)
class Strip:
    """Pictures that belong together, all ready to be drawn; each is the same whichever are drawn beside it."""

    unclip: Unclip
    embeddings: Tensor
    """(N, dim)."""
    start: Tensor
    """Their noise, (N, channels, *grid)."""
    sampling: UnclipSampling
    seed: int
    guidance: float | None = None
    """In place of the settings'."""

    def __len__(self) -> int:
        return len(self.embeddings)

    def steps(self, every: int = 1, first: int = 0, count: int | None = None) -> Iterator[Step]:
        """Draw `count` of them at once, from picture `first` on; all by default."""
        rows = slice(first, None if count is None else first + count)
        common = {"sampling": self.sampling, "seed": self.seed + first, "every": every}
        embeddings, start = self.embeddings[rows], self.start[rows]
        return draw(self.unclip, embeddings, start=start, guidance=self.guidance, **common)  # type: ignore[arg-type]


def vary(
    unclip: Unclip,
    picture: Image.Image,
    *,
    far: float = 1.0,
    count: int = 1,
    sampling: UnclipSampling = UnclipSampling(),
    seed: int = 0,
    every: int = 1,
) -> Iterator[Step]:
    """Other pictures of what a picture shows. far: 0 is the picture itself, as well as the decoder can draw it, 1 has
    nothing but its embedding. Raises UsageError before the first step."""
    if not 0 <= far <= 1:
        raise UsageError(f"far: {far} was given; it takes a number from 0, the same picture, to 1")
    check_count(count)
    check_every(every)
    embeddings = unclip.embed([picture])
    start = guidance = None
    if far < 1:
        own = noise_of(unclip, [picture], embeddings, sampling)
        start = slerp(own.expand(count, -1, -1, -1), unclip.noise(seed, count, unclip.grid())(), far)
        sampling, guidance = _along(sampling), _grown(sampling, far)
    embeddings = embeddings.expand(count, -1)
    return draw(unclip, embeddings, start=start, guidance=guidance, sampling=sampling, seed=seed, every=every)


def blend(unclip: Unclip, first: Image.Image, second: Image.Image, *, every: int = 1, **options: Any) -> Iterator[Step]:
    """Draw the whole of `blended`, which takes the `options`."""
    check_every(every)
    return blended(unclip, first, second, **options).steps(every)


def blended(
    unclip: Unclip,
    first: Image.Image,
    second: Image.Image,
    *,
    count: int = 7,
    own_noise: bool = False,
    tries: int = 4,
    sampling: UnclipSampling = UnclipSampling(),
    seed: int = 0,
) -> Strip:
    """A strip of `count` pictures from one to the other, both ends among them. own_noise: with the noises of the two,
    so that the ends look like them, and without guidance; else with one noise, so that the strip changes evenly: of
    `tries` noises, whose seeds follow each other, that whose strip changes most evenly (`evenness`)."""
    if count < 2:
        raise UsageError(f"pictures: {count} were asked for; a blend has at least 2, its ends")
    if tries < 1:
        raise UsageError(f"tries: {tries} was given; at least 1 noise is needed")
    sampling = _of_one_noise(sampling)
    shares = torch.linspace(0, 1, count)
    embeddings = unclip.embed([first, second])
    between = slerp(embeddings[:1].expand(count, -1), embeddings[1:].expand(count, -1), shares)
    if not own_noise:
        seed += _most_even(unclip, between, embeddings, tries, sampling, seed) if tries > 1 else 0
        start = unclip.noise(seed, 1, unclip.grid())().expand(count, -1, -1, -1)
        return Strip(unclip, between, start, sampling, seed)
    own = noise_of(unclip, [first, second], embeddings, sampling)
    start = slerp(own[:1].expand(count, -1, -1, -1), own[1:].expand(count, -1, -1, -1), shares)
    return Strip(unclip, between, start, _along(sampling), seed, guidance=1.0)


def evenness(cosines: np.ndarray) -> np.ndarray:
    """Cosines (..., strip, 2) of a strip's pictures with its two ends -> (...), the least that any picture is more like
    the second and less like the first than the one before it: above 0 where a strip never turns back."""
    towards = cosines[..., 1] - cosines[..., 0]
    return np.diff(towards, axis=-1).min(-1)


def _most_even(
    unclip: Unclip, embeddings: Tensor, ends: Tensor, tries: int, sampling: UnclipSampling, seed: int
) -> int:
    """Which of the noises of seeds from `seed` on makes the most even strip; fewer steps would not tell."""
    draft, even = replace(sampling, upsampler=None), []
    for start in unclip.noise(seed, tries, unclip.grid())():
        same = start.expand(len(embeddings), -1, -1, -1)
        drawn = to_uint8(
            last(draw(unclip, embeddings, start=same, sampling=draft, seed=seed, every=draft.decoder.steps))
        )
        seen = unclip.embed([Image.fromarray(pixels) for pixels in drawn])
        even.append(evenness((seen @ ends.T).numpy()))
    return int(np.argmax(even))


def edit(
    unclip: Unclip, picture: Image.Image, source: str, target: str, *, every: int = 1, **options: Any
) -> Iterator[Step]:
    """Draw the whole of `edited`, which takes the `options`."""
    check_every(every)
    return edited(unclip, picture, source, target, **options).steps(every)


def edited(
    unclip: Unclip,
    picture: Image.Image,
    source: str,
    target: str,
    *,
    strengths: Sequence[float] = (0.55,),
    sampling: UnclipSampling = UnclipSampling(),
    seed: int = 0,
) -> Strip:
    """The picture, in which what `source` says becomes what `target` says: one for each of `strengths`, in [0, 1], the
    part of the way that its embedding is turned (the paper's: 0.25 to 0.5)."""
    if not strengths or not all(0 <= strength <= 1 for strength in strengths):
        raise UsageError(f"strength: {list(strengths)} was given; it takes numbers from 0, no change, to 1")
    captions = torch.from_numpy(unclip.encoder.encode_texts([source, target]))
    change = captions[1] - captions[0]
    if float(change.norm()) < 1e-4:
        raise UsageError(
            f"edit: {source!r} and {target!r} say the same; give captions that differ in what should change"
        )
    embedding, count = unclip.embed([picture]), len(strengths)
    start = noise_of(unclip, [picture], embedding, sampling).expand(count, -1, -1, -1)
    turned = slerp(
        embedding.expand(count, -1), F.normalize(change, dim=0).expand(count, -1), torch.tensor(list(strengths))
    )
    return Strip(unclip, turned, start, _along(sampling), seed, _grown(sampling, max(strengths)))


def inpaint(
    unclip: Unclip,
    picture: Image.Image,
    mask: Image.Image,
    prompt: str,
    *,
    count: int = 1,
    sampling: UnclipSampling = UnclipSampling(),
    seed: int = 0,
    every: int = 1,
) -> Iterator[Step]:
    """Draw anew what the mask shows, of a picture of any size, so that it fits the prompt and what stays.

    mask: any mode and size; what is 128 or brighter is drawn. In every step what is darker is the picture itself: as
    uint8 its pixels are bit for bit those given. Raises UsageError before the first step.
    """
    if not prompt.strip():
        raise UsageError("prompt: an empty one was given; say what to show")
    check_count(count)
    check_every(every)
    whole = torch.from_numpy(to_float01(picture)).permute(2, 0, 1)[None]  # (1, 3, H, W) in [0, 1]
    open_pixels = torch.from_numpy(np.array(mask.convert("L").resize(picture.size, Image.Resampling.BILINEAR))) >= 128
    if not bool(open_pixels.any()):
        raise UsageError("mask: shows nothing to draw; what it has in white is drawn anew")
    grid = _nearest_grid(unclip, picture.size)
    small = _fitted(picture, grid, unclip.space.downsampling)
    is_open = F.adaptive_max_pool2d(open_pixels[None, None].float(), grid) > 0  # where any pixel of a place is
    text = unclip.read([prompt])
    embeddings = unclip.imagine(text, count, sampling.prior, seed)
    with torch.no_grad():
        known = unclip.space.encode(small).float()
    text = rows_of(text, torch.zeros(count, dtype=torch.int64))
    steps = draw(unclip, embeddings, text, grid=grid, known=(known, is_open), sampling=sampling, seed=seed, every=every)
    return (_laid_over(step, whole, open_pixels) for step in steps)


def explore(unclip: Unclip, picture: Image.Image, *, every: int = 1, **options: Any) -> Iterator[Step]:
    """Draw the whole of `explored`, which takes the `options`."""
    check_every(every)
    return explored(unclip, picture, **options).steps(every)


def explored(
    unclip: Unclip,
    picture: Image.Image,
    *,
    keep: Sequence[int] = (4, 8, 16, 32, 64),
    axis: int | None = None,
    amounts: Sequence[float] = (-3, -1.5, 0, 1.5, 3),
    sampling: UnclipSampling = UnclipSampling(),
    seed: int = 0,
) -> Strip:
    """What parts of an embedding say, each drawn with the same noise.

    Without `axis` a picture for each of `keep`: with so many of the first principal axes, the rest at the mean of all
    pictures trained on. With it one for each of `amounts`: moved along that axis, from 0, by standard deviations.
    """
    sampling = _of_one_noise(sampling)
    standard = unclip.decoder.standard
    dim = len(standard.mean)
    z = standard(unclip.embed([picture]))
    if axis is None:
        if not keep or not all(1 <= axes <= dim for axes in keep):
            raise UsageError(f"keep: {list(keep)} was given; it takes numbers of axes from 1 to {dim}")
        along = z @ standard.axes.T
        kept = torch.stack([along[0] * (torch.arange(dim) < axes) for axes in keep])
        changed = kept @ standard.axes
    else:
        if not 0 <= axis < dim or not amounts:
            raise UsageError(f"axis: {axis} was given; it takes a number from 0 to {dim - 1}, and at least one amount")
        changed = z + torch.tensor(list(amounts))[:, None] * standard.spread[axis] * standard.axes[axis]
    embeddings = standard.back(changed)
    start = unclip.noise(seed, 1, unclip.grid())().expand(len(embeddings), -1, -1, -1)
    return Strip(unclip, embeddings, start, sampling, seed)


# --- parts ------------------------------------------------------------------------------------------------


def slerp(a: Tensor, b: Tensor, share: float | Tensor) -> Tensor:
    """From a to b (N, …) along the great circle between them, `share` in [0, 1] of the way, one number or (N,); the
    lengths of the two change evenly. Of opposite ones the way is straight."""
    x, y = a.flatten(1).double(), b.flatten(1).double()
    share = torch.as_tensor(share, dtype=torch.float64).expand(len(x))[:, None]
    lengths = torch.lerp(x.norm(dim=1, keepdim=True), y.norm(dim=1, keepdim=True), share)
    x, y = F.normalize(x, dim=1), F.normalize(y, dim=1)
    angle = torch.acos((x * y).sum(1, keepdim=True).clamp(-1, 1))
    is_straight = torch.sin(angle).abs() < 1e-6
    sine = torch.sin(angle).where(~is_straight, torch.ones_like(angle))
    near = torch.where(is_straight, 1 - share, torch.sin((1 - share) * angle) / sine)
    far = torch.where(is_straight, share, torch.sin(share * angle) / sine)
    return ((near * x + far * y) * lengths).view_as(a).to(a.dtype)


@torch.no_grad()
def noise_of(unclip: Unclip, pictures: Sequence[Image.Image], embeddings: Tensor, sampling: UnclipSampling) -> Tensor:
    """What the decoder would make the middle squares of pictures of, given their embeddings: (N, channels, *grid)."""
    grid = unclip.grid()
    x = torch.cat([_fitted(picture, grid, unclip.space.downsampling) for picture in pictures])
    denoise = unclip.denoise(unclip.condition(embeddings), sampling.decoder, guidance=1.0)
    return inverted(denoise, unclip.space.encode(x).float(), sampling.decoder.times, ROUNDS)


def check_count(count: int) -> None:
    """Raises UsageError."""
    if count < 1:
        raise UsageError(f"pictures: {count} were asked for; it takes a whole number above 0")


def _along(sampling: UnclipSampling) -> UnclipSampling:
    """The way that was gone back."""
    return replace(sampling, decoder=replace(sampling.decoder, sampler="euler"))


def _of_one_noise(sampling: UnclipSampling) -> UnclipSampling:
    """For pictures that are to begin with the same noise and so have the same of everything: ddpm would draw new noise
    for each of them at its first step; ddim is the same without."""
    if sampling.decoder.sampler != "ddpm":
        return sampling
    return replace(sampling, decoder=replace(sampling.decoder, sampler="ddim"))


def _grown(sampling: UnclipSampling, change: float) -> float:
    """From none for no change to all of it."""
    return 1 + (sampling.decoder.guidance - 1) * change


def _fitted(picture: Image.Image, grid: tuple[int, int], downsampling: int) -> Tensor:
    """The middle of a picture that fills a grid, (1, 3, H, W) in [-1, 1]."""
    size = (grid[1] * downsampling, grid[0] * downsampling)
    image = ImageOps.fit(picture.convert("RGB"), size, Image.Resampling.BICUBIC)
    return 2 * torch.from_numpy(to_float01(image)).permute(2, 0, 1)[None] - 1


def _nearest_grid(unclip: Unclip, size: tuple[int, int]) -> tuple[int, int]:
    """Of about the area that was trained on and about the shape of a picture of this size."""
    scale = unclip.size / (size[0] * size[1]) ** 0.5
    width, height = (max(1, round(side * scale / unclip.step)) * unclip.step for side in size)
    return unclip.grid((width, height))


def _laid_over(step: Step, whole: Tensor, open_pixels: Tensor) -> Step:
    """What was drawn, at the picture's own size, where it is open."""
    drawn = torch.from_numpy(step.images).permute(0, 3, 1, 2)
    if drawn.shape[2:] != whole.shape[2:]:
        size = (whole.shape[2], whole.shape[3])
        drawn = F.interpolate(drawn, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    images = torch.where(open_pixels, drawn, whole).permute(0, 2, 3, 1).contiguous().numpy()
    return replace(step, images=images)
