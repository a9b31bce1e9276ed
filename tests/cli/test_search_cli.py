"""`bahu index`, `search`, `similar`, `duplicates` as a user and a script meet them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from bahumukha import zoo
from bahumukha.cli import search as search_cli
from bahumukha.errors import BahumukhaError, ModelMismatch, PictureIndexError, UsageError
from bahumukha.zoo.fake import ColourEncoder
from tests.search.pictures import draw, fill


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    grids = {"fine": 3}
    monkeypatch.setattr(zoo, "load", lambda name=None: ColourEncoder(grids.get(str(name), 2)))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    fill(tmp_path / "photos", 16)
    return tmp_path / "photos"


def bahu(*arguments: object) -> Result:
    app = typer.Typer()
    search_cli.register(app)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def lines(result: Result) -> list[dict]:
    assert result.exit_code == 0, result.exception
    return [json.loads(line) for line in result.stdout.splitlines()]


def names(result: Result) -> list[str]:
    return [os.path.basename(line["path"]) for line in lines(result)]


def test_index_reports_as_designed(photos: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"no")
    result = bahu("index", photos, "--json")
    (report,) = lines(result)
    assert list(report) == ["added", "updated", "moved", "removed", "unchanged", "failed", "seconds"]
    assert report["added"] == 16 and report["failed"][0]["path"] == str(photos / "bad.jpg")
    assert result.stderr.count("\n") == 1 and "bad.jpg" in result.stderr
    assert "16 unchanged, 1 failed" in bahu("index", photos).stdout


def test_index_fails_when_nothing_could_be_done(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no")
    assert bahu("index", tmp_path, "--db", tmp_path / "i.db").exit_code == 1


def test_forget_a_folder_that_is_gone(photos: Path) -> None:
    bahu("index", photos)
    photos.rename(photos.parent / "renamed")
    gone = bahu("search", "blue", "--top", 3)
    assert "--forget" in gone.stderr and gone.stdout == ""
    assert f"bahu index {photos} --forget" in bahu("index", photos).stderr
    (report,) = lines(bahu("index", photos, "--forget", "--json"))
    assert report["removed"] == 16 and report["failed"] == []
    again = bahu("index", photos, "--forget")
    assert again.exit_code == 0 and "no picture" in again.stderr
    assert isinstance(bahu("index", photos, "--forget", "--rebuild").exception, UsageError)


def test_what_is_wrong_is_said_before_a_folder_is_indexed(photos: Path) -> None:
    for wrong in (
        ("search", "blue", photos, "--top", 0),
        ("search", "blue", photos, "--cutoff", "nan"),
        ("similar", photos / "green-001.png", photos, "--top", 0),
        ("similar", photos / "none.png", photos),
    ):
        assert isinstance(bahu(*wrong).exception, UsageError)
    assert "16 added" in bahu("index", photos).stdout, "nothing was indexed by them"


def test_a_folder_that_never_was_is_not_taken_for_one_that_is_gone(photos: Path) -> None:
    bahu("index", photos)
    wrong = bahu("index", photos / "typo")
    assert isinstance(wrong.exception, UsageError) and "no such file or folder" in str(wrong.exception)
    for path in (photos / "sub").iterdir():
        path.unlink()
    (photos / "sub").rmdir()
    assert bahu("index", photos / "sub").exit_code == 0, "one that was"


def test_search_on_a_new_folder_indexes_it_once_and_never_rescans(photos: Path) -> None:
    (first, *_) = lines(bahu("search", "blue", photos, "--top", 1, "--json"))
    assert first == {"rank": 1, "path": first["path"], "score": first["score"]}
    assert os.path.basename(first["path"]).startswith("blue")
    draw("blue", 444).save(photos / "new.png")
    assert "new.png" not in names(bahu("search", "blue", photos, "--top", 100, "--json"))
    assert len(names(bahu("search", "blue", photos / "sub", "--top", 100, "--json"))) == 6
    bahu("index", photos)
    assert "new.png" in names(bahu("search", "blue", "--top", 100, "--json"))


def test_plus_minus_where_cutoff(photos: Path) -> None:
    bahu("index", photos)
    given = (
        "--plus",
        "0.5:red",
        "--minus",
        "green",
        "--where",
        "not name ~ purple",
        "--cutoff",
        "0.5",
        "--json",
    )
    found = names(bahu("search", "blue", *given))
    assert found and not any(name.startswith(("purple", "green")) for name in found)
    assert len(names(bahu("search", "green", "--cutoff", "auto", "--json"))) == 2
    nothing = bahu("search", "blue", "--cutoff", "1.5", "--json")
    assert lines(nothing) == [] and "nothing stands out" in nothing.stderr


def test_folder_in_the_querys_place_with_an_image(photos: Path, tmp_path: Path) -> None:
    draw("red", 9).save(tmp_path / "q.png")
    found = names(bahu("search", photos, "--image", tmp_path / "q.png", "--top", 2, "--json"))
    assert [name[:3] for name in found] == ["red", "red"]


def test_sheet(photos: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "out.png"
    assert bahu("search", "blue", photos, "--top", 5, "--sheet", sheet).exit_code == 0
    with Image.open(sheet) as image:
        assert image.format == "PNG" and min(image.size) > 100
    for wrong in (tmp_path / "out.txt", tmp_path / "no" / "out.png", sheet / "no" / "out.png"):
        assert isinstance(bahu("search", "blue", "--sheet", wrong).exception, UsageError)


def test_similar_and_duplicates(photos: Path) -> None:
    shutil.copy(photos / "green-001.png", photos / "copy.png")
    found = names(bahu("similar", photos / "green-001.png", photos, "--top", 2, "--json"))
    assert found[0] == "copy.png" and found[1].startswith("green")
    (group,) = lines(bahu("duplicates", photos, "--near", "--json"))
    paths = [str(photos / "copy.png"), str(photos / "green-001.png")]
    assert group == {"kind": "exact", "paths": paths, "similarity": 1.0}
    assert "exact, 2 files" in bahu("duplicates", photos).stdout


def test_plain_output_has_whole_paths_and_takes_odd_names(photos: Path) -> None:
    odd = os.fsdecode(bytes(photos) + b"/" + b"long" * 30 + b"\xff.png")
    draw("pink", 5).save(odd, "PNG")
    line = bahu("search", "pink", photos, "--top", 1).stdout.splitlines()[0]
    assert line.split("\t")[0] == "1" and "long" * 30 in line and line.endswith("\ufffd.png")
    assert lines(bahu("search", "pink", "--top", 1, "--json"))[0]["path"] == odd


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["search", "red"], PictureIndexError, "bahu index FOLDER"),
        (["search"], UsageError, "nothing to search for"),
        (["search", "red", "nowhere"], UsageError, "nowhere"),
        (["search", "red", "--where", "size = 3"], UsageError, "'size'"),
        (["search", "red", "--cutoff", "high"], UsageError, "auto"),
        (["search", "red", "--image", "nowhere.png"], UsageError, "nowhere.png"),
        (["index", "nowhere"], UsageError, "nowhere"),
        (["similar", "nowhere.png"], PictureIndexError, "bahu index|nowhere"),
    ],
)
def test_errors_are_the_users_and_one_line(
    arguments: list[str],
    kind: type[BahumukhaError],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    error = bahu(*arguments).exception
    assert isinstance(error, (kind, UsageError)) and "\n" not in str(error)
    with pytest.raises(type(error), match=message):
        raise error


def test_other_model_and_rebuild(photos: Path) -> None:
    bahu("index", photos)
    refused = bahu("index", photos, "--model", "fine")
    assert isinstance(refused.exception, ModelMismatch) and "--rebuild" in str(refused.exception)
    assert lines(bahu("index", photos, "--model", "fine", "--rebuild", "--json"))[0]["updated"] == 16


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, typer; from bahumukha.cli import search; app = typer.Typer(); search.register(app)\n"
        "try: app(['search', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'onnxruntime', 'torch', 'PIL', 'usearch', 'sqlite3'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--cutoff" in done.stdout


def test_engine_and_address_are_checked_before_anything_is_opened(photos: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "i.db"
    wrong = bahu("index", photos, "--db", ledger, "--engine", "spark")
    assert isinstance(wrong.exception, UsageError) and "local or ray" in str(wrong.exception)
    wrong = bahu("index", photos, "--db", ledger, "--address", "auto")
    assert isinstance(wrong.exception, UsageError) and "--engine ray" in str(wrong.exception)
    assert not ledger.exists()


def test_a_store_is_named_by_option_or_environment(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = bahu("search", "red", "--db", tmp_path / "index.db", "--store", "postgresql://h/d")
    assert isinstance(both.exception, UsageError) and "give one of them" in str(both.exception)
    monkeypatch.setenv("BAHUMUKHA_STORE", "mysql://u:secret@h/d")
    for command in (["search", "red"], ["index", photos], ["similar", photos / "red-000.png"], ["duplicates", photos]):
        wrong = bahu(*command)
        assert isinstance(wrong.exception, UsageError) and "secret" not in str(wrong.exception), command
        assert "postgresql://USER@HOST:5432/DATABASE" in str(wrong.exception)
    assert bahu("index", photos, "--db", tmp_path / "index.db").exit_code == 0, "what is typed goes first"


def test_a_store_without_its_package_says_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys\nsys.modules['psycopg'] = None\nfrom bahumukha.cli import main\n"
        "sys.argv = ['bahu', 'search', 'red', '--store', 'postgresql://h/d']\nmain()"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 1 and "pip install 'bahumukha[scale]'" in ran.stderr and ran.stderr.count("\n") == 1
