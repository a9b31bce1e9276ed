"""The map points at what decides: at coloured regions for an encoder of colours, at the animals for the starter."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import bahumukha
from bahumukha import zoo
from bahumukha.classify import label_embeddings, probabilities
from bahumukha.demo import shipped_photos
from bahumukha.errors import UsageError
from bahumukha.explain import (
    AGAINST,
    FOR,
    Explained,
    cropped,
    encodings,
    explain,
    explained_page,
    heat_picture,
    log_odds,
    seen,
)
from bahumukha.images import Preprocess, open_image
from bahumukha.zoo.fake import ColourEncoder

LABELS = ["a red thing", "a blue thing", "a gray thing"]


@pytest.fixture
def corners() -> Image.Image:
    """Grey, with red in the upper left and blue in the lower right corner."""
    image = Image.new("RGB", (120, 100), (128, 128, 128))
    image.paste((255, 0, 0), (10, 10, 50, 40))
    image.paste((0, 0, 255), (70, 60, 110, 90))
    return image


def mass(values: np.ndarray, box: tuple[int, int, int, int]) -> float:
    """The part of the positive effects that lies in left, top, right, bottom."""
    positive = np.clip(values, 0, None)
    return float(positive[box[1] : box[3], box[0] : box[2]].sum() / positive.sum())


def test_points_at_the_colour_asked_for(corners: Image.Image) -> None:
    encoder = ColourEncoder(grid=4)
    red = explain(corners, "a red thing", LABELS, model=encoder)
    blue = explain(corners, "a blue thing", LABELS, model=encoder)
    assert red.shape == (100, 120) and red.dtype == np.float32
    assert np.abs(red).max() == pytest.approx(1)
    assert mass(red, (0, 0, 60, 50)) > 0.8 and mass(blue, (60, 50, 120, 100)) > 0.8
    assert red[25, 30] > 0.7 and blue[75, 90] > 0.7
    assert red[75, 90] < -0.2 and blue[25, 30] < -0.2, "what speaks for the other label speaks against this one"
    assert abs(red[85, 15]) < 0.15, "grey decides nothing"


def test_a_single_label_is_explained_by_its_cosine(corners: Image.Image) -> None:
    assert mass(explain(corners, "red", ["red"], model=ColourEncoder(grid=4)), (0, 0, 60, 50)) > 0.6


def test_nothing_to_see_is_not_blown_up() -> None:
    values = explain(Image.new("RGB", (64, 64), (200, 30, 30)), "red", ["red", "blue"], model=ColourEncoder())
    assert np.abs(values).max() < 0.05


def test_log_odds_are_those_of_the_probabilities() -> None:
    encoder = ColourEncoder()
    rows = encoder.encode_images([Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "white")])
    targets = label_embeddings(encoder, LABELS)
    chances = probabilities(rows, targets, encoder.logit_scale)
    for wanted in range(3):
        expected = np.log(chances[:, wanted] / (1 - chances[:, wanted]))
        assert log_odds(rows, targets, encoder.logit_scale, wanted) == pytest.approx(expected)


def test_what_the_model_crops_away_has_no_effect(corners: Image.Image) -> None:
    encoder = ColourEncoder(grid=4)
    encoder.preprocess = Preprocess(size=80, resize=100)  # type: ignore[attr-defined]
    assert cropped((120, 100), encoder) == (10, 0, 110, 100)
    assert seen((120, 100), encoder) == pytest.approx((20, 10, 100, 90))
    assert encodings((120, 100), encoder) == encodings((1000, 100), encoder) == 130
    values = explain(corners, "a red thing", LABELS, model=encoder)
    assert not values[:, :20].any() and not values[:10].any() and not values[:, 100:].any() and not values[90:].any()
    assert values[20:40, 20:50].mean() > 0.3


def test_advances_once_an_encoding(corners: Image.Image) -> None:
    encoder, steps = ColourEncoder(), []
    explain(corners, "a red thing", LABELS, model=encoder, advance=lambda: steps.append(1))
    assert len(steps) == encodings(corners.size, encoder) == 8 * 7 + 11 * 9


def test_a_label_that_is_not_among_them(corners: Image.Image) -> None:
    with pytest.raises(UsageError, match="'green' is not one of the labels: a red thing, a blue"):
        explain(corners, "green", LABELS, model=ColourEncoder())


def test_a_path_is_read(corners: Image.Image, tmp_path) -> None:
    corners.save(tmp_path / "corners.png")
    ours = bahumukha.explain(tmp_path / "corners.png", "a red thing ", LABELS, model=ColourEncoder())
    assert np.array_equal(ours, explain(corners, "a red thing", LABELS, model=ColourEncoder()))


def test_red_for_blue_against_grey_for_nothing_pale_outside() -> None:
    values = np.zeros((20, 40), np.float32)
    values[:, :10], values[:, 10:20] = 1, -1
    picture = np.asarray(heat_picture(Image.new("RGB", (40, 20), (90, 90, 90)), values, (0, 0, 30, 20)), int)
    assert np.abs(picture[10, 5] - FOR).max() < 40 and np.abs(picture[10, 15] - AGAINST).max() < 40
    assert np.ptp(picture[10, 25]) == 0 and (picture[10, 35] > picture[10, 25] + 50).all()


def test_the_page_shows_one_beside_its_picture_and_several_as_maps(corners: Image.Image) -> None:
    encoder = ColourEncoder()
    one = Explained(corners, "corners.png", "red", 0.5, np.zeros((100, 120), np.float32))
    single, several = explained_page([one], encoder), explained_page([one] * 3, encoder)
    pixels = np.asarray(single.convert("RGB"), int)
    left, right = pixels[:, : single.width // 2], pixels[:, single.width // 2 :]
    is_red = (left == (255, 0, 0)).all(2)
    assert is_red.any() and not (right == (255, 0, 0)).all(2).any()
    assert several.width > 3 * 300


def test_the_starter_finds_the_cat_left_and_the_dog_right() -> None:
    photos = {photo.path.stem: photo.path for photo in shipped_photos()}
    page = Image.new("RGB", (600, 600))
    for place, name in enumerate(("cat-gray-and-white", "dog-german-shepherd")):
        photo = open_image(photos[name], at_least=600)
        scale = 600 / photo.height
        photo = photo.resize((round(photo.width * scale), 600))
        left = (photo.width - 300) // 2
        page.paste(photo.crop((left, 0, left + 300, 600)), (300 * place, 0))
    labels, encoder = ["a cat", "a dog", "a car", "a tree"], zoo.load()
    assert mass(explain(page, "a cat", labels, model=encoder), (0, 0, 300, 600)) > 0.6
    assert mass(explain(page, "a dog", labels, model=encoder), (300, 0, 600, 600)) > 0.6
