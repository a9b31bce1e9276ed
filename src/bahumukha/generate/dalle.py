"""Pictures of a sentence, drawn token by token, ranked by a CLIP; and given pictures completed (Ramesh et al. 2021).

    dalle = load_dalle("starter/dalle")
    *_, last = generate(dalle, codec, "a red fish above a blue car", count=9, sampling=Sampling(guidance=3), seed=7)
    best = rank(encoder, last.images, "a red fish above a blue car", keep=1)

Guidance compares the logits under the sentence with those under the null caption, for every token: both halves stand in
one batch, each with its own part of the cache, and nobody's text is touched. (DALLE-pytorch 1.6.6 blanks the caption in
place while it computes the other half, or with its cache has one cache for both, so that its guidance ends with the
first token.)

Every picture has random numbers of its own: picture k of `seed` is the one of `seed + k` drawn alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bahumukha.errors import UsageError
from bahumukha.generate.tokens import (
    OPEN,
    Windows,
    check_count,
    check_grid,
    check_pair,
    codes_of_given,
    drawn_rows,
    random_numbers,
    shown,
    started,
)
from bahumukha.generate.tries import needs_tries, weighed_rows
from bahumukha.images.ranges import to_uint8
from bahumukha.models.dalle import Dalle
from bahumukha.nn.sampling import Sampling
from bahumukha.protocols import ImageCodec, ImageTextEncoder, Step
from bahumukha.zoo.dalle import LoadedDalle

Side = Literal["top", "bottom", "left", "right"]
SIDES: tuple[Side, ...] = get_args(Side)
Prompts = str | Sequence[str] | None
USUAL = Sampling(guidance=3.0, top_p=0.8)
"""How pictures are drawn where nothing else is said (docs/log.md has what was tried)."""
TRIES = 16
"""A picture, where something given comes after something open (`generate.tries`)."""


def generate(
    dalle: LoadedDalle,
    codec: ImageCodec,
    prompts: Prompts,
    *,
    count: int = 1,
    grid: tuple[int, int] | None = None,
    given: Tensor | None = None,
    sampling: Sampling = Sampling(),
    seed: int = 0,
    tries: int = TRIES,
    every: int = 1,
) -> Iterator[Step]:
    """Draw `count` pictures at once; a step every `every` rows of tokens, the last one with the whole pictures.

    prompts: one for all, or one a picture; None for no sentence. The rest as `sample_ids` has it. `Step.images` is
    float32 (count, H, W, 3) in [0, 1], grey where nothing is drawn yet. Raises UsageError before the first step.
    """
    model = dalle.model
    check_pair(model, codec, every)
    texts = None if prompts is None else dalle.encode([prompts] if isinstance(prompts, str) else prompts)
    rows = sample_ids(model, texts, count=count, grid=grid, given=given, sampling=sampling, seed=seed, tries=tries)
    return shown(rows, codec, grid or model.config.grid, every)


def complete(
    dalle: LoadedDalle,
    codec: ImageCodec,
    images: Tensor,
    prompts: Prompts,
    *,
    side: Side = "top",
    keep: float = 0.5,
    count: int = 1,
    sampling: Sampling = Sampling(),
    seed: int = 0,
    tries: int = TRIES,
    every: int = 1,
) -> Iterator[Step]:
    """Keep the codes of one side of pictures and draw the rest, `count` ways each.

    images: (B, 3, H, W) in [-1, 1]; a step's images are (B * count, H, W, 3), the ways of the first picture first.
    prompts: one for all, or one a picture; None for no sentence.
    side, keep: which side stays, and the part of the height or width that does, in [0, 1], to a whole row of tokens.
    tries: for sides other than the top, which the model cannot see while it draws what stands before it
      (`generate.tries`): each way is the one that fits of so many, and takes as many times as long.

    What stays is what the codec makes of it: the same tokens, so that the seam does not show. Raises UsageError before
    the first step.
    """
    if side not in SIDES:
        raise UsageError(f"side: {side!r} was given; it takes one of {', '.join(SIDES)}")
    ids = codes_of_given(codec, images, keep, count)
    if prompts is not None and not isinstance(prompts, str):
        _check_prompts(len(prompts), len(images))
        prompts = [prompt for prompt in prompts for _ in range(count)]
    given = torch.full_like(ids, OPEN)
    stays = _side(side, keep, (ids.shape[1], ids.shape[2]))
    given[:, stays[0], stays[1]] = ids[:, stays[0], stays[1]]
    return generate(
        dalle,
        codec,
        prompts,
        count=len(images) * count,
        grid=(ids.shape[1], ids.shape[2]),
        given=given.repeat_interleave(count, dim=0),
        sampling=sampling,
        seed=seed,
        tries=tries,
        every=every,
    )


def sample_ids(
    model: Dalle,
    texts: Tensor | None,
    *,
    count: int = 1,
    variants: int = 1,
    grid: tuple[int, int] | None = None,
    given: Tensor | None = None,
    sampling: Sampling = Sampling(),
    seed: int = 0,
    tries: int = TRIES,
    stride: int | None = None,
    cached: bool = True,
) -> Iterator[Tensor]:
    """Yield the ids of the grids, int64 (count * variants, rows, columns), after each row; OPEN (-1) where still to be
    drawn.

    texts: int64 (count or 1, T), as the tokenizer gives them; None for null captions. Guidance needs them.
    variants: pictures of each seed, those of the first one first; the first variant is the one drawn alone.
    grid: rows and columns, at least those the model was trained on; those by default. Larger ones are drawn in a window
      that moves by `stride` tokens (`generate.tokens`), each of which sees the whole text.
    given: ids (count or 1, rows, columns) that stay as they are, OPEN where to draw.
    tries: a picture, of which the one that fits is taken, where something given comes after something open in reading
      order; elsewhere one is as good, and one is drawn.
    cached: False computes the window anew for each token: the same pictures, slowly.

    The model is put in eval mode. Raises UsageError before the first row.
    """
    check_count(count)
    for name, number in (("variants", variants), ("tries", tries)):
        if number < 1:
            raise UsageError(f"{name}: {number} was given; it takes a whole number above 0")
    grid = grid or model.config.grid
    check_grid(model, grid, stride)
    device = model.head.weight.device
    ids = started(given, count, grid, model.config.codes, device).repeat_interleave(variants, dim=0)
    tries = tries if needs_tries(ids) else 1
    condition = _condition(model, texts, count, sampling, device)
    if condition is not None:
        condition = condition.repeat_interleave(variants * tries, dim=0)
    windows = Windows(model, grid, condition, sampling, stride, cached)
    if tries == 1:
        return drawn_rows(windows, ids, sampling, random_numbers(seed, count, grid, variants).to(device))
    random, choices = _numbers_of_tries(seed, count, grid, variants, tries)
    return weighed_rows(windows, ids, sampling, random.to(device), choices.to(device), tries)


# --- ranking


@dataclass(frozen=True)
class Ranked:
    """Candidates, the best first."""

    images: np.ndarray
    """float32 (keep, H, W, 3) in [0, 1]."""
    scores: np.ndarray
    """float32 (keep,): cosines of picture and prompt."""
    places: np.ndarray
    """int64 (keep,): which candidate each was, so that its seed is known: the first one's plus this."""


