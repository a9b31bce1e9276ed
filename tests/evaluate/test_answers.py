"""The table of classes, and what the confusion picture draws where."""

from __future__ import annotations

import numpy as np
import pytest

from bahumukha.evaluate.answers import CELL, MOST_CLASSES, OTHERS, Answers, ClassScore, confusion_picture


@pytest.fixture
def answers() -> Answers:
    """Three cats (one taken for a dog, one for a fox), two dogs, no fox."""
    return Answers(("cat", "dog", "fox"), np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 1, 1]))


def test_per_class(answers: Answers) -> None:
    assert answers.per_class() == [ClassScore("cat", 3, 1, "dog", 1), ClassScore("dog", 2, 2)]


def test_matrix_counts_truths_in_rows(answers: Answers) -> None:
    assert answers.matrix().tolist() == [[1, 1, 1], [0, 2, 0], [0, 0, 0]]


def test_grouped(answers: Answers) -> None:
    grouped = answers.grouped({0: "pet", 1: "pet"})
    assert grouped.names == ("pet", OTHERS)
    assert grouped.matrix().tolist() == [[4, 1], [0, 0]]


def test_most_confused_are_whole_pairs() -> None:
    truth = np.array([0] * 5 + [2] * 3 + [4] * 1 + [6] * 9)
    answer = np.array([1] * 5 + [3] * 3 + [5] * 1 + [6] * 9)
    answers = Answers(tuple("abcdefgh"), truth, answer)
    assert answers.most_confused(4) == [0, 1, 2, 3]
    assert answers.most_confused(5) == [0, 1, 2, 3, 6], "a pair that does not fit gives way to the next best"
    assert answers.most_confused(8) == [0, 1, 2, 3, 4, 5, 6]


def colours(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    """bool (H, W): where the picture is green, where it is red."""
    pixels = np.asarray(confusion_picture(answers), int)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    return (green > red + 30) & (green > blue + 30), (red > green + 30) & (red > blue + 30)


def test_right_is_green_and_wrong_is_red(answers: Answers) -> None:
    green, red = colours(answers)
    assert round(green.sum() / CELL**2) == 2 and round(red.sum() / CELL**2) == 2, "two cells of each"
    perfect = Answers(answers.names, answers.truth, answers.truth)
    green, red = colours(perfect)
    assert green.any() and not red.any()


def test_many_classes_are_cut_to_a_page_and_the_rest_is_counted() -> None:
    names = tuple(f"class number {i}" for i in range(300))
    truth = np.arange(300)
    picture = confusion_picture(Answers(names, truth, (truth + 7) % 300))
    assert max(picture.size) < (MOST_CLASSES + 1) * CELL + 400


def test_names_of_any_script_and_length() -> None:
    names = ("పిల్లి", "a name that is far too long to be written out beside the cells of a picture", "猫")
    picture = confusion_picture(Answers(names, np.array([0, 1, 2]), np.array([0, 2, 1])))
    assert picture.mode == "RGB" and picture.width < 800
