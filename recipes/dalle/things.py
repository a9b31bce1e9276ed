"""Listings of the drawings that show one thing: no flags, symbols, people, clock faces, and nothing without a category.

    python -m recipes.dalle.things DATA/pictures/noto DATA/pictures/twemoji ...

Writes `things.jsonl` beside each folder's `captions.jsonl`, the same rows and fewer, and `closed.jsonl`, those of the
closed vocabulary. A small model learns a drawing by seeing it some fifty times; what nobody asks it for is left out, so
that the rest is seen more often.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bahumukha.evaluate.captions import LISTING
from recipes.dalle.vocabulary import THINGS

CATEGORIES = {"animals nature", "food drink", "objects", "activities", "travel places", "smileys emotion"}
CLOCK = re.compile(r"\bo.clock\b|-thirty\b")


def is_thing(row: dict[str, Any]) -> bool:
    """Whether a row of `captions.jsonl` shows one that somebody would ask for."""
    category = " ".join(row["category"].replace("&", " ").split())
    names = row["captions"].get("en", [])
    return category in CATEGORIES and bool(names) and not CLOCK.search(names[0])


def things(listing: Path) -> Iterator[str]:
    """The lines of `captions.jsonl` that show one thing."""
    with listing.open(encoding="utf-8") as file:
        yield from (line for line in file if is_thing(json.loads(line)))


def is_closed(line: str) -> bool:
    """Whether a line is of a thing of the closed vocabulary, by its English name."""
    return json.loads(line)["captions"]["en"][0] in THINGS


def main(arguments: list[str] | None = None) -> None:
    """Write `things.jsonl` into each folder."""
    parser = argparse.ArgumentParser(prog="recipes.dalle.things", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="of one style each, with captions.jsonl")
    args = parser.parse_args(arguments)
    for folder in args.folders:
        if not (folder / LISTING).is_file():
            parser.error(f"{folder}: holds no {LISTING}; recipes/pictograms/README.md says how it is made")
        lines = list(things(folder / LISTING))
        closed = list(filter(is_closed, lines))
        (folder / "things.jsonl").write_text("".join(lines), encoding="utf-8")
        (folder / "closed.jsonl").write_text("".join(closed), encoding="utf-8")
        print(f"{folder}: {len(lines)} drawings of things, {len(closed)} of them of the closed vocabulary")


if __name__ == "__main__":
    main()
