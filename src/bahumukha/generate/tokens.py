"""Pictures drawn token by token: new ones, the rest of a given one, and ones larger than the model was trained on.

    for step in generate(model, codec, count=4, labels=3, seed=7): show(step.images)

Every picture has random numbers of its own, one for each of its tokens, from its seed: picture k of `seed` is the one
of `seed + k` drawn alone.

**Larger grids.** The paper slides a window of the trained size along, so that each token is predicted from the nearest
ones, and computes the whole window anew for each token. Here the window moves by `stride` tokens. Between two moves all
keys and values stay true, and each of the windows side by side has a cache of its own, which the rows of the picture
fill one after another: what is drawn is exactly what computing each window anew would draw, at the cost of one
evaluation a token and window instead of half a window a token. `stride=1` is the paper's own placement. Where the grid
is wider than a window, a row begins before the one above is done (`Windows.fronts`), and two windows step at once.

`Windows`, `drawn_rows` and `shown` serve every model that draws codes given a condition: here a label, in
`generate.dalle` a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bahumukha.errors import UsageError
from bahumukha.models.dalle import Dalle
from bahumukha.models.tokens import TokenTransformer
from bahumukha.nn.sampling import Sampling, draw, guided, probabilities
from bahumukha.protocols import ImageCodec, Step

OPEN = -1
"""In a grid of ids: not decided yet."""
UNDRAWN = 0.5
"""Grey of the part of a picture whose tokens are not drawn yet, in [0, 1]."""

Labels = int | Sequence[int] | None
CodeModel = TokenTransformer | Dalle


def generate(
    model: TokenTransformer,
    codec: ImageCodec,
    *,
    count: int = 1,
    labels: Labels = None,
    grid: tuple[int, int] | None = None,
    given: Tensor | None = None,
    sampling: Sampling = Sampling(),
    seed: int = 0,
    stride: int | None = None,
    every: int = 1,
) -> Iterator[Step]:
    """Draw `count` pictures at once; a step every `every` rows of tokens, the last one with the whole pictures.

    Arguments as `sample_ids` has them. `Step.images` is float32 (count, H, W, 3) in [0, 1], grey where nothing is drawn
    yet. Raises UsageError before the first step.
    """
    check_pair(model, codec, every)
    rows = sample_ids(
        model, count=count, labels=labels, grid=grid, given=given, sampling=sampling, seed=seed, stride=stride
    )
    return shown(rows, codec, grid or model.config.grid, every)


def complete(
    model: TokenTransformer,
    codec: ImageCodec,
    images: Tensor,
    *,
    keep: float = 0.5,
    count: int = 1,
    labels: Labels = None,
    sampling: Sampling = Sampling(),
    seed: int = 0,
    stride: int | None = None,
    every: int = 1,
) -> Iterator[Step]:
    """Keep the codes of the upper part of pictures and draw the rest, `count` ways each.

    images: (B, 3, H, W) in [-1, 1]; a step's images are (B * count, H, W, 3), the ways of the first picture first.
    keep: part of the height that stays, in [0, 1], to a whole row of tokens.

    What stays is what the codec makes of it: the same tokens, so that the seam does not show. `labels`: one for all, or
    one a picture. Raises UsageError before the first step.
    """
    ids = codes_of_given(codec, images, keep, count)
    given = ids.clone()
    given[:, round(keep * ids.shape[1]) :] = OPEN
    if labels is not None and not isinstance(labels, int):
        if len(labels) != len(images):
            raise UsageError(f"labels: {len(labels)} were given for {len(images)} pictures; give one for all or each")
        labels = [label for label in labels for _ in range(count)]
    return generate(
        model,
        codec,
        count=len(images) * count,
        labels=labels,
        grid=(ids.shape[1], ids.shape[2]),
        given=given.repeat_interleave(count, dim=0),
        sampling=sampling,
        seed=seed,
        stride=stride,
        every=every,
    )


def sample_ids(
    model: TokenTransformer,
    *,
    count: int = 1,
    labels: Labels = None,
    grid: tuple[int, int] | None = None,
    given: Tensor | None = None,
    sampling: Sampling = Sampling(),
    seed: int = 0,
    stride: int | None = None,
    cached: bool = True,
) -> Iterator[Tensor]:
    """Yield the ids of the grids, int64 (count, rows, columns), after each row; OPEN (-1) where not drawn yet.

    labels: a class for all, or one a picture; None for none. Guidance needs them.
    grid: rows and columns, at least those the model was trained on; those by default.
    given: ids (count or 1, rows, columns) that stay as they are, OPEN where to draw. Tokens are drawn in reading order,
      so each follows from what stands before it, not from what is given further on.
    stride: tokens by which the window moves in larger grids, from 1 to half the trained grid (the default).
    cached: False computes the window anew for each token: the same pictures, slowly.

    The model is put in eval mode. Raises UsageError before the first row.
    """
    check_count(count)
    grid = grid or model.config.grid
    check_grid(model, grid, stride)
    device = model.head.weight.device
    chosen = _labels(labels, count, model, sampling, device)
    windows = Windows(model, grid, chosen, sampling, stride, cached)
    ids = started(given, count, grid, model.config.codes, device)
    return drawn_rows(windows, ids, sampling, random_numbers(seed, count, grid).to(device))


@torch.inference_mode()
def drawn_rows(windows: Windows, ids: Tensor, sampling: Sampling, random: Tensor) -> Iterator[Tensor]:
    """Draw what is OPEN in ids (B, rows, columns), with `random` (B, rows, columns) in [0, 1); ids after each row."""
    windows.model.eval()
    open_ = ids == OPEN
    for front in windows.fronts():
        places = [(row, column) for row, column in front if open_[:, row, column].any()]
        for (row, column), logits in zip(places, windows.logits_at(ids, places), strict=True):
            drawn = draw(probabilities(logits, sampling), random[:, row, column])
            ids[:, row, column] = drawn.where(open_[:, row, column], ids[:, row, column])
        if any(column == ids.shape[2] - 1 for _, column in front):
            yield ids.clone()


class Windows:
    """The windows side by side, each with its cache, as far down as the drawing has come."""

    def __init__(
        self,
        model: CodeModel,
        grid: tuple[int, int],
        condition: Tensor | None,
        sampling: Sampling,
        stride: int | None = None,
        cached: bool = True,
    ):
        """condition: (B, …), as the model's `extend` takes it; None for none."""
        self.model, self.grid, self.condition, self.cached = model, grid, condition, cached
        self.guidance = sampling.guidance if condition is not None else 1.0
        if condition is not None and self.guidance != 1.0:
            # Both halves in one batch: the second one is asked for nothing.
            self.condition = torch.cat([condition, model.unconditional(condition)])
        stride = stride or max(model.config.grid) // 2
        self.strides = tuple(max(1, min(stride, size // 2)) for size in model.config.grid)
        self.at: dict[int, _Window] = {}
        """By the window's first column."""

    def fronts(self) -> Iterator[list[tuple[int, int]]]:
        """All places of the grid, row and column; those that come together hang on earlier ones only.

        A place hangs on what its window holds of the row above and of its own row. So a row can begin before the one
        above is done, as soon as that one has left the first window, and two windows take a step at once.
        """
        rows, columns = self.grid
        if not self.cached:
            yield from ([(row, column)] for row in range(rows) for column in range(columns))
            return
        lefts = [origin(column, columns, self.model.config.grid[1], self.strides[1]) for column in range(columns)]
        at = [list(range(columns))]  # when each place's turn comes
        for _ in range(1, rows):
            turns: list[int] = []
            for left in lefts:
                above = at[-1][left + self.model.config.grid[1] - 1]
                turns.append(max(above, turns[-1] if turns else 0) + 1)
            at.append(turns)
        found: dict[int, list[tuple[int, int]]] = {}
        for row, turns in enumerate(at):
            for column, turn in enumerate(turns):
                found.setdefault(turn, []).append((row, column))
        yield from (found[turn] for turn in sorted(found))

    def logits(self, ids: Tensor, row: int, column: int) -> Tensor:
        """Of the token at a place, given those before it in its window: (B, codes), guided."""
        return self.logits_at(ids, [(row, column)])[0]

    def logits_at(self, ids: Tensor, places: Sequence[tuple[int, int]]) -> list[Tensor]:
        """The same at several places of one front, which are computed together."""
        if not places:
            return []
        windows, new = [], []
        for row, column in places:
            window, seen = self._seen(ids, row, column)
            windows.append(window.cache)
            new.append(window.unseen(seen if self.guidance == 1.0 else torch.cat([seen, seen])))
        found = self.model.extend_all(windows, new, self.condition)
        if self.guidance == 1.0:
            return found
        halves = (logits.chunk(2) for logits in found)
        return [guided(conditional, unconditional, self.guidance) for conditional, unconditional in halves]

    def _seen(self, ids: Tensor, row: int, column: int) -> tuple[_Window, Tensor]:
        """The window in which a place is drawn, and all its tokens (B, n) before it."""
        h, w = self.model.config.grid
        top = origin(row, self.grid[0], h, self.strides[0])
        left = origin(column, self.grid[1], w, self.strides[1])
        window = self.at.get(left)
        if window is None:
            halves = 2 if self.guidance != 1.0 else 1
            window = self.at[left] = _Window(self.model, halves * len(ids))
        if window.top != top or not self.cached:
            window.restart(top)
        return window, ids[:, top : top + h, left : left + w].flatten(1)[:, : (row - top) * w + column - left]

    def reorder(self, places: Tensor) -> None:
        """Picture b goes on as `places[b]`, whose condition is the same; int64 (B,)."""
        if self.guidance != 1.0:
            places = torch.cat([places, places + len(places)])
        for window in self.at.values():
            window.cache.reorder(places)


class _Window:
    """A cache over the trained grid's tokens, from row `top` of the picture on."""

    def __init__(self, model: CodeModel, batch: int):
        self.cache: Any = model.new_cache(batch)  # each model's own kind
        self.top, self.known = 0, 0

    def restart(self, top: int) -> None:
        self.cache.clear()
        self.top, self.known = top, 0

    def unseen(self, seen: Tensor) -> Tensor:
        """All tokens (B, n) of the window so far -> those not in the cache, which are then taken to be."""
        new = seen[:, self.known :]
        self.known = seen.shape[1]
        return new


def origin(place: int, size: int, window: int, stride: int) -> int:
    """First row (or column) of the window in which `place` of `size` is drawn: it stands near the middle, or the window
    touches the picture's edge. At stride 1 this is the paper's placement."""
    centred = (place - window // 2 + stride // 2) // stride * stride
    return min(max(0, centred), size - window)


# --- what was asked for -----------------------------------------------------------------------------------


def check_pair(model: CodeModel, codec: ImageCodec, every: int) -> None:
    """Raises UsageError unless the codes are the same ones, and `every` is a number of rows."""
    if model.config.codes != codec.codes:
        raise UsageError(f"the transformer is of {model.config.codes} codes and the codec of {codec.codes}; not a pair")
    if every < 1:
        raise UsageError(f"every: {every} was given; it takes a whole number of rows above 0")


def check_count(count: int) -> None:
    """Raises UsageError for fewer than one picture."""
    if count < 1:
        raise UsageError(f"count: {count} pictures were asked for; it takes a whole number above 0")


@torch.no_grad()
def codes_of_given(codec: ImageCodec, images: Tensor, keep: float, count: int) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1], of each a part `keep` to stay in `count` ways -> ids (B, h, w), all of them.

    Raises UsageError.
    """
    if not 0 <= keep <= 1:
        raise UsageError(f"keep: {keep} was given; it takes the part of the picture that stays, from 0 to 1")
    if images.dim() != 4 or not len(images):
        raise UsageError(f"images of shape {tuple(images.shape)} were given; (B, 3, H, W) is needed")
    check_count(count)
    return codec.quantize(codec.encode(images))[1]


def check_grid(model: CodeModel, grid: tuple[int, int], stride: int | None) -> None:
    """Raises UsageError for a grid smaller than the trained one, or a stride that skips what a window holds."""
    trained = model.config.grid
    if len(grid) != 2 or grid[0] < trained[0] or grid[1] < trained[1]:
        asked, least = " x ".join(map(str, grid)), f"{trained[0]} x {trained[1]}"
        raise UsageError(f"grid: {asked} tokens were given; this model draws {least} or more")
    widest = max(trained) // 2
    if stride is not None and not 1 <= stride <= widest:
        raise UsageError(f"stride: {stride} was given; it takes 1 to {widest}, half of what the model was trained on")


def _labels(
    labels: Labels, count: int, model: TokenTransformer, sampling: Sampling, device: torch.device
) -> Tensor | None:
    """int64 (count,), checked."""
    if labels is None:
        if sampling.guidance != 1.0:
            raise UsageError(
                f"guidance: {sampling.guidance} was given without a label; it strengthens what one asks for"
            )
        return None
    listed = [labels] * count if isinstance(labels, int) else list(labels)
    if not model.config.classes:
        raise UsageError("labels: this model draws pictures of no class in particular; leave them out")
    if len(listed) != count:
        raise UsageError(f"labels: {len(listed)} were given for {count} pictures; give one for all, or one for each")
    for label in listed:
        if not 0 <= label < model.config.classes:
            raise UsageError(f"label: {label} was given; this model has the classes 0 to {model.config.classes - 1}")
    return torch.tensor(listed, device=device)


def started(given: Tensor | None, count: int, grid: tuple[int, int], codes: int, device: torch.device) -> Tensor:
    """The grids before drawing, int64 (count, rows, columns)."""
    if given is None:
        return torch.full((count, *grid), OPEN, device=device)
    if given.dim() != 3 or given.shape[1:] != grid or len(given) not in (1, count):
        raise UsageError(f"given: ids of shape {tuple(given.shape)}; {(count, *grid)} is needed")
    if given.min() < OPEN or given.max() >= codes:
        raise UsageError(f"given: ids from {given.min()} to {given.max()}; 0 to {codes - 1} are codes, {OPEN} is open")
    return given.to(device, torch.int64).expand(count, *grid).clone()


def random_numbers(seed: int, count: int, grid: tuple[int, int], variants: int = 1) -> Tensor:
    """float64 (count * variants, rows, columns) in [0, 1), those of the first picture first; picture k's from the
    generator of `seed + k`, the first of them the same however many there are."""
    generators = [torch.Generator().manual_seed(seed + k) for k in range(count)]
    return torch.cat(
        [torch.rand(variants, *grid, generator=generator, dtype=torch.float64) for generator in generators]
    )


# --- pictures ---------------------------------------------------------------------------------------------


@torch.no_grad()
def shown(rows: Iterator[Tensor], codec: ImageCodec, grid: tuple[int, int], every: int) -> Iterator[Step]:
    """Ids after each row -> steps with pictures."""
    total = -(-grid[0] // every)
    for row, ids in enumerate(rows, 1):
        if row % every and row != grid[0]:
            continue
        yield Step(-(-row // every) - 1, total, decoded(ids, codec))


@torch.no_grad()
def decoded(ids: Tensor, codec: ImageCodec) -> np.ndarray:
    """Ids (B, rows, columns) -> float32 (B, H, W, 3) in [0, 1], grey where they are OPEN."""
    rows, columns = ids.shape[1:]
    pixels = codec.decode_ids(ids.clamp(min=0).flatten(1), (rows, columns)).float().add(1).div(2).clamp(0, 1)
    side = codec.downsampling
    open_ = (ids == OPEN).repeat_interleave(side, dim=1).repeat_interleave(side, dim=2)
    pixels = pixels.masked_fill(open_[:, None], UNDRAWN)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
