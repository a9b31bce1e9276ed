"""What a picture goes through before a training step: another crop, and little else, as CLIP was trained.

Flips are off by default: captions say "left" and "right", and a mirrored letter is no letter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

TRIES = 10


@dataclass(frozen=True)
class AugmentConfig:
    """How much a picture is changed; every probability and strength in [0, 1]."""

    scale: tuple[float, float] = (0.9, 1.0)
    """Smallest and largest part of the area that a crop keeps (open_clip's default)."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height of the crop, smallest and largest; it is then squeezed into a square."""
    flip: float = 0.0
    """Probability of a mirror image."""
    colour: float = 0.0
    """Brightness, contrast and saturation are each multiplied by a number from 1 - colour to 1 + colour."""
    grey: float = 0.0
    """Probability of a picture without colour."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"

    def __post_init__(self) -> None:
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is {list((low, high))}; it takes two numbers above 0, the smaller first")
        if self.scale[1] > 1:
            raise ValueError(f"scale is {list(self.scale)}; a crop keeps at most 1, the whole picture")
        for name in ("flip", "colour", "grey"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")


@dataclass(frozen=True)
class Augment:
    """A picture and a random generator -> pixels for a network that takes squares of `size`."""

    size: int
    config: AugmentConfig = AugmentConfig()

    @property
    def shortest_side(self) -> int:
        """What `open_image` should get as `at_least`, so that the smallest crop still has `size` pixels a side."""
        return math.ceil(self.size / math.sqrt(self.config.scale[0]))

    def __call__(self, image: Image.Image, random: np.random.Generator) -> np.ndarray:
        """RGB picture -> uint8 (size, size, 3). The same generator state gives the same pixels."""
        c = self.config
        box = crop_box(image.size, c, random)
        out = image.resize((self.size, self.size), Image.Resampling[c.interpolation.upper()], box=box)
        if c.flip and random.random() < c.flip:
            out = ImageOps.mirror(out)
        if c.colour:
            for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                out = change(out).enhance(random.uniform(1 - c.colour, 1 + c.colour))
        if c.grey and random.random() < c.grey:
            out = ImageOps.grayscale(out).convert("RGB")
        return np.asarray(out)


def crop_box(
    size: tuple[int, int], config: AugmentConfig, random: np.random.Generator
) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a random crop of a picture of (width, height): torchvision's RandomResizedCrop.

    The area is uniform in `scale`, the shape log-uniform in `ratio`; what does not fit is drawn again, ten times, and
    then the largest centred crop of an allowed shape is taken.
    """
    width, height = size
    narrow, wide = (math.log(r) for r in config.ratio)
    for _ in range(TRIES):
        area = width * height * random.uniform(*config.scale)
        ratio = math.exp(random.uniform(narrow, wide))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(random.integers(width - w + 1)), int(random.integers(height - h + 1))
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * config.ratio[1])))
    h = min(height, max(1, round(width / config.ratio[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
