"""The ledger's tables, version by version: the one place where they change."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

APPLICATION_ID = 0x42414855  # "BAHU": tells our files from any other SQLite file

_SCHEMA_1 = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE roots (path BLOB PRIMARY KEY, device INTEGER, inode INTEGER, complete INTEGER NOT NULL);
CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE,
    folder TEXT NOT NULL,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    content BLOB,
    error TEXT,
    width INTEGER, height INTEGER, format TEXT,
    taken TEXT, camera TEXT, latitude REAL, longitude REAL,
    dhash BLOB,
    embedding BLOB
);
CREATE INDEX files_by_size ON files (size);
CREATE INDEX files_by_content ON files (content);
INSERT INTO facts VALUES ('state', lower(hex(randomblob(8))));
CREATE TRIGGER state_insert AFTER INSERT ON files WHEN new.embedding IS NOT NULL
    BEGIN UPDATE facts SET value = lower(hex(randomblob(8))) WHERE name = 'state'; END;
CREATE TRIGGER state_delete AFTER DELETE ON files WHEN old.embedding IS NOT NULL
    BEGIN UPDATE facts SET value = lower(hex(randomblob(8))) WHERE name = 'state'; END;
CREATE TRIGGER state_update AFTER UPDATE OF id, embedding ON files WHEN new.embedding IS NOT old.embedding
    BEGIN UPDATE facts SET value = lower(hex(randomblob(8))) WHERE name = 'state'; END;
"""
MIGRATIONS: tuple[str, ...] = (_SCHEMA_1,)
"""`MIGRATIONS[v]` takes a ledger from version v to v + 1. Entries are added, never edited."""


def statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: `executescript` would commit the transaction it stands in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
