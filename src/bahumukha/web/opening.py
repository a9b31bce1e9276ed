"""From a path of the index to a picture's bytes, in a file, a shard, a table or an object store; and which may be had.

What counts of a file, and of a pack, is where it lies once it is open, not its name: that may have become a link since.
Names within packs are compared and never opened. Of object stores only what lies below a URL that is served is asked.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO
from urllib.parse import unquote

from bahumukha.errors import BahumukhaError
from bahumukha.search import remote
from bahumukha.search.contents import Contents, FileBytes, ObjectBytes, PackBytes
from bahumukha.search.paths import is_url, pack_of, text_of, under

LARGEST_READ = 128 << 20
"""Bytes of a picture that has no file of its own: it is held in memory."""
_PASSWORD = re.compile(r"(?<=://)(?:[^/?\s:]*:[^/\s]*|[^/?\s]*)@")
"""All up to the last `@` before the path, as a password may hold one, and `?` too; a query's `@` is none of it."""
_SIGNATURE = re.compile(r"\b(https?://[^?\s]*)\?\S*", re.IGNORECASE)


def told(text: str) -> str:
    """A path, or a line that names one, as others may read it: without the passwords and signatures of URLs."""
    return _SIGNATURE.sub(r"\1", _PASSWORD.sub("", text_of(text)))


class Showable:
    """Whether pictures are there, and where links lead, inside the folders. Each folder and pack is looked at once."""

    def __init__(self, roots: Sequence[str]) -> None:
        self.roots = roots
        self._exact = frozenset(roots)
        self._known: dict[str, bool] = {}

    def __call__(self, path: str) -> bool:
        pack = pack_of(path)
        if pack == path:  # the pack's own row
            return False
        if is_url(pack or path):
            return self.reaches(pack or path)
        if pack is not None:
            if pack not in self._known:
                self._known[pack] = os.path.isfile(pack) and self.holds(pack)
            return self._known[pack]
        try:
            is_link = stat.S_ISLNK(os.lstat(path).st_mode)
        except (OSError, ValueError):
            return False
        if is_link:
            return os.path.exists(path) and self.holds(path)
        folder = os.path.dirname(path)
        if folder not in self._known:
            self._known[folder] = self.holds(folder)
        return self._known[folder]

    def holds(self, path: str) -> bool:
        """Whether a file or folder of this machine lies inside, links followed."""
        return self._is_under(os.path.realpath(path))

    def reaches(self, url: str) -> bool:
        """Whether an object lies below a URL that is served; the store is not asked."""
        steps = unquote(url.partition("://")[2]).replace("\\", "/").split("/")
        return ".." not in steps and "." not in steps and self._is_under(url)

    def _is_under(self, path: str) -> bool:
        return path in self._exact or any(under(path, root) for root in self.roots)


class Opener:
    """Opens pictures. May be used from any thread."""

    def __init__(self) -> None:
        self._contents = Contents()

    @contextmanager
    def opened(self, path: str, roots: Sequence[str]) -> Iterator[BinaryIO | None]:
        """The picture at a path of the index; None where it is gone, lies outside the roots, or cannot be had."""
        may_show = Showable(roots)
        pack = pack_of(path)
        place = pack or path
        if pack == path:
            yield None
        elif is_url(place):
            yield self._of_store(path, pack) if may_show.reaches(place) else None
        else:
            with _open_inside(place, may_show) as file:
                if pack is None or file is None:
                    yield file
                else:
                    yield self._of_pack(path, pack, FileBytes(file))

    def _of_store(self, path: str, pack: str | None) -> BinaryIO | None:
        try:
            if pack is not None:
                return self._of_pack(path, pack, ObjectBytes(pack))
            data = remote.read_part(path, 0, LARGEST_READ + 1)
        except BahumukhaError:  # no network, no permission, a package that is not installed
            return None
        return io.BytesIO(data) if len(data) <= LARGEST_READ else None

    def _of_pack(self, path: str, pack: str, data: PackBytes) -> BinaryIO | None:
        try:
            return io.BytesIO(self._contents.read(pack, path[len(pack) + 1 :], data, LARGEST_READ))
        except BahumukhaError:
            return None


@contextmanager
def _open_inside(path: str, may_show: Showable) -> Iterator[BinaryIO | None]:
    """A regular file that lies inside, open; else None."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError):
        yield None
        return
    with os.fdopen(descriptor, "rb") as file:
        real, here = os.path.realpath(path), os.fstat(descriptor)
        is_fit = stat.S_ISREG(here.st_mode) and may_show.holds(real) and _is_at(real, here)
        yield file if is_fit else None


def _is_at(path: str, found: os.stat_result) -> bool:
    try:
        there = os.stat(path)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino)
