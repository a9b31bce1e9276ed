"""Which row of the table of targets a text means: nouns of WordNet, and the names of captioned pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from recipes.clip.teacher import SentenceEncoder
from recipes.clip.texts import Noun, nouns
from recipes.clip.wordnet import WordNet

ANIMAL = 5
"""WordNet's lexicographer file of animals."""
RAREST = 2
"""The third meaning of a word is the last that may be taken for its first."""


def meanings(
    wordnet: WordNet, ranks: dict[tuple[str, int], int], offsets: Sequence[int], shown: set[int]
) -> dict[str, int]:
    """Word in lower case -> the offset that a caption of a picture most likely means by it.

    That is its most frequent meaning among the offsets, unless only a rarer one is `shown` by labelled pictures: to
    WordNet, a whale is "a very large person" before it is a cetacean. (Animals stay: no photograph of the 1,000
    classes shows a mouse, yet the word does not mean the computer's first.)
    """
    known: dict[str, list[Noun]] = {}
    for noun in nouns(wordnet, ranks, list(offsets)):
        known.setdefault(noun.word, []).append(noun)
    found = {}
    for word, own in known.items():
        own.sort(key=lambda noun: -noun.weight)
        first = own[0].offset
        if first not in shown and wordnet[first].lexicographer_file != ANIMAL:
            pictured = [n.offset for n in own if n.offset in shown and ranks.get((n.word, n.offset), 9) <= RAREST]
            first = pictured[0] if pictured else first
        found[word] = first
    return found


@dataclass(frozen=True)
class Concepts:
    """Names of captioned pictures (lower case): where each starts from, (N, dim), and which ones stay there."""

    names: list[str]
    start: np.ndarray
    fixed: np.ndarray

    @classmethod
    def place(
        cls,
        names: Iterable[str],
        known: dict[str, np.ndarray],
        guessed: dict[str, np.ndarray],
        encode: SentenceEncoder,
        ridge: float = 0.5,
    ) -> Concepts:
        """A name that is a word with a known target stays there; one with a guess starts there; any other starts where
        names like it lie (kernel ridge regression on the sentence encoder's vectors, from the known words)."""
        names = sorted(set(names))
        words = sorted(known)
        ours, theirs = encode(names), encode(words)
        target = np.stack([known[word] for word in words])
        mean = target.mean(0)

        def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return np.exp(2 * (a @ b.T - 1))

        weights = np.linalg.solve(kernel(theirs, theirs) + ridge * np.eye(len(words)), target - mean)
        start = kernel(ours, theirs) @ weights + mean
        for i, name in enumerate(names):
            start[i] = known.get(name, guessed.get(name, start[i]))
        start /= np.linalg.norm(start, axis=1, keepdims=True)
        return cls(names, start.astype(np.float32), np.array([name in known for name in names]))
