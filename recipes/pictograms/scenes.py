"""Compose scenes of the pictograms with exact captions, or make the library of drawings that they come from.

    python -m recipes.pictograms.scenes --out DIR --count N [--size 260] [--seed 0] [--split train] [--colourful]
    python -m recipes.pictograms.scenes --sheet docs/scenes.png

The library (which drawings, which colours each takes) is made from the fetched icon sets at the first use, in a few
minutes, and kept in the cache. `--out` gets pictures and `scenes.jsonl`, a line a picture: file, split, captions by
language, the scene's full truth, and for the two splits of testing captions with one word wrong.

Without files, in a training loop:

    for picture, record in scenes("train", seed=0, size=260): ...
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from bahumukha.data.scene_captions import (
    captions,
    plain_caption,
    swapped_colours,
    wrong_colours,
    wrong_counts,
    wrong_relation,
)
from bahumukha.data.scene_vectors import Concept, Drawing, Library, measured_drawing
from bahumukha.data.scene_words import LANGUAGES, names_a_colour
from bahumukha.data.scenes import COLOURFUL, SPLITS, USUAL, Chances, Scene, draw_scene, render
from bahumukha.sheets import contact_sheet
from recipes.captioned import split_of
from recipes.fetch import add_cache_option, default_cache, folder_of
from recipes.pictograms.captions import Annotations, CodePoints, IconSet, spoken
from recipes.pictograms.objects import OTHER_NAMES, Thing, things
from recipes.pictograms.render import HELD_OUT_SET, TRAINING_SETS

EDITION = 2
"""Counted up when a library made earlier no longer fits."""


def library_of(cache: Path | None = None, *, workers: int = 2, keep_layers: bool = True) -> Library:
    """The library in the cache, made first when it is not there; rendered layers are kept beside it."""
    folder = (cache or default_cache()) / f"scenes-{EDITION}"
    path = folder / "library.json.gz"
    if not path.is_file():
        made_library(cache or default_cache(), workers).write(path)
    return Library.read(path, folder / "layers" if keep_layers else None)


def made_library(cache: Path, workers: int = 2) -> Library:
    """Measure every drawing of the listed things in all eight sets."""
    sets = {name: IconSet.read(folder_of(f"@iconify-json/{name}", cache)) for name in (*TRAINING_SETS, HELD_OUT_SET)}
    annotations = Annotations.read(folder_of("cldr-annotations-full", cache))
    return library_from(sets, annotations, things(), workers)


def library_from(sets: dict[str, IconSet], annotations: Annotations, listed: list[Thing], workers: int = 1) -> Library:
    """Join the sets through code points and measure; things that no set draws are left out."""
    points = CodePoints(sets.values(), annotations)
    wanted = {thing.key for thing in listed}
    found: dict[tuple[str, str], tuple[str, tuple[float, float, float, float]]] = {}
    for style, icons in sets.items():
        for icon, entry in icons.icons.items():
            key = None if icons.is_skin_tone(icon) else points.of(icons, icon)
            if key in wanted:
                box = tuple(float(entry.get(side, own)) for side, own in _box(icons))
                found.setdefault((key, style), (entry["body"], box))  # type: ignore[arg-type]
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            drawings = list(pool.map(_measured, found.values(), chunksize=8))
    else:
        drawings = list(map(_measured, found.values()))
    by_key: dict[str, dict[str, Drawing]] = {}
    for (key, style), drawing in zip(found, drawings, strict=True):
        if drawing is not None:
            by_key.setdefault(key, {})[style] = drawing
    concepts = [_concept(thing, annotations, by_key[thing.key]) for thing in listed if thing.key in by_key]
    return Library({concept.key: concept for concept in concepts})


def _box(icons: IconSet) -> tuple[tuple[str, float], ...]:
    return ("left", 0), ("top", 0), ("width", icons.width), ("height", icons.height)


def _measured(found: tuple[str, tuple[float, float, float, float]]) -> Drawing | None:
    return measured_drawing(*found)


def _concept(thing: Thing, annotations: Annotations, drawings: dict[str, Drawing]) -> Concept:
    """With names in other languages that say no colour, and the split of the thing in the plain set."""
    names = {}
    for language in LANGUAGES[1:]:
        name = annotations.names.get(language, {}).get(thing.key)
        if name and not names_a_colour(name, language):
            names[language] = name
    names.update(OTHER_NAMES.get(thing.key, {}))
    english = spoken(annotations.names["en"].get(thing.key, thing.name))
    seen = {split_of(english), split_of(thing.name)}
    split = "validation" if "validation" in seen else "train"
    return Concept(thing.key, thing.name, thing.plural, thing.kind, names, split, drawings)


# --- scenes


def scenes(
    split: str, seed: int, size: int = 260, library: Library | None = None, chances: Chances = USUAL
) -> Iterator[tuple[Image.Image, dict]]:
    """Endless (picture, record) pairs of one split, the same for the same seed and library.

    "train" and "validation" are of the seven training styles, "held-out-style" of emojione.
    """
    library = library or library_of()
    styles = [style for style in library.styles() if (style == HELD_OUT_SET) == (split == "held-out-style")]
    rng = np.random.default_rng([seed, SPLITS.index(split) if split in SPLITS else 0])
    while True:
        scene = draw_scene(rng, library, split=split, styles=styles, chances=chances)
        yield render(scene, library, size), record_of(scene, split, rng)


def record_of(scene: Scene, split: str, rng: np.random.Generator) -> dict:
    """Captions and truth as JSON takes them; captions with one word wrong only for testing."""
    texts = {language: captions(scene, rng, language) for language in LANGUAGES}
    record = {"split": split, "captions": {k: v for k, v in texts.items() if v}, "scene": scene.as_record()}
    if split != "train":
        held_out = sorted(map(list, scene.held_out()))
        record |= {
            "right": plain_caption(scene),
            "wrong_colours": wrong_colours(scene),
            "wrong_relation": wrong_relation(scene),
            "wrong_counts": wrong_counts(scene),
            "swapped_colours": swapped_colours(scene),
            "held_out": held_out,
        }
    return record


@dataclass(frozen=True)
class _Part:
    """A share of the pictures for one process."""

    out: Path
    cache: Path
    split: str
    seed: int
    size: int
    first: int
    count: int
    chances: Chances


def write_scenes(
    out: Path,
    count: int,
    *,
    size: int,
    seed: int,
    split: str,
    cache: Path,
    workers: int = 2,
    chances: Chances = USUAL,
) -> None:
    """Write `count` JPEG files and `scenes.jsonl` below `out`."""
    library_of(cache, workers=workers)  # made once, before the processes ask for it
    out.mkdir(parents=True, exist_ok=True)
    step = 500  # a part's pictures hang on the seed and its number, not on how many processes there are
    parts = [
        _Part(out, cache, split, seed * 100_000 + i, size, first, min(step, count - first), chances)
        for i, first in enumerate(range(0, count, step))
    ]
    with ProcessPoolExecutor(workers) as pool, (out / "scenes.jsonl").open("w", encoding="utf-8") as file:
        for part, lines in zip(parts, pool.map(_written, parts), strict=True):
            file.writelines(lines)
            print(f"{part.first + part.count} of {count}", flush=True)


def _written(part: _Part) -> list[str]:
    lines = []
    stream = scenes(part.split, part.seed, part.size, _library(part.cache), part.chances)
    for number, (picture, record) in enumerate(islice(stream, part.count), part.first):
        name = f"{number:06d}.jpg"
        picture.save(part.out / name, quality=92, subsampling=0)
        lines.append(json.dumps({"file": name, **record}, ensure_ascii=False) + "\n")
    return lines


_libraries: dict[Path, Library] = {}


def _library(cache: Path) -> Library:
    """One for each process."""
    if cache not in _libraries:
        _libraries[cache] = library_of(cache)
    return _libraries[cache]


def sheet(
    library: Library,
    *,
    seed: int = 0,
    count: int = 24,
    split: str = "train",
    tile: int = 200,
    chances: Chances = USUAL,
) -> Image.Image:
    """A contact sheet of scenes, a random English caption under each."""
    tiles = []
    for picture, record in islice(scenes(split, seed, tile, library, chances), count):
        tiles.append((picture, wrapped(record["captions"]["en"][-1])))
    return contact_sheet(tiles, columns=6, tile=tile)


def wrapped(text: str, width: int = 36) -> str:
    """Broken into two lines near the middle when it is longer than `width` letters."""
    if len(text) <= width:
        return text
    breaks = [i for i, letter in enumerate(text) if letter == " "]
    middle = min(breaks, key=lambda i: abs(i - len(text) / 2), default=None)
    return text if middle is None else f"{text[:middle]}\n{text[middle + 1 :]}"


def main(arguments: list[str] | None = None) -> None:
    """Write pictures, or a sheet, or only make the library."""
    parser = argparse.ArgumentParser(prog="recipes.pictograms.scenes", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the pictures and scenes.jsonl")
    parser.add_argument("--count", type=int, default=1000, help="number of pictures")
    parser.add_argument("--size", type=int, default=260, help="side in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--colourful", action="store_true", help="most scenes of two or three things, most recoloured")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of 24 scenes here")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    add_cache_option(parser)
    args = parser.parse_args(arguments)
    if args.count < 1 or args.size < 16:
        parser.error("--count takes 1 or more, --size 16 or more")
    chances = COLOURFUL if args.colourful else USUAL
    if args.out:
        write_scenes(
            args.out, args.count, size=args.size, seed=args.seed, split=args.split, cache=args.cache,
            workers=args.workers, chances=chances,
        )  # fmt: skip
    library = library_of(args.cache, workers=args.workers)
    if args.sheet:
        page = sheet(library, seed=args.seed, split=args.split, chances=chances)
        page.quantize(256, kmeans=1).save(args.sheet, optimize=True)
    print(f"library: {len(library.concepts)} things in {len(library.styles())} styles")


if __name__ == "__main__":
    main()
