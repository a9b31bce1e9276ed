"""What a picture takes on its way into the index, and what collections of them cost in machines, hours and disk."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

SIZES = (1_000_000, 100_000_000, 5_000_000_000)
CORES, MEMORY = 32, 256 * 10**9
"""Of the machine that the plan counts in; bytes."""
GRAPH = "graph"
HELD = 0.75  # of that memory, by the index
PUBLISHED = (
    "clip-retrieval (its README): 1,500 pictures/s on one RTX 3080 with ViT-B/32; 100 million with texts in 20 h; "
    "50 ms a query, 20 queries/s",
    "LAION-5B: 5.85 billion embeddings of 768 numbers (ViT-L/14); in float16 that is 9.0 TB",
)


@dataclass(frozen=True)
class Stages:
    """Means over the photographs measured: bytes a picture at each stage, and pictures a second on one core."""

    file: float
    decoded: float
    thumbnail: float
    dim: int
    rate: float
    ledger: float
    graph: float


@dataclass(frozen=True)
class Stored:
    """What the store that many machines share took for `count` pictures."""

    count: int
    kind: str
    """Of the index."""
    build_seconds: float
    core_seconds: float
    """Of one core, that building took."""
    build_memory: int
    table_bytes: int
    index_bytes: int


def stages(photos: Path | None) -> Stages:
    """Measure on one core, which the rest of the machine leaves alone or does not."""
    from bahumukha import zoo
    from bahumukha.data.folders import find_images
    from bahumukha.images import open_image

    encoder = zoo.load(threads=1)
    at_least = encoder.preprocess.shortest_side
    paths = list(find_images([photos or Path(str(files("bahumukha"))) / "demo_photos"]))[:300]
    spent = []
    for _ in range(2):  # the first warms
        started = time.process_time()
        for _ in encoder.encode_each(paths, lambda path: open_image(path, at_least=at_least)):
            pass
        spent.append(time.process_time() - started)
    pictures = [open_image(path) for path in paths]
    return Stages(
        file=float(np.mean([os.path.getsize(path) for path in paths])),
        decoded=float(np.mean([3 * picture.width * picture.height for picture in pictures])),
        thumbnail=float(np.mean([_thumbnail(picture) for picture in pictures])),
        dim=encoder.dim,
        rate=len(paths) / spent[-1],
        ledger=_ledger_bytes(encoder.dim),
        graph=_graph_bytes(encoder.dim),
    )


def _thumbnail(picture: object) -> int:
    from PIL import Image

    from bahumukha.images import save_image
    from bahumukha.web.thumbnails import SIDES

    assert isinstance(picture, Image.Image)
    small = picture.copy()
    small.thumbnail((SIDES[""], SIDES[""]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.jpg"
        save_image(small, path)
        return path.stat().st_size


def _ledger_bytes(dim: int, count: int = 5000) -> float:
    """Of SQLite's file, a picture."""
    from bahumukha.search.store import Ledger, Picture

    row = np.zeros(dim, "<f2").tobytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.db"
        with Ledger(path, create=True) as ledger, ledger.writing():
            for number in range(count):
                content = number.to_bytes(32, "little")
                facts = Picture(content, None, 4000, 3000, "JPEG", "2021-05-03T10:00:00", "Canon EOS", embedding=row)
                ledger.put(f"/home/me/Pictures/2021/05/IMG_{number:06}.JPG", number, number, facts)
        return path.stat().st_size / count


def _graph_bytes(dim: int, count: int = 5000) -> float:
    """Of usearch's int8 graph, a picture."""
    from bahumukha.search.vectors import new_graph

    graph = new_graph(dim)
    graph.add(np.arange(count), np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32))
    return graph.serialized_length / count


def tell(stored: Stored, stages: Stages) -> None:
    """Print what was measured, and the plan that follows from it."""
    print("== a picture")
    print(f"  decoded and embedded: {stages.rate:.0f} a second and core")
    print(f"  bytes: file {stages.file:,.0f}, decoded {stages.decoded:,.0f}, thumbnail {stages.thumbnail:,.0f}")
    widths = ", ".join(f"{name} {stages.dim * size:,}" for name, size in (("float32", 4), ("float16", 2), ("int8", 1)))
    print(f"  embedding of {stages.dim} numbers: {widths}")
    print(f"  SQLite's ledger {stages.ledger:,.0f}, its graph in int8 {stages.graph:,.0f}")
    print(
        f"  PostgreSQL: rows and their indexes {stored.table_bytes / stored.count:,.0f}, "
        f"index in float16 {stored.index_bytes / stored.count:,.0f} ({stored.kind})"
    )
    print(f"== what collections cost, in machines of {CORES} cores and {MEMORY / 1e9:.0f} GB of memory")
    for line in plan(stored, stages, SIZES):
        print(f"  {line}")
    print("== published, for comparison")
    for line in PUBLISHED:
        print(f"  {line}")


def plan(stored: Stored, stages: Stages, sizes: Iterable[int]) -> list[str]:
    """One line for each size: linear in what was measured, but for building.

    An inverted file compares each picture with about sqrt(N) centres, N being the pictures of its server; a graph is
    nearly linear.
    """
    order = 1.0 if stored.kind == GRAPH else 1.5
    lines = []
    for count in sizes:
        machine_hours = count / stages.rate / 3600 / CORES
        index = count * stored.index_bytes / stored.count
        disk = index + count * stored.table_bytes / stored.count
        servers = max(1, -(-index // (HELD * MEMORY)))
        grown = count / servers / stored.count
        build = servers * stored.core_seconds * grown**order / 3600 / CORES
        lines.append(
            f"{count:>13,}: embedding {machine_hours:,.1f} machine hours; pictures {_size(count * stages.file)}, "
            f"thumbnails {_size(count * stages.thumbnail)}; store {_size(disk)} of disk, index {_size(index)}, "
            f"to be held in the memory of {servers:,.0f} server{'s' if servers > 1 else ''}, "
            f"built in {build:,.2f} machine hours"
        )
    return lines


def _size(count: float) -> str:
    for unit in ("MB", "GB", "TB", "PB"):
        count /= 1e6 if unit == "MB" else 1e3
        if count < 1000:
            break
    return f"{count:,.1f} {unit}"
