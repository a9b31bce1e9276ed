"""One picture on its way into the ledger: read once, hashed, decoded. Runs in the encoder's worker threads."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from bahumukha.errors import BahumukhaError, ImageError
from bahumukha.search.duplicates import difference_hash
from bahumukha.search.paths import is_url, pack_of, text_of
from bahumukha.search.records import Picture, Row

if TYPE_CHECKING:
    from PIL import Image

IN_MEMORY = 256 * 1024 * 1024  # bytes; larger files are hashed in pieces, then opened from disk


class SameContent(BahumukhaError):
    """Raised by `load` to end a file's way through the encoder: the ledger has this content's embedding."""

    def __init__(self, id: int) -> None:
        super().__init__(f"the same content as row {id}")
        self.id = id


class Unreadable(ImageError):
    """The system would not give the bytes (no permission, a bad disk, no network): worth a try in each run."""


@dataclass(slots=True)
class Work:
    """One picture to read. Size, mtime and picture are filled in by the worker thread that reads it."""

    path: str
    row: Row | None
    size: int
    mtime_ns: int
    picture: Picture = field(default_factory=Picture)
    pack: str | None = None
    """The shard or table that it comes from."""
    data: bytes | None = None
    """Its bytes, where they were read with those of the pack; dropped when it is decoded."""

    @property
    def is_settled(self) -> bool:
        """Whether its row is of this very size and mtime, and nothing is left to do."""
        row = self.row
        if row is None or (row.size, row.mtime_ns) != (self.size, self.mtime_ns):
            return False
        return row.embedded or row.error is not None


def load_picture(work: Work, known: Mapping[bytes, int], at_least: int | None) -> Image.Image:
    """Read, hash and decode one file, and note in `work` what is found. Runs in a worker thread."""
    from bahumukha.images import open_image, shown

    if work.pack is not None and work.is_settled:
        _raise_known(work)
    data, content = _read(work)
    if work.row is not None and work.row.embedded and work.row.content == content:
        work.picture = Picture(content=content)
        raise SameContent(work.row.id)
    if content in known:
        work.picture = Picture(content=content)
        raise SameContent(known[content])
    work.picture = Picture(content=content)
    source = work.path if data is None else data
    try:
        image = open_image(source, at_least=at_least)
    except ImageError as error:
        raise ImageError(f"{shown(work.path)}: {str(error).removeprefix(f'{shown(source)}: ')}") from error
    has_file = work.pack is None and not is_url(work.path)
    information = _information(work.path if has_file or data is None else data)
    work.picture = Picture(content=content, dhash=difference_hash(image), **information)
    return image


def source_of(path: str) -> str | bytes:
    """What `open_image` takes for the picture at this path of the ledger: the path, or its bytes from a pack or a
    store. Raises Unreadable.
    """
    if is_url(path) or (pack_of(path) is not None and not os.path.exists(path)):
        return _fetched(path)
    return path


def _raise_known(work: Work) -> NoReturn:
    row = work.row
    assert row is not None
    work.picture = Picture(content=row.content)
    if row.error is not None:
        raise ImageError(row.error)
    raise SameContent(row.id)


def _fetched(path: str) -> bytes:
    from bahumukha.search import contents, remote

    return contents.read_packed(path) if pack_of(path) is not None else remote.read_bytes(path)


def _read(work: Work) -> tuple[bytes | None, bytes]:
    """All bytes of the picture (None when too many to hold) and their hash; notes size and mtime."""
    digest = hashlib.blake2b(digest_size=32)
    if work.pack is not None or is_url(work.path):
        data, work.data = work.data, None
        if data is None:
            data = _fetched(work.path)
        digest.update(data)
        return data, digest.digest()
    try:
        with open(work.path, "rb", buffering=0, opener=_open_at_once) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise Unreadable(f"{text_of(work.path)}: not a regular file")
            # Taken before reading: of a file that is being written, the next run sees another mtime.
            work.size, work.mtime_ns = found.st_size, found.st_mtime_ns
            if found.st_size < IN_MEMORY:
                data = file.readall()
                digest.update(data)
                return data, digest.digest()
            while piece := file.read(1 << 20):
                digest.update(piece)
            return None, digest.digest()
    except OSError as error:
        raise Unreadable(f"{text_of(work.path)}: cannot be read: {error.strerror or error}") from error


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting, which a pipe that took a picture's name would make us do for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _information(source: str | bytes) -> dict[str, Any]:
    """The fields of `Picture` that come from the file's header; none when only the header is unusual."""
    from bahumukha.images import read_info

    try:
        info = read_info(source)
    except ImageError:
        return {}
    taken = info.taken.replace(tzinfo=None).isoformat(timespec="seconds") if info.taken else None
    camera = info.camera.encode("utf-8", "replace").decode() if info.camera else None
    return {
        "width": info.width,
        "height": info.height,
        "format": info.format,
        "taken": taken,
        "camera": camera,
        "latitude": info.latitude,
        "longitude": info.longitude,
    }
