"""Pictures as small pixels and CLIP embeddings, made once in several views and kept in a mapped file; and batches of
them with captions, of which each is a function of (seed, number), as in `data.code_batches`.

A view is drawn large, as CLIP sees it, and kept small: an embedding then tells what the small picture is of, and not
that it is small. The file is that of `data.encoded`, with float16 numbers and pairs of bytes in the places of codes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bahumukha.data.batches import Order, own_rows
from bahumukha.data.code_batches import seen_and_held_out
from bahumukha.data.encoded import Encoded, Share, encoded_pictures
from bahumukha.data.pairs import Source, SourceConfig
from bahumukha.data.views import ViewConfig
from bahumukha.data.wording import WordingConfig, said
from bahumukha.errors import UsageError
from bahumukha.protocols import ImageTextEncoder

LAYOUT = 1
"""Of the rows; another number makes them anew."""


class Embedder:
    """Views -> rows of numbers. Raises UsageError for sizes out of range."""

    def __init__(self, clip: ImageTextEncoder, size: int, views: ViewConfig, sharp: int = 4):
        """size: side of the pictures that are kept, in pixels, even; CLIP sees them `sharp` times as large."""
        if size < 8 or size % 2:
            raise UsageError(f"size: {size} pixels were given; it takes an even number of at least 8")
        if sharp < 1:
            raise UsageError(f"sharp: {sharp} was given; it takes a whole number above 0")
        self.clip, self.kept, self.sharp, self.views = clip, size, sharp, views

    @property
    def size(self) -> int:
        """Side of the views that are drawn."""
        return self.kept * self.sharp

    @property
    def grid(self) -> tuple[int, int]:
        """Of numbers in a row, as `data.encoded` counts them."""
        return 1, self.clip.dim + 3 * self.kept**2 // 2

    def fingerprint(self) -> str:
        """Of all that decides the numbers of pixels."""
        settings = [LAYOUT, self.kept, self.sharp, asdict(self.views), self.clip.fingerprint]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (n, size, size, 3) -> uint16 (n, numbers)."""
        embeddings = self.clip.encode_images([Image.fromarray(each) for each in pixels]).astype(np.float16)
        small = pixels.reshape(len(pixels), self.kept, self.sharp, self.kept, self.sharp, 3).mean((2, 4))
        halves = np.rint(small).astype(np.uint8).reshape(len(pixels), -1)
        return np.concatenate([embeddings.view(np.uint16), halves.view(np.uint16)], axis=1)


class Embedded(Encoded):
    """Views of a source's pictures and their embeddings, beside their captions."""

    def __init__(self, source: Source, rows: np.ndarray, dim: int, size: int):
        """rows: uint16 (pictures, views, 1 + numbers)."""
        super().__init__(source, rows, (1, rows.shape[2] - 1))
        self.dim, self.size = dim, size

    def embedding(self, index: int, view: int) -> Tensor:
        """Of a view of picture `index`: float32 (dim,), of norm 1 to half a thousandth."""
        return torch.from_numpy(self.rows[index, view, 1 : 1 + self.dim].view(np.float16).astype(np.float32))

    def embeddings(self, numbers: np.ndarray, view: int = 0) -> Tensor:
        """Of a view of each of these pictures: float32 (n, dim)."""
        rows = np.ascontiguousarray(self.rows[numbers, view, 1 : 1 + self.dim])
        return torch.from_numpy(rows.view(np.float16).astype(np.float32))

    def pixels(self, index: int, view: int) -> Tensor:
        """Of a view of picture `index`: uint8 (size, size, 3)."""
        halves = np.array(self.rows[index, view, 1 + self.dim :])
        return torch.from_numpy(halves.view(np.uint8).reshape(self.size, self.size, 3))


def embedded_pictures(
    config: SourceConfig,
    embedder: Embedder,
    cache: Path,
    *,
    threads: int = 2,
    advance: Callable[[int], None] = lambda pictures: None,
    share: Share = Share(),
) -> Embedded:
    """The views of a source's pictures, from the folder `cache` if they are there, else made and left there; the rest
    as `data.encoded.encoded_pictures` has it."""
    encoded = encoded_pictures(config, embedder, cache, threads=threads, advance=advance, share=share)
    return Embedded(encoded.source, encoded.rows, embedder.clip.dim, embedder.kept)


class PictureBatch(NamedTuple):
    """Of several processes, this one's part."""

    number: int
    pixels: Tensor | None
    """uint8 (n, size, size, 3), if they were asked for."""
    embeddings: Tensor
    """float32 (n, dim)."""
    texts: list[str]
    without_text: Tensor
    """bool (n,): whose captions are to be dropped."""
    without_embedding: Tensor
    """bool (n,): whose embeddings are."""


class PictureBatches:
    """Batches without end, an `Addressable` of `train.loop`; part `rank` of `parts` when processes share them."""

    def __init__(
        self,
        sources: Sequence[Embedded],
        weights: Sequence[float],
        size: int,
        wording: WordingConfig,
        *,
        drop_text: float = 0.1,
        drop_embedding: float = 0.0,
        with_pixels: bool = True,
        seed: int = 0,
        rank: int = 0,
        parts: int = 1,
    ):
        """Raises UsageError if `parts` does not divide `size`, or a source has nothing to train on."""
        self.sources, self.size, self.wording, self.seed = list(sources), size, wording, seed
        self.drop_text, self.drop_embedding, self.with_pixels = drop_text, drop_embedding, with_pixels
        self.rows = own_rows(size, rank, parts)
        self.pictures = [seen_and_held_out(source)[0] for source in sources]
        for source, pictures in zip(sources, self.pictures, strict=True):
            if not len(pictures):
                raise UsageError(f"{source.name}: shows only things in styles that are held out")
        self.order = Order([len(pictures) for pictures in self.pictures], weights, seed)

    def starting_at(self, number: int) -> Iterator[PictureBatch]:
        """Batch `number` and those after it, for ever."""
        while True:
            yield self.batch(number)
            number += 1

    def batch(self, number: int) -> PictureBatch:
        """Batch `number`, this process's part of it."""
        pixels, embeddings, texts, drops = [], [], [], []
        for t in (number * self.size + row for row in self.rows):
            which, at = self.order[t]
            source, picture = self.sources[which], int(self.pictures[which][at])
            random = np.random.default_rng([self.seed, t])
            view = int(random.integers(source.views))
            drops.append((random.random() < self.drop_text, random.random() < self.drop_embedding))
            ground = source.ground(picture, view)
            texts.append(said(source.captions(picture), source.about(picture), ground, self.wording, random))
            embeddings.append(source.embedding(picture, view))
            if self.with_pixels:
                pixels.append(source.pixels(picture, view))
        text, embedding = torch.tensor(drops).unbind(1)
        return PictureBatch(
            number, torch.stack(pixels) if pixels else None, torch.stack(embeddings), texts, text, embedding
        )
