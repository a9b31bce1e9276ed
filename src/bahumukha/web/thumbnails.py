"""Smaller copies of pictures, made once and kept beside the ledger under the hash of what they are of.

    LEDGER-thumbnails/ab/ab12….jpg          for the gallery
    LEDGER-thumbnails/ab/ab12….large.jpg    for pictures that browsers do not read (HEIC, TIFF…)

All of it may be deleted at any time.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from bahumukha.images import open_image, save_image
from bahumukha.runtime import thread_count
from bahumukha.web.library import Library, Shown

SIDES = {"": 480, ".large": 2400}
"""Longest side in pixels, by what the file's name ends in."""
BROWSERS_READ = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "BMP": "image/bmp",
}
"""Formats, by content, whose files are handed out as they are."""


class Thumbnails:
    """Makes few at a time, so that search has its turn while a page of new pictures is looked at."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self._turns = threading.BoundedSemaphore(thread_count())

    def kept(self, shown: Shown, kind: str = "") -> Path | None:
        """The file of a copy that was made before."""
        path = self._path(shown, kind)
        return path if path.is_file() else None

    def made(self, shown: Shown, kind: str = "") -> Path:
        """The file of a copy, made if need be. Raises NotFound, ImageError, UsageError where it cannot be written."""
        path = self._path(shown, kind)
        with self.library.opened(shown) as file, self._turns:  # in this order: a store that hangs must hold no turn
            if not path.is_file():
                save_image(_copy(file, SIDES[kind]), path)
        return path

    def _path(self, shown: Shown, kind: str) -> Path:
        name = shown.content or f"row-{shown.id}"
        return self.library.config.thumbnails / name[:2] / f"{name}{kind}.jpg"


def _copy(file: BinaryIO, side: int) -> Image.Image:
    image = open_image(file, at_least=side // 2)
    image.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return image
