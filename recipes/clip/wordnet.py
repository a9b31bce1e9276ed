"""WordNet 3.0 as a dictionary of what pictures show.

The number in an ImageNet id (n02123045) is the byte offset of its synset in WordNet's `data.noun`, so the
1,000 classes come with synonyms, a gloss and a chain of hypernyms ("tabby" is "a domestic cat", "a feline",
"a carnivore", "an animal"). Format of the file: the manual page wndb(5WN) of the package `wordnet-base`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

PHYSICAL_ENTITY = 1930  # offset of physical_entity.n.01: what can stand before a camera


@dataclass(frozen=True)
class Synset:
    """One meaning: its words, its gloss without the examples, and the offsets of what it is a kind of."""

    offset: int
    lemmas: tuple[str, ...]
    gloss: str
    hypernyms: tuple[int, ...]
    lexicographer_file: int


@dataclass
class WordNet:
    """All noun synsets by offset, with the ways up and down the tree."""

    synsets: dict[int, Synset]
    _ancestors: dict[int, frozenset[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> WordNet:
        """Parse `data.noun`."""
        synsets = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            if not line.startswith("  "):  # the licence is set in by two blanks
                synset = _parse(line)
                synsets[synset.offset] = synset
        return cls(synsets)

    def __getitem__(self, offset: int) -> Synset:
        return self.synsets[offset]

    def ancestors(self, offset: int) -> frozenset[int]:
        """Every hypernym above a synset, itself left out."""
        if offset not in self._ancestors:
            above: set[int] = set()
            for parent in self[offset].hypernyms:
                above |= {parent} | self.ancestors(parent)
            self._ancestors[offset] = frozenset(above)
        return self._ancestors[offset]

    @cached_property
    def hyponyms(self) -> dict[int, list[int]]:
        """Offset -> offsets of its direct kinds."""
        below: dict[int, list[int]] = defaultdict(list)
        for synset in self.synsets.values():
            for parent in synset.hypernyms:
                below[parent].append(synset.offset)
        return dict(below)

    def physical(self) -> list[int]:
        """Offsets of everything under physical_entity."""
        return [o for o in self.synsets if PHYSICAL_ENTITY in self.ancestors(o)]

    def classes_under(self, offset: int, classes: list[int]) -> list[int]:
        """Positions in `classes` (offsets) of those that are the synset or a kind of it."""
        return [i for i, c in enumerate(classes) if c == offset or offset in self.ancestors(c)]


def offset_of(wnid: str) -> int:
    """n02123045 -> 2123045."""
    return int(wnid[1:])


def _parse(line: str) -> Synset:
    record, _, gloss = line.partition(" | ")
    parts = record.split()
    count = int(parts[3], 16)
    lemmas = tuple(parts[4 + 2 * i].replace("_", " ") for i in range(count))
    at = 4 + 2 * count
    pointers = [parts[at + 1 + 4 * i : at + 5 + 4 * i] for i in range(int(parts[at]))]
    hypernyms = tuple(int(p[1]) for p in pointers if p[0] in ("@", "@i") and p[2] == "n")
    definition = gloss.split('; "')[0].strip()
    return Synset(int(parts[0]), lemmas, definition, hypernyms, int(parts[1]))
