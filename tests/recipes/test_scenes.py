"""The recipe of composed scenes on two tiny icon sets; no network."""

from __future__ import annotations

import json
from itertools import islice

import pytest
from PIL import Image

from bahumukha.data.scene_vectors import Library
from bahumukha.data.scene_words import LANGUAGES
from bahumukha.data.scenes import Scene
from recipes.captioned import split_of
from recipes.pictograms import scenes as recipe
from recipes.pictograms.captions import Annotations, IconSet
from recipes.pictograms.objects import OTHER_NAMES, Thing, things
from recipes.pictograms.render import HELD_OUT_SET

KINDS = ("cat", "dog", "car", "cup", "hat", "key")
BODY = '<path fill="#e33" d="M{0} 2h12v10H{0}z"/>'


def icon_set(prefix: str) -> IconSet:
    icons = {name: {"body": BODY.format(i % 3 + 1)} for i, name in enumerate(KINDS)}
    return IconSet(prefix, "MIT", icons, 16, 16, characters={name: f"1f{i}" for i, name in enumerate(KINDS)})


@pytest.fixture(scope="module")
def library() -> Library:
    names = {"en": {f"1f{i}": name for i, name in enumerate(KINDS)}, "es": {"1f0": "gato", "1f1": "perro rojo"}}
    listed = [Thing(f"1f{i}", name, name + "s", "things") for i, name in enumerate(KINDS)]
    listed.append(Thing("1fff", "ghost", "ghosts", "things"))
    sets = {prefix: icon_set(prefix) for prefix in ("noto", HELD_OUT_SET)}
    return recipe.library_from(sets, Annotations(names, {}), listed)


def test_library_joins_sets_and_keeps_names_without_colours(library: Library) -> None:
    assert sorted(each.name for each in library.concepts.values()) == sorted(KINDS)  # nobody draws a ghost
    assert library.concepts["1f0"].names == {"es": "gato"} and library.concepts["1f1"].names == {}
    assert all(set(each.drawings) == {"noto", HELD_OUT_SET} for each in library.concepts.values())
    assert all(each.split == split_of(each.name) for each in library.concepts.values())


def test_styles_and_records_by_split(library: Library) -> None:
    for split, style in (("train", "noto"), ("validation", "noto"), ("held-out-style", HELD_OUT_SET)):
        for picture, record in islice(recipe.scenes(split, 3, 48, library), 20):
            scene = Scene.from_record(json.loads(json.dumps(record["scene"])))
            assert picture.size == (48, 48) and picture.mode == "RGB"
            assert {each.style for each in scene.objects} == {style}
            assert record["captions"]["en"] and set(record["captions"]) <= set(LANGUAGES)
            if split == "train":
                assert "wrong_colours" not in record and not scene.held_out()
            else:
                assert [tuple(each) for each in record["held_out"]] == sorted(scene.held_out()) != []
                assert record["right"] not in record["wrong_colours"] + record["wrong_counts"]


def test_the_same_seed_gives_the_same_scenes(library: Library) -> None:
    first, again, other = (
        [record for _, record in islice(recipe.scenes("train", seed, 32, library), 5)] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_files_are_written_with_their_listing(library: Library, tmp_path, capsys) -> None:
    cache = tmp_path / "cache"
    library.write(cache / f"scenes-{recipe.EDITION}" / "library.json.gz")
    command = ["--out", str(tmp_path / "out"), "--count", "7", "--size", "40", "--split", "validation"]
    recipe.main([*command, "--sheet", str(tmp_path / "sheet.png"), "--cache", str(cache), "--workers", "1"])
    rows = [json.loads(line) for line in (tmp_path / "out" / "scenes.jsonl").read_text("utf-8").splitlines()]
    assert [row["file"] for row in rows] == [f"{i:06d}.jpg" for i in range(7)]
    for row in rows:
        with Image.open(tmp_path / "out" / row["file"]) as picture:
            assert picture.size == (40, 40)
    with Image.open(tmp_path / "sheet.png") as page:
        assert page.width > 6 * 150
    assert "6 things in 2 styles" in capsys.readouterr().out


def test_wrong_numbers_are_told(capsys) -> None:
    with pytest.raises(SystemExit):
        recipe.main(["--out", "x", "--count", "0"])
    assert "--count takes 1 or more" in capsys.readouterr().err


def test_the_table_of_things() -> None:
    listed = things()
    assert len(listed) > 400
    assert len({each.key for each in listed}) == len({each.name for each in listed}) == len(listed)
    by_name = {each.name: each for each in listed}
    assert by_name["mouse"].plural == "mice" and by_name["fox"].plural == "foxes"
    assert by_name["scissors"].plural == "" and by_name["apple"].kind == "food"
    assert set(OTHER_NAMES["1f34e"]) == set(LANGUAGES) - {"en"}


def test_captions_break_near_the_middle() -> None:
    assert recipe.wrapped("a cat") == "a cat"
    assert recipe.wrapped("a cat above a dog", 10) == "a cat above\na dog"
