"""Names and captions of pictures, in many languages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recipes.clip.pictures import name_of
from recipes.clip.tokenizer import FIRST_LANGUAGES

ENGLISH = 0.5
"""Part of the captions that are English; the others are of the other first languages, each alike."""


class Names:
    """Draws a picture's concept and one of its captions; a concept is as likely as its pictures are many."""

    def __init__(self, records: Sequence[dict[str, Any]]):
        captions: dict[str, dict[str, list[str]]] = {}
        count: dict[str, float] = {}
        for record in records:
            own = {k: record["captions"][k] for k in FIRST_LANGUAGES if record["captions"].get(k)}
            captions.setdefault(name_of(record), own)
            count[name_of(record)] = count.get(name_of(record), 0.0) + 1
        self.names = list(captions)
        self.captions = list(captions.values())
        weights = np.sqrt([count[name] for name in self.names])
        self.chance = np.cumsum(weights / weights.sum())

    def draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
        """Positions in `names`, and texts; the first caption most of the time, as it is the concept's name."""
        rows = np.searchsorted(self.chance, rng.random(count)).clip(max=len(self.names) - 1)
        return rows, [self._caption(self.captions[row], rng) for row in rows]

    def draw_english(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
        """Positions in `names`, each alike, and their English names."""
        rows = rng.integers(len(self.names), size=count)
        return rows, [self.captions[row]["en"][0] for row in rows]

    @staticmethod
    def _caption(captions: dict[str, list[str]], rng: np.random.Generator) -> str:
        others = [language for language in captions if language != "en"]
        foreign = others and rng.random() > ENGLISH
        own = captions[others[rng.integers(len(others))] if foreign else "en"]
        return own[0] if rng.random() < 0.75 else own[rng.integers(len(own))]
