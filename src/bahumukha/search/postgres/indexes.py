"""The index that the server keeps of the embeddings: which kind, how it is built and renewed, how it is asked.

Up to `LISTED_ABOVE` pictures it is a graph (HNSW): it finds the most in a given time and takes in new pictures for
ever, but each picture that it is built of costs a millisecond and more. Above, it is an inverted file (IVFFlat):
k-means chooses centres, each picture stands in the list of the nearest one, and a question looks through the lists
whose centres are nearest to it (probes). It is built in a fraction of the time, but its centres are those of the
pictures of that day: when there are `OUTGROWN` times as many, it is built anew beside the old one, and takes its place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bahumukha.search.postgres import PostgresStore

NEAREST, NEW, OLD = "files_nearest", "files_nearest_new", "files_nearest_old"
"""The index in use; one that is being built; one whose place was taken."""
GRAPH_ABOVE = 50_000
"""Pictures; up to here a look at all takes less than a tenth of a second."""
LISTED_ABOVE = 1_000_000
"""Pictures; of a core, a graph of 100,000 takes 1.8 minutes to build, an inverted file of 5,000,000 12."""
OUTGROWN = 4
"""Times as many pictures as an inverted file was made for, from which on it is made anew."""

CONNECTIVITY = 16
EXPANSION_ADD = 64
EXPANSION_SEARCH = 200
MOST_EXPANDED = 1000  # pgvector's own limit
WALKED = 40_000
"""Pictures that a walk through the graph looks at before it is called off."""
LEAST_LISTS = 1000
MOST_LISTS = 16_384
"""To choose the centres of more takes over 60 GB of memory."""
SAMPLED = 50  # pictures a list that pgvector's k-means learns from, 10,000 at least
PROBES = (2, 8, 32, 128)
"""Lists that are looked through, until four times as many give the same answer: where pictures are much alike, the
nearest stand scattered over many lists, and where they are not, in two."""
SORTED_IN_MEMORY = "64MB"
"""What is found in the lists is sorted; on disk that takes longer than all the rest."""


@dataclass(frozen=True)
class Index:
    """What the server has, or shall have."""

    lists: int = 0
    """Of an inverted file; 0 for a graph."""
    made_for: int = 0
    """Pictures that there were when an inverted file was made."""

    def __str__(self) -> str:
        return f"inverted file of {self.lists:,} lists" if self.lists else "graph"

    def is_outgrown(self, count: int) -> bool:
        """Whether there are too many pictures for its lists. A graph grows with them."""
        return bool(self.lists) and count > OUTGROWN * self.made_for

    def definition(self, dim: int) -> str:
        method, options = "hnsw", f"m = {CONNECTIVITY}, ef_construction = {EXPANSION_ADD}"
        if self.lists:
            method, options = "ivfflat", f"lists = {self.lists}"
        return f"{method} ((embedding::halfvec({dim})) halfvec_ip_ops) WITH ({options})"

    def memory(self, dim: int) -> int:
        """Bytes of `maintenance_work_mem` without which it cannot be built; a graph is only slower with less."""
        sampled = max(SAMPLED * self.lists, 10_000)
        vectors, bounds = (sampled + 2 * self.lists) * (4 * dim + 8), 4 * (sampled + self.lists) * self.lists
        return int(1.1 * (vectors + bounds)) if self.lists else 0

    def efforts(self, candidates: int, *, is_filtered: bool) -> list[dict[str, object]]:
        """Settings of the server with which it finds about the nearest `candidates`, from little effort to much."""
        if self.lists:
            most = min(PROBES[-1], self.lists)
            common = {
                "ivfflat.iterative_scan": "relaxed_order",
                "ivfflat.max_probes": most,
                "work_mem": SORTED_IN_MEMORY,
            }
            return [{"ivfflat.probes": min(probes, most)} | common for probes in PROBES]
        expansion = MOST_EXPANDED if is_filtered else min(max(EXPANSION_SEARCH, candidates), MOST_EXPANDED)
        return [
            {
                "hnsw.ef_search": expansion,
                "hnsw.iterative_scan": "relaxed_order",
                "hnsw.max_scan_tuples": max(WALKED, 4 * candidates),
            }
        ]


def suited(count: int, listed_above: int = LISTED_ABOVE) -> Index:
    """To so many pictures: sqrt(N) lists, as pgvector advises above a million.

    Half as many are built in half the time, with a quarter of the memory, but of five million pictures they tell 0.05
    fewer of the nearest where as many pictures are looked at.
    """
    if count <= listed_above:
        return Index()
    return Index(min(max(LEAST_LISTS, math.isqrt(count)), MOST_LISTS), count)


def index_of(server: PostgresStore, name: str = NEAREST) -> Index | None:
    """The index of that name; None where there is none, or one whose building was stopped half way."""
    found = server.select(
        "SELECT array_to_string(c.reloptions, ' '), obj_description(c.oid, 'pg_class') FROM pg_class AS c "
        "JOIN pg_index AS i ON i.indexrelid = c.oid WHERE c.oid = to_regclass(?) AND i.indisvalid",
        (name,),
    )
    if not found:
        return None
    lists, comment = re.search(r"\blists=(\d+)", found[0][0] or ""), found[0][1] or ""
    return Index(int(lists[1]), int(comment) if comment.isdecimal() else 0) if lists else Index()


def keep(server: PostgresStore, count: int, listed_above: int = LISTED_ABOVE) -> list[str]:
    """Build what suits `count` pictures where there is none, or it is outgrown; -> what the server remarks.

    Others read and write meanwhile, by the old one if there is one. Every step can be stopped, and is gone on from.
    """
    _drop(server, OLD)
    have = index_of(server)
    if have is not None and not have.is_outgrown(count):
        _drop(server, NEW)
        return []
    remarks = []
    made = index_of(server, NEW)
    if made is None or made.is_outgrown(count):
        _drop(server, NEW)
        remarks = _build(server, suited(count, listed_above))
    # In one transaction. Renaming locks out nobody, as dropping would.
    swap = f"ALTER INDEX IF EXISTS {NEAREST} RENAME TO {OLD}; ALTER INDEX {NEW} RENAME TO {NEAREST}"
    server.connection.execute(swap.encode())
    _drop(server, OLD)
    return remarks


def _drop(server: PostgresStore, name: str) -> None:
    server.connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}".encode())


def _build(server: PostgresStore, index: Index) -> list[str]:
    dim = server.select("SELECT vector_dims(embedding) FROM files WHERE embedding IS NOT NULL LIMIT 1")[0][0]
    with _remarks(server) as remarks, _memory(server, index.memory(dim)):
        server.connection.execute(f"CREATE INDEX CONCURRENTLY {NEW} ON files USING {index.definition(dim)}".encode())
        server.connection.execute(f"COMMENT ON INDEX {NEW} IS '{index.made_for}'".encode())
        server.connection.execute("ANALYZE files")
    return remarks


@contextmanager
def _remarks(server: PostgresStore) -> Iterator[list[str]]:
    """What the server says about its memory meanwhile."""
    remarks: list[str] = []

    def remark(diagnostic: Any) -> None:
        said = diagnostic.message_primary or ""
        if diagnostic.severity_nonlocalized == "NOTICE" and "maintenance_work_mem" in said:
            remarks.append(f"{said}; raise the server's maintenance_work_mem and it is far faster")

    server.connection.add_notice_handler(remark)
    try:
        yield remarks
    finally:
        server.connection.remove_notice_handler(remark)


@contextmanager
def _memory(server: PostgresStore, least: int) -> Iterator[None]:
    """At least so many bytes of `maintenance_work_mem`: pgvector refuses to choose centres with fewer."""
    name = "maintenance_work_mem"
    before, kilobytes = server.select(
        "SELECT current_setting(name), setting::bigint FROM pg_settings WHERE name = ?", (name,)
    )[0]
    if kilobytes * 1024 < least:
        server.set({name: f"{least // 1024 + 1}kB"})
    try:
        yield
    finally:
        server.set({name: before})
