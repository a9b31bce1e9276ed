"""The ledger: one SQLite file that knows every indexed picture, so that what it holds need not be embedded again.

A row of `files` is one path: what the file was when it was read (size, mtime, hash of all its bytes), what
its EXIF says, and its embedding in float16. Paths are kept as bytes, since a file name need not be text. All
writes are short transactions in WAL mode, so two processes may index at once while others search, and a kill
-9 loses at most the batch that was not yet committed. `state` changes with every change of an embedding, by
trigger, which lets files derived from the ledger (`vectors.py`) know whether they are still true.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bahumukha.errors import ModelMismatch, PictureIndexError
from bahumukha.search.paths import PACKED, fold, text_of, under, within
from bahumukha.search.schema import APPLICATION_ID, MIGRATIONS, statements

BUSY_SECONDS = 30.0


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


_COLUMNS = tuple(Picture.__dataclass_fields__)
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


class Ledger:
    """An open ledger, a context manager. Trouble with its file comes out as a one-line PictureIndexError."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open the ledger at `path`, migrating it to this version's schema.

        Raises PictureIndexError when the file is missing (unless `create`), damaged, foreign or newer.
        """
        self.path = Path(path)
        if not create and not self.path.exists():
            raise empty_index()
        if create:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise PictureIndexError(
                    f"the index's folder {self.path.parent} cannot be made ({error.strerror}); give a file with --db"
                ) from error
        with self.plain_errors():
            # The generator that feeds an encoder may be advanced by another thread; never two at once.
            self._db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    # -- opening ---------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        db = self._db
        db.create_function("fold", 1, fold, deterministic=True)
        ours = db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        if not ours and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            # Another process may have made the schema between the two questions, so ask again.
            ours = db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
            if not ours:
                raise PictureIndexError(
                    f"{self.path} is a database, but not a picture index; give another file with --db"
                )
        if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            self._enter_wal()
        db.execute("PRAGMA synchronous = NORMAL")  # with WAL: a kill loses nothing, a power cut no consistency
        if self._version() != len(MIGRATIONS):
            self._migrate()

    def _enter_wal(self) -> None:
        """SQLite does not wait for a lock when the journal changes, so two first openings would collide."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _migrate(self) -> None:
        """The one place where a ledger's schema changes: forward only, all in one transaction."""
        with self.writing():
            version = self._version()  # again: another process may have just done it
            if version > len(MIGRATIONS):
                raise PictureIndexError(
                    f"{self.path} was made by a newer version of Bahumukha; update it, or give another file with --db"
                )
            for step in MIGRATIONS[version:]:
                for statement in statements(step):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    # -- transactions and errors -----------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One write transaction, waiting its turn; rolled back when the block raises."""
        with self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Several reads of one and the same state of the ledger."""
        with self._transaction("BEGIN"):
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with self.plain_errors():
            self._db.execute(begin)
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself rolls back when the disk is full
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def plain_errors(self) -> Iterator[None]:
        """Turn SQLite's errors about the file, not about our statements, into PictureIndexError."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            reason = _reason(str(error))
            if reason is None:
                raise
            raise PictureIndexError(f"the index {self.path} {reason}") from error

    def select(self, sql: str, values: Sequence[object] = ()) -> list[tuple]:
        """All rows of one query."""
        with self.plain_errors():
            return self._db.execute(sql, values).fetchall()

    # -- facts -----------------------------------------------------------------------------------------------

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
        """Raise ModelMismatch unless the ledger is of this model, or of none yet."""
        known = self.fact("fingerprint")
        if known is not None and known != fingerprint:
            raise ModelMismatch(
                f"the index {self.path} was made with {self.model} (fingerprint {known[:12]}), not {name} "
                f"({fingerprint[:12]}); their embeddings cannot be compared. Embed everything again with "
                f"`bahu index FOLDER --model {name} --rebuild`, or keep a second index with --db"
            )

    def claim_model(self, name: str, fingerprint: str) -> None:
        """Bind an unbound ledger to a model; ModelMismatch if it has another. Inside `writing` only."""
        self.require_model(name, fingerprint)
        for fact, value in (("model", name), ("fingerprint", fingerprint)):
            self._db.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (fact, value))

    def start_rebuild(self, name: str, fingerprint: str) -> None:
        """Drop all embeddings and bind to this model; files and metadata stay, to be embedded again."""
        with self.writing():
            self._db.execute("UPDATE files SET embedding = NULL, error = NULL")
            self._db.execute("UPDATE roots SET complete = 0")
            self._db.execute("DELETE FROM facts WHERE name IN ('model', 'fingerprint')")
            self.claim_model(name, fingerprint)

    # -- roots -----------------------------------------------------------------------------------------------

    def roots(self) -> list[Root]:
        rows = self.select("SELECT path, device, inode, complete FROM roots ORDER BY path")
        return [Root(os.fsdecode(path), device, inode, bool(done)) for path, device, inode, done in rows]

    def put_root(self, root: Root) -> None:
        """Remember a root; inside `writing` only."""
        self._db.execute(
            "INSERT OR REPLACE INTO roots VALUES (?, ?, ?, ?)",
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
        files = self._db.execute(f"DELETE FROM files WHERE {condition}", values).rowcount
        return files, self._db.execute(f"DELETE FROM roots WHERE {condition}", values).rowcount

    # -- files -----------------------------------------------------------------------------------------------

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
        for size in set(sizes):
            found.update(self.select("SELECT content, id FROM files WHERE size = ? AND embedding IS NOT NULL", (size,)))
        return found

    def put(self, path: str, size: int, mtime_ns: int, picture: Picture) -> None:
        """Insert or replace what is known of `path`, keeping its id; inside `writing` only."""
        row = {"path": os.fsencode(path), **_names(path), "size": size, "mtime_ns": mtime_ns}
        row |= {name: getattr(picture, name) for name in _COLUMNS}
        marks = ", ".join("?" * len(row))
        changes = ", ".join(f"{name} = excluded.{name}" for name in row if name != "path")
        self._db.execute(
            f"INSERT INTO files ({', '.join(row)}) VALUES ({marks}) ON CONFLICT (path) DO UPDATE SET {changes}",
            list(row.values()),
        )

    def picture(self, id: int, content: bytes) -> tuple[str, Picture] | None:
        """Path and picture of a row, provided that it still has this content and an embedding."""
        rows = self.select(
            f"SELECT path, {', '.join(_COLUMNS)} FROM files WHERE id = ? AND content = ? AND embedding IS NOT NULL",
            (id, content),
        )
        return (os.fsdecode(rows[0][0]), Picture(*rows[0][1:])) if rows else None

    def move(self, id: int, path: str, size: int, mtime_ns: int) -> None:
        """Give a row another path, in place of any row that has it; inside `writing` only."""
        names = _names(path)
        self._db.execute("DELETE FROM files WHERE path = ? AND id != ?", (os.fsencode(path), id))
        self._db.execute(
            "UPDATE files SET path = ?, folder = ?, name = ?, size = ?, mtime_ns = ? WHERE id = ?",
            (os.fsencode(path), names["folder"], names["name"], size, mtime_ns, id),
        )

    def remove(self, id: int, path: str) -> int:
        """Forget a file, unless its row has moved to another path; inside `writing` only. How many went."""
        return self._db.execute("DELETE FROM files WHERE id = ? AND path = ?", (id, os.fsencode(path))).rowcount


def empty_index() -> PictureIndexError:
    return PictureIndexError("no pictures are indexed yet; index a folder with `bahu index FOLDER`")


def _names(path: str) -> dict[str, str]:
    folder, name = os.path.split(path)
    return {"folder": text_of(folder), "name": text_of(name)}


def _reason(message: str) -> str | None:
    """What to tell the user about an SQLite message, or None when the fault is ours."""
    table = {
        "disk is full": "could not be written: the disk is full. Free some space and run the same command "
        "again; finished batches are kept",
        "not a database": "is not a picture index; give another file with --db",
        "malformed": "is damaged; move it away and run `bahu index` again, the pictures are untouched",
        "unable to open": "cannot be opened; check that its folder exists and can be written, or give "
        "another file with --db",
        "readonly": "cannot be written: no permission; give another file with --db",
        "locked": f"has been busy with another process for {BUSY_SECONDS:.0f} seconds; try again later",
        "disk I/O error": "could not be read or written: the disk reports an error",
    }
    return next((reason for part, reason in table.items() if part in message), None)
