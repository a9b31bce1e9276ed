"""Many pictures -> their embeddings, once, for every score; with each what is said of it, and which cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from PIL import Image

from bahumukha.classify import label_embeddings, shortest_side
from bahumukha.errors import BahumukhaError, UsageError
from bahumukha.images import open_image
from bahumukha.protocols import ImageTextEncoder

K = TypeVar("K")

Progress = Callable[[int, str], AbstractContextManager[Callable[..., None]]]
"""`with progress(total, description) as advance:` … `advance(count)`; the command line draws a bar by it."""

NAMES_AT_ONCE = 25
"""With 80 templates 2,000 sentences: enough for whole batches, few enough that the bar moves."""


@contextmanager
def quiet(total: int, description: str) -> Iterator[Callable[..., None]]:
    """A `Progress` that shows nothing."""
    yield lambda count=1: None


@dataclass(frozen=True)
class Embedded(Generic[K]):
    """The pictures that could be read, in order: `keys[i]` is what was said of the picture of `rows[i]`."""

    keys: list[K]
    rows: np.ndarray
    """float32 (N, dim), rows of norm 1; N >= 1."""
    failed: list[tuple[str, str]]
    """(path, reason) of those that could not."""


def embed(
    encoder: ImageTextEncoder,
    pictures: Sequence[tuple[K, Path]],
    *,
    option: str,
    size: int | None = None,
    progress: Progress = quiet,
) -> Embedded[K]:
    """Encode pictures, each with what is said of it.

    size: pixels that each picture's shortest side is first brought down to, to see what a model makes of small ones.
    option: what the user typed, for the message when none can be read (UsageError).
    """
    keys: list[K] = []
    rows, failed = [], []
    at_least = size or shortest_side(encoder)  # decoded as `index` and `classify` do

    def load(item: tuple[K, Path]) -> Image.Image:
        image = open_image(item[1], at_least=at_least)
        return shrunk(image, size) if size else image

    with progress(len(pictures), "pictures") as advance:
        for (key, path), result in encoder.encode_each(pictures, load):
            advance()
            if isinstance(result, BahumukhaError):
                failed.append((str(path), str(result)))
            else:
                keys.append(key)
                rows.append(result)
    if not rows:
        raise UsageError(f"{option}: none of the {len(pictures)} pictures could be read: {failed[0][1]}")
    return Embedded(keys, np.stack(rows), failed)


def shrunk(image: Image.Image, size: int) -> Image.Image:
    """The picture with a shortest side of `size` pixels; a smaller one as it is."""
    scale = size / min(image.size)
    if scale >= 1:
        return image
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)


def name_embeddings(
    encoder: ImageTextEncoder,
    names: Sequence[str],
    templates: Sequence[str] | None = None,
    progress: Progress = quiet,
) -> np.ndarray:
    """`classify.label_embeddings` of many names, float32 (L, dim), with progress: 80 templates make a minute of it."""
    parts = []
    with progress(len(names), "names") as advance:
        for start in range(0, len(names), NAMES_AT_ONCE):
            some = names[start : start + NAMES_AT_ONCE]
            parts.append(label_embeddings(encoder, some, templates))
            advance(len(some))
    return np.concatenate(parts)
