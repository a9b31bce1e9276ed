"""The fixed lists that photographs are scored against: the names of ImageNet's classes, and coarser words for them."""

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


def class_names() -> list[tuple[str, str]]:
    """(WordNet id, name) of the 1,000 classes of ImageNet-1k, sorted by id; no two names are alike."""
    text = files("bahumukha.evaluate").joinpath("imagenet_names.txt").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    return [(wnid, name) for wnid, name in rows]


def coarse_words() -> list[CoarseWord]:
    """The fifteen coarse words, with what fits each."""
    text = files("bahumukha.evaluate").joinpath("coarse_words.json").read_text(encoding="utf-8")
    return [CoarseWord(w["word"], w["synset"], frozenset(w["classes"])) for w in json.loads(text)]
