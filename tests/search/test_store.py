"""The ledger file: its schema, its state token, and what a damaged, foreign or full one says."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from bahumukha.errors import ModelMismatch, PictureIndexError
from bahumukha.search.paths import under
from bahumukha.search.schema import APPLICATION_ID, MIGRATIONS
from bahumukha.search.store import Ledger, Picture, Root

PICTURE = Picture(content=b"c" * 32, width=4, height=3, dhash=b"d" * 16, embedding=b"\0\1" * 8)


def put(ledger: Ledger, path: str, picture: Picture = PICTURE) -> None:
    with ledger.writing():
        ledger.put(path, 10, 20, picture)


def test_reopening_keeps_everything(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "index.db"
    with Ledger(path, create=True) as ledger:
        put(ledger, "/a/b.png")
        with ledger.writing():
            ledger.put_root(Root("/a", 1, 2, complete=True))
    with Ledger(path) as ledger:
        assert list(ledger.rows_within(["/a"])) == ["/a/b.png"]
        assert ledger.roots() == [Root("/a", 1, 2, complete=True)]
        assert ledger.covers("/a/deeper") and not ledger.covers("/ab")
        assert ledger.select("PRAGMA user_version") == [(len(MIGRATIONS),)]
        assert ledger.select("PRAGMA application_id") == [(APPLICATION_ID,)]
        assert ledger.select("PRAGMA journal_mode") == [("wal",)]


def test_state_changes_with_embeddings_and_with_nothing_else(tmp_path: Path) -> None:
    with Ledger(tmp_path / "index.db", create=True) as ledger:
        states = [ledger.state]
        put(ledger, "/a.png")
        states.append(ledger.state)
        id = ledger.rows_within([])["/a.png"].id
        with ledger.writing():
            ledger.move(id, "/b.png", 10, 21)
        put(ledger, "/b.png")  # the same again
        put(ledger, "/broken.png", Picture(error="broken"))
        assert ledger.state == states[-1]
        put(ledger, "/b.png", Picture(content=b"x" * 32, embedding=b"\2\3" * 8))
        states.append(ledger.state)
        with ledger.writing():
            assert ledger.remove(id, "/b.png") == 1
        states.append(ledger.state)
        assert len(set(states)) == 4


def test_put_keeps_one_row_a_path_and_move_replaces(tmp_path: Path) -> None:
    with Ledger(tmp_path / "index.db", create=True) as ledger:
        for path in ("/a.png", "/b.png", "/a.png"):
            put(ledger, path)
        rows = ledger.rows_within([])
        assert sorted(rows) == ["/a.png", "/b.png"]
        with ledger.writing():
            ledger.move(rows["/a.png"].id, "/b.png", 1, 2)
            assert ledger.remove(rows["/a.png"].id, "/a.png") == 0, "a row that moved must not be removed"
        assert {path: row.id for path, row in ledger.rows_within([]).items()} == {"/b.png": rows["/a.png"].id}


def test_within_takes_whole_names_of_folders(tmp_path: Path) -> None:
    paths = ["/p/cat/1.png", "/p/cat.png", "/p/cat2/1.png", "/p/cat", os.fsdecode(b"/p/cat/\xff.png")]
    with Ledger(tmp_path / "index.db", create=True) as ledger:
        for path in paths:
            put(ledger, path)
        found = set(ledger.rows_within(["/p/cat"]))
        assert found == {path for path in paths if under(path, "/p/cat")} == {paths[0], paths[3], paths[4]}
        assert set(ledger.rows_within(["/"])) == set(paths)


def test_raising_rolls_back(tmp_path: Path) -> None:
    with Ledger(tmp_path / "index.db", create=True) as ledger:
        with pytest.raises(RuntimeError), ledger.writing():
            ledger.put("/a.png", 1, 2, PICTURE)
            raise RuntimeError
        assert ledger.rows_within([]) == {}


def test_model_is_bound_once(tmp_path: Path) -> None:
    with Ledger(tmp_path / "index.db", create=True) as ledger:
        ledger.require_model("any", "f0")
        with ledger.writing():
            ledger.claim_model("one", "f1")
        assert ledger.model == "one"
        with pytest.raises(ModelMismatch, match="made with one .*--model two --rebuild"):
            ledger.require_model("two", "f2")


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(PictureIndexError) as error:
        Ledger(tmp_path / "index.db")
    assert "bahu index FOLDER" in one_line(error)
    assert not (tmp_path / "index.db").exists()


def test_not_a_database(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    path.write_bytes(b"a letter to my aunt, of more than a hundred bytes " * 40)
    with pytest.raises(PictureIndexError, match="not a picture index"):
        Ledger(path, create=True)
    assert path.read_bytes().startswith(b"a letter")


def test_someone_elses_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE visits (url)")
    other.close()
    with pytest.raises(PictureIndexError, match="not a picture index"):
        Ledger(path, create=True)
    other = sqlite3.connect(path)
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("visits",)]
    other.close()


def test_newer_schema(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    Ledger(path, create=True).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(PictureIndexError, match="newer version"):
        Ledger(path)


def test_damaged(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    with Ledger(path, create=True) as ledger:
        for i in range(500):
            put(ledger, f"/{i}.png")
        ledger.select("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    with (
        pytest.raises(PictureIndexError, match="damaged|not a picture index") as error,
        Ledger(path) as ledger,
    ):
        ledger.rows_within([])
    assert str(path) in one_line(error)


def test_full_disk(tmp_path: Path) -> None:
    with Ledger(tmp_path / "index.db", create=True) as ledger:
        put(ledger, "/kept.png")
        pages = ledger.select("PRAGMA page_count")[0][0]
        ledger.select(f"PRAGMA max_page_count = {pages}")  # SQLite's own way to a full disk
        with pytest.raises(PictureIndexError, match="disk is full") as error, ledger.writing():
            for i in range(2000):
                ledger.put(f"/{i}.png", 1, 2, PICTURE)
        assert "finished batches are kept" in one_line(error)
        assert list(ledger.rows_within([])) == ["/kept.png"]


def test_folder_in_the_ledgers_place(tmp_path: Path) -> None:
    with pytest.raises(PictureIndexError, match="cannot be opened"):
        Ledger(tmp_path, create=True)


def test_faults_of_ours_keep_their_traceback(tmp_path: Path) -> None:
    with Ledger(tmp_path / "index.db", create=True) as ledger, pytest.raises(sqlite3.OperationalError):
        ledger.select("SELECT nothing FROM nowhere")
