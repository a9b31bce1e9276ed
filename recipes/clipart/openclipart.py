"""The Open Clip Art Library, release 0.18, as Debian packages it: drawings with captions from their RDF.

    python -m recipes.clipart.openclipart --out PICTURES [--cache DIR]

Captions come from the title, the description, the file name and the keywords, whichever say what is seen (`titles`);
a drawing with none is left out, as are colour gradients, patterns and stars of more than twelve points.
"""

from __future__ import annotations

import argparse
import html
import io
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from recipes.captioned import LONGEST_SIDE, CaptionedPicture, Listing, fitted, png_bytes, png_size, slug, split_of
from recipes.clipart.titles import (
    LANGUAGE_OF_AUTHOR,
    cleaned,
    description_caption,
    file_caption,
    is_collection,
    keyword_captions,
    special_caption,
    title_caption,
)
from recipes.fetch import add_cache_option, folder_of
from recipes.vocabulary import english_words

LEFT_OUT = ("special/", "unsorted/duplicates")
FRAME_CORNER = re.compile(r"_corner|_(?:upper|lower)_[lr]")
# The PNG of the package is taken if its longest side is within this range; others (one has 231 megapixels) are drawn
# anew from their SVG.
USABLE_SIDE = range(160, 2001)


@dataclass(frozen=True)
class Metadata:
    """What the RDF of a drawing says; texts may be empty."""

    title: str
    description: str
    keywords: list[str]
    author: str

    @classmethod
    def read(cls, svg: str) -> Metadata:
        """From the first cc:Work of an SVG's RDF, by pattern: hundreds of these files are not well-formed XML."""
        work = re.search(r"<(?:cc:)?Work\b.*?</(?:cc:)?Work>", svg, re.S)
        body = work[0] if work else ""
        creator = re.search(r"<dc:creator>.*?<dc:title>(.*?)</dc:title>", body, re.S)
        outer = re.sub(r"<(?:cc:)?Agent\b.*?</(?:cc:)?Agent>", "", body, flags=re.S)
        keywords = re.findall(r"<rdf:li[^>]*>(.*?)</rdf:li>", outer, re.S)
        return cls(
            title=_content(outer, "title"),
            description=_content(outer, "description"),
            keywords=[_plain(k) for k in keywords],
            author=_plain(creator[1]) if creator else "",
        )

    @property
    def language(self) -> str:
        """Of the title: "en", unless the author is one who wrote in another language."""
        author = self.author.lower()
        return next((code for name, code in LANGUAGE_OF_AUTHOR.items() if name in author), "en")


def _content(body: str, tag: str) -> str:
    found = re.search(rf"<dc:{tag}[^>/]*>(.*?)</dc:{tag}>", body, re.S)
    return _plain(found[1]) if found else ""


def _plain(text: str) -> str:
    return " ".join(html.unescape(html.unescape(re.sub(r"<[^>]*>", " ", text))).split())


def captions_of(inside: Path, metadata: Metadata, vocabulary: frozenset[str]) -> dict[str, list[str]]:
    """All captions of the drawing at `inside`, its path within the library; empty when nothing names it."""
    folder, stem = inside.parent.as_posix(), inside.stem
    captions: dict[str, list[str]] = {}
    ending = " icon" if "computer/icons" in folder else ""
    found = [special_caption(folder, stem, metadata.title)]
    if metadata.language == "en":
        found.append(title_caption(metadata.title, vocabulary) or file_caption(stem, metadata.author, vocabulary))
        found.append(description_caption(metadata.description, vocabulary))
    elif re.search(r"[a-z]{3}", metadata.title) and not is_collection(metadata.title):
        captions[metadata.language] = [cleaned(metadata.title)]
    texts = [text if text.endswith("icon") else text + ending for text in found if text]
    keywords = keyword_captions([*metadata.keywords, *shelf_words(inside)], vocabulary)
    if "Road Signs" in metadata.title:
        texts = [f"{text} road sign" for text in texts]
    english: dict[str, str] = {}
    for text in [*texts, *keywords]:
        english.setdefault(slug(text), text)
    return {"en": list(english.values()), **captions} if english else {}


