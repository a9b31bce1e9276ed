"""Small generated pictures, each with its own content, for the tests of the index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bahumukha.zoo.fake import COLOURS

WORDS = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "brown")


def draw(colour: str, seed: int = 0, size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Coarse random blocks of roughly one colour: another layout for every seed."""
    noise = np.random.default_rng(seed).integers(-25, 26, (8, 8, 1))
    pixels = np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def fill(folder: Path, count: int) -> list[Path]:
    """`count` pictures named by their colour, in `folder` and a folder in it."""
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(count):
        colour = WORDS[i % len(WORDS)]
        path = folder / ("sub" if i % 3 == 0 else ".") / f"{colour}-{i:03}.png"
        draw(colour, seed=i).save(path)
        paths.append(path)
    return paths
