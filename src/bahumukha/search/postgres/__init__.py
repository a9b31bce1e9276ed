"""The store that many machines share: the ledger's tables in PostgreSQL, its embeddings in pgvector's `halfvec`.

The server keeps what it has acknowledged (write-ahead log, flushed at each commit). One transaction writes at a time,
as in SQLite: batches are short, and two that put the same paths in another order would wait for each other for ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import psycopg
from psycopg.pq import TransactionStatus

from bahumukha.errors import PictureIndexError
from bahumukha.search.paths import fold
from bahumukha.search.postgres.connection import Half, adapt, connect, plain_errors, shown
from bahumukha.search.postgres.schema import MIGRATIONS, SCHEMA
from bahumukha.search.records import Picture, Store, empty_index

WRITING = 0x42414855  # "BAHU": the advisory lock that a writer holds
_FOLD = re.compile(r"\bfold\((\w+)\)")


def is_made(url: str) -> bool:
    """Whether there is an index. Raises PictureIndexError where the server cannot be asked."""
    with plain_errors(shown(url)), connect(url) as connection:
        return _version(connection) > 0


class PostgresStore(Store):
    """The store in a database of a PostgreSQL server, in a schema of its own."""

    option = "--store"

    def __init__(self, url: str, *, create: bool = False) -> None:
        """Connect, and bring the tables to this version.

        Raises PictureIndexError when the server does not answer, lacks pgvector or rights, there is no index (unless
        `create`), or it is a newer version's; UsageError when `url` is none.
        """
        self.connection = connect(url)
        self.shown = shown(url)
        self._waiting: list[tuple[str, list[object]]] = []
        self._settings: dict[str, object] = {}
        try:
            with plain_errors(self.shown):
                self._prepare(create)
                adapt(self.connection)
        except BaseException:
            self.connection.close()
            raise

    def close(self) -> None:
        self.connection.close()

    def _prepare(self, create: bool) -> None:
        version = _version(self.connection)
        if not version and not create:
            raise empty_index()
        if version == len(MIGRATIONS):
            return
        with self._transaction("BEGIN"):
            self._take_turn()
            version = _version(self.connection)  # again: another process may have just done it
            if version > len(MIGRATIONS):
                raise PictureIndexError(
                    f"{self.shown} was made by a newer version of Bahumukha; update it, or give another --store"
                )
            if not version:
                self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}".encode())
                self.connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
            for step in MIGRATIONS[version:]:
                self.connection.execute(step.encode())
            self.connection.execute(
                "INSERT INTO facts VALUES ('version', %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (str(len(MIGRATIONS)),),
            )

    # -- transactions ------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._transaction("BEGIN"):
            self._take_turn()
            yield
            self._flush()
            self.connection.execute("UPDATE facts SET value = gen_random_uuid()::text WHERE name = 'state'")

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"):
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with plain_errors(self.shown):
            self.connection.execute(begin.encode())
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                self._waiting.clear()
                if self.connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                    self.connection.execute("ROLLBACK")
                raise

    def _take_turn(self) -> None:
        self.connection.execute("SELECT pg_advisory_xact_lock(%s)", (WRITING,))

    # -- statements --------------------------------------------------------------------------------------------

    def select(self, sql: str, values: Sequence[object] = ()) -> list[tuple]:
        with plain_errors(self.shown):
            self._flush()
            return self.connection.execute(in_postgres(sql), storable(values), binary=True).fetchall()

    def _run(self, sql: str, values: Sequence[object] = ()) -> int:
        with plain_errors(self.shown):
            self._flush()
            return self.connection.execute(in_postgres(sql), storable(values)).rowcount

    def set(self, settings: Mapping[str, object]) -> None:
        """Set what the server shall do otherwise on this connection."""
        changed = {name: value for name, value in settings.items() if self._settings.get(name) != value}
        for name, value in changed.items():
            self.connection.execute("SELECT set_config(%s, %s, FALSE)", (name, str(value)))
            self._settings[name] = value

    def try_lock(self, number: int) -> bool:
        """Take an advisory lock until `unlock`, or the end of the connection; False where another has it."""
        return bool(self.select("SELECT pg_try_advisory_lock(?)", (number,))[0][0])

    def unlock(self, number: int) -> None:
        self.select("SELECT pg_advisory_unlock(?)", (number,))

    def _put(self, sql: str, values: Sequence[object]) -> None:
        """The rows of a batch go to the server together."""
        if self._waiting and self._waiting[0][0] != sql:
            self._flush()
        self._waiting.append((sql, storable(values)))

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            with self.connection.cursor() as cursor:
                cursor.executemany(in_postgres(waiting[0][0]), [values for _, values in waiting])

    def _names(self, path: str) -> dict[str, object]:
        return _with_folded(super()._names(path), "folder", "name")

    def _row_of(self, path: str, picture: Picture) -> dict[str, object]:
        row = _with_folded(super()._row_of(path, picture), "camera", "format")
        if picture.embedding is not None:
            row["embedding"] = Half(picture.embedding)
        return row


def _with_folded(row: dict[str, object], *names: str) -> dict[str, object]:
    return row | {f"{name}_folded": fold(_text(row[name])) for name in names}


def _text(value: object) -> str | None:
    assert value is None or isinstance(value, str)
    return value


def _version(connection: psycopg.Connection[tuple]) -> int:
    """Of the tables; 0 where there are none."""
    # Not `to_regclass`: within a transaction it may remember that there was none.
    known = connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename = 'facts'", (SCHEMA,))
    if known.fetchone() is None:
        return 0
    found = connection.execute(f"SELECT value FROM {SCHEMA}.facts WHERE name = 'version'".encode()).fetchone()
    return int(found[0]) if found else 0


def in_postgres(sql: str) -> bytes:
    """The stores' SQL in PostgreSQL's words; what is folded stands in columns of its own."""
    return _FOLD.sub(r"\1_folded", sql).replace("?", "%s").encode()


def storable(values: Sequence[object]) -> list[object]:
    """PostgreSQL's text holds no NUL, which a camera's name in a damaged file may have."""
    return [value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in values]
