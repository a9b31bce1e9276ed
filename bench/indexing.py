"""`bahu index` end to end, beside what the cores allow for decoding and encoding alone."""

from __future__ import annotations

import shutil
import tempfile
import time
from importlib.resources import files
from pathlib import Path

from bench.timing import line

COPIES = 8


def end_to_end(photos: Path | None = None) -> None:
    """Index a folder into a new ledger; the bound is the cores divided by the seconds one core needs a picture.

    The bound: each picture is decoded, preprocessed and encoded by one thread alone, nothing else done, and that
    time is divided by the number of worker threads.
    """
    from bahumukha import zoo
    from bahumukha.data.folders import find_images
    from bahumukha.images import open_image
    from bahumukha.search import PictureIndex

    with tempfile.TemporaryDirectory() as scratch:
        folder = photos or _shipped(Path(scratch) / "photos")
        paths = list(find_images([folder]))
        alone, many = zoo.load(threads=1), zoo.load()
        at_least = many.preprocess.shortest_side

        def one_thread() -> float:
            started = time.perf_counter()
            for _ in alone.encode_each(paths, lambda path: open_image(path, at_least=at_least)):
                pass
            return time.perf_counter() - started

        def whole(number: int) -> float:
            started = time.perf_counter()
            PictureIndex(Path(scratch) / f"{number}.db", many).index([folder])
            return time.perf_counter() - started

        whole(0)  # warm: the tower is loaded, the files are in memory
        bounds, runs = zip(*((one_thread(), whole(n)) for n in (1, 2, 3)), strict=True)
        bound = len(paths) * many.threads / min(bounds)
        line(f"{many.threads} threads, decoding and encoding only (bound)", bound, "pictures/s")
        line(f"bahu index, {len(paths)} pictures, end to end", len(paths) / min(runs), "pictures/s", bound)


def _shipped(folder: Path) -> Path:
    folder.mkdir()
    for photo in Path(str(files("bahumukha"))).joinpath("demo_photos").glob("*.jpg"):
        for copy in range(COPIES):
            # Bytes after its end make each another content, which no index may take for a copy.
            target = folder / f"{photo.stem}-{copy}.jpg"
            shutil.copyfile(photo, target)
            with target.open("ab") as file:
                file.write(f"copy {copy}".encode())
    return folder
