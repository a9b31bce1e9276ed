"""Retrieval: a caption ranks all pictures, a picture ranks all captions; how high does the right one come?

R@k is the part of the questions whose best right answer is among the first k (Karpathy and Fei-Fei, 2015, and CLIP,
section 3.1); the median rank is that of the best right answers, 1 at best. A caption that several pictures have is
asked once, and each of them is right; so is every caption of a picture's concept (its `key`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bahumukha.evaluate.captions import Captioned, concept, read_captioned
from bahumukha.evaluate.pictures import Progress, embed, quiet
from bahumukha.protocols import ImageTextEncoder

KS = (1, 5, 10)
ROWS_AT_ONCE = 512
"""Questions of which the scores stand in memory: of a million answers 2 GB."""
TEXTS_AT_ONCE = 512


@dataclass(frozen=True)
class Recall:
    """Of one direction: how many asked, among how many, `at[k]` = R@k in [0, 1], the median rank (from 1)."""

    questions: int
    answers: int
    at: dict[int, float]
    median_rank: float


@dataclass(frozen=True)
class Retrieval:
    """Both directions, and the pictures that could not be read."""

    text_to_image: Recall
    image_to_text: Recall
    failed: list[tuple[str, str]]


def evaluate_captions(
    encoder: ImageTextEncoder,
    source: Path,
    *,
    language: str | None = None,
    split: str | None = None,
    most: int | None = None,
    size: int | None = None,
    progress: Progress = quiet,
) -> Retrieval:
    """Score an encoder on captioned pictures; `captions.read_captioned` says where from. Raises UsageError."""
    captioned = read_captioned(source, language=language, split=split, most=most)
    pictures = [(each, each.path) for each in captioned]
    embedded = embed(encoder, pictures, option=f"--captions {source}", size=size, progress=progress)
    texts, fits = concepts(embedded.keys)
    parts = []
    with progress(len(texts), "captions") as advance:
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            some = texts[start : start + TEXTS_AT_ONCE]
            parts.append(encoder.encode_texts(some))
            advance(len(some))
    return Retrieval(*both_ways(embedded.rows, np.concatenate(parts), fits), embedded.failed)


def concepts(pictures: Sequence[Captioned]) -> tuple[list[str], list[list[int]]]:
    """Pictures -> the different captions, and for each picture the captions (rows of that list) that are right."""
    rows: dict[str, int] = {}
    texts: list[str] = []
    of_key: dict[str, dict[int, None]] = {}
    for picture in pictures:
        for caption in picture.captions:
            row = rows.setdefault(concept(caption), len(texts))
            if row == len(texts):
                texts.append(caption)
            of_key.setdefault(picture.key, {})[row] = None
    return texts, [list(of_key[picture.key]) for picture in pictures]


def both_ways(images: np.ndarray, texts: np.ndarray, fits: Sequence[Sequence[int]]) -> tuple[Recall, Recall]:
    """images (P, dim), texts (T, dim), fits[p] = the texts that are right for picture p -> text to image, image to
    text."""
    of_text: list[list[int]] = [[] for _ in texts]
    for picture, right in enumerate(fits):
        for text in right:
            of_text[text].append(picture)
    return _recall(texts, images, of_text), _recall(images, texts, fits)


def best_ranks(questions: np.ndarray, answers: np.ndarray, right: Sequence[Sequence[int]]) -> np.ndarray:
    """Unit rows (Q, dim) and (A, dim), right[q] = rows of the right answers -> rank int (Q,) of the best of them.

    1 + the number of wrong answers that score as high or higher: who cannot tell them apart gains nothing.
    """
    ranks = np.empty(len(questions), int)
    for start in range(0, len(questions), ROWS_AT_ONCE):
        scores = questions[start : start + ROWS_AT_ONCE] @ answers.T
        for row, own in enumerate(scores):
            is_right = np.zeros(len(own), bool)
            is_right[list(right[start + row])] = True
            ranks[start + row] = 1 + (own[~is_right] >= own[is_right].max()).sum()
    return ranks


def _recall(questions: np.ndarray, answers: np.ndarray, right: Sequence[Sequence[int]]) -> Recall:
    ranks = best_ranks(questions, answers, right)
    at = {k: float((ranks <= k).mean()) for k in KS}
    return Recall(len(questions), len(answers), at, float(np.median(ranks)))
