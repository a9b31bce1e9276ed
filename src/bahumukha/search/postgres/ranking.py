"""The nearest embeddings in PostgreSQL: exactly by looking at all, or through an index of pgvector's (`indexes`).

An index has no notion of a filter: pgvector goes on, from near to far, until enough pictures satisfy it (iterative
scans). More are asked for than are wanted, since those that are passed in haste are missed, and all that come are
ranked by their exact cosines. Where the server expects few to satisfy a filter, or the search ends without enough of
them, all that do are looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from psycopg import ClientCursor

from bahumukha.search.postgres import PostgresStore, in_postgres, indexes, storable
from bahumukha.search.postgres.connection import plain_errors
from bahumukha.search.postgres.indexes import GRAPH_ABOVE, LISTED_ABOVE, Index
from bahumukha.search.ranking import Cutoff, Scored
from bahumukha.search.records import Store, parts
from bahumukha.search.vectors import best
from bahumukha.search.where import Condition

RESCORED = 64
"""Candidates that are ranked exactly, at least."""
FEW = 100_000
"""Pictures that satisfy a filter, by the server's own estimate, up to which all of them are looked at."""
KEPT_TOTALS = 100
BUILDING = 0x42414856  # the advisory lock of whoever builds an index

_SCORED = np.dtype([("fields", ">i2"), ("size_id", ">i4"), ("id", ">i8"), ("size", ">i4"), ("score", ">f8")])
_COPY_HEAD = 19  # bytes of a binary COPY before its first row


class PostgresRanker:
    """Ranks the pictures of a `PostgresStore`. Keeps how many suit a filter: of millions, that takes a second."""

    def __init__(self, graph_above: int = GRAPH_ABOVE, listed_above: int = LISTED_ABOVE) -> None:
        """Pictures above which there shall be an index, and above which a new one is an inverted file."""
        self.graph_above, self.listed_above = graph_above, listed_above
        self._totals: dict[tuple[object, ...], int] = {}
        self._state = ""

    def rank(
        self,
        store: Store,
        vector: np.ndarray,
        condition: Condition | None,
        cutoff: Cutoff,
        but: Collection[int] = (),
    ) -> Scored | Asked:
        server = _server(store)
        asked = Asked(self, vector, condition, but)
        if cutoff is None:
            return asked
        return Scored(*asked.all(server), cutoff)  # what stands out depends on all the others

    def count(self, store: Store, where: str, values: Sequence[object]) -> int:
        """How many pictures satisfy a condition, in the present state of the store."""
        state, key = store.state, (where, *values)
        if state != self._state:
            self._state, self._totals = state, {}
        totals = self._totals
        if key not in totals:
            if len(totals) > KEPT_TOTALS:
                totals.clear()
            totals[key] = int(store.select(f"SELECT count(*) FROM files WHERE {where}", values)[0][0])
        return totals[key]

    def derive(self, store: Store) -> list[str]:
        """Build an index when there are enough pictures for one; the server then keeps it up to date."""
        server = _server(store)
        (count,) = server.select("SELECT count(embedding) FROM files")[0]
        with plain_errors(server.shown):
            if count <= self.graph_above or not server.try_lock(BUILDING):
                return []
            try:
                return indexes.keep(server, count, self.listed_above)
            finally:
                server.unlock(BUILDING)


