"""Pictures decoded once: what is kept of them, in memory and in a file, and which are left out."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bahumukha.data import decoded
from bahumukha.data.decoded import decoded_pictures, small_array
from bahumukha.data.pairs import SourceConfig
from bahumukha.errors import UsageError
from tests.train.shapes import write_folder, write_shards


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder without captions: opaque.png 60 x 40, see-through.png 40 x 90, wide.jpg 300 x 20."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    Image.new("RGB", (60, 40), (10, 20, 30)).save(folder / "opaque.png")
    Image.new("RGBA", (40, 90), (200, 100, 0, 128)).save(folder / "see-through.png")
    Image.new("RGB", (300, 20), "white").save(folder / "wide.jpg")
    return folder


def test_sizes_and_channels(mixed: Path) -> None:
    opaque, clear, wide = decoded_pictures(SourceConfig(mixed), 20)
    assert opaque.shape == (20, 30, 3) and (opaque == (10, 20, 30)).all()
    assert clear.shape == (40, 18, 4)  # the longer side is at most twice 20
    assert abs(clear.astype(int) - (100, 50, 0, 128)).max() <= 1  # colours times alpha
    assert wide.shape == (3, 40, 3)


def test_nothing_is_made_larger() -> None:
    assert small_array(Image.new("RGB", (30, 50)), 64).shape == (50, 30, 3)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_cache_holds_the_same(mixed: Path, tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    expected = decoded_pictures(SourceConfig(mixed), 20, threads=threads)
    first = decoded_pictures(SourceConfig(mixed), 20, cache=cache, threads=threads)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(decoded, "open_image", refuse)
    again = decoded_pictures(SourceConfig(mixed), 20, cache=cache)
    for pictures in (first, again, again[:]):
        assert len(pictures) == 3
        assert all(np.array_equal(a, b) for a, b in zip(expected, pictures, strict=True))
    assert np.array_equal(again[-1], expected[-1]) and [p.shape for p in again[1:]] == [p.shape for p in expected[1:]]
    assert {path.suffix for path in cache.iterdir()} == {".u8", ".npy"}
    with pytest.raises(AssertionError, match="decoded again"):  # another size is another file
        decoded_pictures(SourceConfig(mixed), 24, cache=cache)
    assert len(list(cache.iterdir())) == 2  # and what broke off leaves nothing


def test_a_picture_that_changed_is_decoded_again(mixed: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    decoded_pictures(SourceConfig(mixed), 20, cache=cache)
    Image.new("RGB", (60, 40), (99, 0, 0)).save(mixed / "opaque.png")
    os.utime(mixed / "opaque.png", (1, 1))
    assert (decoded_pictures(SourceConfig(mixed), 20, cache=cache)[0] == (99, 0, 0)).all()


def test_splits_of_a_listing(mixed: Path) -> None:
    rows = [("opaque.png", "train"), ("see-through.png", "validation"), ("wide.jpg", "train")]
    text = "".join(json.dumps({"file": f, "captions": {"en": ["x"]}, "split": s}) + "\n" for f, s in rows)
    (mixed / "captions.jsonl").write_text(text)
    assert [p.shape[2] for p in decoded_pictures(SourceConfig(mixed, split="train"), 20)] == [3, 3]
    assert [p.shape[2] for p in decoded_pictures(SourceConfig(mixed, split="validation"), 20)] == [4]
    assert len(decoded_pictures(SourceConfig(mixed), 20, most=2)) == 2


def test_folders_of_captioned_pictures_and_shards(tmp_path: Path) -> None:
    folder, shards = write_folder(tmp_path / "folder"), write_shards(tmp_path / "shards")
    (folder / "no-caption.png").write_bytes((folder / "red-ring.png").read_bytes())
    assert len(decoded_pictures(SourceConfig(folder), 32)) == 65
    cached = decoded_pictures(SourceConfig(shards), 32, cache=tmp_path / "cache")
    assert len(cached) == 64 and cached[0].shape == (32, 32, 3)


def test_broken_pictures_are_named_and_left_out(mixed: Path, caplog: pytest.LogCaptureFixture) -> None:
    (mixed / "opaque.png").write_bytes(b"nothing")
    with caplog.at_level(logging.WARNING):
        assert len(decoded_pictures(SourceConfig(mixed), 20)) == 2
    assert "opaque.png" in caplog.text and "left out" in caplog.text


def test_nothing_to_train_on(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        decoded_pictures(SourceConfig(tmp_path / "none"), 20)
    with pytest.raises(UsageError, match="split 'train' is asked for"):
        decoded_pictures(SourceConfig(mixed, split="train"), 20)
    for path in mixed.iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(UsageError, match="none of its 3 pictures can be read"):
        decoded_pictures(SourceConfig(mixed), 20)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no pictures in this folder"):
        decoded_pictures(SourceConfig(tmp_path / "empty"), 20)
