"""What stage 2 shows: captioned pictures in many languages, and composed scenes with captions that are nearly right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bahumukha.data.scene_captions import swapped_colours, wrong_colours, wrong_counts, wrong_relation
from bahumukha.data.scenes import Scene
from recipes.clip.pictures import PictureSet
from recipes.clip.tokenizer import FIRST_LANGUAGES

ENGLISH = 0.55
"""Part of the pictures' captions that are English; the others are of the other first languages, each alike."""


@dataclass
class Shown:
    """Pictures of a batch: positions in their set, the sentences, and for each picture which concept it shows."""

    rows: list[int]
    texts: list[str]
    keys: list[str]


class CaptionedPictures:
    """Draws pictograms, clip art and stamps with one caption each; a concept is as likely as its pictures are many.

    Photographs among the stamps count four times: they are few.
    """

    def __init__(self, pictures: PictureSet):
        self.pictures = pictures
        self.captions: list[dict[str, list[str]]] = []
        for record in pictures.records:
            self.captions.append({k: record["captions"][k] for k in FIRST_LANGUAGES if record["captions"].get(k)})
        weights = np.array([4.0 if r["style"] == "photo" else 1.0 for r in pictures.records])
        self.chance = np.cumsum(weights / weights.sum())

    def draw(self, count: int, rng: np.random.Generator) -> Shown:
        """`count` pictures; the first caption half of the time, as it is the concept's name."""
        rows = np.searchsorted(self.chance, rng.random(count)).clip(max=len(self.captions) - 1).tolist()
        texts = [self._caption(self.captions[row], rng) for row in rows]
        return Shown(rows, texts, [self.captions[row]["en"][0].lower() for row in rows])

    @staticmethod
    def _caption(captions: dict[str, list[str]], rng: np.random.Generator) -> str:
        others = [language for language in captions if language != "en"]
        foreign = others and rng.random() > ENGLISH
        own = captions[others[rng.integers(len(others))] if foreign else "en"]
        return own[0] if rng.random() < 0.6 else own[rng.integers(len(own))]


class ComposedScenes:
    """Draws scenes, each with one true caption and some in which one thing is wrong."""

    def __init__(self, scenes: PictureSet):
        self.scenes = scenes
        self.parsed = [Scene.from_record(record["scene"]) for record in scenes.records]

    def draw(self, count: int, rng: np.random.Generator, foreign: float = 0.15) -> Shown:
        """`count` scenes; the plain caption, which says all, half of the time."""
        rows = rng.integers(len(self.parsed), size=count).tolist()
        texts = []
        for row in rows:
            captions = self.scenes.records[row]["captions"]
            others = [language for language in captions if language != "en"]
            own = captions["en"]
            if others and rng.random() < foreign:
                own = captions[others[rng.integers(len(others))]]
            texts.append(own[0] if rng.random() < 0.5 else own[rng.integers(len(own))])
        return Shown(rows, texts, texts)

    def wrong(self, row: int, rng: np.random.Generator, most: int) -> list[str]:
        """At most `most` captions of a scene with one thing wrong, of different kinds first."""
        scene = self.parsed[row]
        found = [wrong_relation(scene), swapped_colours(scene)]
        for several in (wrong_colours(scene), wrong_counts(scene)):
            if several:
                found.append(several[rng.integers(len(several))])
        wrong = [text for text in found if text]
        return [wrong[i] for i in rng.permutation(len(wrong))[:most]]
