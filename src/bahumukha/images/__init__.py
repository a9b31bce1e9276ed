"""Files to pixels and back: what a user's folders hold becomes an upright RGB picture, or a named error.

Pictures in the wild are rotated by a flag (EXIF), transparent, CMYK, 16 bits deep, animated, in another
colour space, cut off, bombs, or not pictures at all. `open_image` settles all of that, once. `Preprocess`
then gives a network what it was trained on: torchvision's Resize, CenterCrop, ToTensor and Normalize, in
Pillow and NumPy.

This package is the sole owner of pixel ranges: uint8 in [0, 255], floats in [0, 1] or [-1, 1], channels
last; only `Preprocess` gives channels first, normalised by a mean and a standard deviation. Nothing here
sets a global of Pillow's: limits are parameters, and everything is safe in worker threads.
"""

from __future__ import annotations

from bahumukha.images.info import ImageInfo
from bahumukha.images.preprocess import Preprocess
from bahumukha.images.ranges import to_float01, to_float11, to_uint8
from bahumukha.images.reading import DEFAULT_MAX_PIXELS, EXTENSIONS, open_image, read_info, shown
from bahumukha.images.saving import save_image

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "EXTENSIONS",
    "ImageInfo",
    "Preprocess",
    "open_image",
    "read_info",
    "save_image",
    "shown",
    "to_float01",
    "to_float11",
    "to_uint8",
]
