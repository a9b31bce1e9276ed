"""Pictures with captions as all picture recipes write them: one folder a source, PNG files and `captions.jsonl`.

Each line of `captions.jsonl` is a `CaptionedPicture`. A concept ("red apple") is in the same split in every source and
style, because the split hangs on a hash of its English name alone.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

LONGEST_SIDE = 288  # pixels: enough for crops of a 224 px model
VALIDATION_PERCENT = 5
ARTICLES = re.compile(r"^(?:a|an|the|some)\s+", re.I)


@dataclass(frozen=True)
class CaptionedPicture:
    """One picture; `captions` maps a language code ("en", "te", "pt-BR") to sentences or names, best first.

    `key` names the concept within the source ("1f34e", or a slug such as "red-apple"); `file` is relative to the
    listing's folder; `split` is "train", "validation" or "held-out-style".
    """

    file: str
    source: str
    style: str
    key: str
    captions: dict[str, list[str]]
    category: str
    licence: str
    split: str


def slug(text: str) -> str:
    """'A red apple.' -> 'red-apple': what two captions of one concept have in common."""
    bare = ARTICLES.sub("", text.strip().lower())
    return re.sub(r"[\W_]+", "-", bare).strip("-")


def split_of(english_name: str) -> str:
    """The split of a concept, from the hash of the slug of its English name: 5% "validation", else "train"."""
    digest = hashlib.sha256(slug(english_name).encode()).digest()
    return "validation" if int.from_bytes(digest[:4], "big") % 100 < VALIDATION_PERCENT else "train"


def unique(texts: Iterable[str]) -> list[str]:
    """Without empty texts and repetitions (letter case aside), order kept."""
    seen: dict[str, str] = {}
    for text in texts:
        text = " ".join(text.split())
        if text:
            seen.setdefault(text.casefold(), text)
    return list(seen.values())


def merged(first: CaptionedPicture, other: CaptionedPicture) -> CaptionedPicture:
    """`first` with the captions of another record of the same picture behind its own."""
    languages = sorted(first.captions.keys() | other.captions.keys())
    captions = {k: unique(first.captions.get(k, []) + other.captions.get(k, [])) for k in languages}
    return replace(first, captions=captions)


@dataclass
class Listing:
    """Collects records of one source; a picture that was there before only adds its captions to the first one.

    nearest: pictures whose thumbnails differ by less than this (root mean square of premultiplied RGBA, 0 to 255) are
    the same picture too; 0 takes equal bytes alone.
    """

    folder: Path
    nearest: float = 0.0

    def __post_init__(self) -> None:
        self.records: dict[str, CaptionedPicture] = {}
        self.duplicates = 0
        self._thumbnails: dict[tuple[int, ...], list[tuple[str, np.ndarray]]] = {}

    def _same(self, png: bytes, digest: str) -> str:
        """The digest of a picture that was added and looks the same, else `digest`, which is remembered."""
        with Image.open(io.BytesIO(png)) as picture:
            small = picture.convert("RGBa").resize((32, 32), Image.Resampling.BOX)
        thumbnail = np.asarray(small, np.float32)
        # Means differ by no more than the pictures do, so what looks the same lies in a neighbouring cell.
        cell = tuple(int(value) for value in thumbnail.mean(axis=(0, 1)) // self.nearest)
        for near in itertools.product(*((value - 1, value, value + 1) for value in cell)):
            for other, seen in self._thumbnails.get(near, []):
                if np.sqrt(np.square(seen - thumbnail).mean()) < self.nearest:
                    return other
        self._thumbnails.setdefault(cell, []).append((digest, thumbnail))
        return digest

    def add(self, png: bytes, record: CaptionedPicture) -> None:
        """Write the picture below the folder, or merge the record when the same picture was added before."""
        digest = hashlib.sha256(png).hexdigest()
        if self.nearest and digest not in self.records:
            digest = self._same(png, digest)
        if digest in self.records:
            self.records[digest] = merged(self.records[digest], record)
            self.duplicates += 1
            return
        self.records[digest] = record
        path = self.folder / record.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)

    def write(self) -> Path:
        """Write `captions.jsonl`, sorted by file; returns its path."""
        path = self.folder / "captions.jsonl"
        rows = sorted(self.records.values(), key=lambda r: r.file)
        text = "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8")
        return path


def read_listing(folder: Path) -> list[CaptionedPicture]:
    """The records of one source's folder."""
    lines = (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    return [CaptionedPicture(**json.loads(line)) for line in lines]


def fitted(picture: Image.Image, longest: int = LONGEST_SIDE) -> Image.Image:
    """RGBA, fully transparent rims cut off, scaled down (never up) to `longest` pixels on the longest side."""
    picture = picture.convert("RGBA")
    box = picture.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox()
    if box is not None:
        picture = picture.crop(box)
    if max(picture.size) > longest:
        picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return picture


def png_bytes(picture: Image.Image) -> bytes:
    """The picture as PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def png_size(path: Path) -> tuple[int, int]:
    """Width and height from a PNG's header, however large the picture. Raises OSError when it is no PNG."""
    with path.open("rb") as file:
        header = file.read(24)
    if header[:8] != b"\x89PNG\r\n\x1a\n" or len(header) < 24:
        raise OSError(f"{path}: not a PNG file")
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
