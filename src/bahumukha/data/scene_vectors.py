"""The drawings that scenes are composed of: what each can show, and its picture in any colour and size.

A `Library` is one compressed file. `recipes/pictograms/scenes.py` makes it from the icon sets, and measures by
rendering which colours each drawing takes. Rendering needs resvg-py, from the extra [recipes]; it is imported when the
first picture is asked for.
"""

from __future__ import annotations

import gzip
import io
import json
from collections import OrderedDict
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from bahumukha.data.scene_colours import (
    BASIC,
    COLOURS,
    Leading,
    Measured,
    Rgb,
    is_recolourable,
    leading_paint,
    recoloured,
    srgb,
)
from bahumukha.errors import UsageError

MEASURING_SIDE = 72
Box = tuple[float, float, float, float]

LAYER_SIDES = (64, 128, 192, 256, 384, 512)
"""Pixels at which drawings are rendered; a scene scales the next larger one down, so that few renderings serve all."""


@dataclass(frozen=True)
class Drawing:
    """One style's drawing of a thing: its SVG `body`, the `frame` it lies in, the `box` of the frame its ink fills.

    frame, box: (x, y, width, height) in the drawing's own units.
    colours: those it can be recoloured to and then plainly shows. natural: the colour it plainly has as it is.
    ink: mean sRGB of what is drawn, 0 to 255.
    """

    body: str
    frame: Box
    box: Box
    colours: tuple[str, ...]
    natural: str | None
    ink: Rgb
    leading: Leading | None

    def svg(self, colour: str | None = None) -> str:
        """A whole SVG document, in `colour` or as drawn."""
        body = recoloured(self.body, self.leading, colour) if colour and self.leading else self.body
        return svg_document(body, self.frame)

    def picture(self, side: int, colour: str | None = None) -> Image.Image:
        """The ink alone, RGBA, its longer side `side` pixels up to rounding."""
        (x, y, width, height), (left, top, w, h) = self.frame, self.box
        # The whole frame is rendered and then cut: resvg stumbles over filters that reach beyond the view box.
        whole = drawn(self.svg(colour), round(side * max(width, height) / max(w, h)))
        scale = whole.width / width
        corner = round((left - x) * scale), round((top - y) * scale)
        return whole.crop((*corner, corner[0] + max(1, round(w * scale)), corner[1] + max(1, round(h * scale))))


@dataclass(frozen=True)
class Concept:
    """A thing by its `key` (code points), with names and its drawings by style.

    plural is "" for what is not counted. names: language other than English -> a name without a colour in it.
    split: "train", or "validation" for what no training may show.
    """

    key: str
    name: str
    plural: str
    kind: str
    names: dict[str, str]
    split: str
    drawings: dict[str, Drawing]


def svg_document(body: str, box: Box) -> str:
    """The body as a document that shows `box`."""
    x, y, width, height = box
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{width:g}" height="{height:g}" viewBox="{x:g} {y:g} {width:g} {height:g}">{body}</svg>'
    )


def drawn(svg: str, side: int) -> Image.Image:
    """The document with alpha, RGBA, `side` pixels on its longer side. Raises ValueError for a broken SVG."""
    width, height = (float(svg.split(f' {name}="', 1)[1].split('"', 1)[0]) for name in ("width", "height"))
    for more in range(5):  # at a few sizes resvg 0.48 rounds a filter's region off the canvas and panics
        png = _rendered(svg, side + more, None) if width >= height else _rendered(svg, None, side + more)
        if png is not None:
            with Image.open(io.BytesIO(png)) as picture:
                return picture.convert("RGBA")
    raise ValueError(f"an SVG of {len(svg)} letters could not be rendered at {side} pixels")


def _rendered(svg: str, width: int | None, height: int | None) -> bytes | None:
    """PNG, or None after a panic of the renderer, which is no ordinary exception in Python."""
    import resvg_py

    try:
        return bytes(resvg_py.svg_to_bytes(svg_string=svg, width=width, height=height, skip_system_fonts=True, dpi=96))
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        return None


def measured_drawing(body: str, frame: Box) -> Drawing | None:
    """Render a body, find the box of its ink and try all colours; None when almost nothing is drawn."""
    whole = np.asarray(drawn(svg_document(body, frame), MEASURING_SIDE))
    if (whole[..., 3] > 200).mean() < 0.03:
        return None
    leading = leading_paint(whole)
    measured = Measured.of(whole, leading)
    plain = Drawing(body, frame, _inked(whole, frame), (), measured.natural(), _as_rgb(measured.whole), leading)
    if leading is None or not is_recolourable(measured):
        return plain
    takes = []
    for colour in COLOURS:
        shown = Measured.of(np.asarray(drawn(plain.svg(colour), MEASURING_SIDE)), leading)
        clearly = colour in BASIC or measured.leading >= 0.6
        if clearly and shown.shows(colour):
            takes.append(colour)
    return replace(plain, colours=tuple(takes))


