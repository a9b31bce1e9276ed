"""The ledger: one SQLite file that knows every indexed picture, so that what it holds need not be embedded again.

All writes are short transactions in WAL mode, so two processes may index at once while others search, and a
kill -9 loses at most the batch that was not yet committed. `state` changes with every change of an embedding, by
trigger, which lets files derived from the ledger (`vectors.py`) know whether they are still true.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bahumukha.errors import PictureIndexError
from bahumukha.search.paths import fold
from bahumukha.search.records import Picture, Root, Row, Store, empty_index
from bahumukha.search.schema import APPLICATION_ID, MIGRATIONS, statements

__all__ = ["Ledger", "Picture", "Root", "Row"]

BUSY_SECONDS = 30.0


class Ledger(Store):
    """The store in a file of this machine."""

    option = "--db"

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open the ledger at `path`, migrating it to this version's schema.

        Raises PictureIndexError when the file is missing (unless `create`), damaged, foreign or newer.
        """
        self.path = Path(path)
        self.shown = str(path)
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
        """All rows of one question."""
        with self.plain_errors():
            return self._db.execute(sql, values).fetchall()

    def _run(self, sql: str, values: Sequence[object] = ()) -> int:
        return self._db.execute(sql, values).rowcount


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
