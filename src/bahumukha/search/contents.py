"""One picture out of a shard or a table, without reading all of it each time.

A tar file has no list of what it holds. The first picture asked of a shard costs a walk over its headers, which is
remembered; each further one is one read at a known place. In a table the row group is known, and within it pictures
are read up to the row; those next to it are remembered, as a page asks for them next.

A name only ever is compared with those that the pack gives its pictures: nothing is opened by it.
"""

from __future__ import annotations

import os
import tarfile
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Generic, Protocol, TypeVar

from bahumukha.search import remote
from bahumukha.search.packed import bytes_of, naming, row_name, rows_around, tar_pictures
from bahumukha.search.paths import is_url, pack_of, packed_path, text_of
from bahumukha.search.reading import Unreadable

V = TypeVar("V")

MOST_NAMES = 100_000
"""Of one shard; what stands behind them is walked over each time."""
KEPT_NAMES = 200_000
"""Of all shards together: about 60 MB."""
KEPT_BYTES = 64 << 20
"""Of all tables together."""
TURNS = 16


class PackBytes(Protocol):
    """What can be read of a pack."""

    @property
    def version(self) -> Hashable | None:
        """Differs when the pack was written anew; None where nobody can tell."""
        ...

    def stream(self) -> AbstractContextManager[BinaryIO]:
        """All of it, from its start, with seeks."""
        ...

    def part(self, start: int, size: int) -> bytes:
        """At most `size` bytes from `start` on."""
        ...


class FileBytes:
    """Of a file that is open, and stays so."""

    def __init__(self, file: BinaryIO) -> None:
        found = os.fstat(file.fileno())
        self._file, self._size = file, found.st_size
        self.version: Hashable = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    @contextmanager
    def stream(self) -> Iterator[BinaryIO]:
        self._file.seek(0)
        yield self._file

    def part(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        return self._file.read(max(0, min(size, self._size - start)))  # it takes room for all that it is told to read


class ObjectBytes:
    """Of an object in a store."""

    def __init__(self, url: str) -> None:
        """Raises Unreadable."""
        found = remote.look(url)
        self._url = url
        self.version: Hashable | None = (found.size, found.mtime_ns) if found.mtime_ns else None

    def stream(self) -> AbstractContextManager[BinaryIO]:
        return closing(remote.open_stream(self._url))

    def part(self, start: int, size: int) -> bytes:
        return remote.read_part(self._url, start, size)


def read_packed(path: str) -> bytes:
    """The bytes of one picture at a path that lies in a pack. Raises Unreadable."""
    pack = pack_of(path)
    assert pack is not None
    name = path[len(pack) + 1 :]
    if is_url(pack):
        return Contents().read(pack, name, ObjectBytes(pack))
    with naming(pack), open(pack, "rb") as file:
        return Contents().read(pack, name, FileBytes(file))


class Contents:
    """Reads single pictures, and remembers what the packs asked last hold. `read` may be called from any thread."""

    def __init__(self) -> None:
        self._shards: _Last[_Directory] = _Last(KEPT_NAMES)
        self._tables: _Last[tuple[int, list[Any]]] = _Last(KEPT_BYTES)
        self._turns, self._far_turns = ([threading.Lock() for _ in range(TURNS)] for _ in range(2))

    def read(self, pack: str, name: str, data: PackBytes, at_most: int | None = None) -> bytes:
        """The picture that the ledger has at `packed_path(pack, name)`.

        at_most: bytes; a larger one is refused before it is read, or in a table, where its neighbours were read too,
          before it is handed out.

        Raises Unreadable, also where there is no picture of that name.
        """
        with naming(pack):
            of_kind = self._of_shard if pack.lower().endswith(".tar") else self._of_table
            found = of_kind(pack, name, data, at_most)
        if found is None:
            raise Unreadable(f"{text_of(packed_path(pack, name))}: is not there any more")
        return found

    def _turn(self, pack: str) -> threading.Lock:
        """A page asks for many pictures of one pack at once; one thread walks over it, and the others wait.

        Never those that want a pack of this machine for one that walks over a pack in a store, which may hang.
        """
        return (self._far_turns if is_url(pack) else self._turns)[hash(pack) % TURNS]

    def _of_shard(self, pack: str, name: str, data: PackBytes, at_most: int | None) -> bytes | None:
        key = None if data.version is None else (pack, data.version)
        directory = self._shards.get(key)
        if directory is None:
            with self._turn(pack):
                directory = self._shards.get(key)
                if directory is None:
                    with data.stream() as stream:
                        directory = _directory(stream)
                    self._shards.put(key, directory, 1 + len(directory.places))
        place = directory.places.get(name)
        if place is None and directory.rest is not None:
            with data.stream() as stream:
                stream.seek(directory.rest)
                further = tar_pictures(stream)
                place = next(((m.offset_data, m.size) for found, m, _ in further if found == name), None)
        if place is None:
            return None
        start, size = place
        _require(pack, name, size, at_most)
        found = data.part(start, size)
        if len(found) != size:
            raise tarfile.ReadError(f"cut off within {name}")
        return found

    def _of_table(self, pack: str, name: str, data: PackBytes, at_most: int | None) -> bytes | None:
        said = name.partition("-")[0]
        if not (said.isascii() and said.isdecimal() and len(said) < 18):
            return None
        number = int(said)
        key = None if data.version is None else (pack, data.version)
        with self._turn(pack):
            first, cells = self._tables.get(key) or (0, [])
            if not first <= number < first + len(cells):
                with data.stream() as stream:
                    first, cells = rows_around(stream, pack, number)
                self._tables.put(key, (first, cells), 1 + sum(len(bytes_of(cell) or b"") for cell in cells))
        if not cells or row_name(number, cells[number - first]) != name:  # of a table that was written anew
            return None
        found = bytes_of(cells[number - first])
        _require(pack, name, len(found or b""), at_most)
        return found


@dataclass(frozen=True, slots=True)
class _Directory:
    """Where the pictures of a shard begin, and how long they are."""

    places: dict[str, tuple[int, int]]
    rest: int | None
    """From where on they are not listed; None where all are."""


def _directory(stream: BinaryIO) -> _Directory:
    places: dict[str, tuple[int, int]] = {}
    try:
        for name, member, _ in tar_pictures(stream):
            if len(places) == MOST_NAMES:
                return _Directory(places, member.offset)
            places.setdefault(name, (member.offset_data, member.size))  # as the ledger has it: the first of a name
    except (tarfile.TarError, RecursionError):
        if not places:
            raise
    return _Directory(places, None)  # of a shard that was cut off, what is whole


def _require(pack: str, name: str, size: int, at_most: int | None) -> None:
    if at_most is not None and size > at_most:
        raise Unreadable(f"{text_of(packed_path(pack, name))}: {size:,} bytes are more than the {at_most:,} allowed")


class _Last(Generic[V]):
    """The values used last, of no more weight together than `most`. Without a key nothing is kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._weight = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable | None) -> V | None:
        with self._lock:
            if key is None or key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable | None, value: V, weight: int) -> None:
        if key is None or weight > self._most:
            return
        with self._lock:
            self._weight += weight - self._values.pop(key, (None, 0))[1]
            self._values[key] = (value, weight)
            while self._weight > self._most:
                self._weight -= self._values.popitem(last=False)[1][1]
