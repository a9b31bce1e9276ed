"""What the index keeps of every picture, and what a store of it can do, whichever database lies beneath.

A row of `files` is one path: what the file was when it was read (size, mtime, hash of all its bytes), what its EXIF
says, and its embedding in float16. Paths are kept as bytes, since a file name need not be text.

Stores speak one SQL, of which both SQLite and PostgreSQL understand each word: `?` for a value, TRUE and FALSE,
`instr(text, part)`, and `fold(column)` for text in which case does not matter. Bytes and embeddings are `bytes`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Self

from bahumukha.errors import ModelMismatch, PictureIndexError
from bahumukha.search.paths import PACKED, text_of, under, within

AT_ONCE = 500
"""Values of one question; SQLite takes a limited number."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What the ledger keeps of one file's content; of an unreadable one, only its hash and `error`."""

    content: bytes | None = None  # blake2b of the whole file, 32 bytes
    error: str | None = None
    width: int | None = None  # after EXIF rotation
    height: int | None = None
    format: str | None = None  # as Pillow names it: JPEG, PNG, HEIF; of a shard or table itself, as in `paths.PACKED`
    taken: str | None = None  # local time, ISO 8601
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    dhash: bytes | None = None  # 128-bit difference hash, see `duplicates.difference_hash`
    embedding: bytes | None = None  # float16, little endian


COLUMNS = tuple(Picture.__dataclass_fields__)
_IS_PACK = f"format IN ({', '.join(map(repr, PACKED.values()))}) AND content IS NULL"


@dataclass(frozen=True, slots=True)
class Row:
    """A file as the scan needs it: enough to see whether it changed."""

    id: int
    size: int
    mtime_ns: int
    content: bytes | None
    error: str | None
    embedded: bool


@dataclass(frozen=True, slots=True)
class Root:
    """A folder (or single file) that was indexed. `complete` is False while its first run is under way.

    Device and inode tell a folder from the empty mount point that stands in its place when a drive is away.
    """

    path: str
    device: int | None
    inode: int | None
    complete: bool


