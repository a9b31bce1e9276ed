"""Scenes of stage 2: what a turned or joined map is said to show is what stands in it."""

from __future__ import annotations

import numpy as np
import pytest

from bahumukha.data.scene_captions import plainly
from bahumukha.data.scenes import Ground, Scene, SceneObject
from bahumukha.errors import UsageError
from recipes.clip.pictures import PictureSet
from recipes.clip.shown import CELLS, ShownScenes, capsized, halves, in_anothers_style
from recipes.clip.statements import held_out, mirrored

COLOURS = ("red", "green", "blue", "yellow", "purple", "brown")


def thing(key: str, colour: str, x: float, y: float, side: float = 0.3) -> SceneObject:
    return SceneObject(key, f"thing {key}", f"things {key}", "noto", colour, colour, 1, "medium", ((x, y, side),), {})


def scenes() -> list[Scene]:
    """Two things beside or above each other; thing k is k, and stands in a quarter or half of the picture."""
    rng = np.random.default_rng(0)
    made = []
    for k in range(60):
        keys, colours = rng.choice(40, 2, replace=False), rng.choice(COLOURS, 2)
        across = k % 2
        arrangement = ("left of" if across else "above", "right of" if across else "below")[k // 2 % 2]
        ahead = 0.25 if arrangement in ("left of", "above") else 0.75
        places = [(ahead, 0.5), (1 - ahead, 0.5)] if across else [(0.5, ahead), (0.5, 1 - ahead)]
        things = tuple(thing(str(a), str(c), *p) for a, c, p in zip(keys, colours, places, strict=True))
        scene = Scene(things, Ground(("white",), ((255, 255, 255),), 0.0), arrangement)
        if not held_out(plainly(scene)):
            made.append(scene)
    return made


@pytest.fixture(scope="module")
def pictures() -> PictureSet:
    """Maps whose two channels hold the key and the colour of what stands at each place; -1 for nothing."""
    drawn = scenes()
    tokens = np.full((len(drawn), 9, 9, 2), -1, np.float16)
    for map_, scene in zip(tokens, drawn, strict=True):
        for each in scene.objects:
            x, y, side = each.spots[0]
            rows, columns = (slice(int((c - side / 2) * CELLS), int(np.ceil((c + side / 2) * CELLS))) for c in (y, x))
            map_[rows, columns] = int(each.key), COLOURS.index(each.colour or "")
    records = [{"row": i, "split": "train", "scene": scene.as_record()} for i, scene in enumerate(drawn)]
    return PictureSet(np.arange(len(drawn), dtype=np.float16)[:, None], tokens, records)


@pytest.mark.parametrize("joined", [0.0, 1.0])
def test_what_is_said_stands_there(pictures: PictureSet, joined: float):
    shown, rng, seen = ShownScenes([pictures], joined), np.random.default_rng(1), set()
    for _ in range(300):
        _, tokens, said = shown.draw(rng)
        seen.add((said.arrangement, tuple(each.key for each in said.objects)))
        centres = []
        for each in said.objects:
            at = np.argwhere(tokens[..., 0] == int(each.key))
            assert len(at) >= 4, "the whole thing is there"
            if each.colour:
                assert COLOURS.index(each.colour) in tokens[tuple(at[0])][1:]
            centres.append(at.mean(0))
        if said.arrangement in ("left of", "right of", "above", "below"):
            down, right = centres[1] - centres[0]
            ahead = {"left of": right, "right of": -right, "above": down, "below": -down}[said.arrangement]
            assert ahead > 2
        assert not held_out(said)
    if joined:
        assert len({keys for _, keys in seen}) > len(pictures), "many more pairs than scenes"


def test_scenes_of_three_things_are_drawn_as_often_as_asked(pictures: PictureSet):
    scene = Scene(
        tuple(thing(str(40 + i), "red", x, 0.5, 0.2) for i, x in enumerate((0.2, 0.5, 0.8))),
        Ground(("white",), ((255, 255, 255),), 0.0),
        "row",
    )
    records = [*pictures.records, {"row": 0, "split": "train", "scene": scene.as_record()}]
    three = PictureSet(pictures.features, pictures.tokens, records)
    for wanted in (0.0, 0.5, 1.0):
        shown, rng = ShownScenes([three], joined=0.0, threes=wanted), np.random.default_rng(4)
        found = np.mean([len(shown.draw(rng).said.objects) == 3 for _ in range(200)])
        assert found == pytest.approx(wanted, abs=0.12)
    with pytest.raises(UsageError, match=r"threes is 0\.5.* 0 scenes of three"):
        ShownScenes([pictures], threes=0.5)
    with pytest.raises(UsageError, match="threes is 2"):
        ShownScenes([three], threes=2)


def test_a_cut_lies_between_the_things():
    found = halves(scenes())
    for firsts, seconds in found.values():
        assert firsts and seconds
        assert {each.cut for each in firsts} == {int(np.ceil(0.4 * CELLS))}
        assert {each.cut for each in seconds} == {int(0.6 * CELLS)}


def test_upside_down():
    scene = next(each for each in scenes() if each.arrangement == "above")
    said = plainly(scene)
    assert capsized(said).arrangement == "below" and mirrored(said) == said and capsized(capsized(said)) == said
    column = Scene((*scene.objects, thing("50", "red", 0.5, 0.9)), scene.ground, "column")
    assert capsized(plainly(column)).objects == plainly(column).objects[::-1]


def test_a_map_takes_on_the_statistics_of_another() -> None:
    rng = np.random.default_rng(0)
    scale = np.arange(1.0, 13.0)[:, None, None, None]
    maps = (rng.standard_normal((12, 6, 6, 5)) * scale + 2 * scale).astype(np.float32)
    assert np.allclose(in_anothers_style(maps, 4, np.random.default_rng(1), chance=0.0), maps, atol=1e-3)
    found = in_anothers_style(maps, 4, np.random.default_rng(1), chance=1.0)
    assert np.array_equal(found[..., 4:], maps[..., 4:])  # the pixels' colours stay
    between = found[..., :4].mean((1, 2)), found[..., :4].std((1, 2))
    for statistic, own in zip(between, (maps[..., :4].mean((1, 2)), maps[..., :4].std((1, 2))), strict=True):
        assert (statistic >= own.min(0) - 1e-2).all() and (statistic <= own.max(0) + 1e-2).all()
        assert sum(not np.allclose(a, b, rtol=0.01) for a, b in zip(statistic, own, strict=True)) >= 4
    for own, other in zip(maps[..., 0], found[..., 0], strict=True):  # where things stand stays
        assert np.corrcoef(own.ravel(), other.ravel())[0, 1] > 0.999
