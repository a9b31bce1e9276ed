"""Shards and tables of generated pictures."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from tests.search.pictures import WORDS, draw


def picture_bytes(colour: str, seed: int) -> bytes:
    stream = io.BytesIO()
    draw(colour, seed=seed).save(stream, "PNG")
    return stream.getvalue()


def named(numbers: Iterable[int]) -> dict[str, bytes]:
    """Name -> bytes of pictures, each with its own content."""
    return {f"{WORDS[i % len(WORDS)]}-{i:03}.png": picture_bytes(WORDS[i % len(WORDS)], i) for i in numbers}


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    """A WebDataset shard: each picture with a caption beside it."""
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            for member, content in ((name, data), (f"{name.rpartition('.')[0]}.txt", b"a picture")):
                header = tarfile.TarInfo(member)
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    return path


def write_parquet(path: Path, files: dict[str, bytes], *, as_struct: bool = False) -> Path:
    """A table of pictures, as img2dataset writes it, or as Hugging Face does."""
    import pyarrow
    from pyarrow import parquet

    if as_struct:
        column = {"image": [{"bytes": data, "path": f"train/{name}"} for name, data in files.items()]}
    else:
        column = {"jpg": list(files.values())}
    table = pyarrow.table({**column, "caption": ["a picture"] * len(files)})
    parquet.write_table(table, path, row_group_size=5)
    return path
