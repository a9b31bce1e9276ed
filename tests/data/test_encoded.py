"""Pictures as codes: what the file holds, when it is made anew, what stands after a stop, broken pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bahumukha.data import encoded as module
from bahumukha.data.encoded import Encoder, encoded_pictures
from bahumukha.data.pairs import SourceConfig
from bahumukha.data.views import ViewConfig
from bahumukha.errors import UsageError
from bahumukha.models.vqgan import Codec
from tests.train.drawings import tiny_codec, write_drawings


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", 10)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return tiny_codec()


def test_the_codes_are_those_of_the_views(tmp_path: Path, codec: Codec) -> None:
    folder = write_drawings(tmp_path / "data")
    done: list[int] = []
    encoder = Encoder(codec, 16, ViewConfig(count=3, white=0.3))
    found = encoded_pictures(SourceConfig(folder), encoder, tmp_path / "cache", advance=done.append)
    assert sum(done) == len(found.source) == len(found.readable) == 24 and found.views == 3 and found.grid == (2, 2)

    with Image.open(folder / "noto-red-circle.png") as picture:
        alpha = Image.new("RGBA", picture.size, "white")
        alpha.alpha_composite(picture.convert("RGBA"))
        pixels = np.asarray(alpha.convert("RGB").resize((16, 16), Image.Resampling.BICUBIC))
    (index,) = [i for i, p in enumerate(found.source.pictures) if p.name == "noto-red-circle.png"]  # type: ignore
    _, expected, _ = codec.quantize(
        codec.encode(torch.from_numpy(pixels / np.float32(127.5) - 1).permute(2, 0, 1)[None])
    )
    assert (found.ids(index, 0) == expected.flatten()).float().mean() >= 0.75  # but for rounding on the way
    assert found.about(index).style == "noto" and found.captions(index)["en"][0] == "red circle"
    assert all(found.ground(i, 0) is None for i in range(24))
    assert any(found.ground(i, v) is not None for i in range(24) for v in (1, 2))
    different = sum(not torch.equal(found.ids(i, 0), found.ids(i, v)) for i in range(24) for v in (1, 2))
    assert different > 24, "views differ"


def test_the_file_is_used_again_until_something_changes(tmp_path: Path, codec: Codec) -> None:
    source, cache = SourceConfig(write_drawings(tmp_path / "data")), tmp_path / "cache"

    def files(encoder: Encoder) -> int:
        encoded_pictures(source, encoder, cache)
        assert {path.suffix for path in cache.iterdir()} == {".u16"}, "nothing is left beside it"
        return len(list(cache.iterdir()))

    two = ViewConfig(count=2)
    assert files(Encoder(codec, 16, two)) == 1
    written = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert files(Encoder(codec, 16, two)) == 1
    assert written == {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert files(Encoder(tiny_codec(seed=1), 16, two)) == 2
    assert files(Encoder(codec, 24, two)) == 3
    assert files(Encoder(codec, 16, ViewConfig(count=2, white=0.0))) == 4
    Image.new("RGBA", (30, 30), "red").save(source.path / "noto-red-circle.png")
    assert files(Encoder(codec, 16, two)) == 5


def test_encoding_that_was_stopped_goes_on(tmp_path: Path, codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    source, encoder = SourceConfig(write_drawings(tmp_path / "data")), Encoder(codec, 16, ViewConfig(count=2))
    whole = encoded_pictures(source, encoder, tmp_path / "whole")
    decode = module._Writing._decoded
    seen: list[int] = []

    def stopped(self: module._Writing, index: int, side: int) -> np.ndarray:
        if index > 12 and not seen.count(-1):
            seen.append(-1)
            raise KeyboardInterrupt
        seen.append(index)
        return decode(self, index, side)

    monkeypatch.setattr(module._Writing, "_decoded", stopped)
    with pytest.raises(KeyboardInterrupt):
        encoded_pictures(source, encoder, tmp_path / "cache", threads=1)
    first = {each for each in seen if 0 <= each < 10}
    seen.clear()
    seen.append(-1)
    parts = encoded_pictures(source, encoder, tmp_path / "cache", threads=1)
    assert first == set(range(10)) and not set(seen) & first
    assert np.array_equal(parts.rows, whole.rows)


def test_broken_pictures_have_no_codes(tmp_path: Path, codec: Codec, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_drawings(tmp_path / "data")
    (folder / "noto-red-circle.png").write_bytes(b"no")
    found = encoded_pictures(SourceConfig(folder), Encoder(codec, 16), tmp_path / "cache")
    assert len(found.readable) == 23 and "noto-red-circle.png" in caplog.text
    again = encoded_pictures(SourceConfig(folder), Encoder(codec, 16), tmp_path / "cache")
    assert again.readable.tolist() == found.readable.tolist()

    lines = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    (folder / "one.jsonl").write_text(json.dumps(next(r for r in lines if r["file"] == "noto-red-circle.png")))
    with pytest.raises(UsageError, match="none of its 1 pictures can be read"):
        encoded_pictures(SourceConfig(folder / "one.jsonl"), Encoder(codec, 16), tmp_path / "cache")


def test_sizes_that_the_codec_does_not_take(codec: Codec) -> None:
    for size in (8, 20):
        with pytest.raises(UsageError, match=f"size: {size} pixels were given; this codec takes multiples of 8"):
            Encoder(codec, size)
