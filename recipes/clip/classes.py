"""The 1,000 ImageNet classes by WordNet offset, in the order of the classifier's outputs (sorted by id)."""

from __future__ import annotations

from bahumukha.data.imagenet import class_names
from recipes.clip.wordnet import offset_of


def class_offsets() -> list[int]:
    """Offsets in WordNet 3.0's data.noun, position = the classifier's output."""
    return [offset_of(wnid) for wnid, _ in class_names()]
