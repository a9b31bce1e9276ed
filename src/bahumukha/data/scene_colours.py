"""The colours of composed scenes by name, and recolouring a drawing: "a blue fish" from the SVG of an orange one.

Colours are compared and changed in OKLab (Ottosson 2020, https://bottosson.github.io/posts/oklab/): lightness L in
[0, 1], chroma C = hypot(a, b) from 0 (gray) to about 0.33, hue h = atan2(b, a) in degrees. Recolouring moves the
paints of a drawing's leading hue to the target's hue and keeps the order of their lightnesses,

    L' = L_to L / L_from                              for L <= L_from
    L' = 1 - (1 - L_to) (1 - L) / (1 - L_from)        else,            C' = C_to min(C / C_from, 1.15)

so shades stay shades. Paints of another hue, and those with hardly any (black outlines, white of the eye), stay.
"""

from __future__ import annotations

import colorsys
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

COLOURS = {
    "red": (217, 38, 38),
    "orange": (245, 136, 24),
    "yellow": (247, 213, 36),
    "green": (46, 158, 60),
    "blue": (45, 100, 222),
    "purple": (132, 56, 186),
    "pink": (247, 140, 186),
    "brown": (122, 74, 38),
    "black": (34, 34, 38),
    "white": (246, 246, 246),
    "gray": (138, 138, 142),
}
"""Name -> sRGB, 0 to 255; well apart in hue or lightness."""


def named_in(text: str) -> list[str]:
    """The names of `COLOURS` among the words of a text, in order; grey is gray."""
    words = re.findall(r"[a-z]+", text.lower().replace("grey", "gray"))
    return [word for word in words if word in COLOURS]


BASIC = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
"""The colours that tests of colour choose among."""

SATURATED = 0.05
"""Least chroma of a pixel or paint that counts as coloured."""

WINDOW = 45.0
"""Paints within so many degrees of a drawing's leading hue are recoloured together."""

Rgb = tuple[int, int, int]


def oklab(rgb: np.ndarray) -> np.ndarray:
    """sRGB (…, 3) from 0 to 255 -> OKLab (…, 3), float64."""
    c = np.asarray(rgb, np.float64) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    cones = np.cbrt(linear @ _TO_CONES.T)
    return cones @ _TO_LAB.T


def srgb(lab: np.ndarray) -> np.ndarray:
    """OKLab (…, 3) -> sRGB (…, 3), 0 to 255, not rounded; out of [0, 255] where no screen shows the colour."""
    linear = (np.asarray(lab, np.float64) @ _FROM_LAB.T) ** 3 @ _FROM_CONES.T
    small = np.abs(linear) <= 0.0031308
    return 255 * np.where(small, 12.92 * linear, np.sign(linear) * (1.055 * np.abs(linear) ** (1 / 2.4) - 0.055))


_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_FROM_LAB, _FROM_CONES = np.linalg.inv(_TO_LAB), np.linalg.inv(_TO_CONES)


@cache
def prototype(colour: str) -> np.ndarray:
    """OKLab (3,) of a named colour."""
    return oklab(np.array(COLOURS[colour]))


