"""`bahu evaluate clip` as a user and a script meet it: every source, every output, every mistake."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bahumukha import zoo
from bahumukha.data.imagenet import class_names
from bahumukha.zoo.fake import ColourEncoder

COLOURS = {"red": (225, 20, 20), "blue": (20, 20, 225), "green": (10, 150, 10)}


@pytest.fixture
def bahu(bahu: Any) -> Any:
    return partial(bahu, "evaluate", "clip")


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "load", lambda name=None, threads=None: ColourEncoder())


def paint(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (30, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def walls(tmp_path: Path) -> Path:
    """Folders red_wall, blue_wall, green_wall of four pictures each; one of the red ones is blue."""
    for name, colour in COLOURS.items():
        for number in range(4):
            odd = name == "red" and number == 3
            paint(tmp_path / "walls" / f"{name}_wall" / f"{number}.png", COLOURS["blue"] if odd else colour)
    return tmp_path / "walls"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for wnid in ("n02123045_tabby", "n01440764_tench", "n03792782_mountain_bike"):
        paint(tmp_path / "photos" / f"{wnid}.png", (200, 100, 50))
    return tmp_path / "photos"


# --- photographs named by WordNet ids


def test_photographs_with_a_real_model(bahu: Any, photos: Path, tiny_clip: Path, tmp_path: Path) -> None:
    (photos / "n02123045_torn.png").write_bytes(b"no")
    picture = tmp_path / "confusion.png"
    ran = bahu("--photos", photos, "--model", tiny_clip, "--per-class", "--confusion", picture, "--json")
    assert ran.code == 0
    result = ran.object
    assert list(result) == ["photos", "names", "top1", "top5", "coarse", "coarse_words", "failed", "per_class"]
    assert (result["photos"], result["names"]) == (3, 1000)
    assert [Path(each["path"]).name for each in result["failed"]] == ["n02123045_torn.png"]
    assert {each["name"] for each in result["per_class"]} == {"tabby cat", "tench", "mountain bike"}
    assert all(
        list(each) == ["name", "photographs", "right", "mistaken_for", "mistaken"] for each in result["per_class"]
    )
    with Image.open(picture) as image:
        assert 150 < image.width < 500, "six classes at most"
    assert ran.err.count("\n") == 2 and "n02123045_torn.png" in ran.err and str(picture) in ran.err


def test_what_people_read(bahu: Any, photos: Path, tiny_clip: Path, tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("n02123045\n# a fish\nn01440764\n")
    ran = bahu("--photos", photos, "--classes", ids, "--model", tiny_clip, "--per-class")
    lines = ran.out.splitlines()
    assert lines[0] == "2 photographs, 2 names" and lines[1].startswith("top-1") and "coarse" not in ran.out
    assert lines[4].split() == ["class", "photographs", "right", "most", "often", "mistaken", "for"]
    assert {line[:9] for line in lines[5:]} == {"tabby cat", "tench    "}


def test_groups_in_the_picture(bahu: Any, photos: Path, tiny_clip: Path, tmp_path: Path) -> None:
    picture = tmp_path / "groups.png"
    assert bahu("--photos", photos, "--model", tiny_clip, "--confusion", picture, "--groups").code == 0
    with Image.open(picture) as image:
        assert 500 < image.width < 800, "sixteen columns"


def test_templates_by_name_and_size_reach_the_model(
    bahu: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    sizes: set[tuple[int, int]] = set()

    class Watched(ColourEncoder):
        def encode_texts(self, texts):
            asked.extend(texts)
            return super().encode_texts(texts)

        def encode_images(self, images):
            sizes.update(image.size for image in images)
            return super().encode_images(images)

    monkeypatch.setattr(zoo, "load", lambda name=None, threads=None: Watched())
    ids = tmp_path / "ids.txt"
    ids.write_text("n02123045\nn01440764\n")
    assert bahu("--photos", photos, "--classes", ids, "--templates", "openai7", "--size", "15").code == 0
    assert len(asked) == 14 and "itap of a tabby cat." in asked and sizes == {(15, 20)}
    asked.clear()
    assert bahu("--photos", photos, "--classes", ids, "--templates", "openai80").code == 0
    assert len(asked) == 160
    asked.clear()
    assert bahu("--photos", photos, "--classes", ids, "--template", "my {}", "--template", "{}").code == 0
    assert asked == ["my tench", "tench", "my tabby cat", "tabby cat"]


# --- everyday things


def test_everyday(bahu: Any, photos: Path, tiny_clip: Path) -> None:
    result = bahu("--photos", photos, "--everyday", "--model", tiny_clip, "--json").object
    assert list(result) == ["photos", "things", "mean_top1", "mean_ratio", "languages", "failed"]
    assert result["photos"] == 3 and len(result["languages"]) == 16
    assert list(result["languages"][0]) == ["language", "top1", "by_thing", "ratio"]
    assert result["mean_top1"] == pytest.approx(np.mean([each["top1"] for each in result["languages"]]))

    ran = bahu("--photos", photos, "--everyday", "--per-class", "--language", "te", "--model", tiny_clip)
    assert [line.split()[0] for line in ran.out.splitlines()[2:19]][:2] == ["en", "te"]
    assert "things, asked in te:" in ran.out and "bicycle" in ran.out
    per_thing = bahu("--photos", photos, "--everyday", "--per-class", "--model", tiny_clip, "--json").object
    assert [each["name"] for each in per_thing["languages"][1]["per_thing"]] == ["fish", "cat", "bicycle"]


def test_everyday_asks_bare_names_unless_told(bahu: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Watched(ColourEncoder):
        templates = ("a photo of a {}.",)

        def encode_texts(self, texts):
            asked.extend(texts)
            return super().encode_texts(texts)

    monkeypatch.setattr(zoo, "load", lambda name=None, threads=None: Watched())
    assert bahu("--photos", photos, "--everyday").code == 0
    assert {"dog", "కుక్క"} <= set(asked)
    asked.clear()
    assert bahu("--photos", photos, "--everyday", "--templates", "model").code == 0
    assert {"a photo of a dog.", "a photo of a కుక్క."} <= set(asked) and "dog" not in asked


# --- folders


def test_folders_are_labels(bahu: Any, colours: None, walls: Path, tmp_path: Path) -> None:
    picture = tmp_path / "walls.png"
    ran = bahu("--classes-from-folders", walls, "--per-class", "--confusion", picture, "--json")
    result = ran.object
    assert (result["photos"], result["names"], result["top5"]) == (12, 3, 1.0)
    assert result["top1"] == pytest.approx(11 / 12)
    by_name = {each["name"]: each for each in result["per_class"]}
    assert by_name["red wall"] == {
        "name": "red wall",
        "photographs": 4,
        "right": 3,
        "mistaken_for": "blue wall",
        "mistaken": 1,
    }
    assert picture.stat().st_size > 1000
    text = bahu("--classes-from-folders", walls, "--per-class").out
    assert "red wall" in text and "blue wall (1)" in text and text.index("red wall") < text.index("green wall")


# --- retrieval


def test_captions(bahu: Any, colours: None, tmp_path: Path) -> None:
    rows = []
    for name, colour in COLOURS.items():
        paint(tmp_path / "set" / f"{name}.png", colour)
        captions = {"en": [f"a {name} wall", f"something {name}"], "te": ["గోడ"]}
        rows.append({"file": f"{name}.png", "captions": captions, "split": "validation"})
    (tmp_path / "set/captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    result = bahu("--captions", tmp_path / "set", "--split", "validation", "--json").object
    assert list(result) == ["pictures", "captions", "text_to_image", "image_to_text", "failed"]
    assert (result["pictures"], result["captions"]) == (3, 6)
    assert result["text_to_image"] == {"r1": 1.0, "r5": 1.0, "r10": 1.0, "median_rank": 1.0}
    first = bahu("--captions", tmp_path / "set", "--captions-each", "1", "--json").object
    assert first["captions"] == 3
    telugu = bahu("--captions", tmp_path / "set", "--language", "te")
    assert telugu.out.splitlines()[0] == "3 pictures, 1 different captions"
    assert "text to image   R@1 100.0%" in telugu.out and "median rank 1 of 3" in telugu.out

    table = tmp_path / "set/captions.csv"
    table.write_text("path,caption\nred.png,a red wall\nblue.png,a green wall\n", encoding="utf-8")
    (tmp_path / "set/blue.png").unlink()
    ran = bahu("--captions", table, "--json")
    assert ran.object["pictures"] == 1 and "blue.png" in ran.err and ran.code == 0


# --- linear probe


def test_probe(bahu: Any, colours: None, walls: Path) -> None:
    for name, colour in COLOURS.items():
        for number in range(10, 18):
            paint(walls / f"{name}_wall" / f"{number}.png", tuple(c + number for c in colour))  # type: ignore[arg-type]
    result = bahu("--probe", walls, "--per-class", "--json").object
    assert (result["train"], result["test"], result["classes"]) == (27, 9, 3)
    assert result["top1"] >= 8 / 9 and result["strength"] > 0 and len(result["per_class"]) == 3
    ran = bahu("--probe", walls)
    assert ran.out.splitlines()[0] == "linear probe: 27 pictures to learn from, 9 to score, 3 classes"
    assert "C = " in ran.out


# --- mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give one of --photos, --classes-from-folders, --captions, --probe"),
        (["--photos", "a", "--probe", "b"], "both are given: --photos, --probe"),
        (["--captions", "a", "--classes", "b"], "--classes has no meaning with --captions; with it go --captions-each"),
        (["--photos", "a", "--split", "x"], "--split has no meaning with --photos"),
        (["--photos", "a", "--everyday", "--confusion", "x.png"], "--confusion has no meaning with --everyday"),
        (["--photos", "a", "--language", "te"], "--language has no meaning with --photos"),
        (["--photos", "a", "--groups"], "--groups is about the picture of --confusion"),
        (["--photos", "a", "--confusion", "x.txt"], "--confusion x.txt: name it .png"),
        (["--photos", "a", "--template", "x"], "--template 'x' has no {}"),
        (["--photos", "a", "--template", "{}", "--templates", "openai7"], "give --template or --templates, not both"),
        (["--photos", "a", "--templates", "openai8"], "--templates openai8: neither openai80, openai7, model nor"),
        (["--photos", "a", "--classes", "none.txt"], "--classes none.txt: cannot be read"),
        (["--photos", "none"], "none: there is no such file or folder"),
        (["--classes-from-folders", "none"], "--classes-from-folders none: there is no such folder"),
        (["--captions", "none"], "--captions none: there is no such file or folder"),
        (["--probe", "none"], "--probe none: there is no such folder"),
        (["--photos", "a", "--model", "nosuch"], "no model 'nosuch'"),
    ],
)
def test_mistakes_are_one_line(
    bahu: Any, options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = bahu(*options)
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert message in ran.err


def test_folders_that_do_not_fit(bahu: Any, colours: None, walls: Path, tmp_path: Path) -> None:
    assert "has 0 sub-folders; it needs at least two" in bahu("--classes-from-folders", walls / "red_wall").err
    (walls / "red wall").mkdir()
    assert "two sub-folders mean 'red wall'" in bahu("--classes-from-folders", walls).err
    for name in ("a", "b"):
        (tmp_path / "empty" / name).mkdir(parents=True)
    assert "none of its 2 sub-folders holds a picture" in bahu("--classes-from-folders", tmp_path / "empty").err


def test_sub_folders_named_by_wordnet_ids_have_the_names_of_the_classes(
    bahu: Any, colours: None, tmp_path: Path
) -> None:
    for wnid in ("n02123045", "n01440764"):
        paint(tmp_path / "tree" / wnid / "deep" / "a.png", COLOURS["red"])
    result = bahu("--classes-from-folders", tmp_path / "tree", "--per-class", "--json").object
    names = dict(class_names())
    assert [each["name"] for each in result["per_class"]] == sorted([names["n02123045"], names["n01440764"]])
