"""Pictures with captions to train on, wherever they are kept: one `Source` for a folder, a table or shards.

- a folder: `captions.jsonl`, one line a picture, `{"file": "a.png", "captions": …}`, or `captions.csv` (or .tsv), or
  `NAME.txt` beside `NAME.jpg`, a caption a line;
- a CSV, TSV, Parquet or `.jsonl` file: a row a caption or a picture; in Parquet the picture may be the bytes themselves
  (or a struct with `bytes`, as Hugging Face writes it), which are then held in memory;
- WebDataset shards: `name-{000..003}.tar` (`data.shards`).

Captions are in languages: `{"en": ["a red apple", "fruit"], "te": "ఎర్ర ఆపిల్"}`; a text or a list alone is of the
language "". `split`, `style`, `key` and `scene` columns are understood as in the recipes' listings.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from bahumukha.data.folders import find_images
from bahumukha.errors import ImageError, UsageError
from bahumukha.images import open_image, shown

logger = logging.getLogger(__name__)

Captions = Mapping[str, tuple[str, ...]]
"""Language code -> texts; "" for a language that is not said."""

LISTINGS = ("captions.jsonl", "captions.csv", "captions.tsv")
TABLES = (".csv", ".tsv", ".parquet", ".jsonl")
IMAGE_NAMES = ("image", "path", "filepath", "file", "filename", "file_name")
CAPTION_NAMES = ("captions", "caption", "title", "text")


@dataclass(frozen=True)
class SourceConfig:
    """Where captioned pictures are, and how often they are drawn."""

    path: Path
    """A folder, a .csv, .tsv, .parquet or .jsonl file, or shards: `train-{000..003}.tar`, `train-*.tar`."""
    weight: float = 1.0
    """Share of the pictures seen that come from here, over the sum of all weights."""
    image: str = ""
    """Column with the picture's path or bytes; empty: one of image, path, filepath, file, filename. In shards, its
    ending (empty: any that a picture has)."""
    caption: str = ""
    """Column with the caption; empty: one of captions, caption, title, text. In shards, its ending: txt or json."""
    captions: dict[str, str] = field(default_factory=dict)
    """Language code -> column, for tables with a column a language."""
    language: str = ""
    """Of captions that do not say theirs."""
    root: Path | None = None
    """Folder that the paths of a table start from; its own folder when not given."""
    split: str = ""
    """Only pictures of this split, where rows name one."""

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"weight is {self.weight}; it must be above 0")


@dataclass(frozen=True)
class About:
    """What a listing tells of a picture besides captions."""

    style: str = ""
    """That it is drawn in; "" where none is told, or captions say it themselves, as a scene's do."""
    things: tuple[tuple[str, str], ...] = ()
    """(style, key) of each kind of thing in it."""


class Source(Protocol):
    """Captioned pictures by number."""

    @property
    def name(self) -> str:
        """As messages call it."""
        ...

    def __len__(self) -> int: ...

    def captions(self, index: int) -> Captions:
        """Of picture `index`, never empty."""
        ...

    def open(self, index: int, at_least: int) -> Image.Image:
        """Decode it (RGB, upright), its shortest side at least this long. Raises ImageError."""
        ...


@dataclass(frozen=True)
class Listed:
    """Pictures in files, or held in memory as the bytes of files, with their captions."""

    name: str
    pictures: Sequence[Path | bytes]
    texts: Sequence[Captions]
    about: Sequence[About] = ()
    """One a picture, or none at all."""

    def __len__(self) -> int:
        return len(self.pictures)

    def captions(self, index: int) -> Captions:
        """Of picture `index`."""
        return self.texts[index]

    def open(self, index: int, at_least: int) -> Image.Image:
        """Decode picture `index`. Raises ImageError."""
        picture = self.pictures[index]
        try:
            return open_image(picture, at_least=at_least)
        except ImageError as error:
            if isinstance(picture, Path):
                raise
            reason = str(error).removeprefix(f"{shown(picture)}: ")
            raise ImageError(f"{self.name}: picture {index}: {reason}") from error


def open_source(config: SourceConfig) -> Source:
    """List what a source holds; pictures are opened later. Raises UsageError naming the path and what is wrong."""
    path = config.path
    if path.suffix.lower() == ".tar":
        from bahumukha.data.shards import Shards

        return Shards(config)
    if not path.exists():
        raise UsageError(f"{shown(path)}: there is no such file or folder")
    if path.is_dir():
        listing = next((path / name for name in LISTINGS if (path / name).is_file()), None)
        rows = _table(listing, config) if listing else _neighbours(path, config)
    elif path.suffix.lower() in TABLES:
        rows = _table(path, config)
    else:
        raise UsageError(f"{shown(path)}: is neither a folder, nor one of {', '.join(TABLES)}, nor a .tar")
    return _listed(rows, config)


def choose_caption(captions: Captions, mix: Mapping[str, float], random: np.random.Generator) -> str:
    """One of the captions: first a language, by its share in `mix`, then one of its texts, all alike.

    Languages as `choose_language` has them.
    """
    texts = captions[choose_language(captions, mix, random)]
    return texts[int(random.integers(len(texts)))]


def choose_language(captions: Captions, mix: Mapping[str, float], random: np.random.Generator) -> str:
    """One that the picture has captions in, by its share in `mix`.

    Languages that `mix` does not name are left out, unless the picture has no other; without a mix all are alike.
    """
    languages = list(captions)
    shares = np.array([mix.get(language, 0.0) if mix else 1.0 for language in languages])
    if not shares.any():
        shares = np.ones(len(languages))
    return languages[int(np.searchsorted(np.cumsum(shares / shares.sum()), random.random(), "right"))]


