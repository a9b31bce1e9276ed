"""Views: the plain one first, whole things on grounds that are told, and nothing that makes a caption untrue."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bahumukha.data.scene_colours import COLOURS, distances, oklab
from bahumukha.data.views import ViewConfig, plain_view, random_view


def red_square(side: int = 40, channels: int = 4) -> np.ndarray:
    """Opaque red, in RGBA or RGB."""
    picture = np.zeros((side, side, channels), np.uint8)
    picture[..., 0] = 220
    picture[..., 3:] = 255
    return picture


def red(view: np.ndarray) -> np.ndarray:
    return (view[..., 0] > 180) & (view[..., 1] < 60)


def test_the_plain_view_shows_all_of_a_transparent_picture_in_the_middle_of_white() -> None:
    wide = np.concatenate([red_square(), red_square()], axis=1)
    view = plain_view(wide, 32)
    assert red(view[8:24]).all() and (view[:7] == 255).all() and (view[25:] == 255).all()


def test_views_are_whole_things_of_the_sizes_asked_for_in_many_places() -> None:
    config = ViewConfig(scale=(0.5, 0.75), white=1.0)
    boxes = set()
    for seed in range(30):
        view, ground = random_view(red_square(), 32, config, np.random.default_rng(seed))
        rows, columns = (np.flatnonzero(red(view).any(axis)) for axis in (1, 0))
        assert ground is None and 15 <= len(rows) <= 25 and len(rows) == len(columns)
        boxes.add((rows[0], columns[0]))
    assert len(boxes) > 15


def test_grounds_are_called_what_they_are_and_things_stand_out() -> None:
    names = set()
    for seed in range(60):
        view, name = random_view(red_square(), 32, ViewConfig(white=0.0), np.random.default_rng(seed))
        ground = view[~red(view)]
        if len(ground) and name is not None:
            names.add(name)
            assert next(iter(distances(oklab(np.median(ground, axis=0)), tuple(COLOURS)))) == name
    assert len(names) > 4 and "red" not in names and "white" not in names


def test_the_share_of_white_and_the_same_view_from_the_same_generator() -> None:
    grounds = [random_view(red_square(), 16, ViewConfig(white=0.6), np.random.default_rng(s))[1] for s in range(200)]
    assert 0.5 < sum(ground is None for ground in grounds) / 200 < 0.75
    once, again = (random_view(red_square(), 16, ViewConfig(), np.random.default_rng(3)) for _ in range(2))
    assert (once[0] == again[0]).all() and once[1] == again[1]


def test_a_picture_with_its_own_ground_keeps_it() -> None:
    picture = red_square(channels=3)
    picture[:, :20] = (0, 0, 200)
    view, ground = random_view(picture, 16, ViewConfig(white=0.0), np.random.default_rng(0))
    assert ground is None and (view[:, :5, 2] > 150).all() and red(view[:, 11:]).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": 0}, "count is 0"),
        ({"scale": (0.9, 0.5)}, "scale is"),
        ({"crop": (0.5, 1.2)}, "crop is"),
        ({"white": 1.5}, "white is 1.5"),
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViewConfig(**wrong)
