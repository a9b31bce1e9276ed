"""`bahu demo` at the command line, and the commands that its page names."""

from __future__ import annotations

import html
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from bahumukha.demo import Demo, shipped_photos, show
from bahumukha.errors import BahumukhaError
from bahumukha.zoo import load


def test_writes_the_page_and_says_where(tmp_path: Path, tiny_clip: Path, bahu: Any, data_home: Path) -> None:
    out = tmp_path / "shown"
    code, text, _ = bahu("demo", "--no-create", "--out", out, "--model", tiny_clip, "--no-open")
    assert code == 0
    assert str(out / "index.html") in text
    assert (out / "index.html").is_file()
    assert not data_home.exists()

    code, text, _ = bahu("demo", "--no-create", "--out", out, "--model", tiny_clip, "--json")
    [line] = text.splitlines()
    told = json.loads(line)
    assert code == 0
    assert told["photos"] == len(shipped_photos())
    assert told["page"] == str(out / "index.html")
    assert Path(told["sheet"]).is_file()
    assert told["seconds"] > 0


def test_makes_pictures_where_pytorch_is(
    tmp_path: Path, tiny_clip: Path, bahu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def make(makings: Any, folder: Path) -> Any:
        asked.append(len(makings))
        raise BahumukhaError("bahu generate: ended with 1")

    monkeypatch.setattr("bahumukha.demo.tour.make", make)
    code, out, err = bahu("demo", "--out", tmp_path / "a", "--model", tiny_clip)
    assert code == 0 and asked.pop() > 1 and "30 photographs" in out and "ended with 1; the page goes without" in err
    code, _, err = bahu("demo", "--out", tmp_path / "a", "--model", tiny_clip, "--create")
    assert code == 1 and asked.pop() > 1 and "ended with 1" in err
    for missing in ("torch", "safetensors"):
        monkeypatch.setattr("bahumukha.demo.making.find_spec", lambda name, gone=missing: None if name == gone else 1)
        code, _, err = bahu("demo", "--out", tmp_path / "b", "--model", tiny_clip)
        assert code == 0 and not asked and "pip install 'bahumukha[create]'" in err
    code, out, err = bahu("demo", "--out", tmp_path / "c", "--model", tiny_clip, "--create")
    assert (code, out) == (1, "") and err.startswith("bahu: --create: ") and not (tmp_path / "c").exists()


def test_opens_the_page_when_asked(tmp_path: Path, tiny_clip: Path, bahu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: bool(opened.append(address)))
    code, _, err = bahu("demo", "--no-create", "--out", tmp_path / "a b", "--model", tiny_clip, "--open")
    assert code == 0
    assert opened == [(tmp_path / "a b/index.html").as_uri()]
    assert "open" in err  # no browser answered


def test_refuses_a_folder_of_other_things(tmp_path: Path, tiny_clip: Path, bahu: Any) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    code, out, err = bahu("demo", "--no-create", "--out", tmp_path, "--model", tiny_clip, "--json")
    assert (code, out) == (1, "")
    assert "--out" in err
    assert len(err.splitlines()) == 1


def test_the_commands_on_the_page_give_its_results(
    tmp_path: Path, tiny_clip: Path, bahu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = show(shipped_photos()[:12], load(str(tiny_clip)), tmp_path / "out")
    monkeypatch.chdir(shown.folder)
    commands = [
        shlex.split(html.unescape(command))
        for command in re.findall(r"<pre><code>(.*?)</code></pre>", shown.page.read_text(encoding="utf-8"))
    ]
    answers = {tuple(words[1:]): _objects(bahu, words[1:]) for words in commands}
    assert len(answers) == 1 + len(shown.searches) + len(shown.similar) + 1

    for search in shown.searches:
        [found] = [found for words, found in answers.items() if words[:2] == ("search", search.query)]
        kept = [photo.name for photo, _ in search.found[: search.standing_out]]
        assert [Path(each["path"]).name for each in found] == kept
    for words, found in answers.items():
        if words[0] == "classify":
            guesses = shown.lesson if "--label" in words else shown.guesses
            told = {Path(each["path"]).name: each["labels"] for each in found}
            assert told.keys() == {guess.photo.name for guess in guesses}
            for guess in guesses:
                best = told[guess.photo.name][0]
                assert best["label"] == guess.labels[0].label
                assert best["probability"] == pytest.approx(guess.labels[0].probability, abs=1e-3)
        elif words[0] == "similar":
            [similar] = [each for each in shown.similar if f"photos/{each.photo.name}" in words]
            assert [Path(each["path"]).name for each in found] == [photo.name for photo, _ in similar.found]


def _objects(bahu: Any, words: list[str]) -> list[dict[str, Any]]:
    code, out, err = bahu(*words, "--json")
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


# --- with the starter


@pytest.fixture(scope="module")
def starter_demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return show(shipped_photos(), load(), tmp_path_factory.mktemp("starter") / "out")


EXPECTED = {
    "astronaut.jpg": "astronaut",
    "bridge-at-night.jpg": "bridge",
    "cat-ginger-tabby.jpg": "cat",
    "cat-gray-and-white.jpg": "cat",
    "cat-kitten-playing.jpg": "cat",
    "charminar.jpg": "mosque",
    "chickens.jpg": "chicken",
    "citrus-fruits.jpg": "fruit",
    "coffee-cup.jpg": "cup of coffee",
    "cow.jpg": "cow",
    "crab.jpg": "crab",
    "dandelions.jpg": "dandelion",
    "dog-german-shepherd.jpg": "dog",
    "duck.jpg": "duck",
    "eiffel-tower.jpg": "tower",
    "giant-panda.jpg": "giant panda",
    "giraffe.jpg": "giraffe",
    "hedgehog.jpg": "hedgehog",
    "honey-bee-on-flower.jpg": "bee",
    "horses.jpg": "horse",
    "kangaroo.jpg": "kangaroo",
    "kingfisher.jpg": "kingfisher",
    "machu-picchu.jpg": "mountain",
    "moose.jpg": "moose",
    "owl.jpg": "owl",
    "photographer.jpg": "photographer",
    "polar-bear.jpg": "polar bear",
    "red-panda.jpg": "red panda",
    "rocket.jpg": "rocket",
    "sheep.jpg": "sheep",
}


def test_the_starter_names_most_photographs(starter_demo: Demo) -> None:
    assert {guess.photo.name for guess in starter_demo.guesses} == EXPECTED.keys()
    wrong = {
        guess.photo.name: guess.labels[0].label
        for guess in starter_demo.guesses
        if guess.labels[0].label != EXPECTED[guess.photo.name]
    }
    assert len(wrong) <= len(EXPECTED) // 4, wrong


def test_the_starter_takes_the_lesson(starter_demo: Demo) -> None:
    assert [guess.labels[0].label for guess in starter_demo.lesson] == ["a cat", "a bear", "a cat"]


def test_the_starter_finds_the_cat(starter_demo: Demo) -> None:
    found = {search.query: [photo.name for photo, _ in search.found] for search in starter_demo.searches}
    assert found["a very fat gray cat"][0].startswith("cat-")
    birds = found["a bird on a branch"][:3]
    assert {"kingfisher.jpg", "owl.jpg"} & set(birds), birds
    assert found["a bear"][0] in ("polar-bear.jpg", "giant-panda.jpg")
