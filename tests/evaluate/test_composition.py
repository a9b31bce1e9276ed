"""Composed scenes: who sees colours tells colours, who sees no places guesses relations."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from bahumukha.errors import UsageError
from bahumukha.evaluate.composition import AT_ONCE, CompositionScore, Question, composition_scores, scene_questions
from bahumukha.zoo.fake import ColourEncoder

COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "pink", "brown")


def colour_question(colour: str, shown: str | None = None) -> Question:
    picture = Image.new("RGB", (16, 16), shown or colour)
    wrong = tuple(f"a {other} cube" for other in COLOURS if other != colour)
    return Question(picture, f"a {colour} cube", wrong, "colour")


def test_colours_are_told_by_one_who_sees_them() -> None:
    items = [colour_question(colour) for colour in ("red", "blue", "yellow")] + [colour_question("red", shown="blue")]
    assert composition_scores(ColourEncoder(), items) == [CompositionScore("colour", 4, 0.75, 1 / 8)]


def test_relations_are_a_tie_for_one_who_reads_no_places() -> None:
    picture = Image.new("RGB", (16, 16), "red")
    picture.paste("blue", (8, 0, 16, 16))
    question = Question(picture, "red left of blue", ("red right of blue",), "relation")
    scores = composition_scores(ColourEncoder(), [question, colour_question("red")])
    assert scores == [CompositionScore("relation", 1, 0.0, 0.5), CompositionScore("colour", 1, 1.0, 1 / 8)]


def test_batches_make_no_difference() -> None:
    random = np.random.default_rng(0)
    items = [colour_question(*random.choice(COLOURS, 2).tolist()) for _ in range(2 * AT_ONCE + 3)]
    (whole,) = composition_scores(ColourEncoder(), iter(items))
    singly = [composition_scores(ColourEncoder(), [item])[0].right for item in items]
    assert whole.items == len(items) and whole.right == pytest.approx(np.mean(singly)) and 0 < whole.right < 1


def test_an_item_without_an_alternative_is_a_mistake() -> None:
    for wrong in ((), ("a red cube",)):
        with pytest.raises(ValueError, match="needs wrong captions"):
            composition_scores(ColourEncoder(), [Question(Image.new("RGB", (4, 4)), "a red cube", wrong, "colour")])


def test_scenes_of_a_folder_become_questions_of_each_kind(tmp_path) -> None:
    Image.new("RGB", (16, 16), "red").save(tmp_path / "0.png")
    wrong = {
        "wrong_colours": ["a blue cube", "a green cube"],
        "wrong_relation": None,
        "wrong_counts": ["two red cubes"],
    }
    record = {"file": "0.png", "right": "a red cube", "swapped_colours": None, **wrong}
    (tmp_path / "scenes.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    questions = list(scene_questions(tmp_path))
    assert [(q.kind, q.right, q.wrong) for q in questions] == [
        ("colour", "a red cube", ("a blue cube", "a green cube")),
        ("count", "a red cube", ("two red cubes",)),
    ]
    assert composition_scores(ColourEncoder(), questions)[0].right == 1.0


@pytest.mark.parametrize("listing", [None, "", "{", '{"file": "0.png", "right": "x"}'])
def test_a_folder_without_scenes_to_judge_by_is_named(tmp_path, listing) -> None:
    if listing is not None:
        (tmp_path / "scenes.jsonl").write_text(listing, encoding="utf-8")
    with pytest.raises(UsageError, match="--scenes .*scenes.jsonl"):
        list(scene_questions(tmp_path))
