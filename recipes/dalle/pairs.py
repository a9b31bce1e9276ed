"""Scenes of two things over a closed vocabulary: what composition is learned and tested on.

    python -m recipes.dalle.pairs --out DATA/pairs --count 12000 [--size 144] [--seed 0] [--split train]
    python -m recipes.dalle.pairs --out DATA/pairs-validation --count 800 --split validation

Two single things of `vocabulary.THINGS`, both large, one beside or above the other. At 64 pixels a code of an f8
codec stands for 8 x 8 pixels; a large thing is four codes wide, a small one not quite two, of which no codec makes a
thing that one could name (docs/log.md). Written as `recipes.pictograms.scenes` writes scenes. "train" shows no
combination of `data.scenes.is_held_out` and no pair of `data.styles.is_held_out`; "validation" always the former.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from bahumukha.data.scene_vectors import Library
from bahumukha.data.scenes import RELATIONS, Scene, draw_scene, render
from bahumukha.data.styles import is_held_out
from recipes.dalle.singles import write
from recipes.dalle.vocabulary import STYLES, closed_vocabulary
from recipes.fetch import add_cache_option
from recipes.pictograms.scenes import library_of, record_of


def pairs(library: Library, seed: int, size: int, split: str = "train") -> Iterator[tuple[Image.Image, dict]]:
    """Endless (picture, record) pairs of one split, the same for the same seed and library."""
    closed = closed_vocabulary(library)
    rng = np.random.default_rng([seed, len(closed.concepts)])
    while True:
        scene = draw_scene(rng, closed, split=split, styles=STYLES)
        if is_pair(scene) and (split != "train" or not any(is_held_out(o.style, o.key) for o in scene.objects)):
            yield render(scene, closed, size), record_of(scene, split, rng)


def is_pair(scene: Scene) -> bool:
    """Whether it is two single large things, one beside or above the other."""
    large = all(each.count == 1 and each.size == "large" for each in scene.objects)
    return scene.arrangement in RELATIONS and large


def main(arguments: list[str] | None = None) -> None:
    """Write pictures and their listing."""
    parser = argparse.ArgumentParser(prog="recipes.dalle.pairs", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures and scenes.jsonl")
    parser.add_argument("--count", type=int, default=12_000, help="number of pictures")
    parser.add_argument("--size", type=int, default=144, help="side in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=("train", "validation"), default="train")
    add_cache_option(parser)
    args = parser.parse_args(arguments)
    if args.count < 1 or args.size < 16:
        parser.error("--count takes 1 or more, --size 16 or more")
    write(pairs(library_of(args.cache), args.seed, args.size, args.split), args.count, args.out)


if __name__ == "__main__":
    main()
