"""Videos: what was written comes back, and nothing half-done stays."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import pytest

from bahumukha.errors import UsageError
from bahumukha.generate.video import write_video


def frames(count: int, height: int, width: int) -> list[np.ndarray]:
    """Grey that gets brighter from frame to frame, red on the left."""
    made = np.zeros((count, height, width, 3), np.uint8)
    for k in range(count):
        made[k] = 40 + 20 * k
        made[k, :, : width // 2, 0] = 220
    return list(made)


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_there_and_back(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"new/a{ending}"
    given = frames(7, 48, 64)
    assert write_video(iter(given), path, fps=10) == 7
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (64, 48, 10)
        assert stream.codec_context.pix_fmt == "yuv420p"
        back = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(back) == 7
    for one, other in zip(given, back, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).mean() < 6
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_odd_sides_lose_a_line(tmp_path: Path) -> None:
    write_video(frames(2, 33, 47), tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (46, 32)


def test_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def error(path: Path, given: list[np.ndarray], fps: int = 15) -> str:
        with pytest.raises(UsageError) as raised:
            write_video(given, path, fps=fps)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    assert ".mp4, .mov, .mkv" in error(tmp_path / "a.gif", frames(1, 32, 32))
    assert "no frames" in error(tmp_path / "a.mp4", [])
    assert "one size" in error(tmp_path / "a.mp4", [*frames(1, 32, 32), *frames(1, 64, 32)])
    assert "fps: 0" in error(tmp_path / "a.mp4", frames(1, 32, 32), fps=0)
    (tmp_path / "full.mp4").mkdir()
    assert "full.mp4: cannot be written" in error(tmp_path / "full.mp4", frames(1, 32, 32))
    (tmp_path / "full.mp4").rmdir()
    assert not list(tmp_path.iterdir()), "nothing is left behind"
    monkeypatch.setitem(sys.modules, "av", None)
    assert "pip install" in error(tmp_path / "a.mp4", frames(1, 32, 32))
