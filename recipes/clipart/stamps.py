"""The stamps of Tux Paint: cut-out photographs and drawings, each with a sentence in up to 75 languages.

    python -m recipes.clipart.stamps --out PICTURES [--cache DIR]

A stamp NAME.png or NAME.svg has its caption in NAME.txt: the English sentence in the first line, then a line
"LANGUAGE.utf8=sentence" for each translation. Where there is a drawing and a picture of it, the PNG is taken.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from pathlib import Path

from PIL import Image

from recipes.captioned import LONGEST_SIDE, CaptionedPicture, Listing, fitted, png_bytes, slug, split_of, unique
from recipes.fetch import add_cache_option, folder_of

# Folders whose PNG files are drawings too.
DRAWN = {"cartoon", "symbols", "roadsigns", "flags", "alphabets", "faces", "plastic"}


def read_captions(path: Path) -> dict[str, list[str]]:
    """Language ("en", "pt-BR", "ca-valencia") -> [sentence]; British and Australian English join "en"."""
    first, *others = path.read_text(encoding="utf-8", errors="replace").splitlines()
    captions = {"en": [first.strip()]}
    for line in others:
        language, _, sentence = line.partition(".utf8=")
        if not sentence.strip():
            continue
        code = re.sub(r"[_@]", "-", language.strip())
        captions.setdefault("en" if code.startswith("en-") else code, []).append(sentence.strip())
    return {code: unique(sentences) for code, sentences in captions.items() if any(sentences)}


def picture_of(stamp: Path) -> Image.Image:
    """The stamp as RGBA at its own size or, from SVG, at the size of the data set."""
    if stamp.suffix == ".png":
        with Image.open(stamp) as picture:
            return picture.convert("RGBA")
    from recipes.pictograms.render import rendered

    return Image.open(io.BytesIO(rendered(stamp.read_text(encoding="utf-8", errors="replace"), LONGEST_SIDE)))


def find_stamps(root: Path) -> list[Path]:
    """One file a stamp, sorted: the PNG, else the SVG; only those with a caption file. Mirror images are left out."""
    files = [p for p in root.rglob("*") if p.suffix in (".png", ".svg") and p.with_suffix(".txt").is_file()]
    chosen: dict[Path, Path] = {}
    for path in sorted(files):  # .png before .svg
        chosen.setdefault(path.with_suffix(""), path)
    return sorted(chosen.values())


def record_of(stamp: Path, root: Path) -> CaptionedPicture:
    """The record; its style is "photo" for PNG files outside the folders of drawings, else "drawing"."""
    captions = read_captions(stamp.with_suffix(".txt"))
    inside = stamp.relative_to(root)
    drawn = stamp.suffix == ".svg" or DRAWN & set(inside.parts)
    return CaptionedPicture(
        file=inside.with_suffix(".png").as_posix(),
        source="stamps",
        style="drawing" if drawn else "photo",
        key=slug(captions["en"][0]),
        captions=captions,
        category="/".join(inside.parts[:-1]),
        licence="GPL-2.0-or-later",
        split=split_of(captions["en"][0]),
    )


def main(arguments: list[str] | None = None) -> None:
    """Write all stamps into `OUT/stamps/`."""
    parser = argparse.ArgumentParser(prog="recipes.clipart.stamps", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=LONGEST_SIDE, help="longest side in pixels")
    add_cache_option(parser)
    args = parser.parse_args(arguments)
    root = folder_of("tuxpaint-stamps-default", args.cache) / "usr/share/tuxpaint/stamps"
    listing = Listing(args.out / "stamps")
    for stamp in find_stamps(root):
        try:
            picture = picture_of(stamp)
        except (OSError, ValueError) as error:
            print(f"left out: {stamp.relative_to(root)}: {error}", file=sys.stderr)
            continue
        listing.add(png_bytes(fitted(picture, args.size)), record_of(stamp, root))
    listing.write()
    print(f"stamps: {len(listing.records)} pictures, {listing.duplicates} doubles merged")


if __name__ == "__main__":
    main()
