"""The automatic cut-off on distributions of which the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bahumukha.search.cutoff import auto_cutoff


def kept(scores: np.ndarray) -> int:
    return int((scores >= auto_cutoff(scores)).sum())


@pytest.mark.parametrize("hits", [1, 3, 10, 40])
@pytest.mark.parametrize("misses", [60, 1_000, 100_000])
def test_hits_apart_from_the_bulk_are_kept(hits: int, misses: int) -> None:
    rng = np.random.default_rng(hits + misses)
    scores = np.concatenate([rng.normal(0.15, 0.02, misses), rng.normal(0.32, 0.015, hits)]).astype(np.float32)
    assert abs(kept(scores) - hits) <= max(1, 0.1 * hits)


@pytest.mark.parametrize("level", [0.05, 0.25, 0.8])
@pytest.mark.parametrize("spread", [0.005, 0.03, 0.1])
def test_the_level_and_spread_of_a_query_do_not_matter(level: float, spread: float) -> None:
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(0, 1, 5000), rng.normal(7.5, 0.5, 20)]) * spread + level
    assert 19 <= kept(scores) <= 22


@pytest.mark.parametrize("misses", [20, 300, 3_000, 100_000])
def test_nothing_to_find_gives_few_or_none(misses: int) -> None:
    rng = np.random.default_rng(misses)
    counts = [kept(rng.normal(0.2, 0.03, misses)) for _ in range(20)]
    assert np.mean(counts) <= 1 and max(counts) <= 3


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_hits_that_are_many_or_most(share: float) -> None:
    rng = np.random.default_rng(1)
    hits = int(400 * share)
    scores = np.concatenate([rng.normal(0.15, 0.02, 400 - hits), rng.normal(0.32, 0.02, hits)])
    assert abs(kept(scores) - hits) <= 0.05 * hits


def test_small_folder() -> None:
    scores = np.array([0.31, 0.30, 0.14, 0.15, 0.13, 0.16, 0.15, 0.14, 0.17, 0.15])
    assert kept(scores) == 2
    assert auto_cutoff(np.array([0.3, 0.1])) == -math.inf, "too few to tell"


def test_equal_scores_do_not_stand_out() -> None:
    assert auto_cutoff(np.full(100, 0.2, np.float32)) == math.inf


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_nothing_crashes(values: list[float], random: object) -> None:
    scores = np.array(values, np.float32)
    cutoff = auto_cutoff(scores)
    assert not math.isnan(cutoff)
    random.shuffle(values)  # type: ignore[attr-defined]
    assert auto_cutoff(np.array(values, np.float32)) == cutoff
