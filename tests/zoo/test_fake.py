from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bahumukha.errors import ImageError
from bahumukha.protocols import ImageTextEncoder
from bahumukha.zoo.fake import COLOURS, ColourEncoder


def plain(colour: str) -> Image.Image:
    return Image.new("RGB", (20, 10), COLOURS[colour])


def test_it_keeps_the_contract() -> None:
    encoder = ColourEncoder()
    assert isinstance(encoder, ImageTextEncoder)
    for rows in (
        encoder.encode_images([plain("red"), plain("grey")]),
        encoder.encode_texts(["", "a blue sea"]),
    ):
        assert rows.shape == (2, encoder.dim)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert encoder.encode_images([]).shape == (0, encoder.dim)
    assert encoder.encode_texts([]).shape == (0, encoder.dim)


@pytest.mark.parametrize("grid", [1, 2, 3])
def test_each_colour_is_nearest_to_its_word(grid: int) -> None:
    encoder = ColourEncoder(grid)
    names = [name for name in COLOURS if name != "grey"]  # a twin of gray
    images = encoder.encode_images([plain(name) for name in names])
    texts = encoder.encode_texts([f"A {name.upper()} thing" for name in names])
    assert (images @ texts.T).argmax(axis=1).tolist() == list(range(len(names)))


def test_places_are_told_apart() -> None:
    encoder = ColourEncoder()
    half = Image.new("RGB", (20, 20), COLOURS["red"])
    half.paste(COLOURS["blue"], (10, 0, 20, 20))
    mirrored, same = (
        half.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        half.resize((40, 40), Image.Resampling.NEAREST),
    )
    embeddings = encoder.encode_images([half, mirrored, same])
    assert embeddings[0] @ embeddings[2] > 0.999
    assert embeddings[0] @ embeddings[1] < 0.5


def test_encode_each_reports_failures_in_place() -> None:
    encoder = ColourEncoder()

    def load(name: str) -> Image.Image:
        if name not in COLOURS:
            raise ImageError(f"{name}: no such colour")
        return plain(name)

    results = list(encoder.encode_each(["red", "mauve", "blue"], load))
    assert [name for name, _ in results] == ["red", "mauve", "blue"]
    assert isinstance(results[1][1], ImageError)
    np.testing.assert_array_equal(results[2][1], encoder.encode_images([plain("blue")])[0])


def test_another_grid_is_another_model() -> None:
    assert ColourEncoder(1).fingerprint != ColourEncoder(2).fingerprint
