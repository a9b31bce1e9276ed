"""Captions from each of the places where people keep them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bahumukha.errors import UsageError
from bahumukha.evaluate.captions import Captioned, concept, read_captioned
from recipes.captioned import CaptionedPicture, Listing


def write(folder: Path, *rows: dict) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def names(pictures: list[Captioned]) -> dict[str, tuple[str, ...]]:
    return {picture.path.name: picture.captions for picture in pictures}


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    return write(
        tmp_path / "pictograms",
        {
            "file": "a.png",
            "captions": {"en": ["a red apple", "fruit"], "te": ["ఆపిల్"]},
            "key": "1f34e",
            "split": "train",
        },
        {"file": "b.png", "captions": {"en": ["a cat"]}, "key": "1f408", "split": "validation"},
        {"file": "c.png", "captions": {"te": ["కుక్క"]}, "split": "validation"},
    )


def test_a_listing_of_the_recipes(tmp_path: Path) -> None:
    made = Listing(tmp_path)
    captions = {"en": ["a red apple", "fruit"], "te": ["ఆపిల్"]}
    made.add(b"png", CaptionedPicture("apple.png", "noto", "noto", "1f34e", captions, "food", "MIT", "train"))
    made.write()
    assert read_captioned(tmp_path) == [Captioned(tmp_path / "apple.png", ("a red apple", "fruit"), "1f34e")]


def test_languages_splits_and_the_first_captions(listing: Path) -> None:
    assert names(read_captioned(listing)) == {"a.png": ("a red apple", "fruit"), "b.png": ("a cat",)}
    assert names(read_captioned(listing, language="te")) == {"a.png": ("ఆపిల్",), "c.png": ("కుక్క",)}
    assert names(read_captioned(listing, split="validation")) == {"b.png": ("a cat",)}
    assert names(read_captioned(listing / "captions.jsonl", most=1))["a.png"] == ("a red apple",)


def test_captions_without_a_language(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", {"file": "a.png", "captions": "one"}, {"file": "b.png", "captions": ["x", "y"]})
    assert names(read_captioned(folder)) == {"a.png": ("one",), "b.png": ("x", "y")}
    with pytest.raises(UsageError, match="--language te: the captions of .* do not say"):
        read_captioned(folder, language="te")


def test_a_table_with_several_rows_of_a_picture(tmp_path: Path) -> None:
    file = tmp_path / "captions.csv"
    file.write_text('filepath,title\na.jpg,"a cat, asleep"\nb.jpg,a dog\na.jpg,A cat\na.jpg,a cat.\n', encoding="utf-8")
    assert names(read_captioned(file)) == {"a.jpg": ("a cat, asleep", "A cat"), "b.jpg": ("a dog",)}
    assert read_captioned(file)[0].path == tmp_path / "a.jpg"
    tabs = tmp_path / "captions.tsv"
    tabs.write_text("path\tcaption\tlanguage\tsplit\na.jpg\tపిల్లి\tte\tval\nb.jpg\ta dog\ten\tval\n", encoding="utf-8")
    assert names(read_captioned(tabs, language="te", split="val")) == {"a.jpg": ("పిల్లి",)}


def test_text_files_beside_pictures(coloured_pictures: Path) -> None:
    (coloured_pictures / "red.txt").write_text("a red wall\n\nthe colour red\n", encoding="utf-8")
    (coloured_pictures / "blue.txt").write_text("the sea", encoding="utf-8")
    assert names(read_captioned(coloured_pictures)) == {
        "red.png": ("a red wall", "the colour red"),
        "blue.jpg": ("the sea",),
    }


def test_equal_captions() -> None:
    assert concept(" A  red apple.") == concept("a red Apple") != concept("a red apple?")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "xx"}, "--language xx: no caption of .* is in it; there are en, te"),
        ({"split": "test"}, "--split test: no picture of .* is in it; there are train, validation"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(listing: Path, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_captioned(listing, **options)


def test_no_caption_in_the_split(listing: Path) -> None:
    with pytest.raises(UsageError, match="no picture has a caption in te"):
        read_captioned(listing, split="train", language="te") and read_captioned(
            write(listing, {"file": "a", "captions": {"en": ["x"], "te": []}}), language="te"
        )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("captions.jsonl", "{}\n", "line 1 is not"),
        ("captions.jsonl", '{"file": "a", "captions": "x"}\nno\n', "line 2 is not"),
        ("c.csv", "a,b\n1,2\n", "must name columns path and caption; it names a, b"),
        ("c.txt", "", "is neither a folder"),
        ("captions.jsonl", "", "no captioned pictures"),
    ],
)
def test_files_of_another_form(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match="--captions") as error:
        read_captioned(tmp_path / name)
    assert message in str(error.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file or folder"):
        read_captioned(tmp_path / "none")
    with pytest.raises(UsageError, match="no captioned pictures"):
        read_captioned(tmp_path)
