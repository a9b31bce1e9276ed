"""Composition: does a model tell "a red cube" from "a blue cube", and "left of" from "right of"?

Each item is a picture with its right caption and captions that differ from it in one thing only; the right one has to
have the highest cosine. A model that sees what is there, but not which is which, is right by chance: 1 of 8 for eight
colours, 1 of 2 for two relations. Cf. Thrush et al., "Winoground" (2022); Yuksekgonul et al. (2023).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from bahumukha.errors import UsageError
from bahumukha.images import open_image
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


KINDS = {
    "colour": "wrong_colours",
    "relation": "wrong_relation",
    "count": "wrong_counts",
    "swapped colours": "swapped_colours",
}
"""What is asked -> where `scenes.jsonl` has the captions that are wrong in it."""


def scene_questions(folder: Path) -> Iterator[Question]:
    """The questions about each composed scene of a folder with `scenes.jsonl` (`recipes/pictograms/scenes.py`).

    Raises UsageError when the listing is missing or not one of scenes with wrong captions, ImageError.
    """
    listing = folder / "scenes.jsonl"
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines if line]
        told = [(record["file"], record["right"], {k: record[key] for k, key in KINDS.items()}) for record in records]
    except OSError as error:
        raise UsageError(f"--scenes {listing}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"--scenes {listing}: no list of scenes to be judged by ({type(error).__name__}: {error}); make one with "
            "`python -m recipes.pictograms.scenes --split validation`"
        ) from error
    if not told:
        raise UsageError(f"--scenes {listing}: holds no scenes")
    for file, right, wrong in told:
        picture = open_image(folder / file)
        for kind, captions in wrong.items():
            if captions:
                yield Question(picture, right, (captions,) if isinstance(captions, str) else tuple(captions), kind)


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
    pictures = {id(item.picture): item.picture for item in items}  # several questions may be about one
    rows_of = dict(zip(pictures, encoder.encode_images(list(pictures.values())), strict=True))
    images = [rows_of[id(item.picture)] for item in items]
    captions = [[item.right, *item.wrong] for item in items]
    texts = list(dict.fromkeys(caption for each in captions for caption in each))
    rows = dict(zip(texts, encoder.encode_texts(texts), strict=True))
    for item, image, each in zip(items, images, captions, strict=True):
        if not item.wrong or item.right in item.wrong:
            raise ValueError(f"{item.right!r} needs wrong captions, each other than itself")
        cosines = np.array([rows[caption] @ image for caption in each])
        outcomes.setdefault(item.kind, []).append((bool((cosines[1:] < cosines[0]).all()), 1 / len(each)))
