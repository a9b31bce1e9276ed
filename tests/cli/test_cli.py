from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer

from bahumukha import __version__, cli
from bahumukha.cli.classify import spread_labels
from bahumukha.errors import Interrupted, ModelError
from tests.tiny_models import make_clip_folder

# --- bahu


def test_version_and_help(bahu: Any) -> None:
    assert bahu("--version").out == f"bahu {__version__}\n"
    assert "classify" in bahu("--help").out
    assert bahu("-h").code == 0


def walk(command: Any, words: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found = [(words, command)]
    for name, child in getattr(command, "commands", {}).items():
        found += walk(child, (*words, name))
    return found


def test_every_command_has_help_and_examples(bahu: Any) -> None:
    for words, command in walk(typer.main.get_command(cli.commands())):
        ran = bahu(*words, "--help")
        assert ran.code == 0, words
        if not hasattr(command, "commands"):
            assert command.help, words
            assert "bahu " + " ".join(words) in (command.epilog or ""), f"{words} has no example"


def test_wrong_usage_exits_2(bahu: Any) -> None:
    assert bahu("classify").code == 2
    assert bahu("nosuchcommand").code == 2
    assert bahu("classify", "x.png", "--label", "a", "--top", "0").code == 2


@pytest.mark.parametrize("words", [(), ("--help",), ("classify", "--help"), ("models", "--help")])
def test_help_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    script = (
        "import sys\nfrom bahumukha.cli import main\n"
        f"try: main({list(words)!r})\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'onnxruntime', 'numpy', 'PIL', 'tokenizers', 'usearch', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ModelError("two\nlines"), 1, "bahu: two lines\n"),
        (Interrupted("stopped; 3 pictures are kept"), 130, "bahu: stopped; 3 pictures are kept\n"),
        (KeyboardInterrupt(), 130, "bahu: stopped\n"),
    ],
)
def test_errors_are_one_line(
    bahu: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("bahumukha.zoo.folder.available", fail)
    ran = bahu("models", "list")
    assert (ran.code, ran.out, ran.err) == (code, "", line)


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bahumukha.zoo.folder.available", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["models", "list"])


# --- bahu classify


def test_json_is_one_object_a_picture_best_first(bahu: Any, coloured_pictures: Path, tiny_clip: Path) -> None:
    ran = bahu("classify", coloured_pictures, "--label", "a cat", "--label", "పిల్లి", "--model", tiny_clip, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert [Path(each["path"]).name for each in ran.objects] == ["blue.jpg", "green.png", "red.png"]
    for each in ran.objects:
        assert list(each) == ["path", "labels"]
        assert {label["label"] for label in each["labels"]} == {"a cat", "పిల్లి"}
        chances = [label["probability"] for label in each["labels"]]
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) == pytest.approx(1, abs=1e-5)
    assert "పిల్లి" in ran.out, "text stays readable"


def test_people_get_bars_and_percents(bahu: Any, coloured_pictures: Path, tiny_clip: Path) -> None:
    picture = coloured_pictures.parent / "[bold]red :smile:.png"
    shutil.copy(coloured_pictures / "red.png", picture)
    ran = bahu("classify", picture, "--label", "x", "--label", "[/y]", "--top", 1, "--model", tiny_clip)
    name, line = ran.out.splitlines()
    assert name == str(picture)
    assert "%" in line and "█" in line


def test_labels_come_from_a_file_and_from_several_words(
    bahu: Any, coloured_pictures: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("\ufeff# animals\n\n cat \ndog\ncat\n", encoding="utf-8")
    red = coloured_pictures / "red.png"
    ran = bahu("classify", "--label", "a bear", "bat", red, "--labels", file, "--model", tiny_clip, "--json")
    assert {label["label"] for label in ran.objects[0]["labels"]} == {"cat", "dog", "a bear", "bat"}
    assert ran.err == "bahu: labels given more than once count once: cat\n"


@pytest.mark.parametrize(
    ("given", "spread"),
    [
        (["p", "--label", "a", "b", "c"], ["p", "--label", "a", "--label", "b", "--label", "c"]),
        (["--label", "a", "p.jpg", "q"], ["--label", "a", "p.jpg", "q"]),
        (["--label", "a", "dir/q"], ["--label", "a", "dir/q"]),
        (["--label", "a.jpg", "b"], ["--label", "a.jpg", "--label", "b"]),
        (["--label=a", "b", "--json", "c"], ["--label=a", "--label", "b", "--json", "c"]),
        (["--label", "--label", "b"], ["--label", "--label", "--label", "b"]),
        (["--label", "a", "--", "b"], ["--label", "a", "--", "b"]),
        (["p", "--label", "a", "-"], ["p", "--label", "a", "-"]),
        (["--labels", "a", "b"], ["--labels", "a", "b"]),
    ],
)
def test_words_after_a_label_are_labels_unless_they_look_like_paths(given: list[str], spread: list[str]) -> None:
    assert spread_labels(given) == spread


def test_a_word_that_exists_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert spread_labels(["--label", "a", "cats"]) == ["--label", "a", "--label", "cats"]
    (tmp_path / "cats").mkdir()
    assert spread_labels(["--label", "a", "cats"]) == ["--label", "a", "cats"]


def test_one_label_is_allowed_but_noted(bahu: Any, coloured_pictures: Path, tiny_clip: Path) -> None:
    ran = bahu("classify", coloured_pictures, "--label", "cat", "--model", tiny_clip, "--json")
    assert ran.code == 0
    assert "'cat' gets 100%" in ran.err
    assert [each["labels"][0]["probability"] for each in ran.objects] == [1.0, 1.0, 1.0]


def test_a_bad_picture_is_named_and_the_rest_goes_on(bahu: Any, coloured_pictures: Path, tiny_clip: Path) -> None:
    (coloured_pictures / "bad.png").write_bytes(b"no picture")
    options = ("--label", "a", "--label", "b", "--model", tiny_clip, "--json")
    ran = bahu("classify", coloured_pictures, coloured_pictures / "red.png", "nowhere", *options)
    assert ran.code == 0
    assert len(ran.objects) == 3, "a picture given twice is classified once"
    assert [line.split(":")[0] for line in ran.err.splitlines()] == ["bahu", "bahu"]
    assert "bad.png" in ran.err and "nowhere" in ran.err

    ran = bahu("classify", coloured_pictures / "bad.png", *options)
    assert (ran.code, ran.out) == (1, "")
    assert bahu("classify", "nowhere", *options).code == 1


def test_paths_come_from_standard_input(
    bahu: Any, coloured_pictures: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = "".join(f"{coloured_pictures / name}\n" for name in ("red.png", "blue.jpg"))
    name = b"caf\xe9 \xe2\x80\xa8.png"  # not UTF-8, and two lines to Python, not to `find`
    odd = os.fsencode(coloured_pictures) + b"/" + name
    shutil.copy(coloured_pictures / "red.png", odd)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(paths.encode() + odd), encoding="utf-8"))
    ran = bahu("classify", "-", "--label", "a", "--label", "b", "--model", tiny_clip, "--json")
    assert [os.fsencode(Path(each["path"]).name) for each in ran.objects] == [b"red.png", b"blue.jpg", name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no labels; give --label TEXT"),
        (["--label", " "], "--label is empty"),
        (["--labels", "no.txt"], "--labels no.txt: cannot be read"),
        (["--label", "a", "--template", "a photo"], "--template 'a photo' has no {}"),
        (["--label", "a", "--model", "nosuch"], "no model 'nosuch'; available:"),
    ],
)
def test_mistakes_are_one_line(bahu: Any, coloured_pictures: Path, options: list[str], message: str) -> None:
    ran = bahu("classify", coloured_pictures, *options)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines()[-1].startswith(f"bahu: {message}")


