"""Search: a whole `bahu search` process over 100,000 pictures, and vectors in memory beside faiss."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from bench.timing import line, seconds

DIM = 256
CLUSTERS = 5_000


def clustered(count: int, dim: int = DIM, seed: int = 0) -> np.ndarray:
    """float32 (count, dim), rows of norm 1, in clusters of uneven size as embeddings of photographs are.

    A member's cosine with its cluster's centre is about 0.75, two members' about 0.55.
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(CLUSTERS, dim)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    share = rng.pareto(1.5, CLUSTERS) + 0.2
    out = centres[rng.choice(CLUSTERS, count, p=share / share.sum())]
    for start in range(0, count, 100_000):
        part = out[start : start + 100_000]
        part += rng.normal(scale=0.9 / dim**0.5, size=part.shape).astype(np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return out


def queries(vectors: np.ndarray, count: int, seed: int = 1) -> np.ndarray:
    """Near some of the vectors, but none of them."""
    rng = np.random.default_rng(seed)
    near = vectors[rng.choice(len(vectors), count)] + rng.normal(scale=0.5 / DIM**0.5, size=(count, DIM))
    return (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)


def cold(photos: Path | None = None, count: int = 100_000) -> None:
    """Seconds of the whole process `bahu search "a cat"`, from a start of Python to the last line."""
    from bahumukha import zoo
    from bahumukha.search.store import Ledger, Picture, Root

    encoder = zoo.load()
    with tempfile.TemporaryDirectory() as scratch:
        folder, ledger = Path(scratch) / "photos", Path(scratch) / "index.db"
        folder.mkdir()
        shown = folder / "shown.jpg"
        shown.touch()
        vectors = clustered(count, encoder.dim).astype("<f2")
        with Ledger(ledger, create=True) as store, store.writing():
            store.claim_model(encoder.name, encoder.fingerprint)
            found = folder.stat()
            store.put_root(Root(os.path.realpath(folder), found.st_dev, found.st_ino, complete=True))
            for i, row in enumerate(vectors):
                # Links to one file: a result must exist to be shown.
                path = os.path.realpath(folder) + f"/{i:06d}.jpg"
                os.symlink(shown, path)
                store.put(path, 0, i, Picture(content=i.to_bytes(16, "big"), embedding=row.tobytes()))
        command = [sys.executable, "-m", "bahumukha", "search", "a cat", "--db", str(ledger), "--json"]
        times = []
        for _ in range(6):
            started = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            times.append(time.perf_counter() - started)
        assert done.stdout.count("\n") == 10, done.stdout
    print(f"  bahu search over {count:,} pictures: first {times[0]:.2f} s, then {median(times[1:]):.2f} s a process")


def warm(photos: Path | None = None) -> None:
    """One query at a time over 100,000 and 1,000,000 vectors in memory: exact and usearch beside faiss."""
    for count in (100_000, 1_000_000):
        _exact(count)
    _graph(1_000_000)


def _exact(count: int) -> None:
    import faiss

    from bahumukha.runtime import thread_count
    from bahumukha.search.vectors import Vectors, best

    faiss.omp_set_num_threads(thread_count(None))
    vectors = clustered(count)
    ours = Vectors(np.arange(count), vectors.astype(np.float16), "bench")
    theirs = faiss.IndexFlatIP(DIM)
    theirs.add(vectors)
    query = queries(vectors, 1)
    ours.scores(query[0])  # the first streams through float16, later ones through a float32 copy
    mine, flat = seconds(lambda: best(ours.scores(query[0]), 10), lambda: theirs.search(query, 10), rounds=7)
    line(f"exact, {count:,} x {DIM}: faiss IndexFlatIP", 1 / flat, "queries/s")
    line(f"exact, {count:,} x {DIM}: ours ({mine * 1e3:.1f} ms)", 1 / mine, "queries/s", 1 / flat)


def _graph(count: int) -> None:
    import faiss

    from bahumukha.runtime import thread_count
    from bahumukha.search.vectors import (
        CONNECTIVITY,
        EXPANSION_ADD,
        EXPANSION_SEARCH,
        Graph,
        Vectors,
        ask_graph,
        new_graph,
    )

    vectors = clustered(count)
    questions = queries(vectors, 200)
    truth = np.argpartition(-(questions @ vectors.T), 10, axis=1)[:, :10]

    started = time.perf_counter()
    index = new_graph(DIM)
    index.add(np.arange(count, dtype=np.uint64), vectors, threads=thread_count(None))
    print(f"  usearch build {time.perf_counter() - started:.0f} s, {index.memory_usage / 2**30:.2f} GB of memory")
    graph = Graph(index, Vectors(np.arange(count), vectors.astype(np.float16), "bench"))
    found, mine = _ask(lambda q: ask_graph(graph, q, 10)[0], questions)
    print(f"  usearch recall@10 {_recall(found, truth):.4f}, {mine * 1e3:.2f} ms a query")

    started = time.perf_counter()
    theirs = faiss.IndexHNSWFlat(DIM, CONNECTIVITY, faiss.METRIC_INNER_PRODUCT)
    theirs.hnsw.efConstruction, theirs.hnsw.efSearch = EXPANSION_ADD, EXPANSION_SEARCH
    theirs.add(vectors)
    print(f"  faiss HNSW build {time.perf_counter() - started:.0f} s")
    found, peer = _ask(lambda q: theirs.search(q[None], 10)[1][0], questions)
    print(f"  faiss HNSW recall@10 {_recall(found, truth):.4f}, {peer * 1e3:.2f} ms a query ({peer / mine:.2f} x ours)")


def _ask(ask, questions: np.ndarray) -> tuple[list[np.ndarray], float]:  # noqa: ANN001
    started = time.perf_counter()
    found = [ask(q) for q in questions]
    return found, (time.perf_counter() - started) / len(questions)


def _recall(found: list[np.ndarray], truth: np.ndarray) -> float:
    return float(np.mean([len(set(map(int, f)) & set(map(int, t))) / 10 for f, t in zip(found, truth, strict=True)]))