class Store(ABC):
    """An open store, a context manager. Trouble with its database comes out as a one-line PictureIndexError."""

    shown: str
    """How messages name it: a file, or a server without its password."""
    option: str
    """What the user would give another one with."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- what each database does its own way -------------------------------------------------------------------

    @abstractmethod
    def close(self) -> None:
        """Give up the connection."""

    @abstractmethod
    def writing(self) -> AbstractContextManager[None]:
        """One write transaction, waiting its turn; rolled back when the block raises. Whatever it wrote is on disk
        when the block is over.
        """

    @abstractmethod
    def reading(self) -> AbstractContextManager[None]:
        """Several reads of one and the same state of the store."""

    @abstractmethod
    def select(self, sql: str, values: Sequence[object] = ()) -> list[tuple]:
        """All rows of one question."""

    @abstractmethod
    def _run(self, sql: str, values: Sequence[object] = ()) -> int:
        """Carry out one statement; how many rows it touched."""

    def _put(self, sql: str, values: Sequence[object]) -> None:
        """Carry out one of many statements that differ in their values alone."""
        self._run(sql, values)

    def _row_of(self, path: str, picture: Picture) -> dict[str, object]:
        """Column -> value, of all but size and mtime."""
        return {"path": os.fsencode(path), **self._names(path)} | {name: getattr(picture, name) for name in COLUMNS}

    def _names(self, path: str) -> dict[str, object]:
        """A path's folder and name as text, for filters; what is not UTF-8 becomes U+FFFD."""
        folder, name = os.path.split(path)
        return {"folder": text_of(folder), "name": text_of(name)}

    # -- facts -------------------------------------------------------------------------------------------------

    def fact(self, name: str) -> str | None:
        rows = self.select("SELECT value FROM facts WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    @property
    def state(self) -> str:
        """A token that differs after any change of an embedding or of which files have one."""
        return str(self.fact("state"))

    @property
    def model(self) -> str | None:
        """Name of the model whose embeddings these are; None before the first run."""
        return self.fact("model")

    def require_model(self, name: str, fingerprint: str) -> None:
        """Raise ModelMismatch unless the store is of this model, or of none yet."""
        known = self.fact("fingerprint")
        if known is not None and known != fingerprint:
            raise ModelMismatch(
                f"the index {self.shown} was made with {self.model} (fingerprint {known[:12]}), not {name} "
                f"({fingerprint[:12]}); their embeddings cannot be compared. Embed everything again with "
                f"`bahu index FOLDER --model {name} --rebuild`, or keep a second index with {self.option}"
            )

    def claim_model(self, name: str, fingerprint: str) -> None:
        """Bind an unbound store to a model; ModelMismatch if it has another. Inside `writing` only."""
        self.require_model(name, fingerprint)
        for fact, value in (("model", name), ("fingerprint", fingerprint)):
            self._run("INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING", (fact, value))

    def start_rebuild(self, name: str, fingerprint: str) -> None:
        """Drop all embeddings and bind to this model; files and metadata stay, to be embedded again."""
        with self.writing():
            self._run("UPDATE files SET embedding = NULL, error = NULL")
            self._run("UPDATE roots SET complete = 0")
            self._run("DELETE FROM facts WHERE name IN ('model', 'fingerprint')")
            self.claim_model(name, fingerprint)

    # -- roots -------------------------------------------------------------------------------------------------

    def roots(self) -> list[Root]:
        rows = self.select("SELECT path, device, inode, complete FROM roots ORDER BY path")
        return [Root(os.fsdecode(path), device, inode, bool(done)) for path, device, inode, done in rows]

    def put_root(self, root: Root) -> None:
        """Remember a root; inside `writing` only."""
        self._run(
            "INSERT INTO roots (path, device, inode, complete) VALUES (?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET "
            "device = excluded.device, inode = excluded.inode, complete = excluded.complete",
            (os.fsencode(root.path), root.device, root.inode, int(root.complete)),
        )

    def covers(self, folder: str) -> bool:
        """Whether `folder` is, or lies in, a root that has been indexed to its end, or is such a shard or table."""
        if any(root.complete and under(folder, root.path) for root in self.roots()):
            return True
        return bool(self.select(f"SELECT 1 FROM files WHERE path = ? AND {_IS_PACK}", (os.fsencode(folder),)))

    def packs(self) -> list[str]:
        """Shards and tables that were indexed to their end, other than as part of a root."""
        return [os.fsdecode(path) for (path,) in self.select(f"SELECT path FROM files WHERE {_IS_PACK} ORDER BY path")]

    def forget(self, folder: str) -> tuple[int, int]:
        """Forget the files and the roots at or below `folder`; inside `writing` only. How many of each."""
        condition, values = within([folder])
        files = self._run(f"DELETE FROM files WHERE {condition}", values)
        return files, self._run(f"DELETE FROM roots WHERE {condition}", values)

    # -- files -------------------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Whether no picture can be found in it."""
        return not self.select("SELECT 1 FROM files WHERE embedding IS NOT NULL LIMIT 1")

    def rows_within(self, paths: Sequence[str]) -> dict[str, Row]:
        """Path -> row, for all files at or below `paths`."""
        condition, values = within(paths)
        rows = self.select(
            f"SELECT path, id, size, mtime_ns, content, error, embedding IS NOT NULL FROM files WHERE {condition}",
            values,
        )
        return {os.fsdecode(path): Row(*rest) for path, *rest in rows}

    def contents_of_sizes(self, sizes: Iterable[int]) -> dict[bytes, int]:
        """Content hash -> id of a file that holds it and is embedded, for files of the given sizes."""
        found: dict[bytes, int] = {}
        for part, marks in parts(sorted(set(sizes))):
            sql = f"SELECT content, id FROM files WHERE size IN ({marks}) AND embedding IS NOT NULL ORDER BY id"
            found.update(self.select(sql, part))
        return found

    def paths(self, ids: Iterable[int]) -> dict[int, str]:
        """Id -> path, of those that are here."""
        found: dict[int, str] = {}
        for part, marks in parts(list(ids)):
            rows = self.select(f"SELECT id, path FROM files WHERE id IN ({marks})", part)
            found.update((id, os.fsdecode(path)) for id, path in rows)
        return found

    def put(self, path: str, size: int, mtime_ns: int, picture: Picture) -> None:
        """Insert or replace what is known of `path`, keeping its id; inside `writing` only."""
        row = self._row_of(path, picture) | {"size": size, "mtime_ns": mtime_ns}
        marks = ", ".join("?" * len(row))
        changes = ", ".join(f"{name} = excluded.{name}" for name in row if name != "path")
        self._put(
            f"INSERT INTO files ({', '.join(row)}) VALUES ({marks}) ON CONFLICT (path) DO UPDATE SET {changes}",
            list(row.values()),
        )

    def picture(self, id: int, content: bytes) -> tuple[str, Picture] | None:
        """Path and picture of a row, provided that it still has this content and an embedding."""
        rows = self.select(
            f"SELECT path, {', '.join(COLUMNS)} FROM files WHERE id = ? AND content = ? AND embedding IS NOT NULL",
            (id, content),
        )
        return (os.fsdecode(rows[0][0]), Picture(*rows[0][1:])) if rows else None

    def move(self, id: int, path: str, size: int, mtime_ns: int) -> None:
        """Give a row another path, in place of any row that has it; inside `writing` only."""
        row = {"path": os.fsencode(path), **self._names(path), "size": size, "mtime_ns": mtime_ns}
        self._run("DELETE FROM files WHERE path = ? AND id != ?", (os.fsencode(path), id))
        changes = ", ".join(f"{name} = ?" for name in row)
        self._run(f"UPDATE files SET {changes} WHERE id = ?", (*row.values(), id))

    def remove(self, id: int, path: str) -> int:
        """Forget a file, unless its row has moved to another path; inside `writing` only. How many went."""
        return self._run("DELETE FROM files WHERE id = ? AND path = ?", (id, os.fsencode(path)))


def parts(values: Sequence[Any]) -> Iterator[tuple[Sequence[Any], str]]:
    """Pieces of a list for `IN (…)`, with the marks that stand for them."""
    for start in range(0, len(values), AT_ONCE):
        part = values[start : start + AT_ONCE]
        yield part, ", ".join("?" * len(part))


def empty_index() -> PictureIndexError:
    """What to tell someone who asks before anything was indexed."""
    return PictureIndexError("no pictures are indexed yet; index a folder with `bahu index FOLDER`")
