"""Render the icon sets into PNG pictures with alpha, each with its captions in every language.

    python -m recipes.pictograms.render --out PICTURES [--cache DIR] [--size 288] [SET...]

Variants that differ by skin colour alone are left out (half of all icons, the same shapes); a picture that a set has
twice is written once, with the captions of both. The set emojione is the held-out style: its split says so for
every picture, and no recipe trains on it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from recipes.captioned import LONGEST_SIDE, CaptionedPicture, Listing, slug, split_of
from recipes.fetch import add_cache_option, folder_of
from recipes.pictograms.captions import Annotations, CodePoints, IconSet, captions_of
from recipes.vocabulary import english_words

TRAINING_SETS = ("noto", "fluent-emoji", "fluent-emoji-flat", "openmoji", "twemoji", "fxemoji", "flat-color-icons")
HELD_OUT_SET = "emojione"
SAME = 2.0
"""Thumbnails that differ by less show one drawing, exported twice; the least of what differs on purpose is 2.7."""


def svg_of(icons: IconSet, icon: str) -> str:
    """The icon's body as a whole SVG document."""
    entry = icons.icons[icon]
    width, height = entry.get("width", icons.width), entry.get("height", icons.height)
    box = f"{entry.get('left', 0)} {entry.get('top', 0)} {width} {height}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{width}" height="{height}" viewBox="{box}">{entry["body"]}</svg>'
    )


def rendered(svg: str, size: int = LONGEST_SIDE) -> bytes:
    """PNG bytes, `size` pixels on the longest side, ground transparent. Raises ValueError for a broken SVG."""
    import resvg_py

    # Without a resolution resvg-py takes lengths in points and millimetres for zero.
    draw = partial(resvg_py.svg_to_bytes, svg_string=svg, skip_system_fonts=True, dpi=96)
    png = bytes(draw(width=size))  # never at its own size first: some drawings are posters of 200 megapixels
    return bytes(draw(height=size)) if png_height(png) > size else png


def png_height(png: bytes) -> int:
    """The height in a PNG's header."""
    return int.from_bytes(png[20:24], "big")


def records(
    icons: IconSet, points: CodePoints, annotations: Annotations, vocabulary: frozenset[str]
) -> Iterator[tuple[str, CaptionedPicture]]:
    """(icon, record) of every icon of a set that has a caption and is no skin-tone variant."""
    for icon in icons.icons:
        if icons.is_skin_tone(icon):
            continue
        code = points.of(icons, icon)
        captions = captions_of(icons, icon, code, annotations, vocabulary)
        if not captions:
            continue
        category = next((icons.categories[n] for n in icons.names(icon) if n in icons.categories), "other")
        yield (
            icon,
            CaptionedPicture(
                file=f"{icon}.png",
                source=icons.prefix,
                style=icons.prefix,
                key=code or slug(captions["en"][0]),
                captions=captions,
                category=category.lower(),
                licence=icons.licence,
                split="held-out-style" if icons.prefix == HELD_OUT_SET else split_of(captions["en"][0]),
            ),
        )


def render_set(
    icons: IconSet, rows: Sequence[tuple[str, CaptionedPicture]], out: Path, size: int, workers: int
) -> Listing:
    """Render a set's records into `out/PREFIX/`; returns the listing, already written."""
    listing = Listing(out / icons.prefix, nearest=SAME)
    svgs = [svg_of(icons, icon) for icon, _ in rows]
    with ProcessPoolExecutor(workers) as pool:
        pictures = pool.map(partial(rendered, size=size), svgs, chunksize=16)
        for png, (_, record) in zip(pictures, rows, strict=True):
            listing.add(png, record)
    listing.write()
    return listing


def main(arguments: list[str] | None = None) -> None:
    """Render the sets named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="recipes.pictograms.render", description=(__doc__ or "").splitlines()[0])
    names = (*TRAINING_SETS, HELD_OUT_SET)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"default: all of {', '.join(names)}")
    parser.add_argument("--out", type=Path, required=True, help="a folder for each set is made in it")
    parser.add_argument("--size", type=int, default=LONGEST_SIDE, help="longest side in pixels")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    add_cache_option(parser)
    args = parser.parse_args(arguments)
    if unknown := set(args.sets) - set(names):
        parser.error(f"unknown set {', '.join(sorted(unknown))}; choose from {', '.join(names)}")

    sets = {name: IconSet.read(folder_of(f"@iconify-json/{name}", args.cache)) for name in names}
    annotations = Annotations.read(
        folder_of("cldr-annotations-full", args.cache), folder_of("cldr-annotations-derived-full", args.cache)
    )
    points = CodePoints(sets.values(), annotations)
    vocabulary = english_words(args.cache)
    for name in args.sets or names:
        rows = list(records(sets[name], points, annotations, vocabulary))
        listing = render_set(sets[name], rows, args.out, args.size, args.workers)
        print(f"{name}: {len(listing.records)} pictures, {listing.duplicates} doubles merged", flush=True)


if __name__ == "__main__":
    main()
