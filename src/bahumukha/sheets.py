"""Contact sheets: many pictures on one page, each with its caption, to be judged at a glance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from bahumukha.errors import UsageError

PAPER, TILE, INK, FAINT = "#ffffff", "#f1f1ee", "#1f1f1f", "#6f6f6f"

_LINES = 2
"""At most so many lines of a caption are drawn."""

_FONTS = (
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "NotoSansTelugu-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "Nirmala.ttc",  # Windows: the scripts of India
    "Nirmala.ttf",
    "msyh.ttc",  # Windows: Chinese, Japanese
    "Arial Unicode.ttf",  # macOS
    "arial.ttf",
)
"""Asked of the system, by name, for captions that Pillow's own font (Latin letters) cannot write."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contact_sheet(
    pictures: Sequence[tuple[Image.Image, str]],
    *,
    columns: int | None = None,
    tile: int = 224,
    title: str | None = None,
) -> Image.Image:
    """Lay pictures out in even square tiles, whole and centred, captions underneath; -> RGB.

    pictures: (picture, caption). A caption has one line or two (split by a line break, the second is
      fainter); what is too long for its tile ends in `…`.
    columns: tiles in a row; by default about as many as make the sheet a little wider than high, 6 at most.
    tile: side of a tile in pixels, 32 or more.

    Raises UsageError for no pictures at all, or numbers out of range.
    """
    if not pictures:
        raise UsageError("a contact sheet needs at least one picture; none were given")
    if tile < 32:
        raise UsageError(f"tile: {tile} pixels were given; a tile takes 32 or more")
    if columns is not None and columns < 1:
        raise UsageError(f"columns: {columns} were given; a sheet takes 1 or more")
    columns = min(columns or _columns(len(pictures)), len(pictures))
    captions = [_lines(caption) for _, caption in pictures]

    gap = max(8, tile // 14)
    text_size = max(11, tile // 15)
    line_height = round(text_size * 1.35)
    caption_height = max(map(len, captions)) * line_height
    row_height = tile + (gap // 2 + caption_height if caption_height else 0) + gap
    title_size = round(text_size * 1.5)
    top = gap + (title_size + 2 * gap if title else 0)

    rows = math.ceil(len(pictures) / columns)
    page = Image.new("RGB", (gap + columns * (tile + gap), top + rows * row_height), PAPER)
    draw = ImageDraw.Draw(page)
    if title:
        _write(draw, (gap, gap + title_size // 2 + gap // 2), title, title_size, page.width - 2 * gap, INK, "lm")
    for index, ((picture, _), lines) in enumerate(zip(pictures, captions, strict=True)):
        x = gap + index % columns * (tile + gap)
        y = top + index // columns * row_height
        draw.rounded_rectangle((x, y, x + tile - 1, y + tile - 1), radius=max(2, tile // 40), fill=TILE)
        fitted = _fitted(picture, tile)
        page.paste(fitted, (x + (tile - fitted.width) // 2, y + (tile - fitted.height) // 2))
        for number, line in enumerate(lines):
            middle = (x + tile // 2, y + tile + gap // 2 + number * line_height + line_height // 2)
            _write(draw, middle, line, text_size, tile, FAINT if number else INK, "mm")
    return page


def _columns(count: int) -> int:
    """About sqrt(1.4 count), at most 6, one more or less where that leaves fewer holes in the last row."""
    usual = min(6, math.ceil(math.sqrt(1.4 * count)))
    near = range(max(1, usual - 1), min(6, usual + 1) + 1)
    return min(near, key=lambda columns: (-count % columns, abs(columns - usual)))


def _fitted(picture: Image.Image, tile: int) -> Image.Image:
    """The whole picture, as large as the tile allows; tiny ones grow fourfold at most, not to mush."""
    scale = min(tile / picture.width, tile / picture.height, 4.0)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _lines(caption: str) -> list[str]:
    """At most two lines without anything that a font cannot draw; no empty ones at the end."""
    lines = [" ".join("".join(c if c.isprintable() else " " for c in line).split()) for line in caption.split("\n")]
    return [line for line in lines if line][:_LINES]


def _write(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, width: int, colour: str, anchor: str
) -> None:
    font = font_for(text, size)
    draw.text(at, elided(text, font, width), fill=colour, font=font, anchor=anchor)


def elided(text: str, font: Font, width: int) -> str:
    """The longest beginning that fits `width` pixels, with `…` when anything is left out."""
    if font.getlength(text) <= width:
        return text
    fits, too_long = 0, min(len(text), 4 * width)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if font.getlength(text[:middle].rstrip() + "…") <= width:
            fits = middle
        else:
            too_long = middle
    return text[:fits].rstrip() + "…"


def font_for(text: str, size: int) -> Font:
    """Pillow's own font if it can write the text, else the font of this system that misses least of it."""
    letters = frozenset(text) - {" "}
    own = _own_font(size)
    if not isinstance(own, ImageFont.FreeTypeFont):  # a Pillow built without FreeType has one bitmap font
        return own
    best, fewest = own, _missing(own, letters)
    for name in _FONTS:
        if not fewest:
            break
        font = _system_font(name, size)
        if font is not None and (missing := _missing(font, letters)) < fewest:
            best, fewest = font, missing
    return best


@lru_cache(maxsize=8)
def _own_font(size: int) -> Font:
    return ImageFont.load_default(size)


@lru_cache(maxsize=64)  # looking for a font that is not there walks all of the system's font folders
def _system_font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _missing(font: ImageFont.FreeTypeFont, letters: frozenset[str]) -> int:
    """How many of these the font has no drawing for: it draws its box for unknown letters instead."""
    box = bytes(font.getmask("\U0010ffff"))
    return sum(bytes(font.getmask(letter)) == box for letter in letters)
