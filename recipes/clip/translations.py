"""Words of other languages beside the English that they mean, for distilling translations toward English vectors.

    cldr       names and keywords of every emoji (Unicode CLDR), all first languages
    stamps     sentences of TuxPaint's stamps
    freedict   bilingual dictionaries (FreeDict), those entries whose English is a physical noun of WordNet

Each becomes a `Pair(language, text, english, weight)`: the text tower shall bring `text` to where the teacher has
`english`. A keyword is a looser translation of its emoji's name than the name itself, so it weighs less.

    python -m recipes.clip.translations --cache CACHE --wordnet DATA.NOUN --minilm FOLDER --pictures PICTURES \\
        --out translations.npz
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recipes.clip.tokenizer import FIRST_LANGUAGES
from recipes.clip.wordnet import WordNet
from recipes.fetch import add_cache_option, folder_of

NAME, SENTENCE, ENTRY, KEYWORD = 1.0, 0.7, 0.25, 0.08
"""Weights of an emoji's name, a stamp's sentence, a dictionary's entry and an emoji's keyword."""

FREEDICT = {
    "eng-ara": "ar",
    "eng-deu": "de",
    "eng-fra": "fr",
    "eng-hin": "hi",
    "eng-por": "pt",
    "eng-rus": "ru",
    "eng-spa": "es",
    "eng-swh": "sw",
    "fra-eng": "fr",
    "por-eng": "pt",
    "spa-eng": "es",
    "swh-eng": "sw",
}
"""Dictionary -> the language that is not English."""

HEADWORD = re.compile(r"^(?P<word>[^\s/<(][^/<(]*?) /[^/]+/(?: <(?P<kind>[^>]*)>)?\s*$")
NOUN_KINDS = ("n", "noun", "fem", "masc", "neut")


@dataclass(frozen=True)
class Pair:
    """`text` in `language` means `english`; `weight` says how often to draw it."""

    language: str
    text: str
    english: str
    weight: float


@dataclass(frozen=True)
class Translations:
    """Texts (N) of all languages; `row` (N,) says which of the `english` texts each means, `name` is the teacher's
    vector of each of those, float16 (E, 384)."""

    texts: list[str]
    languages: np.ndarray
    row: np.ndarray
    english: list[str]
    name: np.ndarray
    chance: np.ndarray

    @classmethod
    def read(cls, path: Path) -> Translations:
        """What `main` wrote; every language is drawn equally often."""
        with np.load(path) as archive:
            languages, weight = archive["language"], archive["weight"].astype(np.float64)
            for language in np.unique(languages):
                weight[languages == language] /= weight[languages == language].sum()
            texts, english = archive["text"].tolist(), archive["english"].tolist()
            return cls(texts, languages, archive["row"], english, archive["name"], np.cumsum(weight / weight.sum()))

    def without(self, words: set[str]) -> Translations:
        """Leave out every text whose English has one of these words, in the singular or plural."""
        if not words:
            return self
        pattern = re.compile(r"\b(?:" + "|".join(re.escape(w) for w in sorted(words)) + r")(?:s|es)?\b", re.I)
        shown = np.array([not pattern.search(text) for text in self.english])[self.row]
        weight = np.diff(self.chance, prepend=0.0) * shown
        return replace(self, chance=np.cumsum(weight / weight.sum()))

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Positions (count,) of texts."""
        return np.searchsorted(self.chance, rng.random(count)).clip(max=len(self.texts) - 1)


def cldr_pairs(folders: Iterable[Path], languages: Iterable[str] = FIRST_LANGUAGES) -> Iterator[Pair]:
    """Names and keywords of every emoji in each language, English among them (a name with its own keywords)."""
    folders = list(folders)
    english = _annotations(folders, "en")
    for language in languages:
        for points, entry in _annotations(folders, language).items():
            name = english.get(points, {}).get("tts", [None])[0]
            if name is None or "skin tone" in name:
                continue
            own = entry.get("tts", [])
            for text in own:
                yield Pair(language, text, name, NAME)
            for text in entry.get("default", []):
                if text not in own:
                    yield Pair(language, text, name, KEYWORD)


def _annotations(folders: Iterable[Path], language: str) -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = {}
    for folder in folders:
        for kind in ("annotations", "annotationsDerived"):
            file = folder / kind / language / "annotations.json"
            if file.is_file():
                found |= json.loads(file.read_text(encoding="utf-8"))[kind]["annotations"]
    return found