def _inked(picture: np.ndarray, box: Box) -> Box:
    """The part of `box` that is drawn on, a pixel wider on every side, but not beyond the box."""
    rows, columns = (np.flatnonzero((picture[..., 3] > 8).any(axis=axis)) for axis in (1, 0))
    height, width = picture.shape[:2]
    x, y, w, h = box
    left, right = max(columns[0] - 1, 0), min(columns[-1] + 2, width)
    top, bottom = max(rows[0] - 1, 0), min(rows[-1] + 2, height)
    tight = (x + w * left / width, y + h * top / height, w * (right - left) / width, h * (bottom - top) / height)
    a, b, c, d = (round(float(value), 4) for value in tight)
    return a, b, c, d


def _as_rgb(lab: np.ndarray) -> Rgb:
    red, green, blue = np.clip(np.rint(srgb(lab)), 0, 255).astype(int)
    return int(red), int(green), int(blue)


@dataclass
class Library:
    """Concepts by key, and their pictures as layers with alpha, kept in memory as PNG once they are rendered.

    layers: a folder where rendered layers stay for the next run; it is made when the first one is written.
    kept: how many layers memory holds at most (about 12 kB each).
    """

    concepts: dict[str, Concept]
    layers: Path | None = None
    kept: int = 40_000
    pools: dict[tuple[str, ...], object] = field(default_factory=dict, repr=False)
    """What drawing at random keeps, by styles."""
    _pngs: OrderedDict[str, bytes] = field(default_factory=OrderedDict, repr=False)

    @classmethod
    def read(cls, path: Path, layers: Path | None = None) -> Library:
        """From the file that `write` made. Raises UsageError when it is missing or is something else."""
        try:
            rows = json.loads(gzip.decompress(path.read_bytes()))["concepts"]
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(
                f"{path}: no library of drawings ({error}); make it with python -m recipes.pictograms.scenes"
            ) from None
        concepts = [Concept(**{**row, "drawings": _drawings(row["drawings"])}) for row in rows]
        return cls({concept.key: concept for concept in concepts}, layers)

    def write(self, path: Path) -> None:
        """One gzip file of JSON, the same bytes for the same content."""
        text = json.dumps({"concepts": [asdict(concept) for concept in self.concepts.values()]}, ensure_ascii=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode(), mtime=0))

    def styles(self) -> list[str]:
        """All styles that some concept is drawn in, sorted."""
        return sorted({style for concept in self.concepts.values() for style in concept.drawings})

    def layer(self, key: str, style: str, paint: str | None, side: int) -> Image.Image:
        """A drawing with alpha, RGBA, `side` pixels on its longer side; `paint` None leaves it as drawn."""
        step = next((each for each in LAYER_SIDES if each >= side), LAYER_SIDES[-1])
        with Image.open(io.BytesIO(self._png(key, style, paint, step))) as opened:
            picture = opened.convert("RGBA")
        scale = side / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        if size == picture.size:
            return picture
        # Premultiplied, so that the colour behind transparent pixels does not bleed into the rim.
        return picture.convert("RGBa").resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0).convert("RGBA")

    def _png(self, key: str, style: str, paint: str | None, side: int) -> bytes:
        name = f"{style}-{key}-{paint or 'natural'}-{side}.png"
        if name in self._pngs:
            self._pngs.move_to_end(name)
            return self._pngs[name]
        path = self.layers / name if self.layers else None
        if path is not None and path.is_file():
            png = path.read_bytes()
        else:
            buffer = io.BytesIO()
            self.concepts[key].drawings[style].picture(side, paint).save(buffer, "PNG", compress_level=1)
            png = buffer.getvalue()
            if path is not None:
                _write_whole(path, png)
        self._pngs[name] = png
        if len(self._pngs) > self.kept:
            self._pngs.popitem(last=False)
        return png


def _write_whole(path: Path, content: bytes) -> None:
    """Never a half-written file, also when several processes fill the folder."""
    import os
    import tempfile

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    os.replace(file.name, path)


def _drawings(rows: dict[str, dict]) -> dict[str, Drawing]:
    return {style: _drawing(row) for style, row in rows.items()}


def _drawing(row: dict) -> Drawing:
    red, green, blue = row["ink"]
    leading = Leading(**row["leading"]) if row["leading"] else None
    (x, y, width, height), (left, top, w, h) = row["frame"], row["box"]
    return Drawing(
        row["body"], (x, y, width, height), (left, top, w, h), tuple(row["colours"]), row["natural"],
        (red, green, blue), leading,
    )  # fmt: skip
