"""The gallery, docs/gallery.md: a fixed list of prompts, drawers and seeds, painted with the starter models.

    python -m recipes.gallery [--work DIR] [--docs docs] [--minutes M] [--set KEY=VALUE]...

Paints what `recipes/gallery.toml` lists into DIR as PNGs that hold all their settings; what is there with the same
settings and models is not painted again, and after M minutes no further picture is begun. Then it writes small WebP
pictures to docs/gallery/ and the page, with what is there; pictures whose model is not there are left out and told.
`--set` holds for all of them (to try the page at a tiny size).
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from bahumukha.cli.generate import file_name
from bahumukha.errors import BahumukhaError, ModelError, UsageError
from recipes.painting import Made, Settings, find_made, paint

LIST = Path(__file__).with_name("gallery.toml")
MOST_BYTES = 1_500_000
"""Of all pictures together."""
SIDE = 224
"""Pixels of the longer side on the page, at most."""
QUALITIES = (88, 80, 70, 60)
"""Of WebP; the first with which all pictures fit into `MOST_BYTES`."""
COLUMNS = 3

HEAD = """# Gallery

Made by `python -m recipes.gallery` with the starter models, one thread each of a busy processor of two cores, which
takes twice the time of both. None was chosen among several seeds; each command makes its picture again, bit for bit
with as many threads on one machine.
"""


@dataclass(frozen=True)
class Entry:
    """One picture of the list."""

    prompt: str
    drawer: str
    seed: str = "0"
    quality: str = "normal"
    set: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of its files, without ending."""
        return f"{self.drawer}-{file_name(self.prompt, self.seed)}"

    @property
    def settings(self) -> Settings:
        return Settings(self.drawer, self.quality, self.seed, overrides=self.set)

    @property
    def command(self) -> str:
        """What makes it again."""
        words = ["bahu", "generate", self.prompt, "--drawer", self.drawer, "--seed", self.seed]
        words += [] if self.quality == "normal" else ["--quality", self.quality]
        return shlex.join(words + [word for each in self.set for word in ("--set", each)])


@dataclass(frozen=True)
class Section:
    """Pictures of one kind, under a title."""

    title: str
    text: str
    entries: tuple[Entry, ...]


def read_list(path: Path, overrides: Sequence[str] = ()) -> list[Section]:
    """The sections of the list; `overrides` are added to each picture's. Raises UsageError."""
    sections = []
    for table in tomllib.loads(path.read_text(encoding="utf-8"))["section"]:
        title, text, pictures = table.pop("title"), table.pop("text"), table.pop("pictures")
        sections.append(Section(title, text, tuple(_entry(table | each, overrides) for each in pictures)))
    names = [entry.name for section in sections for entry in section.entries]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"{path.name}: {sorted(twice)[0]} is listed twice; give one of them another seed")
    return sections


def _entry(table: dict[str, Any], overrides: Sequence[str]) -> Entry:
    own = {"set": (*table.get("set", ()), *overrides), "seed": str(table.get("seed", 0))}
    return Entry(**table | own)


def paint_list(entries: Sequence[Entry], work: Path, minutes: float | None) -> dict[Entry, Made]:
    """The pictures that are there in the end. Says on stderr which are not, and why."""
    until = None if minutes is None else time.monotonic() + 60 * minutes
    made: dict[Entry, Made] = {}
    for entry in entries:
        path = work / f"{entry.name}.png"
        try:
            config = entry.settings.of(entry.prompt)
            found = find_made(config, path)
            if found is None and until is not None and time.monotonic() >= until:
                print(f"{entry.name}: not begun, the time is over", file=sys.stderr)
                continue
            made[entry] = found or paint(config, path)
        except ModelError as error:
            print(f"{entry.name}: left out; {error}", file=sys.stderr)
            continue
        print(f"{entry.name}: {made[entry].seconds:.0f} s, score {made[entry].score:.3f}", flush=True)
    return made


def write_pictures(made: dict[Entry, Made], folder: Path) -> int:
    """Small WebP pictures of all, older ones gone; returns their bytes together.

    Raises UsageError if they do not fit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.webp"):
        old.unlink()
    for quality in QUALITIES:
        total = 0
        for entry, each in made.items():
            picture = each.open()
            picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            path = folder / f"{entry.name}.webp"
            picture.save(path, quality=quality, method=6)
            total += path.stat().st_size
        if total <= MOST_BYTES:
            return total
    raise UsageError(f"{folder}: the pictures take {total:,} bytes together; {MOST_BYTES:,} are allowed, list fewer")


def page(sections: Sequence[Section], made: dict[Entry, Made], folder: str = "gallery") -> str:
    """The page in Markdown: a table a section, under each picture its prompt, its command, its seconds."""
    parts = [HEAD]
    for section in sections:
        there = [entry for entry in section.entries if entry in made]
        if not there:
            continue
        parts += [f"## {section.title}", "", section.text, ""]
        columns = min(COLUMNS, len(there))
        parts += ["|" + " |" * columns, "|" + ":-:|" * columns]
        for start in range(0, len(there), columns):
            row = there[start : start + columns]
            cells = [_cell(entry, made[entry], folder) for entry in row] + [""] * (columns - len(row))
            parts.append("| " + " | ".join(cells) + " |")
        parts.append("")
    return "\n".join(parts)


def _cell(entry: Entry, made: Made, folder: str) -> str:
    picture = f"![{entry.prompt}]({folder}/{entry.name}.webp)"
    told = f"**{entry.prompt}**<br>seed {entry.seed}, {made.seconds:.0f} s<br>`{entry.command}`"
    return f"{picture}<br>{told}".replace("|", "\\|")  # else it would end the cell, also within a code span


def main(arguments: list[str] | None = None) -> int:
    """Paint what is missing, then write pictures and page; 1 when there is no picture at all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("gallery-work"), help="where the PNGs are kept")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every picture")
    args = parser.parse_args(arguments)
    try:
        sections = read_list(LIST, args.set)
        made = paint_list([entry for each in sections for entry in each.entries], args.work, args.minutes)
        if not made:
            raise UsageError("there is no picture for the gallery; give more --minutes")
        size = write_pictures(made, args.docs / "gallery")
        (args.docs / "gallery.md").write_text(page(sections, made), encoding="utf-8")
    except BahumukhaError as error:
        parser.exit(1, f"error: {error}\n")
    print(f"{len(made)} pictures, {size:,} bytes, in {args.docs / 'gallery.md'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