def shelf_words(inside: Path) -> list[str]:
    """The words of the folder's last names, in the singular: 'food/fruit' -> ['fruit', 'food']."""
    singular = {"housecats": "cat", "big_cats": "big cat", "bugs": "bug", "bodypart": "part of the body"}
    parts = reversed(inside.parts[:-1])
    return [singular.get(p, re.sub(r"(?<!ie)(?<!s)s$", "", p.replace("-", " "))) for p in parts if "_and_" not in p]


def is_wanted(inside: Path) -> bool:
    """Whether a drawing belongs into the set, by its place and name."""
    star = re.match(r"star_(\d+)pt", inside.name)
    if inside.as_posix().startswith(LEFT_OUT) or FRAME_CORNER.search(inside.name):
        return False
    return not (star and int(star[1]) > 12)


def picture_of(png: Path, svg: Path, size: int) -> Image.Image:
    """The package's PNG or, where it is missing, broken or of an odd size, the SVG rendered; RGBA, fitted to `size`."""
    from recipes.pictograms.render import rendered

    try:
        if max(png_size(png)) in USABLE_SIDE:
            with Image.open(png) as picture:
                return fitted(picture, size)
    except OSError:
        pass  # no PNG, or a broken one: the SVG it was made from is as good
    return fitted(Image.open(io.BytesIO(rendered(svg.read_text(encoding="utf-8", errors="replace"), size))), size)


def is_blank(picture: Image.Image) -> bool:
    """Whether nothing is to be seen: fully transparent, or one colour."""
    return max(picture.size) < 8 or len(picture.getcolors(2) or [0, 0, 0]) == 1


def record_of(inside: Path, captions: dict[str, list[str]]) -> CaptionedPicture:
    """The record of a drawing."""
    return CaptionedPicture(
        file=inside.with_suffix(".png").as_posix(),
        source="openclipart",
        style="clipart",
        key=slug(captions["en"][0]),
        captions=captions,
        category=inside.parent.as_posix(),
        licence="public domain",
        split=split_of(captions["en"][0]),
    )


def wanted(svgs: Path, vocabulary: frozenset[str]) -> Iterator[CaptionedPicture]:
    """The records of all drawings that belong into the set and have a caption, sorted by path."""
    for svg in sorted(svgs.rglob("*.svg")):
        inside = svg.relative_to(svgs)
        if is_wanted(inside):
            metadata = Metadata.read(svg.read_text(encoding="utf-8", errors="replace"))
            if captions := captions_of(inside, metadata, vocabulary):
                yield record_of(inside, captions)


def drawn(file: str, svgs: Path, pngs: Path, size: int) -> bytes | None:
    """PNG bytes of a record's picture; None, with a line on stderr, when it cannot be drawn or is blank."""
    try:
        picture = picture_of(pngs / file, (svgs / file).with_suffix(".svg"), size)
    except (OSError, ValueError) as error:
        print(f"left out: {file}: {error}", file=sys.stderr)
        return None
    return None if is_blank(picture) else png_bytes(picture)


def main(arguments: list[str] | None = None) -> None:
    """Write all captioned drawings into `OUT/openclipart/`."""
    parser = argparse.ArgumentParser(prog="recipes.clipart.openclipart", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=LONGEST_SIDE, help="longest side in pixels")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    add_cache_option(parser)
    args = parser.parse_args(arguments)
    svgs = folder_of("openclipart-svg", args.cache) / "usr/share/openclipart/svg"
    pngs = folder_of("openclipart-png", args.cache) / "usr/share/openclipart/png"
    records = list(wanted(svgs, english_words(args.cache)))
    listing = Listing(args.out / "openclipart")
    with ProcessPoolExecutor(args.workers) as pool:
        draw = partial(drawn, svgs=svgs, pngs=pngs, size=args.size)
        for record, png in zip(records, pool.map(draw, [r.file for r in records], chunksize=16), strict=True):
            if png is not None:
                listing.add(png, record)
    listing.write()
    print(f"openclipart: {len(listing.records)} pictures, {listing.duplicates} doubles merged")


if __name__ == "__main__":
    main()
