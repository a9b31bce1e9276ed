"""Model cards: what a model is, what it was made from, under which licence; for people and `bahu models`.

A `card.md` is Markdown after a block of plain `key: value` lines (a small subset of YAML):

    ---
    licence: Apache-2.0
    summary: Photographs and pictograms against short descriptions.
    ---
    # starter/clip
    ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bahumukha.errors import ModelError
from bahumukha.zoo.folder import CARD, read_json


@dataclass(frozen=True)
class Card:
    """One model of the zoo."""

    name: str
    kind: str
    """`clip`, `vqgan`, `dalle` or `unclip`, from config.json."""
    licence: str
    summary: str
    size: int
    """Bytes on disk of the whole folder."""
    folder: Path
    details: Mapping[str, str] = field(default_factory=dict)
    """Further keys of the front matter, in the order of the file."""
    text: str = ""
    """The Markdown below the front matter."""


def read_card(folder: str | Path, name: str | None = None) -> Card:
    """The card of the model in `folder`, called `name` or else what its config.json says.

    A folder without a card.md gets a card of licence "not stated". Raises ModelError.
    """
    folder = Path(folder)
    config = read_json(folder)
    details, text = _read_markdown(folder / CARD)
    return Card(
        name=name or str(config.get("name") or folder.name),
        kind=config["kind"],
        licence=details.pop("licence", "") or details.pop("license", "") or "not stated",
        summary=details.pop("summary", ""),
        size=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        folder=folder,
        details=details,
        text=text,
    )


def parse_card(markdown: str) -> tuple[dict[str, str], str]:
    """Markdown -> (front matter with lower-case keys, the text below it).

    Without a block between `---` lines at the very top, the front matter is empty. Raises ValueError, which
    tells the line, when the block is not closed or a line of it is not `key: value`.
    """
    lines = markdown.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].strip() != "---":
        return {}, markdown.strip()
    details: dict[str, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        if line.strip() == "---":
            return details, "\n".join(lines[number:]).strip()
        key, colon, value = line.partition(":")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not colon or not key.strip():
            raise ValueError(f"line {number} is {line!r}; the front matter takes lines of `key: value`")
        details[key.strip().lower()] = value.strip().strip("\"'")
    raise ValueError("the front matter is not closed by a line of ---")


def _read_markdown(path: Path) -> tuple[dict[str, str], str]:
    if not path.is_file():
        return {}, ""
    try:
        return parse_card(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {error}") from error
