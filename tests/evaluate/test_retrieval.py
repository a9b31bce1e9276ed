"""Recall both ways on embeddings whose ranking is known, and on pictures that several captions fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bahumukha.evaluate.captions import Captioned
from bahumukha.evaluate.retrieval import best_ranks, both_ways, concepts, evaluate_captions
from bahumukha.zoo.fake import ColourEncoder


def test_equal_captions_and_equal_keys_are_one_concept() -> None:
    pictures = [
        Captioned(Path("noto/apple.png"), ("A red apple", "fruit"), "1f34e"),
        Captioned(Path("twemoji/apple.png"), ("apple",), "1f34e"),
        Captioned(Path("photo.jpg"), ("a red apple.",), "photo.jpg"),
    ]
    texts, fits = concepts(pictures)
    assert texts == ["A red apple", "fruit", "apple"]
    assert [sorted(right) for right in fits] == [[0, 1, 2], [0, 1, 2], [0]]


def test_any_picture_of_a_caption_counts() -> None:
    images = np.eye(4, dtype=np.float32)
    texts = np.float32([[0.1, 0.9, 0.5, 0.4], [0, 0, 1, 0]])  # the first fits pictures 0, 1 and 2, the second 3
    to_image, to_text = both_ways(images, texts, [[0], [0], [0], [1]])
    assert (to_image.questions, to_image.answers, to_image.at[1], to_image.median_rank) == (2, 4, 0.5, 2.5)
    assert best_ranks(texts, images, [[0, 1, 2], [3]]).tolist() == [1, 4], "of equals, the wrong ones come first"
    assert (to_text.questions, to_text.answers, to_text.at[1], to_text.median_rank) == (4, 2, 0.5, 1.5)


@given(st.integers(1, 8), st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_ranks_by_sorting(questions: int, answers: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, columns = random.normal(size=(questions, 5)), random.normal(size=(answers, 5))
    right = [random.choice(answers, random.integers(1, answers), replace=False).tolist() for _ in rows]
    order = np.argsort(-(rows @ columns.T), axis=1)
    expected = [min(row.tolist().index(r) for r in own) + 1 for row, own in zip(order, right, strict=True)]
    ahead = [sum(r not in own for r in row[:e]) + 1 for row, own, e in zip(order, right, expected, strict=True)]
    assert best_ranks(rows, columns, right).tolist() == ahead == expected


def test_one_who_cannot_tell_gains_nothing() -> None:
    same = np.ones((6, 1), np.float32)
    to_image, to_text = both_ways(same, same, [[i] for i in range(6)])
    assert to_image.at == {1: 0.0, 5: 0.0, 10: 1.0} and to_text.median_rank == 6


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rows = []
    for name, captions in {
        "red": ["a red door", "something red"],
        "red2": ["A red door."],
        "blue": ["the blue sea"],
        "green": ["a purple flower"],  # wrong on purpose
        "purple": ["a green leaf"],
    }.items():
        Image.new("RGB", (24, 24), {"red2": (240, 10, 10)}.get(name, name)).save(tmp_path / f"{name}.png")
        rows.append({"file": f"{name}.png", "captions": {"en": captions}, "split": "validation"})
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path


def test_pictures_from_a_folder(pictures: Path) -> None:
    (pictures / "purple.png").write_bytes(b"torn")
    scores = evaluate_captions(ColourEncoder(), pictures, split="validation")
    assert (scores.text_to_image.questions, scores.image_to_text.questions) == (4, 4)
    # Asked for purple, the encoder prefers another picture than the green one. The other way round, "something red"
    # is no caption of the second red picture, and as near to it as its own.
    assert scores.text_to_image.at[1] == 0.75 and scores.image_to_text.at[1] == 0.5
    assert scores.image_to_text.at[5] == 1.0
    assert [Path(path).name for path, _ in scores.failed] == ["purple.png"]
