"""What is said of a picture, anew each time it is shown: its name or a keyword, in some language, with or without its
style and the colour it was laid on.

    red apple · an apple · fruit, noto style · ఎర్ర ఆపిల్ · red apple on a yellow background, openmoji style

A scene's captions are sentences, each of them true and no better than the others; they are said as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bahumukha.data.pairs import About, Captions, choose_language
from bahumukha.data.scene_captions import grounded, styled
from bahumukha.data.scene_colours import COLOURS
from bahumukha.data.scene_words import TONGUES, with_article
from bahumukha.data.scenes import Ground

COUNTED = re.compile(r"(?!.*(?:[^s]s| of .*)$)[a-z][a-z -]*")
"""English names that an article may stand before: no proper names, nothing that looks like a plural."""


@dataclass(frozen=True)
class WordingConfig:
    """How captions are chosen; every probability in [0, 1]."""

    languages: dict[str, float] = field(default_factory=dict)
    """Share of each language, of those a picture has captions in; empty for all alike."""
    name: float = 0.75
    """Probability of the first caption, the name; else it is one of the others, the keywords."""
    article: float = 0.3
    """Probability of "a" or "an" before an English name that takes one."""
    style: float = 0.5
    """Probability that the style is said."""
    ground: float = 0.4
    """Probability that the colour of the ground is said, where the view is on one that is not white."""

    def __post_init__(self) -> None:
        for name in ("name", "article", "style", "ground"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        if any(share < 0 for share in self.languages.values()):
            raise ValueError("languages: a share is below 0")


def said(
    captions: Captions, about: About, ground: str | None, config: WordingConfig, random: np.random.Generator
) -> str:
    """A caption of a picture whose view is laid on the colour `ground`; None for white and for a ground of its own.

    The same generator state gives the same caption. A picture of which no style is told gets one of its captions.
    """
    language = choose_language(captions, config.languages, random)
    texts = captions[language]
    if not about.style:
        return texts[int(random.integers(len(texts)))] + _on(ground, language, config, random)
    text, is_name = texts[0], len(texts) == 1 or random.random() < config.name
    if not is_name:  # which may be an adjective or a verb
        text = texts[1 + int(random.integers(len(texts) - 1))]
    elif language == "en" and COUNTED.fullmatch(text) and random.random() < config.article:
        text = with_article(text)
    text += _on(ground, language, config, random)
    return styled(text, about.style) if random.random() < config.style else text


def plainly_said(captions: Captions, about: About, mix: Mapping[str, float]) -> str:
    """The name, in English or in the first language of `mix` that there is, and the style: to be validated on."""
    language = next((each for each in ("en", *mix) if each in captions), next(iter(captions)))
    name = captions[language][0]
    return styled(name, about.style) if about.style else name


def _on(ground: str | None, language: str, config: WordingConfig, random: np.random.Generator) -> str:
    """'' or ' on a yellow background', where the language can say it."""
    if ground is None or random.random() >= config.ground:
        return ""
    if language in ("en", ""):
        return grounded(Ground((ground,), (COLOURS[ground],)), random)
    tongue = TONGUES.get(language)
    return tongue.ground.format(colour=tongue.grounds[ground]) if tongue else ""
