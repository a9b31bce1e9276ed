"""Batches are functions of (seed, number): order, weights, crops, captions and replacements."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bahumukha.data.augment import Augment, AugmentConfig, crop_box
from bahumukha.data.batches import Batch, Order, PairBatches, pattern, same_samples
from bahumukha.data.pairs import SourceConfig, open_source
from bahumukha.errors import UsageError
from tests.train.shapes import write_folder, write_listing

AUGMENT = Augment(32, AugmentConfig(scale=(0.5, 1.0), flip=0.5, colour=0.3, grey=0.2))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_listing(tmp_path_factory.mktemp("shapes") / "listing")


def batches_of(folder: Path, size: int = 8, **options: object) -> PairBatches:
    sources = [open_source(SourceConfig(folder))]
    return PairBatches(sources, [1.0], AUGMENT, size, **options)  # type: ignore[arg-type]


def take(batches: PairBatches, number: int, count: int) -> list[Batch]:
    stream = batches.starting_at(number)
    found = list(itertools.islice(stream, count))
    stream.close()  # type: ignore[attr-defined]
    return found


def equal(a: Batch, b: Batch) -> bool:
    return a.number == b.number and a.texts == b.texts and np.array_equal(a.pixels, b.pixels)


def test_a_batch_hangs_on_seed_and_number_alone(shapes: Path) -> None:
    first = take(batches_of(shapes, threads=1, ahead=0), 0, 12)
    later = take(batches_of(shapes, threads=4, ahead=3), 7, 5)
    assert all(equal(a, b) for a, b in zip(first[7:], later, strict=True))
    assert [b.number for b in later] == [7, 8, 9, 10, 11]
    other = take(batches_of(shapes, seed=1), 0, 1)[0]
    assert not equal(first[0], other)


def test_each_round_has_every_picture_once_in_another_order_and_crop(shapes: Path) -> None:
    order = Order([64], [1.0], 0)
    rounds = [[order[t][1] for t in range(64 * r, 64 * r + 64)] for r in range(3)]
    assert all(sorted(each) == list(range(64)) for each in rounds) and rounds[0] != rounds[1] != rounds[2]
    drawn = take(batches_of(shapes, 64), 0, 2)
    row = {text: drawn[0].pixels[i] for i, text in enumerate(drawn[0].texts)}
    shared = [(row[text], drawn[1].pixels[i]) for i, text in enumerate(drawn[1].texts) if text in row]
    assert len(shared) > 10 and sum(np.array_equal(a, b) for a, b in shared) < len(shared) / 4


def test_captions_come_in_both_languages(shapes: Path) -> None:
    texts = [text for batch in take(batches_of(shapes, 32, mix={"en": 1, "es": 3}), 0, 8) for text in batch.texts]
    spanish = sum("de color" in text for text in texts) / len(texts)
    assert 0.65 < spanish < 0.85


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (0.9, 0.07, 0.03), (1, 1000)])
def test_sources_come_by_weight_and_evenly(weights: tuple[float, ...]) -> None:
    order = Order([10] * len(weights), weights, 0)
    sources = [order[t][0] for t in range(2000)]
    for source, weight in enumerate(weights):
        share = weight / sum(weights)
        assert sources.count(source) / 2000 == pytest.approx(share, abs=0.0015)
        window = sources[300:500].count(source)
        assert abs(window - 200 * share) <= 2
    for source in range(len(weights)):  # and each is gone through before any of it comes again
        seen = [order[t][1] for t in range(2000) if order[t][0] == source]
        assert all(sorted(seen[i : i + 10]) == list(range(10)) for i in range(0, len(seen) - 9, 10))


def test_pattern_of_one_source_is_short() -> None:
    assert pattern([5.0]).tolist() == [0] and set(pattern([1.0, 1e-9])) == {0, 1}


def test_parts_of_processes_are_the_whole_batch(shapes: Path) -> None:
    whole = take(batches_of(shapes, 8), 3, 1)[0]
    parts = [take(batches_of(shapes, 8, rank=rank, parts=2), 3, 1)[0] for rank in (0, 1)]
    assert np.array_equal(np.concatenate([p.pixels for p in parts]), whole.pixels)
    assert parts[0].texts + parts[1].texts == whole.texts
    with pytest.raises(UsageError, match="a batch of 8 cannot be shared by 3"):
        batches_of(shapes, 8, parts=3)


def test_a_broken_picture_is_named_once_and_replaced_by_the_same_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_folder(tmp_path / "f")
    (folder / "red-bar.png").write_bytes(b"broken")
    (folder / "red-post.png").write_bytes((folder / "red-post.png").read_bytes()[:60])
    with caplog.at_level(logging.WARNING):
        first = take(batches_of(folder, 16, threads=4), 0, 12)
    named = Counter(record.getMessage().split(":")[0] for record in caplog.records)
    assert set(named.values()) == {1} and len(named) == 2
    assert not any("red bar" in t or "red post" in t for batch in first for t in batch.texts)
    again = take(batches_of(folder, 16, threads=1), 4, 8)
    assert all(equal(a, b) for a, b in zip(first[4:], again, strict=True))


def test_a_source_of_broken_pictures_is_an_error(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"broken")
        (tmp_path / f"{name}.txt").write_text("a caption")
    with pytest.raises(UsageError, match="none can be read"):
        take(batches_of(tmp_path, 2), 0, 1)


def test_what_is_twice_in_a_batch_is_known() -> None:
    assert same_samples([(0, 1), (0, 2)], ["a", "b"], range(2)) is None
    same = same_samples([(0, 1), (0, 2), (0, 1), (1, 1)], ["a", "b", "c", "b"], range(1, 3))
    assert same is not None and same.tolist() == [[False, True, False, True], [True, False, True, False]]


# --- crops


def test_a_crop_is_torchvisions_of_the_same_box() -> None:
    from torchvision.transforms import InterpolationMode, functional

    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8))
    plain = Augment(32, AugmentConfig(scale=(0.3, 0.6)))
    for seed in range(5):
        left, top, right, bottom = crop_box(picture.size, plain.config, np.random.default_rng(seed))
        theirs = functional.resized_crop(
            picture, top, left, bottom - top, right - left, [32, 32], InterpolationMode.BICUBIC
        )
        mine = plain(picture, np.random.default_rng(seed)).astype(int)
        # torchvision cuts first, so that no pixel outside the crop bleeds into its rim.
        assert np.abs(mine - np.asarray(theirs))[2:-2, 2:-2].max() <= 1


def test_areas_and_shapes_of_crops_are_as_asked() -> None:
    config = AugmentConfig(scale=(0.2, 0.8), ratio=(0.5, 2.0))
    random = np.random.default_rng(0)
    boxes = [crop_box((200, 150), config, random) for _ in range(2000)]
    areas = np.array([(r - x) * (b - y) for x, y, r, b in boxes]) / (200 * 150)
    ratios = np.array([(r - x) / (b - y) for x, y, r, b in boxes])
    assert areas.min() > 0.19 and areas.max() < 0.81 and ratios.min() > 0.48 and ratios.max() < 2.05
    assert all(0 <= x < r <= 200 and 0 <= y < b <= 150 for x, y, r, b in boxes)
    assert crop_box((10, 1000), AugmentConfig(), random) == (0, 493, 10, 506)  # too long: the middle


def test_flips_are_off_by_default_and_on_when_asked() -> None:
    picture = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 1, 3)))
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    for seed in range(20):
        plain = Augment(32, AugmentConfig(**whole))(picture, np.random.default_rng(seed))  # type: ignore[arg-type]
        assert plain[0, 0, 0] < plain[0, -1, 0]
    mirrored = Augment(32, AugmentConfig(**whole, flip=1.0))(picture, np.random.default_rng(0))  # type: ignore[arg-type]
    assert mirrored[0, 0, 0] > mirrored[0, -1, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"scale": (0.0, 1.0)}, "scale"), ({"scale": (0.5, 1.5)}, "at most 1"), ({"flip": 1.5}, "flip is 1.5")],
)
def test_bad_strengths_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**options)
