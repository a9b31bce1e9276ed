"""Frames to paint over: all of them, in their order, from wherever a stopped run goes on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bahumukha.errors import UsageError
from bahumukha.generate.frames import AnimationConfig, Frames, upright
from bahumukha.generate.video import write_video


def grey(image: Image.Image) -> int:
    assert image.mode == "RGB"
    return int(np.asarray(image).mean().round())


def folder_of(path: Path, count: int) -> Path:
    """frame-0.png, frame-1.png and so on: frame k has the grey 10 k."""
    path.mkdir()
    for k in range(count):
        Image.new("RGB", (32, 24), (10 * k,) * 3).save(path / f"frame-{k}.png")
    (path / "notes.txt").write_text("not a frame")
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Eleven frames of greys 0, 20 … 200, twelve a second."""
    path = tmp_path / "greys.mp4"
    write_video((np.full((24, 32, 3), 20 * k, np.uint8) for k in range(11)), path, fps=12)
    return path


def test_a_folder_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    frames = Frames(folder_of(tmp_path / "f", 12))
    assert frames.count == 12 and frames.rate is None
    assert [grey(each) for each in frames.pictures()] == [10 * k for k in range(12)]
    assert [grey(each) for each in frames.pictures(9)] == [90, 100, 110]
    some = Frames(tmp_path / "f", every=5)
    assert some.count == 3 and [grey(each) for each in some.pictures(1)] == [50, 100]


def test_a_video(video: Path) -> None:
    frames = Frames(video)
    assert frames.count == 11 and frames.rate == 12
    found = [grey(each) for each in frames.pictures()]
    assert np.abs(np.array(found) - 20 * np.arange(11)).max() <= 4
    assert [grey(each) for each in frames.pictures(8)] == found[8:]
    some = Frames(video, every=4)
    assert some.count == 3 and some.rate == 3 and [grey(each) for each in some.pictures(1)] == found[4::4]


def test_a_phones_video_stands_upright() -> None:
    image = Image.new("RGB", (4, 2))
    image.putpixel((3, 0), (255, 0, 0))  # the upper right corner
    turned = upright(SimpleNamespace(to_image=lambda: image, rotation=-90))  # counter-clockwise, so clockwise
    assert turned.size == (2, 4) and turned.getpixel((1, 3)) == (255, 0, 0)
    assert upright(SimpleNamespace(to_image=lambda: image, rotation=0)).size == (4, 2)


def test_what_has_no_frames(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")

    def error(name: str) -> str:
        with pytest.raises(UsageError) as raised:
            Frames(tmp_path / name)
        assert name in str(raised.value) and "\n" not in str(raised.value)
        return str(raised.value)

    assert "there are no frames" in error("empty")
    assert "cannot be read as a video" in error("text.mp4")
    assert "there is no such file or folder" in error("nowhere")


def test_wrong_settings_are_named() -> None:
    for options in ({"smoothing": 1.0}, {"smoothing": -0.1}, {"every": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            AnimationConfig(**options)  # type: ignore[arg-type]
