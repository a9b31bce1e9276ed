"""Frames to paint over: the pictures of a folder in the order of their names, or those of a video, through PyAV."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from bahumukha.data.folders import find_images
from bahumukha.errors import UsageError
from bahumukha.generate.video import load_av
from bahumukha.images import open_image, shown


@dataclass(frozen=True)
class AnimationConfig:
    """[animation]: each frame of a folder or a video is the start of a painting of its own."""

    frames: Path | None = None
    smoothing: float = 0.5
    """Against flicker: the share of the last frame's parameters, as they were painted, in those that a frame starts
    from; the rest is the frame itself."""
    every: int = 1
    """Of so many frames one is taken."""

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing is {self.smoothing}; it must be at least 0 and below 1")
        if self.every < 1:
            raise ValueError(f"every is {self.every}; it must be at least 1")


class Frames:
    """What `path` holds, every `every`-th of it."""

    def __init__(self, path: Path, every: int = 1):
        """Counts them, which decodes a video once. Raises UsageError for none, and for what is neither kind."""
        self.path, self.every = path, every
        self._files = None if path.is_file() else sorted(find_images([path]), key=_natural)
        self.rate: Fraction | None = None
        """Frames a second, of those that are taken; None for a folder."""
        if self._files is None:
            with _video(path) as (container, stream):
                if stream.average_rate:
                    self.rate = stream.average_rate / every
                count = sum(1 for _ in container.decode(stream))
        else:
            count = len(self._files)
        self.count = -(-count // every)
        if not self.count:
            raise UsageError(f"{shown(path)}: there are no frames; give a folder of pictures, or a video")

    def pictures(self, first: int = 0) -> Iterator[Image.Image]:
        """RGB, upright, from number `first` on, counted from 0. Raises ImageError, UsageError."""
        if self._files is not None:
            for file in self._files[first * self.every :: self.every]:
                yield open_image(file)
            return
        with _video(self.path) as (container, stream):
            for frame in islice(container.decode(stream), first * self.every, None, self.every):
                yield upright(frame)


def upright(frame: Any) -> Image.Image:
    """A decoded frame as players show it: a phone's video is turned by a mark beside it."""
    image: Image.Image = frame.to_image()
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """`frame-9` before `frame-10`."""
    parts = re.split(r"([0-9]+)", str(path))
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


@contextmanager
def _video(path: Path) -> Iterator[tuple[Any, Any]]:
    """A container and its stream of pictures. What fails inside is the file's fault."""
    av = load_av()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UsageError(f"{shown(path)}: holds no pictures; give a folder of pictures, or a video")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except av.FFmpegError as error:
        reason = error.strerror or error
        raise UsageError(f"{shown(path)}: cannot be read as a video ({reason}); give one, or a folder") from error
