"""Judging painted pictures: the fixed lists, ranks among classes and prompts, colours beside photographs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from bahumukha.data.imagenet import class_names
from bahumukha.errors import UsageError
from bahumukha.evaluate.colours import NAMES
from bahumukha.evaluate.guided import (
    Noun,
    Pictogram,
    as_pictogram,
    colourfulness,
    first_among,
    judge_nouns,
    judge_pictograms,
    nouns,
    pictograms,
)
from bahumukha.protocols import ImageTextEncoder

GREY = Image.new("RGB", (32, 32), (128, 128, 128))


def test_forty_nouns_are_forty_classes() -> None:
    listed = nouns()
    names = dict(class_names())
    assert len(listed) == len({noun.wnid for noun in listed}) == len({noun.noun for noun in listed}) == 40
    for noun in listed:
        last = noun.noun.split()[-1]
        assert names[noun.wnid].endswith(last) or (last, names[noun.wnid]) == ("peacock", "peafowl")
    assert listed[0].prompt == "a photo of a tiger"


def test_twenty_five_pictograms_name_their_colour() -> None:
    listed = pictograms()
    assert len({each.prompt for each in listed}) == 25
    for each in listed:
        assert [word for word in each.prompt.split() if word in NAMES] == [each.colour]
    assert len({each.colour for each in pictograms(10)}) == 10  # a beginning is spread over the colours


def test_a_beginning_of_a_list() -> None:
    assert nouns(8) == nouns()[:8]
    with pytest.raises(UsageError, match="nouns: 41 were asked for; the list has 40"):
        nouns(41)
    with pytest.raises(UsageError, match="take from 1 to 25"):
        pictograms(0)


def test_the_rank_is_that_of_the_class_itself() -> None:
    ids = [wnid for wnid, _ in class_names()]
    tiger, cat, zebra = (ids.index(wnid) for wnid in ("n02129604", "n02123159", "n02391049"))
    rows = np.zeros((2, 1000))
    rows[0, [tiger, cat]] = 0.7, 0.2
    rows[1, [tiger, cat, zebra]] = 0.3, 0.6, 0.1
    asked = [Noun("a tiger", ids[tiger])] * 2
    first, second = judge_nouns([GREY, GREY], asked, lambda pictures: rows)
    assert (first.rank, first.probability, first.first) == (1, 0.7, "tiger")
    assert (second.rank, second.first, second.first_probability) == (2, "tiger cat", 0.6)
    assert first_among([1, 2, 6], 5) == pytest.approx(2 / 3)


def test_a_classifier_that_knows_nothing_names_nothing_first() -> None:
    (score,) = judge_nouns([GREY], nouns(1), lambda pictures: np.full((1, 1000), 0.001))
    assert score.rank == 1000


class Deaf(ImageTextEncoder):
    """Hears only the prompt it is told, in every picture."""

    name, fingerprint, dim, logit_scale, templates = "deaf", "deaf", 25, 1.0, ("{}",)

    def __init__(self, hears: int) -> None:
        self.hears = hears

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.eye(len(texts), 25, dtype=np.float32)

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        return np.eye(25, dtype=np.float32)[[self.hears] * len(images)]


def test_pictograms_are_retrieved_among_the_whole_list_and_have_a_colour() -> None:
    picture = Image.new("RGB", (40, 40), "white")
    picture.paste((217, 38, 38), (10, 10, 30, 30))
    apple, heart, car = pictograms()[0], pictograms()[10], pictograms()[2]
    scores = judge_pictograms([picture] * 3, [apple, heart, car], Deaf(10))
    assert [score.rank == 1 for score in scores] == [False, True, False]
    assert {score.retrieved for score in scores} == {"a red heart"}
    assert [score.colour_is_right for score in scores] == [True, True, False]
    assert all(score.colour == "red" and score.share > 0.9 for score in scores)


def test_colourfulness_of_known_colours() -> None:
    assert colourfulness(GREY).saturation == 0 and colourfulness(GREY).chroma == pytest.approx(0, abs=0.05)
    red = colourfulness(Image.new("RGB", (8, 8), (255, 0, 0)))
    assert red.saturation == 1 and red.chroma == pytest.approx(104.55, abs=0.1)
    half = Image.new("RGB", (8, 8), (255, 0, 0))
    half.paste((128, 128, 128), (0, 0, 4, 8))
    assert colourfulness(half).chroma == pytest.approx(52.3, abs=0.1)


def test_an_unknown_pictogram_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError):
        judge_pictograms([GREY], [Pictogram("a teal shoe", "blue")], Deaf(0))


def test_the_colour_that_a_prompt_names() -> None:
    prompts = ("a grey cat", "An orange", "a red and blue fish", "a redwood", "a red, red rose")
    assert [as_pictogram(prompt).colour for prompt in prompts] == ["gray", "orange", None, None, "red"]
