"""Views of a picture: a transparent one at several sizes and places, on white or on a ground whose colour has a name.

Unlike a crop (`data.crops`), a view keeps true what a caption says: the whole thing is there, upright, unmirrored and
in its own colours. The first view is always the plain one: as large as fits, in the middle, on white.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from bahumukha.data.crops import middle, on_ground
from bahumukha.data.scene_colours import COLOURS, Rgb, contrast
from bahumukha.data.scenes import LEAST_CONTRAST, varied

GROUNDS = tuple(COLOURS)
"""Names of the colours that a view may be laid on, white among them."""
WHITE = (255, 255, 255)
TRIES = 6


@dataclass(frozen=True)
class ViewConfig:
    """How many views a picture has, and how they differ."""

    count: int = 4
    """Of each picture, the plain one included."""
    scale: tuple[float, float] = (0.7, 1.0)
    """Smallest and largest longer side of what is transparent, as a part of the view's."""
    white: float = 0.6
    """Probability that the ground of a view after the first is white, in [0, 1]; else its colour has a name."""
    crop: tuple[float, float] = (0.92, 1.0)
    """Smallest and largest side of the square that is seen of a picture without transparency, as a part of its shorter
    side."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count is {self.count}; a picture has at least 1 view")
        for name in ("scale", "crop"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                raise ValueError(f"{name} is {[low, high]}; it takes two numbers above 0, at most 1, the smaller first")
        if not 0 <= self.white <= 1:
            raise ValueError(f"white is {self.white}; it must be from 0 to 1")


def plain_view(picture: np.ndarray, size: int) -> np.ndarray:
    """A picture as `data.decoded` keeps it -> uint8 (size, size, 3): all of a transparent one, in the middle of white;
    of another the middle square."""
    return _placed(picture, size, 1.0, None, WHITE) if picture.shape[2] == 4 else middle(picture, size)


def random_view(
    picture: np.ndarray, size: int, config: ViewConfig, random: np.random.Generator
) -> tuple[np.ndarray, str | None]:
    """-> uint8 (size, size, 3), and the name of the colour that it was laid on; None for white and for its own ground.

    The same generator state gives the same pixels.
    """
    if picture.shape[2] == 3:
        height, width = picture.shape[:2]
        side = min(height, width) * random.uniform(*config.crop)
        left, top = random.uniform(0, width - side), random.uniform(0, height - side)
        return _resized(picture, (size, size), (left, top, left + side, top + side)), None
    scale = random.uniform(*config.scale)
    name, paint = None, WHITE
    if random.random() >= config.white:
        name, paint = _ground(picture, random)
    return _placed(picture, size, scale, random, paint), name


def _ground(picture: np.ndarray, random: np.random.Generator) -> tuple[str | None, Rgb]:
    """A colour that the picture stands out from; white, and no name for it, when a few tries find none."""
    weight = max(float(picture[..., 3].sum(dtype=np.float64)), 1.0)
    red, green, blue = (round(255 * float(picture[..., i].sum(dtype=np.float64)) / weight) for i in range(3))
    for _ in range(TRIES):
        name = GROUNDS[int(random.integers(len(GROUNDS)))]
        paint = varied(random, name)
        if name != "white" and contrast(paint, (red, green, blue)) >= LEAST_CONTRAST:
            return name, paint
    return None, WHITE


def _placed(picture: np.ndarray, size: int, scale: float, random: np.random.Generator | None, paint: Rgb) -> np.ndarray:
    """All of a transparent picture, its longer side `scale` of the view's, somewhere, or in the middle without
    `random`."""
    height, width = picture.shape[:2]
    longer = max(1.0, size * scale) / max(height, width)
    across, down = max(1, round(width * longer)), max(1, round(height * longer))
    small = _resized(picture, (across, down), (0, 0, width, height))
    spare = (size - down, size - across)
    top, left = ((room // 2 if random is None else int(random.integers(room + 1))) for room in spare)
    canvas = np.zeros((size, size, 4), np.uint8)
    canvas[top : top + down, left : left + across] = small
    return on_ground(canvas, np.array(paint, np.uint8))


def _resized(picture: np.ndarray, to: tuple[int, int], box: tuple[float, float, float, float]) -> np.ndarray:
    """The part of a picture in `box` (left, top, right, bottom), `to` wide and high."""
    height, width, channels = picture.shape
    mode = "RGBa" if channels == 4 else "RGB"
    image = Image.frombuffer(mode, (width, height), np.ascontiguousarray(picture), "raw", mode, 0, 1)
    return np.asarray(image.resize(to, Image.Resampling.BICUBIC, box=box))
