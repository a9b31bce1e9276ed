"""Batches of captions and codes, of which each is a function of (seed, number): a run can be taken up anywhere.

Sample t is decided without looking at those before it: source and picture as in `data.batches`; view, caption, and
whether the caption is dropped by a random generator of its own, seeded with (seed, t).

Captions differ in length, and a batch costs what its longest one does. So the samples of `group` batches are sorted by
padded length and cut into batches, whose order is then drawn: each sample is still seen when it would have been, give
or take a group, and a batch has captions of one length, nearly always without hidden places, so that attention is the
plain triangle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bahumukha.data.batches import Order, own_rows
from bahumukha.data.encoded import Encoded
from bahumukha.data.styles import is_held_out
from bahumukha.data.wording import WordingConfig, said
from bahumukha.errors import UsageError

Tokenize = Callable[[Sequence[str]], list[list[int]]]
"""Texts -> the ids of their tokens."""


class CodeBatch(NamedTuple):
    """texts int64 (B, T), filled up with the token for no word, null captions among them; ids int64 (B, codes)."""

    number: int
    texts: Tensor
    ids: Tensor


class Sample(NamedTuple):
    """One picture's part in a run."""

    source: int
    picture: int
    view: int
    text: str | None
    """None for the null caption."""


def seen_and_held_out(encoded: Encoded) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the pictures that may be trained on, and of those that show a thing in a style in which it is held
    out (`data.styles`); those that cannot be read are in neither."""
    held = np.array([any(is_held_out(*each) for each in encoded.about(int(i)).things) for i in encoded.readable], bool)
    return encoded.readable[~held], encoded.readable[held]


class CodeBatches:
    """Batches without end, an `Addressable` of `train.loop`; part `rank` of `parts` when processes share them."""

    def __init__(
        self,
        sources: Sequence[Encoded],
        weights: Sequence[float],
        tokenize: Tokenize,
        size: int,
        wording: WordingConfig,
        *,
        drop: float = 0.1,
        group: int = 16,
        pad: int = 0,
        padded_to: int = 8,
        seed: int = 0,
        rank: int = 0,
        parts: int = 1,
    ):
        """drop: probability of the null caption. pad, padded_to: as the model has them.

        Raises UsageError if `parts` does not divide `size`, or a source has nothing to train on.
        """
        self.sources, self.tokenize, self.size, self.wording = list(sources), tokenize, size, wording
        self.drop, self.group, self.pad, self.padded_to, self.seed = drop, group, pad, padded_to, seed
        self.rows = own_rows(size, rank, parts)
        self.pictures = [seen_and_held_out(source)[0] for source in sources]
        for source, pictures in zip(sources, self.pictures, strict=True):
            if not len(pictures):
                raise UsageError(f"{source.name}: shows only things in styles that are held out")
        self.order = Order([len(pictures) for pictures in self.pictures], weights, seed)
        self._grouped = lru_cache(maxsize=2)(self._group)

    def starting_at(self, number: int) -> Iterator[CodeBatch]:
        """Batch `number` and those after it, for ever."""
        while True:
            yield self.batch(number)
            number += 1

    def batch(self, number: int) -> CodeBatch:
        """Batch `number`, this process's part of it."""
        turn, place = divmod(number, self.group)
        samples, tokens = self._grouped(turn)
        first = place * self.size
        rows = [first + row for row in self.rows]
        ids = [self.sources[samples[i].source].ids(samples[i].picture, samples[i].view) for i in rows]
        return CodeBatch(number, filled([tokens[i] for i in rows], self.pad), torch.stack(ids))

    def sample(self, t: int) -> Sample:
        """Sample t of the run."""
        number, at = self.order[t]
        source, picture = self.sources[number], int(self.pictures[number][at])
        random = np.random.default_rng([self.seed, t])
        view = int(random.integers(source.views))
        if random.random() < self.drop:
            return Sample(number, picture, view, None)
        ground = source.ground(picture, view)
        text = said(source.captions(picture), source.about(picture), ground, self.wording, random)
        return Sample(number, picture, view, text)

    def _group(self, turn: int) -> tuple[list[Sample], list[list[int]]]:
        """The samples of `group` batches in the order they are seen, and the tokens of each."""
        count = self.group * self.size
        samples = [self.sample(t) for t in range(turn * count, (turn + 1) * count)]
        told = iter(self.tokenize([each.text for each in samples if each.text is not None]) if samples else [])
        tokens = [[] if each.text is None else next(told) for each in samples]
        padded = np.array([-(-max(1, len(ids)) // self.padded_to) for ids in tokens])
        batches = np.argsort(padded, kind="stable").reshape(self.group, self.size)
        shuffled = batches[np.random.default_rng([self.seed, turn, 1]).permutation(self.group)].ravel()
        return [samples[i] for i in shuffled], [tokens[i] for i in shuffled]


def filled(tokens: Sequence[Sequence[int]], pad: int) -> Tensor:
    """Ids of some texts, of which any may have none -> int64 (B, T), T the longest one's, at least 1."""
    texts = torch.full((len(tokens), max(1, *map(len, tokens))), pad)
    for row, ids in zip(texts, tokens, strict=True):
        row[: len(ids)] = torch.tensor(ids, dtype=torch.int64)
    return texts
