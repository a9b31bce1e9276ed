"""The list of everyday things, and the scores on photographs of an encoder that knows some languages."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bahumukha.data.imagenet import class_names
from bahumukha.errors import UsageError
from bahumukha.evaluate.everyday import evaluate_everyday, everyday_things, language_score

LANGUAGES = "en te hi ta bn mr ur fr de es pt ru zh ja ar sw".split()
LETTERS = {
    "te": (0x0C00, 0x0C7F),
    "hi": (0x0900, 0x097F),
    "ta": (0x0B80, 0x0BFF),
    "bn": (0x0980, 0x09FF),
    "mr": (0x0900, 0x097F),
    "ur": (0x0600, 0x06FF),
    "ru": (0x0400, 0x04FF),
    "ar": (0x0600, 0x06FF),
}


def test_sixty_things_in_sixteen_languages() -> None:
    things = everyday_things()
    assert len(things) >= 60
    for thing in things:
        assert list(thing.names) == LANGUAGES and thing.names["en"] == thing.thing
        assert all(name == name.strip() and name for name in thing.names.values())
        for language, (first, last) in LETTERS.items():
            assert all(first <= ord(c) <= last or c in " -\u200c\u200d" for c in thing.names[language]), thing
    for language in LANGUAGES:
        assert len({thing.names[language].casefold() for thing in things}) == len(things)


def test_classes_are_imagenets_and_each_of_one_thing() -> None:
    known = {wnid for wnid, _ in class_names()}
    listed = [wnid for thing in everyday_things() for wnid in thing.classes]
    assert set(listed) <= known and len(set(listed)) == len(listed)
    by_name = {thing.thing: thing.classes for thing in everyday_things()}
    assert len(by_name["dog"]) == 118 and "n02116738" not in by_name["dog"]  # the African hunting dog is a wild one
    assert "n03793489" in by_name["computer mouse"] and "n02012849" in by_name["bird"]  # the crane that flies
    assert by_name["bird"].isdisjoint(by_name["penguin"] | by_name["parrot"])


def test_the_licence_of_the_names_is_inside() -> None:
    shipped = json.loads(files("bahumukha.evaluate").joinpath("everyday.json").read_text(encoding="utf-8"))
    assert "UNICODE LICENSE V3" in shipped["licence"] and "Unicode, Inc." in shipped["licence"]
    assert "CLDR" in shipped["about"]


class Polyglot:
    """Sees each photograph's thing; reads `fluent` languages, half of the names in `halting`, none of the others."""

    name, fingerprint, logit_scale, templates = "polyglot", "0", 10.0, ("a photo of a {}.",)

    def __init__(self, fluent: str, halting: str) -> None:
        things = everyday_things()
        self.dim = len(things)
        self.place = {
            t.names[language]: i for i, t in enumerate(things) for language in LANGUAGES if language in fluent
        }
        self.place |= {t.names[halting]: i for i, t in enumerate(things) if t.thing in ("cat", "lemon")}
        self.shown = {wnid: i for i, t in enumerate(things) for wnid in t.classes}

    def encode_texts(self, texts):
        rows = np.full((len(texts), self.dim), 0.01, np.float32)
        for row, text in zip(rows, texts, strict=True):
            if text in self.place:
                row[self.place[text]] = 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def encode_each(self, items, load):
        for item in items:
            load(item)
            yield item, np.eye(self.dim, dtype=np.float32)[self.shown[item[0]]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for wnid in ("n02123045_tabby", "n02123159_tiger_cat", "n07749582_lemon", "n03792782_mountain_bike", "n02950826_x"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{wnid}.png")
    return tmp_path


def test_languages_are_scored_apart(photos: Path) -> None:
    scores = evaluate_everyday(Polyglot(fluent="en te", halting="ja"), photos)  # type: ignore[arg-type]
    assert scores.photos == 4, "a cannon is no thing of the list"
    assert [each.language for each in scores.languages] == LANGUAGES
    assert language_score(scores, "en").top1 == language_score(scores, "te").top1 == 1.0
    japanese = language_score(scores, "ja")
    assert japanese.top1 == 0.75 and japanese.by_thing == pytest.approx(2 / 3) and japanese.ratio == 0.75
    assert [(each.name, each.photographs, each.right) for each in japanese.per_thing] == [
        ("cat", 2, 2),
        ("lemon", 1, 1),
        ("bicycle", 1, 0),
    ]
    low = [each.top1 for each in scores.languages if each.language not in ("en", "te", "ja")]
    assert scores.mean_top1 == pytest.approx((2 + 0.75 + sum(low)) / 16)
    assert scores.mean_ratio == pytest.approx((1 + 0.75 + sum(low)) / 15)


def test_a_language_without_names(photos: Path) -> None:
    scores = evaluate_everyday(Polyglot("en", "ja"), photos)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--language ko: everyday things have no names in it; there are en, te"):
        language_score(scores, "ko")
