"""Naming the colour of a picture: CIELAB itself, what counts as background, and drawings whose colour is known."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from bahumukha.data.scene_colours import COLOURS, oklab, srgb
from bahumukha.evaluate.colours import NAMES, background, cielab, colour_shares, dominant_colour, leading

Rgb = tuple[int, int, int]
GROUNDS: dict[str, Rgb] = {"white": (255, 255, 255), "sky": (176, 214, 240), "dusk": (58, 60, 70)}


def drawing(ground: Rgb, paint: Rgb, side: int = 96) -> np.ndarray:
    """A disc with a dark outline, a lighter and a darker part, two white eyes; (side, side, 3)."""
    light, dark = (tuple(srgb(oklab(np.array(paint)) + (by, 0, 0)).clip(0, 255).astype(int)) for by in (0.05, -0.05))
    image = Image.new("RGB", (side, side), ground)
    draw = ImageDraw.Draw(image)
    draw.ellipse((12, 12, side - 12, side - 12), fill=paint, outline=(20, 20, 20), width=3)
    draw.pieslice((16, 16, side - 16, side - 16), 10, 100, fill=dark)
    draw.pieslice((16, 16, side - 16, side - 16), 190, 250, fill=light)
    for x in (36, 54):
        draw.ellipse((x, 40, x + 7, 47), fill=(255, 255, 255))
    return np.asarray(image)


def test_cielab_agrees_with_scikit_image() -> None:
    color = pytest.importorskip("skimage.color")
    rgb = np.random.default_rng(0).integers(0, 256, (50, 3), dtype=np.uint8)
    assert np.allclose(cielab(rgb), color.rgb2lab(rgb), atol=0.02)


def test_cielab_of_primaries() -> None:
    found = cielab(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]]))
    assert np.allclose(found, [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.2], [32.3, 79.19, -107.86]], atol=0.05)


def test_the_eleven_colours_of_composed_scenes_have_their_names() -> None:
    assert set(NAMES) == set(COLOURS)
    assert [NAMES[colour_shares(np.array([rgb])).argmax()] for rgb in COLOURS.values()] == list(COLOURS)


def test_a_shade_between_two_colours_votes_for_both_and_black_needs_half_of_all() -> None:
    shares = dict(zip(NAMES, colour_shares(np.array([[254, 96, 30]])), strict=True))
    assert shares["orange"] > 0.2 and shares["red"] > 0.2 and sum(shares.values()) == pytest.approx(1)
    paints = [COLOURS["black"]] * 4 + [COLOURS["green"]] * 3 + [COLOURS["red"]] * 2
    assert leading(colour_shares(np.array(paints)))[0] == "green"
    assert leading(colour_shares(np.array(paints[:6])))[0] == "black"


def test_drawings_are_named_by_their_paint() -> None:
    rng = np.random.default_rng(0)
    right = []
    for name, paint in COLOURS.items():
        for shade in range(3):  # a little lighter, darker, duller
            moved = oklab(np.array(paint)) * (1, 0.9, 0.9) + (shade and rng.uniform(-0.03, 0.03), 0, 0)
            rgb = tuple(srgb(moved).clip(0, 255).round().astype(int))
            for ground in GROUNDS.values():
                if np.linalg.norm(cielab(np.array(rgb)) - cielab(np.array(ground))) > 25:
                    right.append(dominant_colour(drawing(ground, rgb))[0] == name)
    assert len(right) > 80 and np.mean(right) >= 0.95


def test_what_touches_the_border_and_is_of_one_colour_is_background() -> None:
    picture = drawing(GROUNDS["white"], COLOURS["yellow"])
    out = background(picture)
    assert out[0, 0] and out[-1, -1] and not out[48, 48]
    assert not out[43, 39]  # an eye is as white as the ground and does not touch the border
    assert dominant_colour(picture)[0] == "yellow"


def test_a_soft_and_slightly_noisy_ground_is_background_still() -> None:
    rng = np.random.default_rng(0)
    picture = drawing((200, 200, 205), COLOURS["red"]) + rng.normal(0, 3, (96, 96, 3))
    assert background(picture.clip(0, 255).astype(np.uint8))[:8].mean() > 0.95


def test_without_one_colour_along_the_border_there_is_no_background() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert not background(picture).any()


def test_a_subject_that_reaches_the_border_is_kept() -> None:
    picture = np.full((64, 64, 3), 255, np.uint8)
    picture[40:, 10:54] = COLOURS["green"]
    colour, share = dominant_colour(picture)
    assert colour == "green" and share > 0.9


def test_a_plain_surface_is_not_background() -> None:
    assert dominant_colour(np.full((16, 16, 3), COLOURS["blue"], np.uint8))[0] == "blue"
