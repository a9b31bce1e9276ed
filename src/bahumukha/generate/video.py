"""Frames -> a video file that plays everywhere: H.264 in yuv420p, through PyAV."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bahumukha.errors import UsageError
from bahumukha.images import shown
from bahumukha.runtime import check_place

ENDINGS = (".mp4", ".mov", ".mkv")
QUALITY = "18"
"""x264's constant rate factor: 18 is close to what the eye cannot tell from the original."""
FPS = 15
MOST_FPS = 120


@dataclass(frozen=True)
class VideoConfig:
    """[video]: what is filmed, where a video is asked for."""

    of: Literal["becoming", "strokes"] = "becoming"
    """Every step of the painting; or the finished one, as its strokes are laid one over the other."""
    fps: int = 0
    """Frames a second; 0 for those of the video that is painted over, else 15."""

    def __post_init__(self) -> None:
        if self.of not in ("becoming", "strokes"):
            raise ValueError(f"of is {self.of!r}; it must be one of becoming, strokes")
        if not 0 <= self.fps <= MOST_FPS:
            raise ValueError(f"fps is {self.fps}; it must be from 1 to {MOST_FPS}, or 0 for the usual one")


def check_video(path: Path, fps: int | Fraction = FPS) -> None:
    """Raises UsageError where no video could be written to `path`: before the work, not after it."""
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"{shown(path)}: a video's name ends in {', '.join(ENDINGS)}")
    if not 1 <= fps <= MOST_FPS:
        raise UsageError(f"fps: {fps} was given; it takes 1 to {MOST_FPS} frames a second")
    check_place(path, shown(path))
    load_av()


def write_video(frames: Iterable[np.ndarray], path: str | Path, *, fps: int | Fraction = FPS) -> int:
    """Frames, uint8 (H, W, 3) RGB, all of one size -> the file; returns how many there were.

    Odd sides lose their last row or column, as the format halves the colours' resolution. Written aside and renamed.
    Raises UsageError: no frames, another ending than `ENDINGS`, a file that cannot be written, PyAV missing.
    """
    path = Path(path)
    check_video(path, fps)
    aside = path.with_name(f".{secrets.token_hex(8)}{path.suffix.lower()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        count = _encode(frames, aside, fps)
        if not count:
            raise UsageError(f"{shown(path)}: there are no frames to make a video of")
        os.replace(aside, path)
    except OSError as error:
        raise UsageError(f"{shown(path)}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):  # its folder may be none
            aside.unlink(missing_ok=True)
    return count


def _encode(frames: Iterable[np.ndarray], path: Path, fps: int | Fraction) -> int:
    av = load_av()
    count = 0
    with av.open(str(path), "w") as container:
        stream: Any = None
        for frame in frames:
            height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2
            if stream is None:
                stream = container.add_stream("libx264", rate=fps, options={"crf": QUALITY})
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            elif (stream.width, stream.height) != (width, height):
                raise UsageError(
                    f"a frame of {width} x {height} pixels in a video of {stream.width} x {stream.height}; they must"
                    " be of one size"
                )
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
            container.mux(stream.encode(picture))
            count += 1
        if stream is not None:
            container.mux(stream.encode())
    return count


def load_av() -> Any:
    """PyAV, which is slow to import. Raises UsageError where it is missing."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise UsageError("videos need av, of the extra [create]: pip install 'bahumukha[create]'") from error
    return av
