"""Embeddings as one matrix, and the nearest of them to a query: exactly, or through a usearch graph.

The ledger is the truth. Beside it, in `LEDGER-vectors/`, lie two kinds of derived files, each named by the
ledger's state when it was made: the embeddings as one memory-mapped float16 matrix with their ids (reading
100,000 blobs out of SQLite costs a quarter of a second, mapping them nothing), and, for very large
collections, an HNSW graph (Malkov & Yashunin, "Efficient and robust approximate nearest neighbor search using
HNSW", 2016). A file of another state is never read; all are written aside and renamed, and may be deleted.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bahumukha.search.store import Ledger

if TYPE_CHECKING:
    from usearch.index import Index

CACHED_FROM = 2_000  # pictures; below this SQLite itself is as fast
APPROXIMATE_ABOVE = 1_000_000  # pictures; up to here an exact search takes a quarter of a second
BLOCK = 512  # rows turned to float32 at a time: half a megabyte, which stays in the processor's cache
ABANDONED = 86_400  # seconds without a write, after which no process is still at a half-written file
CONNECTIVITY = 32
EXPANSION_ADD = 128
EXPANSION_SEARCH = 512
RESCORED = 64  # candidates ranked exactly, at least: usearch's int8 swaps neighbours whose cosines differ by 0.003


class Vectors:
    """All embeddings of one state of a ledger: ids int64 (N,) ascending, matrix float16 (N, dim)."""

    def __init__(self, ids: np.ndarray, matrix: np.ndarray, state: str) -> None:
        self.ids = ids
        self.matrix = matrix
        self.state = state
        self._float32: np.ndarray | None = None
        self._asked = False

    def __len__(self) -> int:
        return len(self.ids)

    def scores(self, query: np.ndarray) -> np.ndarray:
        """Cosine of every picture with `query`, a unit vector (dim,) -> float32 (N,).

        The first question streams through the float16 matrix; from the second one on a float32 copy is kept
        (1 GB for a million pictures of 256 numbers), which is about five times as fast.
        """
        if self._float32 is None and self._asked:
            self._float32 = np.empty(self.matrix.shape, np.float32)
            for start in range(0, len(self), BLOCK):
                self._float32[start : start + BLOCK] = self.matrix[start : start + BLOCK]
        self._asked = True
        query = np.ascontiguousarray(query, np.float32)
        if self._float32 is not None:
            return self._float32 @ query
        out = np.empty(len(self), np.float32)
        for start in range(0, len(self), BLOCK):
            out[start : start + BLOCK] = self.matrix[start : start + BLOCK].astype(np.float32) @ query
        return out

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Row numbers of those of `ids` that are here, ascending; unknown ids are left out."""
        ids = np.unique(np.asarray(ids, np.int64))
        rows = np.searchsorted(self.ids, ids)
        inside = rows < len(self.ids)
        rows, ids = rows[inside], ids[inside]
        return rows[self.ids[rows] == ids]

    def restricted(self, ids: np.ndarray) -> Vectors:
        """Only the pictures among `ids`: what a filter leaves to be ranked."""
        rows = self.rows_of(ids)
        if len(rows) == len(self):
            return self
        return Vectors(self.ids[rows], self.matrix[rows], self.state)


def best(scores: np.ndarray, count: int) -> np.ndarray:
    """Positions of the `count` highest scores, best first; equal scores in order of position.

    A partial selection, then a sort of what was selected: never a sort of all the scores.
    """
    count = min(count, len(scores))
    if count <= 0:
        return np.empty(0, np.int64)
    if count < len(scores):
        # Everything that ties with the last selected score competes, so that the result does not depend on
        # the selection's order.
        lowest = np.partition(scores, len(scores) - count)[len(scores) - count]
        candidates = np.flatnonzero(scores >= lowest)
    else:
        candidates = np.arange(len(scores))
    return candidates[np.argsort(-scores[candidates], kind="stable")][:count]


# -- files beside the ledger ---------------------------------------------------------------------------------


def folder_of(ledger: Path) -> Path:
    """Where the derived files of a ledger lie."""
    return ledger.with_name(ledger.name + "-vectors")


def load_vectors(ledger: Ledger) -> Vectors:
    """All embeddings of the ledger: from the file beside it when that is of the present state, else from
    SQLite.

    What had to be read from SQLite is written beside the ledger for the next time, if that can be done.
    """
    state = ledger.state
    cached = _mapped(folder_of(ledger.path), state)
    if cached is not None:
        return cached
    with ledger.reading():
        state = ledger.state
        rows = ledger.select("SELECT id, embedding FROM files WHERE embedding IS NOT NULL ORDER BY id")
    ids = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    width = len(rows[0][1]) // 2 if rows else 0
    matrix = np.frombuffer(b"".join(row[1] for row in rows), "<f2").reshape(len(rows), width)
    vectors = Vectors(ids, matrix, state)
    if len(rows) >= CACHED_FROM:
        _write_beside(ledger.path, vectors)
    return vectors


