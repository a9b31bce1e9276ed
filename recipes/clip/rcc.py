"""Photographs out of Qt's binary resource files (`.rcc`), in which GCompris ships its pictures.

Such a file keeps JPEG and WebP as they are, one after another; each is found by its first bytes and its own length.

    python -m recipes.clip.rcc --rcc FOLDER --out photos/gcompris [--least 300]
"""

from __future__ import annotations

import argparse
import io
import struct
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError


def pictures(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(ending, content) of each JPEG and WebP in `data`. JPEGs may be followed by a few bytes that are not theirs."""
    at = 0
    while (at := data.find(b"RIFF", at)) >= 0:
        if data[at + 8 : at + 12] == b"WEBP":
            yield "webp", data[at : at + 8 + struct.unpack("<I", data[at + 4 : at + 8])[0]]
        at += 4
    for part in data.split(b"\xff\xd8\xff\xe0")[1:]:
        end = part.rfind(b"\xff\xd9")
        yield "jpg", b"\xff\xd8\xff\xe0" + part[: end + 2]


def is_photograph(content: bytes, least: int) -> bool:
    """Whether it opens, both sides have `least` pixels, and it has the many colours of a photograph."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if min(picture.size) < least or "A" in picture.mode:
                return False
            small = picture.convert("RGB").resize((64, 64))
    except (UnidentifiedImageError, OSError):
        return False
    return len(small.quantize(256).getcolors() or []) > 200 and len(small.getcolors(4096) or []) > 2500


def main() -> None:
    """Write every photograph of the folder's `.rcc` files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rcc", type=Path, required=True, help="folder that holds .rcc files")
    parser.add_argument("--least", type=int, default=300, help="pixels of the shorter side")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    count = 0
    for file in sorted(args.rcc.rglob("*.rcc")):
        for i, (ending, content) in enumerate(pictures(file.read_bytes())):
            if is_photograph(content, args.least):
                (args.out / f"{file.stem}-{i}.{ending}").write_bytes(content)
                count += 1
    print(f"{count} photographs")


if __name__ == "__main__":
    main()
