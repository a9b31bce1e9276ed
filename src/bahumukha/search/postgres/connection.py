"""A connection to PostgreSQL: embeddings as the bytes that they are elsewhere, and faults as one line.

pgvector sends a `halfvec` as its length, two bytes of nothing, and the numbers in float16, all big endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
from psycopg import errors
from psycopg.adapt import Dumper, Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Format

from bahumukha.errors import PictureIndexError, UsageError
from bahumukha.search.postgres.schema import SCHEMA

CONNECT_SECONDS = 10
BUSY_SECONDS = 30
_HEAD = struct.Struct(">HH")


class Half:
    """An embedding on its way into the database: float16, little endian."""

    def __init__(self, data: bytes) -> None:
        self.data = data


def connect(url: str) -> psycopg.Connection[tuple]:
    """Raises UsageError for a URL that is none, PictureIndexError where no server answers."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise UsageError(
            "--store: that is no URL of a PostgreSQL database; it is written postgresql://USER@HOST:5432/DATABASE"
        ) from error
    given.setdefault("connect_timeout", CONNECT_SECONDS)
    given.setdefault("application_name", "bahu")
    with plain_errors(shown(url)):
        connection: psycopg.Connection[tuple] = psycopg.connect(**given, autocommit=True, prepare_threshold=None)  # type: ignore[arg-type]
        try:
            connection.execute(f"SET search_path = {SCHEMA}, public; SET lock_timeout = '{BUSY_SECONDS}s'")
        except BaseException:
            connection.close()
            raise
    return connection


def shown(url: str) -> str:
    """How messages name the server: without user and password."""
    given = conninfo_to_dict(url)
    host = str(given.get("host") or "localhost")
    port = f":{given['port']}" if given.get("port") else ""
    return f"postgresql://{host}{port}/{given.get('dbname') or given.get('user') or ''}"


def adapt(connection: psycopg.Connection[tuple]) -> None:
    """Let embeddings go in as `Half` and come out as bytes; pgvector must be there."""
    found = connection.execute("SELECT to_regtype('halfvec')::oid").fetchone()
    assert found is not None
    number = int(found[0])

    class HalfDumper(Dumper):
        format = Format.BINARY
        oid = number

        def dump(self, obj: Half) -> bytes:
            numbers = np.frombuffer(obj.data, "<f2")
            return _HEAD.pack(len(numbers), 0) + numbers.astype(">f2").tobytes()

    connection.adapters.register_dumper(Half, HalfDumper)
    connection.adapters.register_loader(number, HalfLoader)


class HalfLoader(Loader):
    """`halfvec` -> float16, little endian."""

    format = Format.BINARY

    def load(self, data: Any) -> bytes:
        return np.frombuffer(data, ">f2", offset=_HEAD.size).astype("<f2").tobytes()


@contextmanager
def plain_errors(name: str) -> Iterator[None]:
    """Turn faults of the server, of its rights and of the way to it, not of our statements, into PictureIndexError."""
    try:
        yield
    except psycopg.Error as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise PictureIndexError(f"the index {name} {reason}") from error


def _reason(error: psycopg.Error) -> str | None:
    """What to tell the user, or None when the fault is ours."""
    said = " ".join((error.diag.message_primary or str(error)).split())
    if isinstance(error, errors.LockNotAvailable):
        return f"has been busy with another process for {BUSY_SECONDS} seconds; try again later"
    if isinstance(error, errors.DiskFull):
        return (
            "could not be written: its disk is full. Free some space and run the same command again; finished "
            "batches are kept"
        )
    if isinstance(error, (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction)):
        return f"does not allow that ({said}); give --store a user who may write, and may create the schema {SCHEMA}"
    if isinstance(error, (errors.UndefinedFile, errors.FeatureNotSupported)) and "extension" in said:
        return "has no pgvector, which holds the embeddings; install it there (its image pgvector/pgvector has it)"
    if isinstance(error, errors.ProgramLimitExceeded):
        return f"cannot hold that: {said}"
    if isinstance(error, psycopg.OperationalError):
        return f"cannot be reached ({said[:200]}); check --store, and that the server runs"
    return None
