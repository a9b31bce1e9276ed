"""Batches of captioned pictures, of which each is a function of (seed, number): a run can be taken up anywhere.

Sample t of a run is decided without looking at the samples before it:

    source     t's place in a fixed pattern that holds each source as often as its weight says
    picture    entry of a permutation of the source, another one in each round through it
    caption, crop    a random generator of its own, seeded with (seed, t)

Pictures are decoded ahead in threads (Pillow lets go of the interpreter while it works); which thread is done first
changes nothing. A broken picture is named once and replaced by another of its source, always by the same one.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import numpy as np

from bahumukha.data.augment import Augment
from bahumukha.data.pairs import Source, choose_caption
from bahumukha.errors import ImageError, UsageError

logger = logging.getLogger(__name__)

SLOTS = 1000
"""Length of the pattern of several sources: weights count to a thousandth."""
REPLACEMENTS = 100
"""Pictures tried in place of a broken one before a source is given up."""


@dataclass(frozen=True)
class Batch:
    """`pixels` uint8 (n, size, size, 3), one text each; of several processes, this one's part."""

    number: int
    pixels: np.ndarray
    texts: list[str]
    same: np.ndarray | None
    """bool (n, N): whether row's and column's picture, or their captions, are the same one; None if none are twice."""


class Order:
    """Which picture of which source is sample t, for t = 0, 1, 2, …"""

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], seed: int):
        self.sizes, self.seed = list(sizes), seed
        self.pattern = pattern(weights)
        self._before = [np.concatenate([[0], np.cumsum(self.pattern == s)]) for s in range(len(sizes))]
        self._permutation = lru_cache(maxsize=2 * len(sizes))(self._shuffled)

    def __getitem__(self, t: int) -> tuple[int, int]:
        """(source, index)."""
        rounds, place = divmod(t, len(self.pattern))
        source = int(self.pattern[place])
        before = self._before[source]
        turn, at = divmod(rounds * int(before[-1]) + int(before[place]), self.sizes[source])
        return source, int(self._permutation(source, turn)[at])

    def _shuffled(self, source: int, turn: int) -> np.ndarray:
        return np.random.default_rng([self.seed, source, turn]).permutation(self.sizes[source])


def pattern(weights: Sequence[float]) -> np.ndarray:
    """Source numbers, evenly spread, each as often as its weight says and at least once: int (SLOTS,), or (1,)."""
    if len(weights) == 1:
        return np.zeros(1, int)
    shares = np.array(weights, float) / np.sum(weights)
    counts = np.maximum(1, np.floor(shares * SLOTS)).astype(int)
    for s in np.argsort(counts - shares * SLOTS, kind="stable"):  # the largest remainders get the slots left over
        if counts.sum() >= SLOTS:
            break
        counts[s] += 1
    places = np.concatenate([(np.arange(n) + 0.5) / n for n in counts])
    return np.repeat(np.arange(len(counts)), counts)[np.argsort(places, kind="stable")]


def own_rows(size: int, rank: int, parts: int) -> range:
    """The rows of a batch that are process `rank`'s, of `parts`. Raises UsageError if these do not divide `size`."""
    if size % parts:
        raise UsageError(f"a batch of {size} cannot be shared by {parts} processes; make it a multiple of {parts}")
    return range(rank * size // parts, (rank + 1) * size // parts)


class PairBatches:
    """Batches of `size` samples, an `Addressable` of `train.loop`; part `rank` of `parts` when processes share them."""

    def __init__(
        self,
        sources: Sequence[Source],
        weights: Sequence[float],
        augment: Augment,
        size: int,
        *,
        seed: int = 0,
        mix: Mapping[str, float] | None = None,
        threads: int = 2,
        ahead: int = 2,
        rank: int = 0,
        parts: int = 1,
    ):
        """`ahead`: batches decoded before they are asked for. Raises UsageError if `parts` does not divide `size`."""
        self.sources, self.augment, self.size, self.seed = list(sources), augment, size, seed
        self.mix, self.threads, self.ahead = dict(mix or {}), threads, ahead
        self.rows = own_rows(size, rank, parts)
        self.order = Order([len(source) for source in sources], weights, seed)
        self._broken: set[tuple[int, int]] = set()
        self._lock = Lock()

    def starting_at(self, number: int) -> Iterator[Batch]:
        """Batch `number` and those after it, for ever."""
        pool = ThreadPoolExecutor(self.threads, "decode")
        pending: deque[Callable[[], Batch]] = deque()
        try:
            while True:
                while len(pending) <= self.ahead:
                    pending.append(self._begin(number, pool))
                    number += 1
                yield pending.popleft()()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _begin(self, number: int, pool: ThreadPoolExecutor) -> Callable[[], Batch]:
        """Start decoding a batch; the result waits for it."""
        first = number * self.size
        chosen = [self.order[t] for t in range(first, first + self.size)]
        side = self.augment.size
        pixels = np.empty((len(self.rows), side, side, 3), np.uint8)
        work: list[Future[tuple[int, int]]] = [
            pool.submit(self._fill, pixels[i], first + row, *chosen[row]) for i, row in enumerate(self.rows)
        ]

        def finish() -> Batch:
            # A replacement's caption follows its picture; of the other processes' parts the plan is taken as it is.
            for row, future in zip(self.rows, work, strict=True):
                chosen[row] = future.result()
            texts = [self._caption(first + row, *chosen[row]) for row in range(self.size)]
            own = [texts[row] for row in self.rows]
            return Batch(number, pixels, own, same_samples(chosen, texts, self.rows))

        return finish

    def _caption(self, t: int, source: int, index: int) -> str:
        random = np.random.default_rng([self.seed, t, 1])
        return choose_caption(self.sources[source].captions(index), self.mix, random)

    def _fill(self, out: np.ndarray, t: int, source: int, index: int) -> tuple[int, int]:
        """Decode sample t into `out`, or another picture in its place; returns which one it was."""
        other = np.random.default_rng([self.seed, t, 2])
        for _ in range(REPLACEMENTS):
            if (source, index) not in self._broken:
                try:
                    image = self.sources[source].open(index, self.augment.shortest_side)
                    out[:] = self.augment(image, np.random.default_rng([self.seed, t, 0]))
                    return source, index
                except ImageError as error:
                    self._note_broken(source, index, error)
            index = int(other.integers(len(self.sources[source])))
        raise UsageError(f"{self.sources[source].name}: of {REPLACEMENTS} pictures tried in a row none can be read")

    def _note_broken(self, source: int, index: int, error: ImageError) -> None:
        with self._lock:  # two threads may meet the same picture
            if (source, index) not in self._broken:
                self._broken.add((source, index))
                logger.warning("%s; another picture takes its place", error)


def same_samples(chosen: Sequence[tuple[int, int]], texts: Sequence[str], rows: range) -> np.ndarray | None:
    """bool (rows, N): the same picture or the same caption, which a contrastive loss must not push apart.

    None when all are different, as they nearly always are in a large collection.
    """
    if len(set(chosen)) == len(chosen) and len(set(texts)) == len(texts):
        return None
    pictures = np.array([source * 2**40 + index for source, index in chosen])
    _, words = np.unique(np.array(texts), return_inverse=True)
    mine = np.array(rows)
    return (pictures[mine, None] == pictures) | (words[mine, None] == words)