def _mapped(folder: Path, state: str) -> Vectors | None:
    try:
        ids = np.load(folder / f"{state}.ids.npy", allow_pickle=False)
        matrix = np.load(folder / f"{state}.f16.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):  # not there, or not what we wrote: SQLite has it all
        return None
    if ids.dtype != np.int64 or matrix.dtype != np.float16 or matrix.ndim != 2 or ids.shape != matrix.shape[:1]:
        return None
    return Vectors(ids, matrix, state)


def _write_beside(ledger: Path, vectors: Vectors) -> None:
    folder = folder_of(ledger)
    try:
        folder.mkdir(exist_ok=True)
        _write_aside(folder / f"{vectors.state}.ids.npy", lambda file: np.save(file, vectors.ids))
        _write_aside(folder / f"{vectors.state}.f16.npy", lambda file: np.save(file, vectors.matrix))
        _sweep(folder, keep=vectors.state, suffix=".npy")
    except OSError:  # a full or read-only disk: the next search reads SQLite again, no harm done
        return


def _write_aside(path: Path, write: Callable[[Any], object]) -> None:
    """Make `path` appear whole or not at all."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(aside, "wb") as file:
            write(file)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _sweep(folder: Path, keep: str, suffix: str) -> None:
    """Delete files of former states, and what a killed process left half written.

    One that is mapped right now stays readable to whoever mapped it.
    """
    for path in folder.iterdir():
        try:
            former = path.name.endswith(suffix) and not path.name.startswith(keep)
            abandoned = path.name.endswith(".part") and time.time() - path.stat().st_mtime > ABANDONED
            if former or abandoned:
                path.unlink()
        except OSError:  # Windows refuses while it is mapped; the next sweep takes it
            continue


# -- the graph -----------------------------------------------------------------------------------------------


class Graph:
    """A usearch graph of int8 copies, which proposes, and the float16 vectors it was built from, which rank."""

    def __init__(self, index: Index, vectors: Vectors) -> None:
        self.index = index
        self.vectors = vectors

    def __len__(self) -> int:
        return len(self.index)


def load_graph(ledger: Path, vectors: Vectors) -> Graph | None:
    """The graph over exactly these vectors, memory-mapped, or None when there is none of this state."""
    path = folder_of(ledger) / f"{vectors.state}.usearch"
    if not path.exists():
        return None
    index = new_graph(vectors.matrix.shape[1])
    try:
        index.view(str(path))
    except RuntimeError:  # cut short or of another version: exact search does it
        return None
    return Graph(index, vectors) if len(index) == len(vectors) else None


def build_graph(ledger: Path, vectors: Vectors, *, threads: int | None = None) -> None:
    """Write the graph of these vectors beside the ledger. Takes minutes for a million; `exact` needs none."""
    from bahumukha.runtime import thread_count

    graph = new_graph(vectors.matrix.shape[1])
    chunk, first = 65_536, 1_024
    edges = sorted({0, *range(first, len(vectors), chunk), len(vectors)})
    for begin, end in itertools.pairwise(edges):
        # The first ones one by one: added side by side, they hardly see each other, and those after them lean on them.
        at_once = 1 if begin == 0 else thread_count(threads)
        graph.add(vectors.ids[begin:end].astype(np.uint64), vectors.matrix[begin:end], threads=at_once)
    folder = folder_of(ledger)
    folder.mkdir(exist_ok=True)
    path = folder / f"{vectors.state}.usearch"
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        graph.save(str(aside))
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    _sweep(folder, keep=vectors.state, suffix=".usearch")


def new_graph(dim: int) -> Index:
    """An empty usearch graph with our settings; `python -m bench search` measures recall, time and memory."""
    from usearch.index import Index

    return Index(
        ndim=dim,
        metric="ip",  # rows are unit vectors: inner product is cosine, one division cheaper
        dtype="i8",  # half the memory of float16 and three fifths of the time to build
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
        expansion_search=EXPANSION_SEARCH,
    )


def ask_graph(graph: Graph, query: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids int64 (K,) and cosines float32 (K,) of about the `count` nearest, best first.

    The graph is asked for more, and those are ranked by their exact cosines.
    """
    candidates = max(RESCORED, 2 * count)
    graph.index.expansion_search = max(EXPANSION_SEARCH, 2 * candidates)  # type: ignore[misc]
    query = np.ascontiguousarray(query, np.float32)
    rows = graph.vectors.rows_of(graph.index.search(query, candidates).keys)
    scores = graph.vectors.matrix[rows].astype(np.float32) @ query
    first = best(scores, count)
    return graph.vectors.ids[rows[first]], scores[first]
