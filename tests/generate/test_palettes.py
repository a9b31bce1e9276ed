"""The grammar of palettes: ramps, lists, joins, pictures, names; what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor

from bahumukha.errors import ImageError, UsageError
from bahumukha.generate.palettes import NAMES, format_palette, nearest, parse_colour, parse_palette

PATIENT = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
"""On a machine that is busy with something else."""

BYTES = st.integers(0, 255)
COLOURS = st.tuples(BYTES, BYTES, BYTES)


def rows(text: str) -> list[list[int]]:
    """A palette from 0 to 255; every number of it is a whole one."""
    scaled = parse_palette(text) * 255
    torch.testing.assert_close(scaled, scaled.round(), rtol=0, atol=1e-4)
    return scaled.round().int().tolist()


@PATIENT
@given(st.lists(COLOURS, min_size=1, max_size=20))
def test_a_list_reads_back_from_its_text(colours: list[tuple[int, int, int]]) -> None:
    palette = torch.tensor(colours) / 255
    assert torch.equal(parse_palette(format_palette(palette)), palette)


@PATIENT
@given(COLOURS, COLOURS, st.integers(2, 256))
def test_a_ramp_goes_evenly_from_end_to_end(first: tuple, last: tuple, count: int) -> None:
    found = np.array(rows("rgb({},{},{})->rgb({},{},{})".format(*first, *last) + rf"\{count}"))
    assert len(found) == count
    assert tuple(found[0]) == first and tuple(found[-1]) == last
    assert np.abs(found - np.linspace(first, last, count)).max() <= 0.5 + 1e-6


@PATIENT
@given(st.lists(st.lists(COLOURS, min_size=1, max_size=3), min_size=1, max_size=4))
def test_parts_are_joined_in_order(parts: list[list[tuple[int, int, int]]]) -> None:
    texts = [format_palette(torch.tensor(part) / 255) for part in parts]
    assert rows(" ; ".join(texts)) == [list(colour) for part in parts for colour in part]


def test_the_examples_of_pixray() -> None:
    assert rows("[black,#f00]") == [[0, 0, 0], [255, 0, 0]]
    assert len(rows("red->rust")) == 16
    ramp = rows(r"red->rust\8")
    assert len(ramp) == 8 and ramp[0] == [255, 0, 0] and ramp[-1] == [0xA8, 0x3C, 0x09]
    assert rows(r"red\2") == [[0, 0, 0], [255, 0, 0]]  # one colour alone comes from black
    assert rows(r"black->red->white\5") == [[0, 0, 0], [128, 0, 0], [255, 0, 0], [255, 128, 128], [255, 255, 255]]
    assert len(rows(r"red->white; green->yellow\30;[blue]")) == 16 + 30 + 1


def test_colours_by_name_and_number() -> None:
    assert parse_colour("Light Pink") == ImageColor.getrgb("lightpink")
    assert parse_colour("rgb(300, 0, 128)") == (255, 0, 128)
    assert parse_colour(" Burnt  Orange ") == ImageColor.getrgb(NAMES["burntorange"])
    assert rows("[rgb(1, 2, 3), hsl(120, 100%, 50%), #0000ff80]") == [[1, 2, 3], [0, 255, 0], [0, 0, 255]]
    assert not set(NAMES) & set(ImageColor.colormap), "a name of CSS means what CSS says"
    assert all(parse_colour(name) == ImageColor.getrgb(value) for name, value in NAMES.items())


def test_a_picture_gives_its_colours_most_frequent_first(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:3, :3], pixels[3, :2] = (10, 200, 30), (250, 0, 0)  # 9 green, 2 red, 5 black
    path = tmp_path / "three; colours.png"
    Image.fromarray(pixels).save(tmp_path / "three.png")
    assert rows(f"@{tmp_path / 'three.png'}") == [[10, 200, 30], [0, 0, 0], [250, 0, 0]]
    assert len(rows(f"@{tmp_path / 'three.png'}; [white]")) == 4
    assert not path.exists()


def test_a_picture_of_many_colours_is_reduced(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 40, 3), np.uint8)
    noise[:, :20] = noise[:, :20] // 8  # half of it dark
    Image.fromarray(noise).save(tmp_path / "noise.png")
    palette = parse_palette(rf"@{tmp_path / 'noise.png'}\8")
    assert palette.shape == (8, 3)
    assert len({tuple(row) for row in palette.tolist()}) == 8
    assert 0 < (palette.mean(1) < 0.15).sum() < 8


@PATIENT
@given(st.lists(COLOURS, min_size=1, max_size=30, unique=True), st.lists(COLOURS, min_size=1, max_size=20))
def test_nearest_is_nearest(palette: list, pixels: list) -> None:
    colours, points = torch.tensor(palette) / 255, torch.tensor(pixels) / 255
    distances = (points[:, None] - colours[None]).double().square().sum(-1)
    found = distances.gather(1, nearest(points, colours)[:, None])
    assert (found[:, 0] <= distances.amin(1) + 1e-6).all()


def test_nearest_works_in_parts_and_keeps_the_shape() -> None:
    palette = parse_palette("[black, white, red]")
    pixels = palette[torch.arange(300 * 300) % 3].view(1, 300, 300, 3)
    assert torch.equal(nearest(pixels, palette).flatten(), torch.arange(300 * 300) % 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty part"),
        ("red;;blue", "empty part"),
        ("red->rst", "'rst' is no colour; write a name as rust, or #rrggbb; did you mean rust?"),
        ("red->", "'' is no colour"),
        ("[red, blu]", "did you mean blue?"),
        ("[]", "'' is no colour"),
        ("[red", "has to end with ]"),
        ("#12345", "'#12345' is no colour"),
        (r"red\1", "2 to 256 are allowed"),
        (r"red\257", "2 to 256 are allowed"),
        (r"red->blue\many", "a number of colours belongs there"),
        ("red\\", "a number of colours belongs there"),
    ],
)
def test_what_cannot_be_read_is_one_line_that_names_the_option(text: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_palette(text, "colours")
    assert str(raised.value).startswith("colours: ") and said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_picture_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="nowhere.png"):
        parse_palette(f"@{tmp_path / 'nowhere.png'}")
