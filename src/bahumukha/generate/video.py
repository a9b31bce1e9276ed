"""Frames -> a video file that plays everywhere: H.264 in yuv420p, through PyAV."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bahumukha.errors import UsageError
from bahumukha.images import shown

ENDINGS = (".mp4", ".mov", ".mkv")
QUALITY = "18"
"""x264's constant rate factor: 18 is close to what the eye cannot tell from the original."""


def check_video(path: Path, fps: int = 15) -> None:
    """Raises UsageError where no video could be written to `path`: before the work, not after it."""
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"{shown(path)}: a video's name ends in {', '.join(ENDINGS)}")
    if not 1 <= fps <= 120:
        raise UsageError(f"fps: {fps} was given; it takes 1 to 120 frames a second")
    _av()


def write_video(frames: Iterable[np.ndarray], path: str | Path, *, fps: int = 15) -> int:
    """Frames, uint8 (H, W, 3) RGB, all of one size -> the file; returns how many there were.

    Odd sides lose their last row or column, as the format halves the colours' resolution. Written aside and renamed.
    Raises UsageError: no frames, another ending than `ENDINGS`, a file that cannot be written, PyAV missing.
    """
    path = Path(path)
    check_video(path, fps)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{secrets.token_hex(8)}{path.suffix.lower()}")
    try:
        count = _encode(frames, aside, fps)
        if not count:
            raise UsageError(f"{shown(path)}: there are no frames to make a video of")
        os.replace(aside, path)
    except OSError as error:
        raise UsageError(f"{shown(path)}: cannot be written ({error.strerror or error})") from error
    finally:
        aside.unlink(missing_ok=True)
    return count


def _encode(frames: Iterable[np.ndarray], path: Path, fps: int) -> int:
    av = _av()
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


def _av() -> Any:
    try:
        import av
    except ModuleNotFoundError as error:
        raise UsageError("videos need av, of the extra [create]: pip install 'bahumukha[create]'") from error
    return av
