"""Pictures packed many to a file: WebDataset shards (tar) and tables (Parquet), on a disk or in an object store.

A pack is read from front to back, once, and hands out its pictures one by one with their bytes. In the ledger each is
a row like any file's; its mtime is the pack's, so that a picture of a pack that was not written since is not read
again. The pack itself has a row too, without an embedding, which is put when all of its pictures have been: a pack
whose row is true is not even opened.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from bahumukha.errors import BahumukhaError, UsageError
from bahumukha.search import remote
from bahumukha.search.paths import PACKED, is_url, packed_path, text_of
from bahumukha.search.reading import Unreadable, Work
from bahumukha.search.records import Row

COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "picture", "image_bytes", "bytes")
"""Of a table, looked at in this order for pictures; else its only column of bytes."""
ROWS_AT_ONCE = 32
"""Of a table; a row group alone may hold a thousand pictures."""
LARGEST_TAR = 1 << 62
BUFFER = 1 << 20
"""Bytes of a table that are read at once."""

_READING = (
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    tarfile.TarError,
    RecursionError,  # tarfile, of many headers that each belong to the next
    ArithmeticError,  # pyarrow, of dates that Python has no number for
    # What pyarrow's ArrowTypeError, ArrowKeyError, ArrowIndexError and ArrowMemoryError are.
    TypeError,
    LookupError,
    MemoryError,
)
"""What reading a damaged or crafted pack raises."""


@dataclass(slots=True)
class Pack:
    """A file of many pictures, and the ledger's rows of them by path."""

    path: str
    size: int
    mtime_ns: int
    rows: dict[str, Row] = field(default_factory=dict)

    @property
    def format(self) -> str:
        return PACKED[self.path[self.path.rindex(".") :].lower()]


@dataclass(slots=True)
class End:
    """Comes after the pictures of a pack: how many there were, and what is wrong with the pack, if anything is."""

    pack: str
    count: int
    error: BahumukhaError | None = None


def unpacked(todo: Iterable[Work | Pack]) -> Iterator[Work | End]:
    """Files as they are; of each pack its pictures, then its End. Trouble with a pack does not stop the rest."""
    for each in todo:
        if isinstance(each, Work):
            yield each
            continue
        count, error = 0, None
        try:
            for work in _pictures(each):
                count += 1
                yield work
        except BahumukhaError as trouble:
            error = trouble
        yield End(each.path, count, error)


def _pictures(pack: Pack) -> Iterator[Work]:
    seen: set[str] = set()
    with _opened(pack.path) as file:
        for name, size, read in _members(pack, file):
            path = packed_path(pack.path, name)
            if path in seen:  # a tar may hold a name twice
                continue
            seen.add(path)
            row = pack.rows.get(path)
            work = Work(path, row, size, pack.mtime_ns, pack=pack.path)
            if row is None or not work.is_settled:
                work.data = read()
            yield work


def _members(pack: Pack, file: BinaryIO) -> Iterator[tuple[str, int, Any]]:
    """Name, size, and what reads the bytes, of each picture."""
    return _tar(file) if pack.format == "WEBDATASET" else _table(file, pack.path)


@contextmanager
def _opened(pack: str) -> Iterator[BinaryIO]:
    with naming(pack), remote.open_stream(pack) if is_url(pack) else open(pack, "rb") as file:
        yield file


@contextmanager
def naming(pack: str) -> Iterator[None]:
    """What fails while a pack is read becomes Unreadable that names it."""
    try:
        yield
    except BahumukhaError:
        raise
    except Exception as error:
        if not (isinstance(error, _READING) or is_url(pack)):  # each store's package has exceptions of its own
            raise
        silent = "cut off" if isinstance(error, EOFError) else type(error).__name__
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120] or silent
        raise Unreadable(f"{text_of(pack)}: cannot be read to its end: {reason}") from error


# -- tar -----------------------------------------------------------------------------------------------------


def _tar(file: BinaryIO) -> Iterator[tuple[str, int, Any]]:
    for name, member, tar in tar_pictures(file):
        yield name, member.size, lambda tar=tar, member=member: _member(tar, member)


