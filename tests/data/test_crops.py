"""Crops: grounds behind transparent pictures, room around them, batches that are functions of (seed, number)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from PIL import Image, ImageDraw

from bahumukha.data.crops import CropBatches, CropConfig, Crops, crop, middle, on_ground
from bahumukha.data.decoded import small_array
from bahumukha.errors import UsageError

STILL = CropConfig(scale=(1, 1), ratio=(1, 1), flip=0, room=0, white=1, gradient=0, swap=0)
"""Nothing is left to chance."""


def disc(side: int = 64, colour: tuple[int, ...] = (220, 40, 10, 255)) -> Image.Image:
    """A disc that touches the rim, transparent outside."""
    large = Image.new("RGBA", (4 * side, 4 * side), (0, 0, 0, 0))
    ImageDraw.Draw(large).ellipse((0, 0, 4 * side - 1, 4 * side - 1), colour)
    return large.resize((side, side), Image.Resampling.BOX)


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_ground_is_what_pillow_composes() -> None:
    expected = Image.new("RGBA", (64, 64), (30, 200, 90, 255))
    expected.alpha_composite(disc())
    ours = on_ground(small_array(disc(), 64), np.array([30, 200, 90], np.uint8))
    assert np.abs(ours.astype(int) - np.asarray(expected.convert("RGB"))).max() <= 2


def test_left_alone_it_is_the_picture_resized() -> None:
    page = Image.new("RGB", (64, 64), "white")
    page.paste(disc(), mask=disc())
    expected = np.asarray(page.resize((32, 32), Image.Resampling.BICUBIC)).astype(int)
    for ours in (crop(small_array(disc(), 64), 32, STILL, random()), middle(small_array(disc(), 64), 32)):
        error = np.abs(ours - expected)  # at the rim bicubic overshoots, and what is cut off differs
        assert error.max() <= 12 and error.mean() < 0.6


def test_the_middle_of_a_wide_picture() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    assert middle(wide, 8).min() > 200


def test_grounds_are_white_as_often_as_asked() -> None:
    config = replace(STILL, white=0.7, gradient=0.5)
    corners = [crop(small_array(disc(), 64), 16, config, random(i))[[0, 0, -1, -1], [0, -1, 0, -1]] for i in range(300)]
    white = [bool((each > 250).all()) for each in corners]
    even = [bool(np.ptp(each.astype(int), axis=0).max() <= 2) for each in corners]
    assert 0.6 < np.mean(white) < 0.8
    assert 0.35 < np.mean([e for e, w in zip(even, white, strict=True) if not w]) < 0.65  # else a gradient


def test_room_makes_it_smaller_and_nothing_is_cut() -> None:
    config = replace(STILL, room=1.0)
    shares = [(crop(small_array(disc(), 64), 64, config, random(i))[..., 1] < 128).mean() for i in range(60)]
    whole = (crop(small_array(disc(), 64), 64, STILL, random())[..., 1] < 128).mean()
    assert max(shares) <= whole + 0.01 and min(shares) < 0.4 * whole
    rims = [crop(small_array(disc(), 64), 64, config, random(i)) for i in range(60)]
    touched = [(rim[0] < 128).any() + (rim[-1] < 128).any() for rim in rims]
    assert np.mean(touched) < 1


def test_changes_of_colour_and_side() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4] = (255, 128, 0)
    assert np.array_equal(crop(picture, 8, replace(STILL, flip=1), random()), picture[:, ::-1])
    swapped = {tuple(crop(picture, 8, replace(STILL, swap=1), random(i))[0, 0].tolist()) for i in range(60)}
    assert len(swapped) == 6 and all(sorted(each) == [0, 128, 255] for each in swapped)
    grey = crop(picture, 8, replace(STILL, grey=1), random())
    assert np.ptp(grey.astype(int), axis=2).max() == 0 and int(grey[0, 0, 0]) == round(0.299 * 255 + 0.587 * 128)
    plain = np.full((8, 8, 3), 128, np.uint8)
    lit = np.stack([crop(plain, 8, replace(STILL, colour=0.2), random(i)) for i in range(50)])
    assert lit.min() < 120 and lit.max() > 136 and 100 < lit.min() and lit.max() < 156


@pytest.mark.parametrize("change", [{"room": 1.5}, {"white": -0.1}, {"swap": 2.0}, {"scale": (0.5, 2.0)}])
def test_options_that_make_no_sense(change: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        CropConfig(**change)


# --- batches


def sources() -> list[list[np.ndarray]]:
    opaque = [np.full((40, 40, 3), i, np.uint8) for i in range(30)]
    return [opaque, [small_array(disc(40, (10 * i, 0, 255, 255)), 40) for i in range(5)]]


def batches(**options: object) -> CropBatches:
    sizes = {"sizes": (16, 32), "counts": (8, 2), "shares": (3.0, 1.0)} | options
    return CropBatches(sources(), [1.0, 2.0], CropConfig(colour=0.1), **sizes)  # type: ignore[arg-type]


def taken(batches: Iterator[Crops], count: int) -> list[Crops]:
    return list(islice(batches, count))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_batch_is_a_function_of_its_number(threads: int) -> None:
    first = taken(batches(threads=threads).starting_at(0), 9)
    later = taken(batches(threads=1, ahead=0).starting_at(5), 4)
    assert [b.number for b in first] == list(range(9))
    for a, b in zip(first[5:], later, strict=True):
        assert a.number == b.number and np.array_equal(a.pixels, b.pixels)
    other = taken(batches(seed=1).starting_at(0), 1)
    assert not np.array_equal(first[0].pixels, other[0].pixels)


def test_sizes_come_by_their_shares() -> None:
    made = batches()
    places = [made.place(number) for number in range(2000)]
    assert Counter(size for size, _, _ in places) == {16: 1500, 32: 500}
    assert Counter(size for size, _, _ in places[:20])[32] == 5  # evenly spread
    assert all(count == (8 if size == 16 else 2) for size, count, _ in places)
    first = 0
    for _, count, start in places:  # samples follow each other without a gap
        assert start == first
        first += count
    shapes = {b.pixels.shape for b in taken(made.starting_at(0), 8)}
    assert shapes == {(8, 16, 16, 3), (2, 32, 32, 3)}


def test_processes_share_a_batch() -> None:
    whole = taken(batches().starting_at(3), 3)
    halves = [taken(batches(rank=rank, parts=2).starting_at(3), 3) for rank in (0, 1)]
    for number, batch in enumerate(whole):
        assert np.array_equal(batch.pixels, np.concatenate([half[number].pixels for half in halves]))
    with pytest.raises(UsageError, match="a batch of 8 cannot be shared by 3 processes"):
        batches(parts=3)