def distances(lab: np.ndarray, names: tuple[str, ...] = BASIC) -> dict[str, float]:
    """Distance in OKLab from `lab` (3,) to each named colour, nearest first."""
    found = {name: float(np.linalg.norm(lab - prototype(name))) for name in names}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def hues(lab: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chroma and hue in degrees of OKLab colours (…, 3)."""
    return np.hypot(lab[..., 1], lab[..., 2]), np.degrees(np.arctan2(lab[..., 2], lab[..., 1])) % 360


def apart(hue: np.ndarray | float, other: float) -> np.ndarray:
    """Difference of hues in degrees, 0 to 180."""
    return np.abs((np.asarray(hue) - other + 180) % 360 - 180)


@dataclass(frozen=True)
class Leading:
    """The leading paint of a drawing: mean `lightness` and `chroma` of its pixels, `hue` in degrees."""

    lightness: float
    chroma: float
    hue: float

    def moved(self, rgb: Rgb, colour: str) -> Rgb:
        """The paint `rgb` when the drawing becomes `colour`; paints of other hues and grays come back unchanged."""
        lab = oklab(np.array(rgb))
        chroma, hue = (float(value) for value in hues(lab))
        if chroma < SATURATED or apart(hue, self.hue) > WINDOW:
            return rgb
        to = prototype(colour)
        lightness = _bent(float(lab[0]), self.lightness, float(to[0]))
        strength = min(chroma / self.chroma, 1.15)
        return _shown(lightness, strength * float(to[1]), strength * float(to[2]))


def _bent(value: float, middle: float, to: float) -> float:
    """The line from (0, 0) over (middle, to) to (1, 1)."""
    return to * value / middle if value <= middle else 1 - (1 - to) * (1 - value) / (1 - middle)


def _shown(lightness: float, a: float, b: float) -> Rgb:
    """The colour as the screen can show it, by taking chroma away until it can."""
    rgb = np.zeros(3)
    for share in np.linspace(1, 0, 21):
        rgb = srgb(np.array([lightness, share * a, share * b]))
        if rgb.min() > -1 and rgb.max() < 256:
            break
    red, green, blue = np.clip(np.rint(rgb), 0, 255).astype(int)
    return int(red), int(green), int(blue)


def leading_paint(rgba: np.ndarray) -> Leading | None:
    """The hue that covers most of a picture (H, W, 4), 0 to 255; None when nothing of it is saturated."""
    lab = oklab(rgba[rgba[..., 3] > 200][:, :3])
    chroma, hue = hues(lab)
    coloured = chroma >= SATURATED
    if not coloured.any():
        return None
    counts = np.bincount((hue[coloured] // 5).astype(int) % 72, weights=chroma[coloured], minlength=72)
    smooth = np.sum([np.roll(counts, shift) for shift in range(-4, 5)], axis=0)
    middle = 5 * int(np.argmax(smooth)) + 2.5
    near = coloured & (apart(hue, middle) <= WINDOW)
    mean = lab[near].mean(axis=0)
    own_chroma, own_hue = hues(mean)
    return Leading(float(mean[0]), max(float(own_chroma), SATURATED), float(own_hue))


_NAMED = {
    "black": (0, 0, 0), "white": (255, 255, 255), "red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255),
    "yellow": (255, 255, 0), "orange": (255, 165, 0), "purple": (128, 0, 128), "pink": (255, 192, 203),
    "brown": (165, 42, 42), "gray": (128, 128, 128), "grey": (128, 128, 128), "silver": (192, 192, 192),
    "gold": (255, 215, 0), "lime": (0, 255, 0), "navy": (0, 0, 128), "teal": (0, 128, 128), "maroon": (128, 0, 0),
    "olive": (128, 128, 0), "aqua": (0, 255, 255), "cyan": (0, 255, 255), "fuchsia": (255, 0, 255),
    "magenta": (255, 0, 255), "tomato": (255, 99, 71), "crimson": (220, 20, 60), "salmon": (250, 128, 114),
    "coral": (255, 127, 80), "indigo": (75, 0, 130), "violet": (238, 130, 238), "tan": (210, 180, 140),
    "khaki": (240, 230, 140), "chocolate": (210, 105, 30), "sienna": (160, 82, 45), "skyblue": (135, 206, 235),
}  # fmt: skip

_PAINT = re.compile(
    r"""(?P<before>(?<![\w-])(?:fill|stroke|stop-color|flood-color|color)\s*[=:]\s*["']?\s*)"""
    r"""(?P<paint>\#[0-9a-fA-F]{3,8}\b|(?:rgb|hsl)a?\([^)]*\)|[a-zA-Z]+)"""
)
_SHADOW = re.compile(r"""(values=["']0 0 0 0 )([\d.e-]+) (0 0 0 0 )([\d.e-]+) (0 0 0 0 )([\d.e-]+)(?= 0 0 0 )""")
"""A filter that paints the shape in one colour, as Fluent Emoji's inner shadows do; parts in [0, 1]."""


def parsed(paint: str) -> Rgb | None:
    """'#f00', 'rgb(100%, 0, 0)', 'hsl(0, 100%, 50%)', 'red' -> (255, 0, 0); None for none, url(…), inherit."""
    text = paint.strip().lower()
    if text in _NAMED:
        return _NAMED[text]
    if text == "currentcolor":  # Iconify's word for "black unless the page says otherwise"
        return 0, 0, 0
    if text.startswith("#"):
        digits = text[1:]
        if len(digits) in (3, 4):
            digits = "".join(2 * digit for digit in digits)
        return (int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)) if len(digits) in (6, 8) else None
    found = re.fullmatch(r"(rgb|hsl)a?\((.*)\)", text)
    parts = re.findall(r"(-?[\d.]+)(%|deg)?", found[2]) if found else []
    if not found or len(parts) < 3:
        return None
    if found[1] == "hsl":
        hue, saturation, light = (float(number) for number, _ in parts[:3])
        red, green, blue = (round(255 * c) for c in colorsys.hls_to_rgb(hue / 360 % 1, light / 100, saturation / 100))
        return red, green, blue
    red, green, blue = (round(float(n) * 255 / (100 if unit == "%" else 255)) for n, unit in parts[:3])
    return red, green, blue


def repainted(svg: str, change: Callable[[Rgb], Rgb]) -> str:
    """The SVG with `change` applied to every colour it names: fills, strokes, gradient stops, styles, shadows."""

    def paint(match: re.Match[str]) -> str:
        rgb = parsed(match["paint"])
        new = change(rgb) if rgb is not None else rgb
        if rgb is None or new is None or new == rgb:
            return match[0]
        text = match["paint"]
        alpha = text[-2:] if len(text) == 9 else 2 * text[-1] if len(text) == 5 and text[0] == "#" else ""
        if text.startswith(("rgba", "hsla")):
            return f"{match['before']}rgba({new[0]},{new[1]},{new[2]},{text.rstrip(') ').rsplit(',', 1)[-1]})"
        return f"{match['before']}#{new[0]:02x}{new[1]:02x}{new[2]:02x}{alpha if text[0] == '#' else ''}"

    def shadow(match: re.Match[str]) -> str:
        red, green, blue = (round(255 * min(max(float(match[i]), 0), 1)) for i in (2, 4, 6))
        new = [c / 255 for c in change((red, green, blue))]
        return f"{match[1]}{new[0]:.4f} {match[3]}{new[1]:.4f} {match[5]}{new[2]:.4f}"

    return _SHADOW.sub(shadow, _PAINT.sub(paint, svg))


def recoloured(svg: str, leading: Leading, colour: str) -> str:
    """The SVG with its leading hue changed to a named colour."""
    moved = cache(lambda rgb: leading.moved(rgb, colour))
    return repainted(svg, moved)


@dataclass(frozen=True)
class Measured:
    """What the pixels of a drawing show: mean OKLab of the saturated ones and of all, and how much each covers.

    `leading` is the share in [0, 1] of opaque pixels of the leading hue, `saturated` that of all saturated ones.
    """

    coloured: np.ndarray
    whole: np.ndarray
    saturated: float
    leading: float
    spread: float

    @classmethod
    def of(cls, rgba: np.ndarray, leading: Leading | None) -> Measured:
        """From a picture (H, W, 4), 0 to 255."""
        lab = oklab(rgba[rgba[..., 3] > 200][:, :3])
        chroma, hue = hues(lab)
        mask = chroma >= SATURATED
        near = mask & (apart(hue, leading.hue) <= WINDOW) if leading else mask & False
        return cls(
            coloured=lab[mask].mean(axis=0) if mask.any() else np.zeros(3),
            whole=lab.mean(axis=0),
            saturated=float(mask.mean()),
            leading=float(near.mean()),
            spread=float(lab[:, 0].std()),
        )

    def shows(self, colour: str) -> bool:
        """Whether the picture is plainly of this colour: its mean is nearest to it, among the basic or among all."""
        if colour in BASIC:
            return self.saturated >= 0.3 and next(iter(distances(self.coloured))) == colour
        return next(iter(distances(self.whole, tuple(COLOURS)))) == colour

    def natural(self) -> str | None:
        """The colour that everybody would name the drawing by, if there is one."""
        if self.saturated < 0.1:
            near = distances(self.whole, ("black", "white", "gray"))
            name, distance = next(iter(near.items()))
            return name if distance < 0.12 and self.spread < 0.16 else None
        if self.leading < 0.6 or self.leading < 0.85 * self.saturated:
            return None
        (name, first), (_, second), *_ = distances(self.coloured).items()
        # Tan, beige and the yellow of wood lie beside orange, and nobody calls an egg or a goat orange.
        strong = np.hypot(*self.coloured[1:]) >= 0.8 * np.hypot(*prototype(name)[1:])
        plain = strong or name not in ("orange", "yellow")
        return name if plain and first < 0.1 and first < 0.5 * second else None


def is_recolourable(measured: Measured) -> bool:
    """Whether one hue leads a drawing so clearly that changing it changes what colour the thing has."""
    return measured.leading >= 0.4 and measured.leading >= 0.65 * measured.saturated


def contrast(rgb: Rgb, other: Rgb) -> float:
    """Distance of two colours in OKLab; below 0.15 a thing is hard to tell from its ground."""
    return math.dist(oklab(np.array(rgb)), oklab(np.array(other)))
