"""Single things in a colour, and pairs of things: what they are, and what is left out; on a tiny library."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image

from bahumukha.data.scene_vectors import Concept, Library, measured_drawing
from bahumukha.data.scenes import Scene
from bahumukha.models.vqgan import Vqgan, VqganConfig
from recipes.dalle import pairs as recipe_of_pairs
from recipes.dalle import singles as recipe
from recipes.dalle import things as recipe_of_things
from recipes.dalle import vocabulary
from recipes.dalle.deeper import deeper
from recipes.pictograms.render import HELD_OUT_SET
from recipes.pictograms.scenes import EDITION
from tests.train.drawings import tiny_codec

BODY = '<path fill="#e33" d="M{0} 2h12v10H{0}z"/>'
KINDS = ("cat", "dog", "car", "cup")


@pytest.fixture(scope="module")
def library() -> Library:
    drawings = [measured_drawing(BODY.format(i + 1), (0.0, 0.0, 16.0, 16.0)) for i in range(4)]
    concepts = [
        Concept(f"1f{i}", name, name + "s", "things", {}, "train", {"noto": drawing, HELD_OUT_SET: drawing})
        for i, (name, drawing) in enumerate(zip(KINDS, drawings, strict=True))
        if drawing is not None
    ]
    return Library({each.key: each for each in concepts})


def test_one_thing_of_another_colour_and_nothing_that_is_held_out(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "is_held_out", lambda style, key: key == "1f2")
    drawn = list(islice(recipe.singles(library, 0, 40), 30))
    scenes = [Scene.from_record(record["scene"]) for _, record in drawn]
    objects = [scene.objects[0] for scene in scenes]
    assert {each.key for each in objects} == {"1f0", "1f1", "1f3"} and {each.style for each in objects} == {"noto"}
    assert all(len(scene.objects) == each.count == 1 for scene, each in zip(scenes, objects, strict=True))
    assert all(each.paint and each.size != "small" for each in objects) and len({each.paint for each in objects}) > 3
    assert not any(scene.held_out() for scene in scenes)
    plain = drawn[0][1]["captions"]["en"][0]
    assert objects[0].name in plain and objects[0].paint is not None and objects[0].paint in plain


@pytest.mark.parametrize("split", ["train", "validation"])
def test_large_things_of_the_closed_vocabulary_some_in_their_own_colours(library: Library, split: str) -> None:
    drawn = list(islice(recipe.closed_singles(library, 0, 40, split), 30))
    scenes = [Scene.from_record(record["scene"]) for _, record in drawn]
    assert all(bool(scene.held_out()) == (split == "validation") for scene in scenes)
    objects = [scene.objects[0] for scene in scenes]
    assert {each.name for each in objects} <= {"cat", "dog", "car"}, "cup is no word of it"
    low, high = recipe.SIDES
    for each in objects:
        ((x, y, side),) = each.spots
        assert low <= side <= high and each.size == "large"
        assert side / 2 - 1e-3 <= min(x, y) and max(x, y) <= 1 - side / 2 + 1e-3, "all of it is in the picture"
    assert split == "validation" or {each.paint is None for each in objects} == {True, False}


def test_listings_of_things_and_of_those_of_the_closed_vocabulary(tmp_path: Path) -> None:
    rows = [("cat", "animals & nature"), ("yak", "animals & nature"), ("cat", "symbols"), ("two-thirty", "objects")]
    text = "".join(json.dumps({"category": kind, "captions": {"en": [name]}}) + "\n" for name, kind in rows)
    (tmp_path / recipe_of_things.LISTING).write_text(text, "utf-8")
    recipe_of_things.main([str(tmp_path)])
    named = {
        name: [json.loads(line)["captions"]["en"][0] for line in (tmp_path / name).read_text("utf-8").splitlines()]
        for name in ("things.jsonl", "closed.jsonl")
    }
    assert named == {"things.jsonl": ["cat", "yak"], "closed.jsonl": ["cat"]}


@pytest.mark.parametrize("split", ["train", "validation"])
def test_pairs_are_two_large_things_of_the_closed_vocabulary(library: Library, split: str) -> None:
    assert len(vocabulary.THINGS) == 125 and all(name == name.strip() for name in vocabulary.THINGS)
    drawn = list(islice(recipe_of_pairs.pairs(library, 0, 40, split), 20))
    scenes = [Scene.from_record(record["scene"]) for _, record in drawn]
    assert {each.name for scene in scenes for each in scene.objects} <= {"cat", "dog", "car"}, "cup is no word of it"
    assert all(len(scene.objects) == 2 and scene.arrangement != "alone" for scene in scenes)
    assert all(each.size == "large" and each.count == 1 for scene in scenes for each in scene.objects)
    assert all(bool(scene.held_out()) == (split == "validation") for scene in scenes)
    assert len({scene.arrangement for scene in scenes}) == 4


def test_files_are_written_with_their_listing(library: Library, tmp_path: Path) -> None:
    library.write(tmp_path / "cache" / f"scenes-{EDITION}" / "library.json.gz")
    recipe.main(["--out", str(tmp_path / "out"), "--count", "3", "--size", "40", "--cache", str(tmp_path / "cache")])
    rows = [json.loads(line) for line in (tmp_path / "out/scenes.jsonl").read_text("utf-8").splitlines()]
    assert [row["file"] for row in rows] == ["000000.jpg", "000001.jpg", "000002.jpg"]
    with Image.open(tmp_path / "out/000002.jpg") as picture:
        assert picture.size == (40, 40)


def test_a_deeper_codec_is_the_same_function() -> None:
    codec = tiny_codec()
    grown = deeper(codec, encoder=1, decoder=2)
    assert (grown.config.encoder_layers, grown.config.decoder_layers) == (2, 3)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(grown(x)[0], codec(x)[0])
    with pytest.raises(TypeError, match="'vqgan' has no transformer blocks"):
        deeper(Vqgan(VqganConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1)), encoder=1, decoder=1)
