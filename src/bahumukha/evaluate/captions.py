"""Pictures with captions from where people keep them: a `captions.jsonl`, a CSV, or a text file beside each picture.

- `captions.jsonl`, a line a picture, as this project's recipes write it:
  `{"file": "red-apple.png", "captions": {"en": ["a red apple", "fruit"]}, "key": "1f34e", "split": "train"}`;
  `captions` may be a list or one text too, then of no particular language; `key` (what pictures of one concept
  share) and `split` may be missing.
- CSV or TSV with a header: a column `path` (or filepath, file, filename, image) and a column `caption` (or title,
  text); several rows of one picture are its several captions; `language`, `split` and `key` may stand beside.
- a folder of pictures with `NAME.txt` beside `NAME.jpg`: a caption a line.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bahumukha.data.folders import find_images
from bahumukha.errors import UsageError

LISTING = "captions.jsonl"
PATH_COLUMNS = ("path", "filepath", "file", "filename", "image")
CAPTION_COLUMNS = ("caption", "title", "text")
ANY_LANGUAGE = ""
"""Of captions that do not say which language they are in."""


@dataclass(frozen=True)
class Captioned:
    """A picture, its captions, best first, and the key that it shares with other pictures of the same concept."""

    path: Path
    captions: tuple[str, ...]
    key: str


def read_captioned(
    source: Path, *, language: str | None = None, split: str | None = None, most: int | None = None
) -> list[Captioned]:
    """The captioned pictures of a folder, `captions.jsonl` or CSV; those without a caption that counts are left out.

    language: of the captions; None takes English where languages are named.
    split: only pictures of this split ("validation").
    most: captions a picture at most, the best ones.

    Raises UsageError, naming --captions, --language or --split, with what there is.
    """
    records = list(_records(source))
    if not records:
        raise UsageError(
            f"--captions {source}: no captioned pictures; give a folder with {LISTING}, with a NAME.txt beside each "
            "picture, or a CSV with columns path and caption"
        )
    wanted = _language(source, records, language)
    if split is not None:
        splits = sorted({record.split for record in records if record.split})
        records = [record for record in records if record.split == split]
        if not records:
            there = f"; there are {', '.join(splits)}" if splits else ", as it names no splits"
            raise UsageError(f"--split {split}: no picture of {source} is in it{there}")
    found: dict[Path, Captioned] = {}
    for record in records:
        captions = _unique(record.captions.get(wanted, ()))
        if captions:
            earlier = found.get(record.path)
            if earlier:
                captions = _unique([*earlier.captions, *captions])
            found[record.path] = Captioned(record.path, captions, record.key or str(record.path))
    if not found:
        raise UsageError(f"--captions {source}: no picture has a caption" + (f" in {wanted}" if wanted else ""))
    return [Captioned(each.path, each.captions[:most], each.key) for each in found.values()]


def concept(caption: str) -> str:
    """What makes two captions equal: letter case, outer blanks and a full stop at the end do not count."""
    return " ".join(caption.split()).rstrip(".").casefold()


@dataclass(frozen=True)
class _Record:
    path: Path
    captions: dict[str, list[str]]
    key: str | None = None
    split: str | None = None


def _records(source: Path) -> Iterator[_Record]:
    if not source.exists():
        raise UsageError(f"--captions {source}: there is no such file or folder")
    if source.is_dir():
        listing = source / LISTING
        return _from_listing(listing) if listing.is_file() else _from_neighbours(source)
    if source.suffix.lower() == ".jsonl":
        return _from_listing(source)
    if source.suffix.lower() in (".csv", ".tsv"):
        return _from_table(source)
    raise UsageError(f"--captions {source}: is neither a folder, a {LISTING}, nor a .csv or .tsv")


def _from_listing(file: Path) -> Iterator[_Record]:
    for number, line in enumerate(_text(file).splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            captions = entry["captions"]
            by_language = captions if isinstance(captions, dict) else {ANY_LANGUAGE: captions}
            texts = {k: [v] if isinstance(v, str) else [str(text) for text in v] for k, v in by_language.items()}
            yield _Record(file.parent / entry["file"], texts, entry.get("key"), entry.get("split"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f'--captions {file}: line {number} is not {{"file": …, "captions": …}}') from error


def _from_table(file: Path) -> Iterator[_Record]:
    lines = _text(file).splitlines(keepends=True)
    delimiter = "\t" if lines and "\t" in lines[0] else ","
    rows = csv.DictReader(lines, delimiter=delimiter)
    columns = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
    path = next((columns[name] for name in PATH_COLUMNS if name in columns), None)
    caption = next((columns[name] for name in CAPTION_COLUMNS if name in columns), None)
    if path is None or caption is None:
        there = ", ".join(filter(None, columns)) or "none"
        raise UsageError(f"--captions {file}: its first line must name columns path and caption; it names {there}")

    def cell(row: dict[str, Any], column: str) -> str | None:
        return (row.get(columns[column]) or "").strip() or None if column in columns else None

    for row in rows:
        if name := (row[path] or "").strip():
            texts = {cell(row, "language") or ANY_LANGUAGE: [row[caption] or ""]}
            yield _Record(file.parent / name, texts, cell(row, "key"), cell(row, "split"))


def _from_neighbours(folder: Path) -> Iterator[_Record]:
    for path in find_images([folder]):
        beside = path.with_suffix(".txt")
        if beside.is_file():
            yield _Record(path, {ANY_LANGUAGE: _text(beside).splitlines()})


def _language(source: Path, records: list[_Record], wanted: str | None) -> str:
    there = sorted({language for record in records for language in record.captions} - {ANY_LANGUAGE})
    if not there:
        if wanted is not None:
            raise UsageError(f"--language {wanted}: the captions of {source} do not say what language they are in")
        return ANY_LANGUAGE
    if wanted is None and "en" not in there and len(there) == 1:
        return there[0]
    if (wanted or "en") not in there:
        shown = ", ".join(there[:20]) + (f" and {len(there) - 20} more" if len(there) > 20 else "")
        raise UsageError(f"--language {wanted or 'en'}: no caption of {source} is in it; there are {shown}")
    return wanted or "en"


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    """Without empty texts and repetitions, order kept."""
    seen: dict[str, str] = {}
    for text in texts:
        if text := " ".join(text.split()):
            seen.setdefault(concept(text), text)
    return tuple(seen.values())


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UsageError(f"--captions {file}: cannot be read ({reason})") from error