class Asked:
    """The `Ranking` that a server makes, as far as it was asked for. What was once told stays as it was told."""

    def __init__(
        self, ranker: PostgresRanker, vector: np.ndarray, condition: Condition | None, but: Collection[int]
    ) -> None:
        self.ranker = ranker
        self.vector = np.ascontiguousarray(vector, np.float32)
        sql, values = condition or ("TRUE", [])
        self.where, self.values = f"embedding IS NOT NULL AND {sql}", list(values)
        self.is_filtered = condition is not None
        self.but = frozenset(but)
        self._ids: list[int] = []
        self._scores: list[float] = []
        self._is_all = False
        self._total: int | None = None

    def total(self, store: Store) -> int:
        if self._total is None:
            self._total = self.ranker.count(store, self.where, self.values)
            for part, marks in parts(sorted(self.but)):
                sql = f"SELECT count(*) FROM files WHERE {self.where} AND id IN ({marks})"
                self._total -= int(store.select(sql, [*self.values, *part])[0][0])
        return self._total

    def part(self, store: Store, offset: int, limit: int) -> tuple[list[int], list[float]]:
        end = offset + limit
        if end > len(self._ids) and not self._is_all:
            self._ask(_server(store), end)
        return self._ids[offset:end], self._scores[offset:end]

    def all(self, server: PostgresStore) -> tuple[np.ndarray, np.ndarray]:
        """Ids int64 (N,), ascending, and cosines float32 (N,) of all that satisfy the condition."""
        with plain_errors(server.shown):
            # COPY takes no values: they are written into it, quoted by the client.
            sql = f"SELECT id, {self._cosine} FROM files WHERE {self.where} ORDER BY id"
            values = [*self._vector, *storable(self.values)]
            inner = ClientCursor(server.connection).mogrify(in_postgres(sql), values)
            with server.connection.cursor().copy(f"COPY ({inner}) TO STDOUT (FORMAT binary)".encode()) as copy:
                data = b"".join(bytes(block) for block in copy)
        count = (len(data) - _COPY_HEAD) // _SCORED.itemsize
        rows = np.frombuffer(data, _SCORED, count, offset=_COPY_HEAD)
        ids, scores = rows["id"].astype(np.int64), rows["score"].astype(np.float32)
        keep = ~np.isin(ids, np.array(sorted(self.but), np.int64))
        return ids[keep], scores[keep]

    # -- parts -------------------------------------------------------------------------------------------------

    @property
    def _cosine(self) -> str:
        """With the query in float32: halving its precision, as an index does, swaps near neighbours."""
        return "-(embedding::vector <#> ?::vector)"

    @property
    def _vector(self) -> list[object]:
        return ["[" + ",".join(map(repr, self.vector.tolist())) + "]"]

    def _ask(self, server: PostgresStore, count: int) -> None:
        """Add to what is told until it is `count`, or all there are."""
        wanted = count + len(self.but)
        index = indexes.index_of(server)
        found = self._search(server, index, wanted) if index is not None and not self._are_few(server) else None
        if found is None or len(found[0]) < wanted:
            found = self._look_at_all(server, wanted)
            self._is_all = len(found[0]) < wanted
        told = {*self._ids, *self.but}
        for id, score in zip(*found, strict=True):
            if id not in told and (self._is_all or len(self._ids) < count):  # of all, none is asked for again
                self._ids.append(id)
                self._scores.append(score)

    def _are_few(self, server: PostgresStore) -> bool:
        if not self.is_filtered:
            return False
        plan = server.select(f"EXPLAIN (FORMAT json) SELECT 1 FROM files WHERE {self.where}", self.values)
        return bool(plan[0][0][0]["Plan"]["Plan Rows"] <= FEW)

    def _look_at_all(self, server: PostgresStore, count: int) -> tuple[list[int], list[float]]:
        rows = server.select(
            f"SELECT id, {self._cosine} AS score FROM files WHERE {self.where} ORDER BY score DESC, id LIMIT ?",
            [*self._vector, *self.values, count],
        )
        return [row[0] for row in rows], [row[1] for row in rows]

    def _search(self, server: PostgresStore, index: Index, count: int) -> tuple[list[int], list[float]]:
        """About the nearest, through the index: with more effort, until that changes nothing."""
        candidates = max(RESCORED, 2 * count)
        found: tuple[list[int], list[float]] = [], []
        for effort in index.efforts(candidates, is_filtered=self.is_filtered):
            before, found = found, self._through_index(server, effort, candidates, count)
            if len(found[0]) == count and set(found[0]) == set(before[0]):
                break
        return found

    def _through_index(
        self, server: PostgresStore, effort: dict[str, object], candidates: int, count: int
    ) -> tuple[list[int], list[float]]:
        dim = len(self.vector)
        distance = f"embedding::halfvec({dim}) <#> ?::halfvec({dim})"
        server.set(effort | {"enable_seqscan": "off"})
        try:
            rows = server.select(
                f"SELECT id, embedding FROM files WHERE {self.where} ORDER BY {distance} LIMIT ?",
                [*self.values, *self._vector, candidates],
            )
        finally:
            server.set({"enable_seqscan": "on"})
        if not rows:
            return [], []
        rows.sort()
        ids = np.array([row[0] for row in rows])
        scores = np.frombuffer(b"".join(row[1] for row in rows), "<f2").reshape(len(rows), dim) @ self.vector
        first = best(scores, count)
        return ids[first].tolist(), scores[first].tolist()


def _server(store: Store) -> PostgresStore:
    assert isinstance(store, PostgresStore)
    return store
