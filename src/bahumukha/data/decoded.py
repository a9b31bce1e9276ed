"""Pictures decoded once and kept small, as uint8 in memory or in a mapped file: what is seen a hundred times is not
decoded a hundred times.

A picture is an array (h, w, 3), or (h, w, 4) where it is transparent, colours multiplied by alpha: so it can be
resized, padded with zeros, and laid on any ground by `colours + ground * (255 - alpha) / 255`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, overload

import numpy as np
from PIL import Image

from bahumukha.data.folders import find_images
from bahumukha.data.pairs import LISTINGS, Listed, Source, SourceConfig, open_source
from bahumukha.data.shards import shard_paths
from bahumukha.errors import ImageError, UsageError
from bahumukha.images import open_image, shown

logger = logging.getLogger(__name__)

LAYOUT = 1
"""Of the files in a cache; another number makes them anew."""
CHOICE = 1
"""Seed of the pictures that are shown or judged by."""


class Mapped(Sequence[np.ndarray]):
    """Pictures one after another in a file, `places` (n, 4): where each begins, its height, width and channels."""

    def __init__(self, file: Path, places: np.ndarray):
        self._bytes = np.memmap(file, np.uint8, "r") if len(places) else np.zeros(0, np.uint8)
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start, *shape = (int(number) for number in self._places[index])
        return self._bytes[start : start + shape[0] * shape[1] * shape[2]].reshape(shape)


def some_of(pictures: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    """At most `count`, chosen at random but always the same, in their order."""
    chosen = np.random.default_rng(CHOICE).permutation(len(pictures))[:count]
    return [pictures[int(i)] for i in sorted(chosen)]


def decoded_pictures(
    config: SourceConfig, side: int, *, cache: Path | None = None, threads: int = 2, most: int | None = None
) -> Sequence[np.ndarray]:
    """The pictures of a source, shortest side at most `side` pixels and the longer at most twice that.

    Captions are not asked for: a folder without a listing is all of its pictures. With `cache` they are written into
    that folder, and read from it the next time if no file has changed. `most`: the first ones alone. Broken pictures
    are named and left out. Raises UsageError when there are none.
    """
    source = _source(config)
    count = len(source) if most is None else min(most, len(source))
    if cache is None:
        pictures: Sequence[np.ndarray] = list(_decoded(source, count, side, threads))
    else:
        pictures = _mapped(source, config, count, side, cache, threads)
    if not pictures:
        raise UsageError(f"{source.name}: none of its {count} pictures can be read")
    return pictures


def small_array(image: Image.Image, side: int) -> np.ndarray:
    """RGB or RGBA -> uint8 (h, w, 3), or (h, w, 4) with colours multiplied by alpha; scaled down, never up."""
    short, long = min(image.size), max(image.size)
    scale = min(1.0, side / short, 2 * side / long)
    if image.mode == "RGBA":
        image = image.convert("RGBa")
    if scale < 1:
        width, height = (max(1, round(length * scale)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _source(config: SourceConfig) -> Source:
    path = config.path
    if path.is_dir() and not any((path / name).is_file() for name in LISTINGS):
        if config.split:
            raise UsageError(
                f"{shown(path)}: split {config.split!r} is asked for, and no {' or '.join(LISTINGS)} tells the splits"
            )
        pictures = list(find_images([path]))
        if not pictures:
            raise UsageError(f"{shown(path)}: no pictures in this folder")
        return Listed(str(path), pictures, [{}] * len(pictures))
    return open_source(config)


def _decoded(source: Source, count: int, side: int, threads: int) -> Iterator[np.ndarray]:
    """In order, broken ones left out."""

    def decode(index: int) -> np.ndarray | ImageError:
        try:
            if isinstance(source, Listed):
                return small_array(open_image(source.pictures[index], at_least=side, transparent=True), side)
            return small_array(source.open(index, side), side)
        except ImageError as error:
            return error

    with ThreadPoolExecutor(threads, "decode") as pool:
        for picture in pool.map(decode, range(count)):
            if isinstance(picture, ImageError):
                logger.warning("%s; it is left out", picture)
            else:
                yield picture


# --- the mapped file


def _mapped(source: Source, config: SourceConfig, count: int, side: int, cache: Path, threads: int) -> Mapped:
    key = source_fingerprint(source, config, count, side)
    file, index = cache / f"{key}.u8", cache / f"{key}.npy"
    if not index.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        # Written aside, by each process for itself; the index is renamed last, as what is complete has one.
        asides = [each.with_name(f"{each.name}.{os.getpid()}.new") for each in (file, index)]
        try:
            with asides[0].open("wb") as pixels, asides[1].open("wb") as places:
                np.save(places, _write(_decoded(source, count, side, threads), pixels))
            os.replace(asides[0], file)
            os.replace(asides[1], index)
        finally:
            for aside in asides:
                aside.unlink(missing_ok=True)
    return Mapped(file, np.load(index))


def _write(pictures: Iterable[np.ndarray], stream: BinaryIO) -> np.ndarray:
    """One after another; returns their places, int64 (n, 4)."""
    places, end = [], 0
    for picture in pictures:
        places.append((end, *picture.shape))
        stream.write(np.ascontiguousarray(picture).data)
        end += picture.size
    return np.array(places, np.int64).reshape(-1, 4)


def source_fingerprint(source: Source, config: SourceConfig, count: int, side: int) -> str:
    """Of all that decides the pixels of the first `count` pictures, kept at `side`: paths, sizes and times of the
    files, or the bytes of pictures in a table."""
    pictures = source.pictures if isinstance(source, Listed) else shard_paths(config.path)
    digest = hashlib.sha256(json.dumps([LAYOUT, count, side]).encode())
    for picture in pictures:
        if isinstance(picture, bytes):
            digest.update(hashlib.sha256(picture).digest())
            continue
        try:
            status = os.stat(picture)
            stamp = [status.st_size, status.st_mtime_ns]
        except OSError:
            stamp = []  # it will be named as broken
        digest.update(json.dumps([os.path.abspath(picture), *stamp]).encode())
    return digest.hexdigest()[:16]
