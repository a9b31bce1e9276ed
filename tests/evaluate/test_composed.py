"""Two things in a picture: where they are, what they are, their colours; and a judge that is judged itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bahumukha.data.scene_colours import BASIC, COLOURS
from bahumukha.data.scenes import OPPOSITE, RELATIONS, Ground, painted_ground
from bahumukha.errors import UsageError
from bahumukha.evaluate.composed import (
    Judge,
    Verdict,
    Wanted,
    accuracy,
    askable,
    composed_scenes,
    learned_judge,
    rates,
    wanted,
)
from bahumukha.evaluate.shapes import KnownShapes, descriptors
from bahumukha.evaluate.things import colour_of, ground, ink_pieces, one_thing, two_things
from tests.composed_pictures import SHAPES, painted, pair, random_scene, write_scenes

GROUNDS = [
    Ground(("white",), ((250, 250, 250),)),
    Ground(("gray",), ((128, 128, 130),)),
    Ground(("yellow", "purple"), ((247, 213, 36), (132, 56, 186))),
]


def pixels(*scene: object, ground: Ground = GROUNDS[0], size: int = 64) -> np.ndarray:
    return np.asarray(painted(pair(*scene, ground), size))  # type: ignore[arg-type]


# --- parting a picture


@pytest.mark.parametrize("behind", GROUNDS)
def test_the_ground_is_found_under_the_things(behind: Ground) -> None:
    shown = pixels(("ball", "ball"), ("red", "red"), "above", ground=behind)
    assert np.abs(ground(shown) - np.asarray(painted_ground(behind, 64))).max() < 3
    edge = shown.copy()
    edge[:30, :6] = (255, 0, 0)  # something reaches the border
    assert np.abs(ground(edge) - ground(shown)).max() < 6


def test_pieces_hang_together_over_corners_and_specks_are_none() -> None:
    ink = np.zeros((40, 40), bool)
    ink[5:10, 5:10] = ink[10:15, 10:15] = True  # these touch at a corner
    ink[30:36, 2:8] = True
    ink[20, 30] = True
    pieces = ink_pieces(ink)
    assert sorted(int(piece.sum()) for piece in pieces) == [36, 50]
    assert ink_pieces(np.zeros((9, 9), bool)) == []


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("behind", GROUNDS)
def test_two_things_and_how_they_stand(relation: str, behind: Ground) -> None:
    found = two_things(pixels(("ball", "frame"), ("green", "brown"), relation, ground=behind))
    assert found is not None
    turned = relation in ("right of", "below")
    assert found[2] == (OPPOSITE[relation] if turned else relation)
    assert [thing.colour for thing in found[:2]] == (["brown", "green"] if turned else ["green", "brown"])
    (x, y), (other_x, other_y) = (thing.centre for thing in found[:2])
    assert (x, other_x) == pytest.approx((0.25, 0.75), abs=0.02) or (y, other_y) == pytest.approx(
        (0.25, 0.75), abs=0.02
    )
    assert all(thing.picture.width == thing.picture.height < 34 for thing in found[:2])


def test_nothing_of_the_other_one_is_in_a_things_picture() -> None:
    found = two_things(pixels(("ball", "ball"), ("red", "blue"), "left of"))
    assert found is not None
    for thing, other in ((found[0], 2), (found[1], 0)):
        shown = np.asarray(thing.picture).astype(int)
        assert not (shown[..., other] > shown[..., 2 - other] + 60).any()


def test_where_there_is_nothing_or_one_piece() -> None:
    assert two_things(np.full((64, 64, 3), 200, np.uint8)) is None
    assert one_thing(np.full((64, 64, 3), 200, np.uint8)) is None
    alone = np.full((64, 64, 3), 255, np.uint8)
    alone[20:40, 10:50] = (200, 0, 0)
    assert two_things(alone) is None
    thing = one_thing(alone)
    assert thing is not None and thing.colour == "red" and thing.centre == pytest.approx((30 / 64, 30 / 64))


@pytest.mark.parametrize("colour", BASIC)
def test_outlines_and_lights_are_no_colour_of_a_thing(colour: str) -> None:
    dots = np.array([COLOURS[colour]] * 30 + [(0, 0, 0)] * 40 + [(255, 255, 255)] * 30)
    assert colour_of(dots) == colour
    assert colour_of(np.array([(0, 0, 0)] * 99 + [COLOURS[colour]])) == "black"
    assert colour_of(np.full((20, 3), 255)) == "white"
    assert colour_of(np.array([COLOURS["orange"]] * 6 + [(166, 84, 12)] * 8)) == "orange", "and its shade"


# --- naming


def test_a_drawing_is_known_again_in_another_colour_and_size() -> None:
    def cut(name: str, colour: str, side: float) -> Image.Image:
        scene = pair((name, name), (colour, colour), "left of")
        things = tuple(replace(each, spots=((*each.spots[0][:2], side),)) for each in scene.objects)
        found = two_things(np.asarray(painted(replace(scene, objects=things))))
        assert found is not None
        return found[0].picture

    examples = [(name, cut(name, colour, 0.4)) for name in SHAPES for colour in ("red", "blue")]
    known = KnownShapes(descriptors([picture for _, picture in examples]), [name for name, _ in examples])
    assert known.names == SHAPES
    scores = known.scores([cut(name, "green", 0.3) for name in reversed(SHAPES)])
    assert scores.shape == (3, 3) and scores.argmax(1).tolist() == [2, 1, 0] and scores.max() <= 1.0001
    same = known.scores([examples[3][1]])
    assert same[0, 1] == pytest.approx(1, abs=1e-5), "an example is nearest to itself"
    assert known.scores([]).shape == (0, 3)


def test_edges_have_no_sign_and_take_no_notice_of_contrast() -> None:
    slope = np.pad(np.tri(40, dtype=np.uint8), 12)  # the diagonal falls to the right
    dark = Image.fromarray(255 - 200 * slope).convert("RGB")
    light = Image.fromarray(20 + 120 * slope).convert("RGB")
    rows = descriptors([dark, light, dark.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert rows[0] @ rows[1] > 0.97 and rows[0] @ rows[2] < 0.8


# --- the judge


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root, random = tmp_path_factory.mktemp("scenes"), np.random.default_rng(0)
    learn, judged = ([random_scene(random) for _ in range(count)] for count in (80, 40))
    return write_scenes(root / "learn", learn), write_scenes(root / "judged", judged)


@pytest.fixture(scope="module")
def judge(folders: tuple[Path, Path]) -> Judge:
    return learned_judge(composed_scenes(folders[0]), 64)


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three shapes only the first one counts."""
    from bahumukha.evaluate import composed

    monkeypatch.setattr(composed, "AMONG", 1)


