"""Single things in a colour: what pictograms alone do not teach, that any thing may be of any colour.

    python -m recipes.dalle.singles --out DATA/singles --count 10000 [--size 144] [--seed 0]
    python -m recipes.dalle.singles --out DATA/closed --count 10000 --closed [--split train]

Scenes of one recoloured thing, medium or large, on a white, plain or graded ground, written as
`recipes.pictograms.scenes` writes them: pictures and `scenes.jsonl` with captions in sixteen languages. Neither the
(thing, colour) pairs of `data.scenes.is_held_out` nor the (style, thing) pairs of `data.styles.is_held_out` occur.

With `--closed`, things of `recipes.dalle.vocabulary` alone, in four flat styles, as large as half the picture to all
of it, and some in the colours that they have of themselves: what a run of two hours on a CPU can learn to draw.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from bahumukha.data.scene_vectors import Library
from bahumukha.data.scenes import Scene, draw_scene, render
from bahumukha.data.styles import is_held_out
from recipes.dalle.vocabulary import STYLES, closed_vocabulary
from recipes.fetch import add_cache_option
from recipes.pictograms.render import HELD_OUT_SET
from recipes.pictograms.scenes import library_of, record_of

SIDES = (0.5, 0.96)
"""Of a large thing of the closed vocabulary, as parts of the picture's."""


def singles(library: Library, seed: int, size: int) -> Iterator[tuple[Image.Image, dict]]:
    """Endless (picture, record) pairs of the split "train", the same for the same seed and library."""
    styles = [style for style in library.styles() if style != HELD_OUT_SET]
    rng = np.random.default_rng([seed, len(styles)])
    while True:
        scene = draw_scene(rng, library, styles=styles)
        if is_single(scene):
            yield render(scene, library, size), record_of(scene, "train", rng)


def closed_singles(library: Library, seed: int, size: int, split: str = "train") -> Iterator[tuple[Image.Image, dict]]:
    """The same of the closed vocabulary, each as large as `SIDES`, some in their own colours; of the split "validation"
    each in a colour that training keeps from it."""
    closed = closed_vocabulary(library)
    rng = np.random.default_rng([seed, len(closed.concepts)])
    while True:
        scene = draw_scene(rng, closed, split=split, styles=STYLES)
        if is_single(scene, recoloured=False):
            scene = enlarged(scene, rng)
            yield render(scene, closed, size), record_of(scene, split, rng)


def is_single(scene: Scene, *, recoloured: bool = True) -> bool:
    """Whether it is one thing, not small, in a style in which training may show it, and in a colour that is not its
    own when it must be `recoloured`."""
    first = scene.objects[0]
    alone = scene.arrangement == "alone" and first.count == 1 and first.size != "small"
    return alone and (first.paint is not None or not recoloured) and not is_held_out(first.style, first.key)


def enlarged(scene: Scene, rng: np.random.Generator) -> Scene:
    """A scene of one thing with that thing as large as `SIDES`, anywhere within the picture."""
    side = float(rng.uniform(*SIDES))
    x, y = (0.5 + rng.uniform(-0.5, 0.5, 2) * (1 - side)).round(4).tolist()
    return replace(scene, objects=(replace(scene.objects[0], size="large", spots=((x, y, round(side, 4)),)),))


def write(stream: Iterator[tuple[Image.Image, dict]], count: int, out: Path) -> None:
    """The first `count` pictures as JPEG files, and their records in `scenes.jsonl`."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "scenes.jsonl").open("w", encoding="utf-8") as file:
        for number, (picture, record) in enumerate(islice(stream, count)):
            name = f"{number:06d}.jpg"
            picture.save(out / name, quality=92, subsampling=0)
            file.write(json.dumps({"file": name, **record}, ensure_ascii=False) + "\n")
            if (number + 1) % 1000 == 0:
                print(f"{number + 1} of {count}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Write pictures and their listing."""
    parser = argparse.ArgumentParser(prog="recipes.dalle.singles", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures and scenes.jsonl")
    parser.add_argument("--count", type=int, default=10_000, help="number of pictures")
    parser.add_argument("--size", type=int, default=144, help="side in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--closed", action="store_true", help="large things of the closed vocabulary alone")
    parser.add_argument("--split", choices=("train", "validation"), default="train", help="with --closed")
    add_cache_option(parser)
    args = parser.parse_args(arguments)
    if args.count < 1 or args.size < 16:
        parser.error("--count takes 1 or more, --size 16 or more")
    if args.split != "train" and not args.closed:
        parser.error("--split validation goes with --closed")
    library = library_of(args.cache)
    if args.closed:
        write(closed_singles(library, args.seed, args.size, args.split), args.count, args.out)
    else:
        write(singles(library, args.seed, args.size), args.count, args.out)


if __name__ == "__main__":
    main()
