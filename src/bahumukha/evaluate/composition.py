"""Composition: does a model tell "a red cube" from "a blue cube", and "left of" from "right of"?

Each item is a picture with its right caption and captions that differ from it in one thing only; the right one has to
have the highest cosine. A model that sees what is there, but not which is which, is right by chance: 1 of 8 for eight
colours, 1 of 2 for two relations. Cf. Thrush et al., "Winoground" (2022); Yuksekgonul et al. (2023).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from PIL import Image

from bahumukha.protocols import ImageTextEncoder

AT_ONCE = 64
"""Pictures in memory at a time."""


class Composed(Protocol):
    """One item; what makes one may be anything with these."""

    @property
    def picture(self) -> Image.Image:
        """RGB."""
        ...

    @property
    def right(self) -> str:
        """The caption that is true."""
        ...

    @property
    def wrong(self) -> Sequence[str]:
        """Captions that are not, each other than the right one; one or more."""
        ...

    @property
    def kind(self) -> str:
        """What is asked, as "colour" or "relation"; scores are given kind by kind."""
        ...


@dataclass(frozen=True)
class Question:
    """The plain `Composed`."""

    picture: Image.Image = field(repr=False)
    right: str
    wrong: tuple[str, ...]
    kind: str


@dataclass(frozen=True)
class CompositionScore:
    """Of one kind: the part of `items` whose right caption came first, and that part for who guesses; in [0, 1]."""

    kind: str
    items: int
    right: float
    chance: float


def composition_scores(encoder: ImageTextEncoder, items: Iterable[Composed]) -> list[CompositionScore]:
    """Scores by kind, in the order of their first items. A wrong caption that scores as high counts as won."""
    outcomes: dict[str, list[tuple[bool, float]]] = {}
    batch: list[Composed] = []
    for item in items:
        batch.append(item)
        if len(batch) == AT_ONCE:
            _judge(encoder, batch, outcomes)
            batch = []
    if batch:
        _judge(encoder, batch, outcomes)
    scores = []
    for kind, found in outcomes.items():
        right, chance = np.mean(np.array(found, float), axis=0)
        scores.append(CompositionScore(kind, len(found), float(right), float(chance)))
    return scores


def _judge(encoder: ImageTextEncoder, items: Sequence[Composed], outcomes: dict[str, list[tuple[bool, float]]]) -> None:
    images = encoder.encode_images([item.picture for item in items])
    captions = [[item.right, *item.wrong] for item in items]
    texts = list(dict.fromkeys(caption for each in captions for caption in each))
    rows = dict(zip(texts, encoder.encode_texts(texts), strict=True))
    for item, image, each in zip(items, images, captions, strict=True):
        if not item.wrong or item.right in item.wrong:
            raise ValueError(f"{item.right!r} needs wrong captions, each other than itself")
        cosines = np.array([rows[caption] @ image for caption in each])
        outcomes.setdefault(item.kind, []).append((bool((cosines[1:] < cosines[0]).all()), 1 / len(each)))
