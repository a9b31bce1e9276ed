"""The 1,000 ImageNet classes by WordNet offset, in the order of the classifier's outputs (sorted by id)."""

from __future__ import annotations

from bahumukha.data.imagenet import class_names
from recipes.clip.wordnet import offset_of


def class_offsets() -> list[int]:
    """Offsets in WordNet 3.0's data.noun, position = the classifier's output."""
    return [offset_of(wnid) for wnid, _ in class_names()]


def given_names() -> dict[int, str]:
    """Offset -> the fixed list's name, in lower case."""
    return {offset_of(wnid): name.lower() for wnid, name in class_names()}