def tar_pictures(file: BinaryIO) -> Iterator[tuple[str, tarfile.TarInfo, tarfile.TarFile]]:
    """The pictures of a shard from where `file` stands, with their names in the ledger; headers alone are read.

    Raises TarError, also for a header that leads back, from which tarfile would go round for ever; RecursionError for
    a thousand headers that each belong to the next.
    """
    from bahumukha.images import EXTENSIONS

    last = -1
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            if not 0 <= member.size < LARGEST_TAR or member.offset <= last:
                raise tarfile.ReadError("a header that leads nowhere")
            last = member.offset
            name = _clean(member.name)
            # A sparse file's size is whatever its header says.
            is_plain = member.isfile() and not member.issparse()
            if is_plain and os.path.splitext(name)[1].lower() in EXTENSIONS and not _is_hidden(name):
                yield name, member, tar
            tar.members = []  # type: ignore[attr-defined]  # it would remember every header


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member)
    data = stream.read() if stream is not None else b""
    if len(data) != member.size:
        raise tarfile.ReadError(f"cut off within {member.name}")
    return data


def _clean(name: str) -> str:
    return name.removeprefix("./").lstrip("/")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


# -- tables --------------------------------------------------------------------------------------------------


def _table(file: BinaryIO, name: str) -> Iterator[tuple[str, int, Any]]:
    with _opened_table(file, name) as table:
        column = _column(table.schema_arrow, name)
        number = 0
        for batch in table.iter_batches(batch_size=ROWS_AT_ONCE, columns=[column]):
            for value in batch.column(0):
                cell = value.as_py()
                data = bytes_of(cell)
                yield row_name(number, cell), len(data or b""), lambda data=data: _present(data)
                number += 1


def rows_around(file: BinaryIO, name: str, number: int) -> tuple[int, list[Any]]:
    """The cells of pictures next to each other, among which row `number` is, and the first one's number; none where
    there is no such row. Of the row's group what stands before is read as well, in pieces.
    """
    with _opened_table(file, name) as table:
        column = _column(table.schema_arrow, name)
        first = 0
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            if number >= first + rows:
                first += rows
                continue
            for batch in table.iter_batches(batch_size=ROWS_AT_ONCE, row_groups=[group], columns=[column]):
                if number < first + batch.num_rows:
                    return first, batch.column(0).to_pylist()
                first += batch.num_rows
    return number, []


def _opened_table(file: BinaryIO, name: str) -> Any:
    """To be read page by page: by itself pyarrow takes a whole row group of pictures into memory first."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(f"{text_of(name)}: reading Parquet takes pyarrow; {remote.INSTALL}") from error
    return parquet.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False)


def _column(schema: Any, name: str) -> str:
    """The column with the pictures: bytes, or a struct with `bytes` as Hugging Face writes it."""
    from pyarrow import types

    def holds_bytes(kind: Any) -> bool:
        if types.is_struct(kind):
            return any(field.name == "bytes" and holds_bytes(field.type) for field in kind)
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    fit = [each.name for each in schema if holds_bytes(each.type)]
    column = next((name for name in COLUMNS if name in fit), fit[0] if len(fit) == 1 else None)
    if column is None:
        raise UsageError(
            f"{text_of(name)}: has no column of pictures; one of bytes is needed, called one of {', '.join(COLUMNS)}; "
            f"it has {', '.join(schema.names)}"
        )
    return column


def bytes_of(cell: Any) -> bytes | None:
    """A picture as a cell of the table holds it; None where it holds none."""
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    return data if isinstance(data, bytes) else None


def _present(data: bytes | None) -> bytes:
    return b"" if data is None else data


def row_name(number: int, cell: Any) -> str:
    """The row's number, and behind it the name that the table has for the picture."""
    said = cell.get("path") if isinstance(cell, dict) else None
    name = str(said).replace("\\", "/").rpartition("/")[2] if said else ""
    return f"{number:06}" + (f"-{name}" if name else "")