def normal_captions(value: Any, language: str = "") -> dict[str, tuple[str, ...]]:
    """A text, a list, or either by language -> language -> texts, blanks tidied, empty ones gone.

    Raises TypeError for anything else.
    """
    if isinstance(value, str) and value.lstrip().startswith("{"):  # a table's cell with JSON in it
        value = json.loads(value)
    by_language = value if isinstance(value, Mapping) else {language: value}
    found = {}
    for code, texts in by_language.items():
        if texts is None:
            continue
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a caption is not a text")
        if tidy := tuple(dict.fromkeys(t for t in (" ".join(text.split()) for text in texts) if t)):
            found[str(code)] = tidy
    return found


# --- reading ----------------------------------------------------------------------------------------------

Row = tuple[Path | bytes, dict[str, tuple[str, ...]], About]


def _listed(rows: Iterable[Row], config: SourceConfig) -> Listed:
    """Rows of one picture are one picture with several captions; pictures without any are counted and left out."""
    pictures: list[Path | bytes] = []
    texts: list[dict[str, tuple[str, ...]]] = []
    told: list[About] = []
    place: dict[Path, int] = {}
    bare = 0
    for picture, captions, about in rows:
        if not captions:
            bare += 1
        elif isinstance(picture, Path) and picture in place:
            own = texts[place[picture]]
            for language, more in captions.items():
                own[language] = tuple(dict.fromkeys(own.get(language, ()) + more))
        else:
            if isinstance(picture, Path):
                place[picture] = len(pictures)
            pictures.append(picture)
            texts.append(captions)
            told.append(about)
    if bare:
        logger.warning("%s: %d pictures without a caption are left out", shown(config.path), bare)
    if not pictures:
        in_split = f" in split {config.split!r}" if config.split else ""
        raise UsageError(f"{shown(config.path)}: no pictures with captions{in_split}")
    return Listed(str(config.path), pictures, texts, told)


def _neighbours(folder: Path, config: SourceConfig) -> Iterator[Row]:
    for picture in find_images([folder]):
        beside = picture.with_suffix(".txt")
        if beside.is_file():
            yield picture, normal_captions(_text(beside).splitlines(), config.language), About()


def _table(file: Path, config: SourceConfig) -> Iterator[Row]:
    kind = file.suffix.lower()
    read = {".parquet": _parquet_rows, ".jsonl": _json_rows}.get(kind, _csv_rows)
    root = config.root or file.parent
    for number, row in enumerate(read(file, config), 1):
        if config.split and row.get("split") != config.split:
            continue
        image = row[_column(file, row, config.image, IMAGE_NAMES, "image")]
        if isinstance(image, Mapping):
            image = image.get("bytes") or image.get("path")
        if not image:
            continue
        picture = image if isinstance(image, bytes) else root / str(image)
        try:
            yield picture, _captions_of(file, row, config), _about(row)
        except (TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"{shown(file)}: the caption of row {number} is not text ({error})") from error


def _captions_of(file: Path, row: Mapping[str, Any], config: SourceConfig) -> dict[str, tuple[str, ...]]:
    language = row.get("language") or config.language
    if not config.captions:
        return normal_captions(row[_column(file, row, config.caption, CAPTION_NAMES, "caption")], language)
    return normal_captions(
        {code: row[_column(file, row, column, (), f"captions.{code}")] for code, column in config.captions.items()}
    )


def _about(row: Mapping[str, Any]) -> About:
    """Of pictograms, whose rows have `style` and `key`, or of a scene; of any other picture nothing."""
    scene, style, key = row.get("scene"), row.get("style"), row.get("key")
    if isinstance(scene, Mapping):
        objects = [each for each in scene.get("objects") or () if isinstance(each, Mapping)]
        return About("", tuple((str(each.get("style")), str(each.get("key"))) for each in objects))
    if not isinstance(style, str):
        return About()
    return About(style, ((style, key),) if isinstance(key, str) else ())


def _column(file: Path, row: Mapping[str, Any], asked: str, usual: Sequence[str], option: str) -> str:
    for name in (asked,) if asked else usual:
        if name in row:
            return name
    wanted = f"no column {asked!r}" if asked else f"none of the columns {', '.join(usual)}"
    raise UsageError(f"{shown(file)}: has {wanted}; it has {', '.join(map(str, row))}; name one with {option} = …")


def _csv_rows(file: Path, config: SourceConfig) -> Iterator[Mapping[str, Any]]:
    lines = _text(file).splitlines(keepends=True)
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    for row in csv.DictReader(lines, delimiter=delimiter):
        yield {(name or "").strip(): value for name, value in row.items() if isinstance(name, str)}


def _json_rows(file: Path, config: SourceConfig) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(_text(file).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{shown(file)}: line {number} is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise UsageError(f"{shown(file)}: line {number} is not a JSON object")
        yield row


def _parquet_rows(file: Path, config: SourceConfig) -> Iterator[Mapping[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UsageError(f"{shown(file)}: reading Parquet takes pyarrow; pip install pyarrow") from error
    try:
        with parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=256):
                yield from batch.to_pylist()
    except (OSError, ArrowException) as error:
        raise UsageError(f"{shown(file)}: not a Parquet file ({' '.join(str(error).split())[:120]})") from error


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UsageError(f"{shown(file)}: cannot be read ({reason})") from error
