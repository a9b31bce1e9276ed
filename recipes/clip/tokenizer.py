"""The starter CLIP's tokenizer (`bahumukha.data.tokens`), multilingual from the start.

Trained on WordNet (English), the names and keywords of CLDR and the captions of TuxPaint's stamps in every language
they have.

    python -m recipes.clip.tokenizer --wordnet DATA.NOUN --cldr FOLDER --stamps FOLDER --out tokenizer.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from bahumukha.data.tokens import learn_tokenizer
from recipes.clip.wordnet import WordNet

VOCABULARY = 32_000
CONTEXT_LENGTH = 64
FIRST_LANGUAGES = "en te hi ta bn mr ur fr de es pt ru zh ja ar sw".split()
REPEAT = 4
"""Times that the text of a first language is counted, so that its words become whole tokens."""


def wordnet_texts(path: Path) -> Iterator[str]:
    """Words twice (they are what people ask for), glosses once."""
    for synset in WordNet.read(path).synsets.values():
        yield from synset.lemmas
        yield from synset.lemmas
        yield synset.gloss


def cldr_texts(folder: Path) -> Iterator[str]:
    """Every name and keyword of the npm package `cldr-annotations-full`, first languages several times."""
    for file in sorted(folder.glob("annotations*/*/annotations.json")):
        language = file.parent.name.split("-")[0]
        times = REPEAT if language in FIRST_LANGUAGES else 1
        annotations = json.loads(file.read_text(encoding="utf-8"))["annotations"]
        for entry in annotations.get("annotations", {}).values():  # some regions only name their language
            for text in [*entry.get("tts", []), *entry.get("default", [])]:
                yield from [text] * times


def stamp_texts(folder: Path) -> Iterator[str]:
    """Captions of TuxPaint's stamps: the first line English, then one `language.utf8=sentence` a line."""
    for file in sorted(folder.rglob("*.txt")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            language, separator, text = line.partition(".utf8=")
            if separator and text:
                yield from [text] * (REPEAT if language.split("_")[0] in FIRST_LANGUAGES else 1)
            elif line and not separator:
                yield line


def main() -> None:
    """Train on everything and write one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--wordnet", type=Path, required=True)
    parser.add_argument("--cldr", type=Path, required=True)
    parser.add_argument("--stamps", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    def texts() -> Iterator[str]:
        yield from wordnet_texts(args.wordnet)
        yield from cldr_texts(args.cldr)
        yield from stamp_texts(args.stamps)

    tokenizer = learn_tokenizer(texts(), VOCABULARY)
    tokenizer.enable_truncation(CONTEXT_LENGTH)
    tokenizer.save(str(args.out))
    for text in ("a photo of a golden retriever", "నల్ల పిల్లి", "ein roter Apfel", "मछली", "红苹果"):
        print(text, tokenizer.encode(text).tokens)


if __name__ == "__main__":
    main()
