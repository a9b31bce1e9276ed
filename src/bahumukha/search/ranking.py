"""Pictures in order of their cosine with a query: what every store's ranking can do, and the one over a matrix."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Protocol

import numpy as np

from bahumukha.search import vectors as _vectors
from bahumukha.search.cutoff import auto_cutoff
from bahumukha.search.records import Store
from bahumukha.search.store import Ledger
from bahumukha.search.vectors import APPROXIMATE_ABOVE, Graph, Vectors, best
from bahumukha.search.where import Condition

FIRST_RANKED = 1000
"""Put in order at once; most readers look no further."""

Cutoff = str | float | None
"""`"auto"`, the lowest cosine to show, or None for no cut-off."""


class Ranking(Protocol):
    """All pictures that suit one question, of which only as many are put in order as are asked for."""

    def total(self, store: Store) -> int:
        """How many there are."""
        ...

    def part(self, store: Store, offset: int, limit: int) -> tuple[list[int], list[float]]:
        """Ids and cosines from rank `offset` (of 0) on, best first, equal ones by id; fewer than `limit` at the end."""
        ...


class Ranker(Protocol):
    """What ranks the pictures of one kind of store. It may keep things between questions; the store is truth."""

    def rank(
        self,
        store: Store,
        vector: np.ndarray,
        condition: Condition | None,
        cutoff: Cutoff,
        but: Collection[int] = (),
    ) -> Ranking:
        """Pictures that satisfy the condition, by cosine with `vector`, a unit vector float32 (dim,).

        Those below the cut-off are left out, and so are the ids in `but`, which the cut-off does not look at either.
        """
        ...

    def derive(self, store: Store) -> list[str]:
        """After the store has changed: whatever makes questions fast. Returns sentences for the user."""
        ...


class Scored:
    """The `Ranking` of pictures that all have their scores."""

    def __init__(self, ids: np.ndarray, scores: np.ndarray, cutoff: Cutoff = None) -> None:
        """`ids` int64 (N,), `scores` float32 (N,)."""
        self.ids, self.scores = ids, scores
        self._total = len(scores)
        if cutoff is not None:
            lowest = auto_cutoff(scores) if isinstance(cutoff, str) else cutoff
            self._total = int(np.count_nonzero(scores >= lowest))
        self._first = np.empty(0, np.int64)

    def total(self, store: Store) -> int:
        return self._total

    def part(self, store: Store, offset: int, limit: int) -> tuple[list[int], list[float]]:
        end = min(offset + limit, self._total)
        first = self._first
        if end > len(first):
            first = self._first = best(self.scores, min(max(FIRST_RANKED, 4 * end), self._total))
        rows = first[offset:end]
        return self.ids[rows].tolist(), self.scores[rows].tolist()


class _Proposed:
    """The `Ranking` that a graph proposes."""

    def __init__(self, graph: Graph, vector: np.ndarray, but: Collection[int]) -> None:
        self.graph, self.vector, self.but = graph, vector, np.array(sorted(but), np.int64)

    def total(self, store: Store) -> int:
        return len(self.graph) - len(self.graph.vectors.rows_of(self.but))

    def part(self, store: Store, offset: int, limit: int) -> tuple[list[int], list[float]]:
        ids, scores = _vectors.ask_graph(self.graph, self.vector, offset + limit + len(self.but))
        keep = ~np.isin(ids, self.but)
        return ids[keep][offset : offset + limit].tolist(), scores[keep][offset : offset + limit].tolist()


class MatrixRanker:
    """Ranks a ledger by one matrix of its embeddings, exactly, or above a million through a graph beside it."""

    def __init__(self, approximate_above: int = APPROXIMATE_ABOVE) -> None:
        self.approximate_above = approximate_above
        self._kept: Vectors | None = None

    def vectors(self, ledger: Ledger) -> Vectors:
        """All embeddings of the present state."""
        if self._kept is None or self._kept.state != ledger.state:
            self._kept = _vectors.load_vectors(ledger)
        return self._kept

    def satisfying(self, ledger: Ledger, condition: Condition | None) -> Vectors:
        """Those that a filter leaves to be ranked."""
        vectors = self.vectors(ledger)
        if condition is None:
            return vectors
        rows = ledger.select(f"SELECT id FROM files WHERE {condition[0]}", condition[1])
        return vectors.restricted(np.fromiter((row[0] for row in rows), np.int64, len(rows)))

    def rank(
        self,
        store: Store,
        vector: np.ndarray,
        condition: Condition | None,
        cutoff: Cutoff,
        but: Collection[int] = (),
    ) -> Ranking:
        ledger = _ledger(store)
        vectors = self.satisfying(ledger, condition)
        if not len(vectors):
            return Scored(vectors.ids, np.empty(0, np.float32))
        if cutoff is None and len(vectors) > self.approximate_above and vectors is self._kept:
            graph = _vectors.load_graph(ledger.path, vectors)
            if graph is not None:
                return _Proposed(graph, vector, but)
        left_out = vectors.rows_of(np.fromiter(but, np.int64, len(but)))
        return Scored(np.delete(vectors.ids, left_out), np.delete(vectors.scores(vector), left_out), cutoff)

    def derive(self, store: Store) -> list[str]:
        """Bring the files beside the ledger up to date, so that no search has to."""
        ledger = _ledger(store)
        vectors = self.vectors(ledger)
        if len(vectors) <= self.approximate_above or _vectors.load_graph(ledger.path, vectors) is not None:
            return []
        try:
            _vectors.build_graph(ledger.path, vectors)
        except (OSError, RuntimeError) as error:  # usearch reports a full disk as RuntimeError
            return [f"the graph for fast search could not be written ({error}); search stays exact"]
        return []


def _ledger(store: Store) -> Ledger:
    assert isinstance(store, Ledger), f"{os.fspath(store.shown)} has no files beside it"
    return store