def test_a_folder_without_pictures_is_an_error(bahu: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = bahu("classify", tmp_path / "empty", "--label", "a", "--label", "b")
    assert (ran.code, ran.err) == (1, "bahu: no pictures to classify in the folders given\n")


@pytest.mark.skipif(sys.platform == "win32", reason="needs names that are not text")
def test_a_name_that_is_not_text_can_be_printed(bahu: Any, coloured_pictures: Path, tiny_clip: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(coloured_pictures) + b"/\xff.png"))
    (coloured_pictures / "red.png").rename(odd)
    options = ("--label", "a", "--label", "b", "--model", tiny_clip)
    assert bahu("classify", odd, *options).code == 0
    assert bahu("classify", odd, *options, "--json").objects[0]["path"] == str(odd)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_gives_one_line_and_130(tmp_path: Path, tiny_clip: Path) -> None:
    script = (
        "import signal, sys, time\n"
        # A test runner in a shell's background hands down an ignored SIGINT, which Python would leave ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import bahumukha.images as images\n"
        "def slow(*_, **__):\n    sys.stdout.write('loading\\n'); sys.stdout.flush()\n"
        "    time.sleep(0.5)\n    return original(*_, **__)\n"
        "original, images.open_image = images.open_image, slow\n"
        "from bahumukha.cli import main\nmain(sys.argv[1:])"
    )
    from PIL import Image

    for number in range(60):
        Image.new("RGB", (9, 9)).save(tmp_path / f"{number:02}.png")
    command = ["classify", str(tmp_path), "--label", "a", "--label", "b", "--model", str(tiny_clip)]
    with subprocess.Popen(
        [sys.executable, "-c", script, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        time.sleep(0.1)
        begin = time.perf_counter()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "bahu: stopped\n")
    assert time.perf_counter() - begin < 5, "60 pictures take 15 s"


# --- bahu models


def test_models_are_listed_and_shown(bahu: Any, data_home: Path) -> None:
    folder = make_clip_folder(data_home / "models/mine")
    broken = make_clip_folder(data_home / "models/broken", format=9)
    ran = bahu("models", "list", "--json")
    assert ran.code == 0
    assert str(broken) in ran.err
    mine = next(each for each in ran.objects if each["name"] == "mine")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert mine == {
        "name": "mine",
        "kind": "clip",
        "bytes": size,
        "licence": "CC0-1.0",
        "summary": "Random weights.",
    }
    assert "mine" in bahu("models", "list").out

    shown = bahu("models", "show", "mine", "--json").objects
    assert shown == [mine | {"folder": str(folder), "details": {"data": "none"}, "card": "# Tiny\n\nFor tests."}]
    assert "Random weights." in bahu("models", "show", folder).out


def test_an_unknown_model_is_one_line(bahu: Any) -> None:
    ran = bahu("models", "show", "nosuch")
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
