"""What is in a picture: its labels with their probabilities, and the map of what speaks for one."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from PIL import Image

from bahumukha.classify import Label, classify
from bahumukha.explain import explain, heat_picture, seen
from bahumukha.images import open_image
from bahumukha.runtime import thread_count
from bahumukha.web.config import ServerConfig
from bahumukha.web.errors import Busy
from bahumukha.web.library import Library
from bahumukha.web.searching import Searcher

WAITING = 8
"""Maps that may be asked for before the first of them is finished; each takes a second or two."""


class Looker:
    """Questions about one picture, sent along or of the index. Every method may be called from any thread."""

    def __init__(self, config: ServerConfig, library: Library, searcher: Searcher) -> None:
        self.config, self.library, self.searcher = config, library, searcher
        self._turn = threading.Lock()
        self._opening = threading.BoundedSemaphore(thread_count())
        self._waiting = threading.BoundedSemaphore(WAITING)

    def read(self, data: bytes, at_least: int | None) -> Image.Image:
        """A picture that was sent. Raises ImageError, also for one of more pixels than is allowed."""
        with self._opening:  # a picture of the size that is allowed takes a gigabyte while it is opened
            return open_image(data, at_least=at_least, max_pixels=self.config.upload_pixels)

    def indexed(self, id: int, at_least: int | None) -> Image.Image:
        """A picture of the index. Raises NotFound, ImageError."""
        with self.library.opened(self.library.picture(id)) as file, self._opening:
            return open_image(file, at_least=at_least)

    def classify(self, image: Image.Image, labels: Sequence[str]) -> list[Label]:
        """Best first. Raises UsageError."""
        [result] = classify([image], labels, model=self.searcher.encoder)
        return result

    def heat_map(self, image: Image.Image, label: str, labels: Sequence[str]) -> bytes:
        """A PNG of the picture with what speaks for the label in red and what speaks against it in blue.

        Raises UsageError, Busy.
        """
        with self._turns():
            encoder = self.searcher.encoder
            values = explain(image, label, labels, model=encoder)
            drawn = heat_picture(image, values, seen(image.size, encoder))
        file = io.BytesIO()
        drawn.save(file, "PNG", compress_level=1)
        return file.getvalue()

    @contextmanager
    def _turns(self) -> Iterator[None]:
        """One at a time: each uses all cores."""
        if not self._waiting.acquire(blocking=False):
            raise Busy("several pictures are being looked at already; ask again in a few seconds")
        try:
            with self._turn:
                yield
        finally:
            self._waiting.release()
