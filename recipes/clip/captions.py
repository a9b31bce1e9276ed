"""The sentences of stage 2 that speak of nouns: classes, what they are kinds of, and other physical nouns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from recipes.clip.classes import class_offsets, given_names
from recipes.clip.concepts import meanings
from recipes.clip.texts import Noun, nouns, phrase, sense_ranks, word_counts
from recipes.clip.wordnet import WordNet

MOST_CLASSES = 500
"""A kind of which more classes are is too wide to be asked for."""


class Captions:
    """Draws sentences of three kinds. `left_out` holds offsets of classes whose captions must not appear.

    `members` tells which classes are a kind of each noun above them, `kinds` which of those nouns are not too wide, and
    `word` what a word means.

    class      a word, synonym or gloss of one of the 1,000 ImageNet classes
    coarse     a word of a hypernym ("dog", "vehicle")
    noun       any other physical noun of WordNet
    """

    def __init__(
        self,
        wordnet: WordNet,
        ranks: dict[tuple[str, int], int],
        counts: dict[tuple[str, int], int],
        offsets: list[int],
        left_out: set[int],
    ):
        self.classes = class_offsets()
        self.hidden = words_of(wordnet, left_out)
        self.row = {o: i for i, o in enumerate(offsets)}
        self.wordnet = wordnet
        shown = [c for c in self.classes if c not in left_out]
        above = set().union(*(wordnet.ancestors(c) for c in shown)) & set(offsets) - set(shown)
        self.members = {o: np.isin(self.classes, [shown[i] for i in wordnet.classes_under(o, shown)]) for o in above}
        self.members |= {c: np.array([k == c for k in self.classes]) for c in shown}
        self.kinds = [o for o, members in self.members.items() if members.sum() <= MOST_CLASSES]
        known = [o for o in offsets if o not in left_out]
        word = meanings(wordnet, ranks, known, set(self.kinds))
        self.word = {w: o for w, o in word.items() if w not in self.hidden}
        self.class_nouns = self._with_given_names(shown, self._visible(nouns(wordnet, ranks, shown)))
        coarse = self._meant(nouns(wordnet, ranks, sorted(above)))
        self.coarse_nouns = [n for n in coarse if self.members[n.offset].sum() <= MOST_CLASSES]
        self.other_nouns = self._meant(nouns(wordnet, ranks, [o for o in known if o not in self.members]))
        near = {k for c in self.classes for p in wordnet[c].hypernyms for k in wordnet.hyponyms.get(p, [])}
        near |= {k for c in self.classes for k in wordnet.hyponyms.get(c, [])}
        self.chance = {
            "class": _chance([n.weight for n in self.class_nouns]),
            "coarse": _chance(  # "tool" and "bird" are asked for more often than "ungulate"
                [
                    n.weight * (1 + np.log2(1 + counts.get((n.word, ranks.get((n.word, n.offset), -1)), 0)))
                    for n in self.coarse_nouns
                ]
            ),
            "noun": _chance([n.weight * (6 if n.offset in near else 1) for n in self.other_nouns]),
        }

    @classmethod
    def read(cls, folder: Path, offsets: list[int], left_out: set[int]) -> Captions:
        """From WordNet's files (`data.noun`, `index.noun`, `cntlist.rev`) in `folder`."""
        ranks, counts = sense_ranks(folder / "index.noun"), word_counts(folder / "cntlist.rev")
        return cls(WordNet.read(folder / "data.noun"), ranks, counts, offsets, left_out)

    def _visible(self, found: Iterable[Noun]) -> list[Noun]:
        """Without the words that are left out, in whatever meaning."""
        return [n for n in found if n.word not in self.hidden]

    def _meant(self, found: Iterable[Noun]) -> list[Noun]:
        """Only those that are what their word means, so that no word has two targets."""
        return [n for n in found if self.word.get(n.word) == n.offset]

    def _gloss(self, offset: int) -> str | None:
        """The gloss, unless it speaks of a class that is left out."""
        gloss = self.wordnet[offset].gloss
        if self.hidden and any(
            re.search(rf"\b{re.escape(w)}s?\b", gloss, re.I) for w in self.hidden if w in gloss.lower()
        ):
            return None
        return gloss

    def _with_given_names(self, shown: list[int], synonyms: list[Noun]) -> list[Noun]:
        """The fixed list's names count as much as all synonyms together: they are what is asked most."""
        given = given_names()
        total = {c: sum(n.weight for n in synonyms if n.offset == c) for c in shown}
        named = [Noun(given[c], c, 1.5) for c in shown]
        return named + [Noun(n.word, n.offset, 1.0 * n.weight / total[n.offset]) for n in synonyms]

    def draw(self, kind: str, count: int, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
        """Sentences of a kind and the offsets that they speak of."""
        entries = {"class": self.class_nouns, "coarse": self.coarse_nouns, "noun": self.other_nouns}[kind]
        picked = [entries[i] for i in np.searchsorted(self.chance[kind], rng.random(count))]
        texts = [self._sentence(n, rng) for n in picked]
        return texts, np.array([n.offset for n in picked])

    def _sentence(self, noun: Noun, rng: np.random.Generator) -> str:
        chance = rng.random()
        if chance < 0.15 and (gloss := self._gloss(noun.offset)):
            return gloss if chance < 0.1 else f"{noun.word}, {gloss}"
        if chance < 0.5:
            return noun.word if rng.random() < 0.5 else f"a photo of a {noun.word}"
        return phrase(noun.word, rng)


def _chance(weights: list[float]) -> np.ndarray:
    return np.cumsum(np.array(weights) / np.sum(weights))


def words_of(wordnet: WordNet, offsets: set[int]) -> set[str]:
    """Every word of these synsets and the fixed list's names of them, in lower case."""
    given = given_names()
    words = {lemma.lower() for o in offsets for lemma in wordnet[o].lemmas}
    return words | {given[o] for o in offsets if o in given}
