"""`bahu classify --explain`: the picture is written, for the best label or the one asked for."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bahumukha import zoo
from bahumukha.cli.classify import MOST_EXPLAINED
from bahumukha.explain import SMALL
from bahumukha.zoo.fake import ColourEncoder


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "load", lambda name=None: ColourEncoder(grid=4))


@pytest.fixture
def bahu(bahu: Any) -> Any:
    return partial(bahu, "classify")


@pytest.fixture
def corners(tmp_path: Path) -> Path:
    """Much red above left, a little blue below right."""
    image = Image.new("RGB", (100, 100), (128, 128, 128))
    image.paste((255, 0, 0), (0, 0, 60, 50))
    image.paste((0, 0, 255), (70, 70, 100, 100))
    image.save(tmp_path / "corners.png")
    return tmp_path / "corners.png"


def warmth(page: Path) -> np.ndarray:
    """Red minus blue of the right half of a page, where the map is."""
    with Image.open(page) as image:
        pixels = np.asarray(image.convert("RGB"), int)
    return (pixels[..., 0] - pixels[..., 2])[:, pixels.shape[1] // 2 :]


def test_the_best_label_or_the_one_asked_for(bahu: Any, corners: Path, tmp_path: Path) -> None:
    best, other = tmp_path / "best.png", tmp_path / "new/other.png"
    labels = ("--label", "red", "--label", "blue")
    code, out, err = bahu(corners, *labels, "--explain", best, "--top", "1", "--json")
    assert (code, err) == (0, f"bahu: explained in {best}\n")
    assert [each["label"] for each in json.loads(out)["labels"]] == ["red"], "--top holds for what is printed"
    assert bahu(corners, *labels, "--explain", other, "--explain-label", "blue", "--top", "1")[0] == 0
    red, blue = warmth(best), warmth(other)
    assert red.shape == blue.shape
    difference = red - blue  # the picture beneath is the same
    rows, columns = (length // 10 for length in difference.shape)
    assert difference[rows : 3 * rows, columns : 4 * columns].mean() > 60, "where the red is"
    assert difference[5 * rows : 6 * rows, 8 * columns : 9 * columns].mean() < 0, "where the blue is"


def test_several_on_one_page_and_a_bad_one_left_out(bahu: Any, corners: Path, coloured_pictures: Path) -> None:
    (coloured_pictures / "torn.png").write_bytes(b"no")
    page = corners.with_name("page.png")
    code, out, err = bahu(coloured_pictures, corners, "--label", "red", "--label", "blue", "--explain", page)
    assert code == 0 and "torn.png" in err
    with Image.open(page) as image:
        assert image.width > 2 * SMALL and image.height > SMALL


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--explain-label", "red"], "--explain-label is about the picture of --explain"),
        (["--explain", "why.txt"], "--explain why.txt: name it .png, .jpg or .webp"),
        (["--explain", "why.png", "--explain-label", "green"], "--explain-label 'green' is not one of the labels"),
    ],
)
def test_mistakes_are_one_line(bahu: Any, corners: Path, options: list[str], message: str) -> None:
    code, out, err = bahu(corners, "--label", "red", "--label", "blue", *options)
    assert (code, out, err.count("\n")) == (1, "", 1) and message in err


def test_too_many_for_a_page(bahu: Any, tmp_path: Path) -> None:
    for number in range(MOST_EXPLAINED + 1):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    code, out, err = bahu(tmp_path, "--label", "red", "--label", "blue", "--explain", tmp_path / "why.png")
    assert (code, out) == (1, "") and f"37 pictures were given; it draws {MOST_EXPLAINED} at most" in err
