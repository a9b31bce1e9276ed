"""The fixed list of coarser words that photographs are scored against, beside the names of ImageNet's classes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class CoarseWord:
    """A word, its synset, and the ids of the ImageNet classes that are a kind of it."""

    word: str
    synset: str
    classes: frozenset[str]


def coarse_words() -> list[CoarseWord]:
    """The fifteen coarse words, with what fits each."""
    text = files("bahumukha.evaluate").joinpath("coarse_words.json").read_text(encoding="utf-8")
    return [CoarseWord(w["word"], w["synset"], frozenset(w["classes"])) for w in json.loads(text)]