def stamp_pairs(listing: Path, languages: Iterable[str] = FIRST_LANGUAGES) -> Iterator[Pair]:
    """Sentences of the training split of `stamps/captions.jsonl`."""
    wanted = set(languages) - {"en"}
    for line in listing.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["split"] == "train":
            english = record["captions"]["en"][0]
            for language, captions in record["captions"].items():
                base = re.split("[-_]", language)[0]
                if base in wanted:
                    yield Pair(base, captions[0], english, SENTENCE)


def freedict_pairs(lines: Iterable[str], language: str, english_first: bool, nouns: frozenset[str]) -> Iterator[Pair]:
    """Entries of one dictionary in dictd's text form whose English side is in `nouns` (lower case).

    An entry is `headword /pronunciation/ <kind>`, then a line for each meaning; its first meaning is taken, and of
    that the first of several translations.
    """
    word = None
    for line in lines:
        if head := HEADWORD.match(line):
            kind = (head["kind"] or "n").lower().split(",")[0].strip()
            word = head["word"].strip() if kind in NOUN_KINDS else None
        elif word and (meaning := _first_translation(line)):
            english, other = (word, meaning) if english_first else (meaning, word)
            if english.lower() in nouns and english.lower() != other.lower():
                yield Pair(language, other, english.lower(), ENTRY)
            word = None


def _first_translation(line: str) -> str | None:
    """'1. आक्रमण~कर्ता <masc>, other' -> 'आक्रमण कर्ता'; None for a line that holds no translation."""
    if re.match(r"\s*(?:$|Note:|Synonyms?:|see:|\")", line):
        return None
    bare = re.sub(r"^\s*\d+\.\s*|<[^>]*>|\[[^\]]*\]|\([^)]*\)|\{[^}]*\}", " ", line).replace("~", " ")
    first = re.split(r"[;,،/]| - ", bare)[0]
    first = " ".join(first.split()).strip(" .")
    return first if len(first) <= 40 and any(c.isalpha() for c in first) else None


def read_freedict(folder: Path, name: str) -> list[str]:
    """The lines of one dictionary, from the gzip-compatible `.dict.dz` of its Debian package."""
    with gzip.open(folder / f"usr/share/dictd/freedict-{name}.dict.dz", "rt", encoding="utf-8") as file:
        return file.read().splitlines()


def main() -> None:
    """Write pairs and the teacher's vector of every English side."""
    from recipes.clip.teacher import SentenceEncoder

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--wordnet", type=Path, required=True, help="data.noun of WordNet 3.0")
    parser.add_argument("--minilm", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True, help="folder that holds stamps/captions.jsonl")
    parser.add_argument("--out", type=Path, required=True)
    add_cache_option(parser)
    args = parser.parse_args()

    wordnet = WordNet.read(args.wordnet)
    nouns = frozenset(lemma.lower() for o in wordnet.physical() for lemma in wordnet[o].lemmas)
    folders = [folder_of(name, args.cache) for name in ("cldr-annotations-full", "cldr-annotations-derived-full")]
    pairs = list(cldr_pairs(folders)) + list(stamp_pairs(args.pictures / "stamps" / "captions.jsonl"))
    for name, language in FREEDICT.items():
        lines = read_freedict(folder_of(f"dict-freedict-{name}", args.cache), name)
        found = list(freedict_pairs(lines, language, name.startswith("eng"), nouns))
        print(f"freedict {name}: {len(found)} entries", flush=True)
        pairs += found
    pairs = list(dict.fromkeys(pairs))
    english = sorted({p.english for p in pairs})
    row = {text: i for i, text in enumerate(english)}
    print(f"{len(pairs)} pairs, {len(english)} English texts", Counter(p.language for p in pairs), flush=True)
    np.savez(
        args.out,
        language=np.array([p.language for p in pairs]),
        text=np.array([p.text for p in pairs]),
        weight=np.array([p.weight for p in pairs], np.float32),
        row=np.array([row[p.english] for p in pairs]),
        english=np.array(english),
        name=SentenceEncoder(args.minilm)(english).astype(np.float16),
    )


if __name__ == "__main__":
    main()
