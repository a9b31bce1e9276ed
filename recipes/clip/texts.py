"""The sentences that the text tower learns from: words of WordNet in the phrases in which people ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from recipes.clip.wordnet import WordNet

TEMPLATES = (
    "{}",
    "a {}",
    "the {}",
    "a photo of a {}",
    "a photo of a {}.",
    "a photo of the {}",
    "a picture of a {}",
    "an image of a {}",
    "a close-up photo of a {}",
    "a good photo of a {}",
    "a bad photo of a {}",
    "a photograph of one {}",
    "my {}",
    "some {}",
    "many {}",
    "this is a {}",
    "a photo of my {}",
    "there is a {} in the picture",
    "two {}",
    "a {} {}",
    "a very {} {}",
    "a {} {} {}",
    "a very {} {} {}",
    "a photo of a {} {}",
    "a {} in {}",
    "a photo of a {} on {}",
)
ADJECTIVES = (
    "big small large little tiny huge fat thin old young new white black red blue green yellow brown gray grey "
    "orange pink purple dark bright happy sad cute beautiful ugly wild clean dirty wooden metal shiny fluffy wet "
    "sleeping sitting standing running lonely"
).split()
PLACES = (
    "the snow|the grass|a table|the water|the street|the forest|a garden|a room|the sky|a box|the sea|the desert|"
    "a city|a field|the sand|a kitchen|the park|winter|summer|the night|the sun|the rain|a zoo|a house|white|black"
).split("|")
VOWELS = "aeiou"


def phrase(word: str, rng: np.random.Generator, templates: Sequence[str] = TEMPLATES) -> str:
    """One sentence about a word: a random template, adjectives and place filled in, articles put right."""
    template = templates[rng.integers(len(templates))]
    blanks = template.count("{}")
    place = template.endswith((" in {}", " on {}"))
    fillers = [ADJECTIVES[rng.integers(len(ADJECTIVES))] for _ in range(blanks - 1 - place)]
    fillers += [word] + ([PLACES[rng.integers(len(PLACES))]] if place else [])
    text = template.format(*fillers)
    words = text.split(" ")
    for i in range(len(words) - 1):
        if words[i] == "a" and words[i + 1][:1].lower() in VOWELS:
            words[i] = "an"
    return " ".join(words)


def sense_ranks(index_noun: Path) -> dict[tuple[str, int], int]:
    """(lemma in lower case, offset) -> 0 for the lemma's most frequent meaning, 1 for the next…

    From WordNet's `index.noun`, which lists a word's synsets by how often a tagged corpus uses them.
    """
    ranks = {}
    for line in index_noun.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            continue
        parts = line.split()
        count = int(parts[2])
        for rank, offset in enumerate(parts[-count:]):
            ranks[parts[0].replace("_", " "), int(offset)] = rank
    return ranks


def word_counts(cntlist: Path) -> dict[tuple[str, int], int]:
    """(lemma, rank of the meaning from 0) -> times that WordNet's tagged texts use it, from `cntlist.rev`."""
    counts = {}
    for line in cntlist.read_text(encoding="utf-8").splitlines():
        key, number, count = line.split()
        lemma, _, rest = key.partition("%")
        if rest.startswith("1:"):  # nouns
            counts[lemma.replace("_", " "), int(number) - 1] = int(count)
    return counts


@dataclass(frozen=True)
class Noun:
    """A word in one of its meanings; `weight` says how often to draw it."""

    word: str
    offset: int
    weight: float


def nouns(wordnet: WordNet, ranks: dict[tuple[str, int], int], offsets: Sequence[int]) -> Iterator[Noun]:
    """Each word of each synset; a word's rarer meanings seldom: 1, 1/9, 1/25…"""
    for offset in offsets:
        for lemma in wordnet[offset].lemmas:
            word = lemma.split("(")[0].lower()
            rank = ranks.get((word, offset), 3)
            yield Noun(word, offset, (1 + 2 * rank) ** -2)


def encode_batch(tokenizer: Tokenizer, texts: Sequence[str], limit: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Texts -> ids and mask, int64 (B, L), padded to the longest (at most `limit`)."""
    rows = [e.ids[:limit] for e in tokenizer.encode_batch(list(texts))]
    length = max(map(len, rows))
    ids = np.zeros((len(rows), length), np.int64)
    mask = np.zeros((len(rows), length), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask


@torch.no_grad()
def in_parts(
    tower: Callable[[Tensor, Tensor], Tensor], tokenizer: Tokenizer, texts: Sequence[str], limit: int = 64
) -> Tensor:
    """`tower` over any number of texts, 256 at a time, without gradients."""
    parts = []
    for start in range(0, len(texts), 256):
        ids, mask = encode_batch(tokenizer, texts[start : start + 256], limit)
        parts.append(by_length(tower, torch.from_numpy(ids), torch.from_numpy(mask)))
    return torch.cat(parts)


def by_length(tower: Callable[[Tensor, Tensor], Tensor], ids: Tensor, mask: Tensor, groups: int = 4) -> Tensor:
    """`tower(ids, mask)` over sentences sorted by length in a few groups, each padded only to its own longest.

    Words and glosses share a batch: without this, two thirds of the work would be spent on padding.
    """
    lengths = mask.sum(1)
    order = lengths.argsort()
    parts = [tower(ids[rows, : lengths[rows[-1]]], mask[rows, : lengths[rows[-1]]]) for rows in order.chunk(groups)]
    return torch.cat(parts)[order.argsort()]
