from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFont

from bahumukha import sheets
from bahumukha.errors import UsageError
from bahumukha.sheets import contact_sheet

RED, GREEN = (200, 30, 30), (30, 160, 60)


def _plain(count: int, size: tuple[int, int] = (60, 60), caption: str = "") -> list[tuple[Image.Image, str]]:
    return [(Image.new("RGB", size, RED), caption) for _ in range(count)]


def _share(sheet: Image.Image, colour: tuple[int, int, int]) -> float:
    """How many pixels have about this colour."""
    return float((np.abs(np.asarray(sheet).astype(int) - colour).max(2) < 12).sum())


def test_every_picture_is_there_whole_and_even() -> None:
    sheet = contact_sheet(_plain(5), columns=3, tile=60)
    assert sheet.mode == "RGB"
    assert _share(sheet, RED) == 5 * 60 * 60
    red = np.abs(np.asarray(sheet).astype(int) - RED).max(2) < 12
    assert sorted(set(red.sum(1))) == [0, 2 * 60, 3 * 60]  # a row of two, a row of three
    assert sheet.width == 3 * 60 + 4 * 8


def test_shapes_are_kept() -> None:
    sheet = contact_sheet([*_plain(1, (400, 100)), *_plain(1, (1, 5000)), *_plain(1, (5000, 1))], tile=80)
    assert _share(sheet, RED) == pytest.approx(80 * 20 + 80 + 80, rel=0.02)


def test_tiny_pictures_are_not_blown_up() -> None:
    assert _share(contact_sheet(_plain(1, (2, 2)), tile=80), RED) == 8 * 8


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_any_mode_is_taken(mode: str) -> None:
    assert contact_sheet([(Image.new(mode, (9, 9)), "x")]).mode == "RGB"


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (3, 3), (4, 2), (6, 3), (10, 5), (16, 4), (60, 6)])
def test_default_columns_fill_the_last_row(count: int, columns: int) -> None:
    assert contact_sheet(_plain(count), tile=32).width == columns * 32 + (columns + 1) * 8


def test_captions_and_title_are_drawn_below_and_above() -> None:
    bare = contact_sheet(_plain(2), tile=60)
    captioned = contact_sheet(_plain(2, caption="cat"), tile=60)
    two = contact_sheet(_plain(2, caption="cat\n0.71"), tile=60)
    titled = contact_sheet(_plain(2), tile=60, title="cats")
    assert bare.height < captioned.height < two.height
    assert bare.height < titled.height
    assert bare.width == captioned.width == two.width == titled.width
    ink = np.asarray(captioned.convert("L"))[60 + 8 :].min()
    assert ink < 120 < np.asarray(bare.convert("L"))[60 + 8 :].min()
    assert np.asarray(titled.convert("L"))[: titled.height - 80].min() < 120


def test_long_captions_end_in_an_ellipsis_within_the_tile() -> None:
    font = ImageFont.load_default(12)
    text = "a very long caption that no tile could ever hold " * 20
    elided = sheets.elided(text, font, 100)
    assert elided.endswith("…") and text.startswith(elided[:-1])
    assert 70 < font.getlength(elided) <= 100
    assert sheets.elided("short", font, 100) == "short"
    long, short = (contact_sheet(_plain(1, caption=caption), tile=100) for caption in (text, "short"))
    assert long.size == short.size
    margin = np.asarray(long)[:, -8:]
    assert (margin == 255).all()


def test_odd_captions_do_no_harm() -> None:
    odd = [
        "",
        "\n\n",
        "\0\x1b[31m",
        "a\tb",
        "\udcff",
        "లావు పిల్లి",
        "猫",
        "قطة",
        "🐈",
        "👩‍👩‍👧",
        "x\n\ny\nz",
        "\u0301" * 50,
    ]
    sheet = contact_sheet([(Image.new("RGB", (9, 9)), caption) for caption in odd], tile=64)
    assert sheet.width > 64
    assert sheets._lines("x\n\ny\nz") == ["x", "y"]
    assert sheets._lines(" a\t b\0c ") == ["a b c"]


def test_fonts_of_the_system_write_what_pillows_own_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    own = sheets.font_for("plain", 14)
    assert isinstance(own, ImageFont.FreeTypeFont)
    monkeypatch.setattr(sheets, "_system_font", lambda name, size: None)
    assert sheets.font_for("猫", 14) is own  # nothing better was found: boxes, but no failure

    class CatFont(ImageFont.FreeTypeFont):
        def __init__(self) -> None: ...

    cat = CatFont()
    monkeypatch.setattr(sheets, "_system_font", lambda name, size: cat)
    monkeypatch.setattr(sheets, "_missing", lambda font, letters: 0 if font is cat else len(letters - set("plain")))
    assert sheets.font_for("猫", 14) is cat
    assert sheets.font_for("plain", 14) is own


def test_letters_that_a_font_lacks_are_counted() -> None:
    own = ImageFont.load_default(14)
    assert isinstance(own, ImageFont.FreeTypeFont)
    assert sheets._missing(own, frozenset("cat…")) == 0
    assert sheets._missing(own, frozenset("cat猫పి")) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [({"tile": 8}, "tile: 8"), ({"columns": 0}, "columns: 0"), ({"tile": -1}, "tile: -1")],
)
def test_wrong_numbers_are_named(options: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        contact_sheet(_plain(1), **options)  # type: ignore[arg-type]


def test_no_pictures_are_an_error() -> None:
    with pytest.raises(UsageError, match="at least one picture"):
        contact_sheet([])
