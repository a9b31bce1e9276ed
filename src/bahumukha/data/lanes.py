"""Batches of which each part has shards of its own: for collections that no one process should read whole.

A batch of N rows is L lanes of N / L rows. Lane l draws from shards l, l + L, l + 2L, … of each source (of a folder or
a table, from every L-th picture), as if it were a run of its own. One process of n owns L / n lanes and opens their
shards alone; within it threads share the reading. L belongs to the run and not to the machines, so any number of
processes that divides it sees the same batches.

Pictures or captions that are twice in a batch are noticed within a lane only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from bahumukha.data.batches import Batch, PairBatches
from bahumukha.data.pairs import Captions, Source, SourceConfig, open_source
from bahumukha.errors import UsageError


@dataclass(frozen=True)
class EveryNth:
    """Pictures `first`, `first + step`, … of a source."""

    source: Source
    first: int
    step: int

    @property
    def name(self) -> str:
        """Of the source."""
        return self.source.name

    def __len__(self) -> int:
        return len(range(self.first, len(self.source), self.step))

    def captions(self, index: int) -> Captions:
        """Of picture `index` of these."""
        return self.source.captions(self.first + index * self.step)

    def open(self, index: int, at_least: int) -> Image.Image:
        """Decode picture `index` of these. Raises ImageError."""
        return self.source.open(self.first + index * self.step, at_least)


def own_lanes(count: int, size: int, rank: int = 0, parts: int = 1) -> range:
    """The lanes of process `rank` of `parts`. Raises UsageError where lanes, processes and rows do not fit together."""
    if size % count:
        raise UsageError(f"batch.lanes is {count}; it must divide batch.size, which is {size}")
    if count % parts:
        raise UsageError(f"batch.lanes is {count}; {parts} processes share them, so it must be a multiple of {parts}")
    return range(rank * count // parts, (rank + 1) * count // parts)


def open_lanes(config: SourceConfig, lanes: range, count: int) -> list[Source]:
    """A source's part in each of these lanes of `count`. Raises UsageError where a lane would have no picture."""
    if config.path.suffix.lower() == ".tar":
        from bahumukha.data.shards import Shards

        return [Shards(config, lane, count) for lane in lanes]
    whole = open_source(config)
    if len(whole) < count:
        raise UsageError(f"{whole.name}: {len(whole)} pictures are too few for batch.lanes = {count}")
    return [EveryNth(whole, lane, count) for lane in lanes]


class LaneBatches:
    """Batches of some lanes side by side, an `Addressable` of `train.loop`: this process's part of the whole."""

    def __init__(self, lanes: Sequence[PairBatches], first: int, count: int):
        """Batches of each of our lanes, of the same size; the number of the first of them, and how many all have."""
        self.lanes, self.first, self.count = list(lanes), first, count

    def starting_at(self, number: int) -> Iterator[Batch]:
        """Batch `number` and those after it, for ever."""
        lanes = [lane.starting_at(number) for lane in self.lanes]
        while True:
            yield self._joined([next(lane) for lane in lanes])

    def _joined(self, parts: Sequence[Batch]) -> Batch:
        rows = self.lanes[0].size
        same = np.zeros((rows * len(parts), rows * self.count), bool)
        for place, part in enumerate(parts):
            column = (self.first + place) * rows
            within = np.eye(rows, dtype=bool) if part.same is None else part.same
            same[place * rows : (place + 1) * rows, column : column + rows] = within
        texts = [text for part in parts for text in part.texts]
        return Batch(parts[0].number, np.concatenate([part.pixels for part in parts]), texts, same)