def rank(encoder: ImageTextEncoder, images: np.ndarray, prompt: str, keep: int | None = None) -> Ranked:
    """Order candidates (N, H, W, 3) in [0, 1] by how well an encoder finds that they fit the prompt, and keep the best.

    keep: how many, from 1 up; None for all. Equal ones stay in the order given. Raises UsageError.
    """
    if images.ndim != 4 or not len(images):
        raise UsageError(f"images of shape {images.shape} were given; (N, H, W, 3) is needed")
    if keep is not None and keep < 1:
        raise UsageError(f"keep: {keep} pictures were asked for; it takes a whole number above 0")
    pictures = encoder.encode_images([Image.fromarray(pixels) for pixels in to_uint8(images)])
    scores = (pictures @ encoder.encode_texts([prompt])[0]).astype(np.float32)
    places = np.argsort(-scores, kind="stable")[:keep]
    return Ranked(images[places], scores[places], places)


# --- what was asked for


def _condition(
    model: Dalle, texts: Tensor | None, count: int, sampling: Sampling, device: torch.device
) -> Tensor | None:
    """int64 (count, T), checked."""
    if texts is None:
        if sampling.guidance != 1.0:
            raise UsageError(
                f"guidance: {sampling.guidance} was given without a prompt; it strengthens what one asks for"
            )
        return None
    _check_prompts(len(texts), count)
    if texts.shape[1] > model.config.text_length:
        raise UsageError(f"a text of {texts.shape[1]} tokens; this model reads at most {model.config.text_length}")
    if texts.min() < 0 or texts.max() >= model.config.vocabulary:
        least, most = int(texts.min()), int(texts.max())
        raise UsageError(f"text tokens from {least} to {most}; 0 to {model.config.vocabulary - 1} are known")
    return texts.to(device).expand(count, -1)


def _check_prompts(given: int, count: int) -> None:
    if given not in (1, count):
        raise UsageError(f"prompts: {given} were given for {count} pictures; give one for all, or one for each")


def _side(side: Side, keep: float, grid: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns that stay."""
    across = side in ("left", "right")
    size = grid[1] if across else grid[0]
    kept = round(keep * size)
    part = slice(0, kept) if side in ("top", "left") else slice(size - kept, size)
    return (slice(None), part) if across else (part, slice(None))


def _numbers_of_tries(seed: int, count: int, grid: tuple[int, int], variants: int, tries: int) -> tuple[Tensor, Tensor]:
    """float64 in [0, 1): (count * variants * tries, rows, columns) and (count * variants, rows); picture k from the
    generator of seed + k."""
    drawing: list[Tensor] = []
    choosing: list[Tensor] = []
    for k in range(count):
        generator = torch.Generator().manual_seed(seed + k)
        for _ in range(variants):
            drawing.append(torch.rand(tries, *grid, generator=generator, dtype=torch.float64))
            choosing.append(torch.rand(grid[0], generator=generator, dtype=torch.float64))
    return torch.cat(drawing), torch.stack(choosing)
