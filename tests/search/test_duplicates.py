"""Exact and near duplicates are found, grouped without chains, and never confused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from bahumukha.search import PictureIndex
from bahumukha.search.duplicates import MAX_BITS, close_pairs, complete_link, difference_hash
from bahumukha.zoo.fake import ColourEncoder
from tests.search.pictures import draw


def bits(a: Image.Image, b: Image.Image) -> int:
    return sum(int.bit_count(x ^ y) for x, y in zip(difference_hash(a), difference_hash(b), strict=True))


def test_difference_hash_knows_a_picture_again_and_tells_others_apart() -> None:
    pictures = [draw("orange", seed, size=(320, 240)) for seed in range(12)]
    for picture in pictures:
        assert len(difference_hash(picture)) == 16
        assert bits(picture, picture.resize((100, 75))) <= MAX_BITS
        assert bits(picture, ImageEnhance.Brightness(picture).enhance(0.8)) <= MAX_BITS
    others = [bits(a, b) for i, a in enumerate(pictures) for b in pictures[:i]]
    assert min(others) > MAX_BITS


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(5):
        draw("blue", seed, size=(320, 240)).save(folder / f"blue-{seed}.png")
    draw("blue", 1, size=(320, 240)).resize((160, 120)).save(folder / "near-1.jpg", quality=60)
    shutil.copy(folder / "blue-2.png", folder / "exact-2.png")
    draw("blue", 2, size=(320, 240)).save(folder / "near-2.jpg", quality=70)
    return folder


def names(paths: list[str]) -> list[str]:
    return [os.path.basename(path) for path in paths]


def test_exact_and_near_groups(photos: Path, tmp_path: Path) -> None:
    index = PictureIndex(tmp_path / "index.db", ColourEncoder())
    index.index([photos])
    groups, stale = index.duplicates([photos])
    assert [(group.kind, names(group.paths)) for group in groups] == [("exact", ["blue-2.png", "exact-2.png"])]
    assert stale == 0
    groups, _ = index.duplicates([photos], near=True)
    assert [(group.kind, names(group.paths)) for group in groups] == [
        ("exact", ["blue-2.png", "exact-2.png"]),
        ("near", ["blue-1.png", "near-1.jpg"]),
        ("near", ["blue-2.png", "near-2.jpg"]),
    ]
    assert groups[0].similarity == 1.0 and 0.9 < groups[1].similarity <= 1.0


def test_links_to_one_file_and_stale_files_are_no_duplicates(photos: Path, tmp_path: Path) -> None:
    os.link(photos / "blue-3.png", photos / "hard.png")
    os.symlink(photos / "blue-4.png", photos / "soft.png")
    index = PictureIndex(tmp_path / "index.db", ColourEncoder())
    index.index([photos])
    (photos / "exact-2.png").write_bytes(b"changed since")
    assert index.duplicates([photos]) == ([], 1)


def test_pairs_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bahumukha.search.duplicates.BLOCK", 3)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((8, 64)).astype(np.float32)
    rows[7] = rows[0]
    rows[5] = rows[4]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    hashes = rng.integers(0, 2**63, (8, 2)).astype(np.uint64)
    hashes[7] = hashes[0]
    assert list(close_pairs(rows, hashes)) == [(0, 7)], "4 and 5 are close in meaning, but look different"


def test_groups_do_not_chain() -> None:
    chain = {(0, 1): 0.97, (1, 2): 0.96, (2, 3): 0.95}
    assert complete_link(chain) == [[0, 1], [2, 3]]
    assert complete_link({**chain, (0, 2): 0.95}) == [[0, 1, 2]]
    assert complete_link({}) == []
