"""Pixel ranges: uint8 in [0, 255] <-> float32 in [0, 1] or [-1, 1], channels last."""

from __future__ import annotations

import numpy as np
from PIL import Image

from bahumukha.errors import UsageError


def to_float01(image: Image.Image | np.ndarray) -> np.ndarray:
    """RGB picture, or uint8 array of any shape -> float32 in [0, 1]; a picture gives (H, W, 3)."""
    return np.multiply(_uint8(image), np.float32(1 / 255), dtype=np.float32)


def to_float11(image: Image.Image | np.ndarray) -> np.ndarray:
    """RGB picture, or uint8 array of any shape -> float32 in [-1, 1]; a picture gives (H, W, 3)."""
    values = np.multiply(_uint8(image), np.float32(2 / 255), dtype=np.float32)
    values -= 1
    return values


def to_uint8(values: np.ndarray, *, low: float = 0.0) -> np.ndarray:
    """Floats in [low, 1] of any shape -> uint8, rounded; what lies outside is clipped. `low` is 0 or -1.

    The inverse of `to_float01` (low=0) and `to_float11` (low=-1), exactly. Not-a-number becomes 0.
    """
    if low not in (0.0, -1.0):
        raise UsageError(f"low: {low} is not the start of a pixel range; 0 and -1 are")
    scaled = (np.asarray(values, np.float32) - np.float32(low)) * np.float32(255 / (1 - low))
    return np.rint(np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255)).astype(np.uint8)


def _uint8(image: Image.Image | np.ndarray) -> np.ndarray:
    if isinstance(image, Image.Image):
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    if image.dtype != np.uint8:
        raise UsageError(f"an array of {image.dtype} was given; uint8 in [0, 255] is needed (see to_uint8)")
    return image
