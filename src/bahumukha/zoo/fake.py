"""An encoder without a model, for tests of code that uses one: it compares colours with colour words.

encoder = ColourEncoder()
encoder.encode_images([red_picture]) @ encoder.encode_texts(["a red door", "the blue sea"]).T   # high, low
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bahumukha.protocols import ImageTextEncoder

if TYPE_CHECKING:
    from PIL import Image

COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "gray": (128, 128, 128),
    "grey": (128, 128, 128),
    "red": (255, 0, 0),
    "green": (0, 160, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "orange": (255, 140, 0),
    "purple": (140, 0, 160),
    "pink": (255, 160, 190),
    "brown": (130, 75, 30),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
}
"""Word -> sRGB, 0 to 255."""


class ColourEncoder(ImageTextEncoder):
    """An `ImageTextEncoder` of 3 * grid * grid + 1 dimensions, deterministic, without files or threads.

    A picture is the mean colour of each cell of a `grid` x `grid` raster, relative to mid grey; a text is the
    mean of the colours it names, in every cell. The last dimension is constant, so that grey has a
    direction too; a text without a colour word counts as grey. Each grid has its own fingerprint.
    """

    logit_scale = 20.0
    templates = ("{}",)

    def __init__(self, grid: int = 2) -> None:
        self.grid = grid
        self.name = "fake/colours"
        self.fingerprint = f"colours-{grid}x{grid}"
        self.dim = 3 * grid * grid + 1

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Pictures of any mode -> float32 (N, dim), rows of norm 1."""
        cells = [np.asarray(image.convert("RGB").resize((self.grid, self.grid), 4)) for image in images]  # 4 = BOX
        return self._embed(np.array(cells, np.float32).reshape(len(images), self.grid**2, 3))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> float32 (N, dim), rows of norm 1."""
        colours = np.array([_mean_colour(text) for text in texts], np.float32).reshape(len(texts), 1, 3)
        return self._embed(np.repeat(colours, self.grid**2, axis=1))

    def _embed(self, colours: np.ndarray) -> np.ndarray:
        """(N, cells, 3) in [0, 255] -> (N, dim)."""
        centred = (colours.reshape(len(colours), self.dim - 1) - 128) / 128
        rows = np.concatenate([centred, np.full((len(colours), 1), 0.1, np.float32)], axis=1)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _mean_colour(text: str) -> np.ndarray:
    named = [COLOURS[word] for word in re.findall(r"[a-z]+", text.lower()) if word in COLOURS]
    return np.mean(named or [COLOURS["grey"]], axis=0)