def test_it_knows_real_scenes_and_what_is_wrong_with_them(judge: Judge, folders: tuple[Path, Path]) -> None:
    scenes = askable(composed_scenes(folders[1]))
    assert len(scenes) > 15 and judge.names == ("ball", "cross", "frame")
    assert all(judge.knows(each.scene) for each in scenes)
    assert not judge.knows(pair(("ball", "dragon"), ("red", "blue"), "above"))
    scores = accuracy(judge, scenes, 64)
    assert (scores.scenes, scores.vocabulary) == (len(scenes), 3)
    assert min(scores.present, scores.colours, scores.relation) >= 0.95
    assert min(scores.absent, scores.other_colour, scores.other_relation) >= 0.95


def test_each_question_by_itself(judge: Judge) -> None:
    shown = pixels(("ball", "frame"), ("red", "blue"), "left of")
    asked = Wanted(("ball", "frame"), ("red", "blue"), "left of")
    cases = {
        asked: (True, True, True),
        replace(asked, names=("frame", "ball"), colours=("blue", "red"), relation="right of"): (True, True, True),
        replace(asked, names=("cross", "frame")): (False, True, True),
        replace(asked, names=("ball", "dragon")): (False, False, False),
        replace(asked, colours=("red", "green")): (True, False, True),
        replace(asked, colours=("blue", "red")): (True, False, True),
        replace(asked, relation="right of"): (True, True, False),
        replace(asked, relation="above"): (True, True, False),
    }
    for question, (present, colours, relation) in cases.items():
        assert judge([shown], [question]) == [Verdict(present, colours, relation)], question
    assert judge([np.full((64, 64, 3), 200, np.uint8)], [asked]) == [Verdict(False, False, False)]


def test_rates() -> None:
    verdicts = [Verdict(True, True, True), Verdict(True, False, True), Verdict(False, False, False)]
    scores = rates(verdicts)
    assert (scores.pictures, scores.present, scores.colours) == (3, pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert (scores.relation, scores.all) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_what_can_be_asked(tmp_path: Path) -> None:
    white = pair(("ball", "cross"), ("white", "red"), "above")
    good = pair(("ball", "cross"), ("green", "red"), "above")
    several = replace(
        good, objects=(replace(good.objects[0], count=2, spots=good.objects[0].spots * 2), good.objects[1])
    )
    scenes = composed_scenes(write_scenes(tmp_path / "s", [white, good, several, good]))
    (only,) = askable(scenes)
    assert only.caption == "a green ball above a red cross"
    assert wanted(only.scene) == Wanted(("ball", "cross"), ("green", "red"), "above")
    many = [replace(only, scene=pair(("ball", "cross"), (a, b), "above")) for a in BASIC for b in BASIC]
    assert len(askable(many * 2)) == 64


def test_listings_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--learn-from .*scenes.jsonl: cannot be read"):
        composed_scenes(tmp_path, "--learn-from")
    (tmp_path / "scenes.jsonl").write_text("")
    with pytest.raises(UsageError, match="holds no scenes"):
        composed_scenes(tmp_path)
    (tmp_path / "scenes.jsonl").write_text('{"file": "a.png"}\n')
    with pytest.raises(UsageError, match="no list of composed scenes .KeyError.* make one with"):
        composed_scenes(tmp_path)


def test_a_judge_needs_three_kinds_of_things(tmp_path: Path) -> None:
    scene = pair(("ball", "ball"), ("red", "blue"), "above")
    scenes = composed_scenes(write_scenes(tmp_path / "s", [scene]))
    with pytest.raises(UsageError, match="fewer than three kinds"):
        learned_judge(scenes, 64)
