"""Which of the eleven basic colours a picture mostly shows, as people name them (Berlin, Kay 1969).

Each pixel shares its vote among the names, by its distance in CIELAB (D65) to the nearest of a name's example colours,

    w_k ~ exp(-d_k² / 2 SOFT²),

so that a shade between orange and red counts for both; the name with most votes wins. Black needs half of all votes:
with fewer it is what outlines are drawn with. Left out is the background: what touches the border and is of one
colour. Exactly:

1. The border's colour is that of the border pixel (outermost ring) with the most others within `SAME` of it; it counts
   if at least `HALF` of the ring is within `SAME` of it, else there is no background.
2. Background are the pixels within `SAME` of that colour that reach the ring through such pixels, side by side.
3. Where less than `LEAST` of the picture would be left, nothing is left out: then the picture is a plain surface.
"""

from __future__ import annotations

import numpy as np

SOFT = 10.0
OUTLINES = 0.5
"""Part of the votes up to which black does not count."""
SAME = 14.0
"""Distance in CIELAB up to which two colours are one; 2.3 is just noticeable, red to orange about 50."""
HALF = 0.5
LEAST = 0.01
MOST = 512
"""Border pixels that are tried in step 1; of a longer border, so many at even distances."""

EXAMPLES = {
    "red": ("#e00000", "#ff2020", "#d92626", "#dd2e44", "#b01010", "#900c0c", "#ee3f3f", "#fb4c18", "#ea5a47"),
    "orange": ("#ff8c00", "#f58818", "#ff6a24", "#f4900c", "#fe9a08", "#e8701a", "#f28a3c", "#f0a050", "#f56e4b"),
    "yellow": ("#ffe000", "#f7d524", "#ffcc4d", "#fff176", "#ffee44", "#fcea2b", "#e6c619", "#fff0a0", "#ffb430"),
    "green": ("#2e9e3c", "#008000", "#5c9e31", "#78b159", "#3fbf5f", "#145a1e", "#a0d468", "#b4d01c", "#00a86b"),
    "blue": ("#2d64de", "#0000e0", "#3b88c3", "#55acee", "#87ceeb", "#1a237e", "#00a6ed", "#123f80", "#6aa3ad"),
    "purple": ("#8438ba", "#800080", "#6a1b9a", "#aa5ed8", "#b39ddb", "#4a148c", "#7433ff", "#635994", "#433b6b"),
    "pink": ("#f78cba", "#ffc0cb", "#ff69b4", "#f48fb1", "#ea4c9c", "#f4abba", "#f9a7c0"),
    "brown": ("#7a4a26", "#8b4513", "#5d3a1a", "#a0673c", "#6d4c41", "#8a4b38", "#4e2e14", "#bf8f68", "#a78e81"),
    "black": ("#000000", "#222226", "#31373d", "#2b2b2b"),
    "white": ("#ffffff", "#f6f6f6", "#eceff1"),
    "gray": ("#8a8a8e", "#808080", "#a9a9a9", "#6b6b70", "#9e9e9e", "#bdbdbd", "#546068", "#99aab5", "#c4cdd3"),
}
"""Name -> sRGB: its best example, and lighter, darker and duller ones that people still call by it."""

NAMES = tuple(EXAMPLES)

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""Linear sRGB to CIE XYZ (IEC 61966-2-1); its row sums are the white of D65."""


def cielab(rgb: np.ndarray) -> np.ndarray:
    """sRGB (…, 3) from 0 to 255 -> CIELAB (…, 3), float64: L* in [0, 100], a* and b* up to about 128 either way."""
    c = np.asarray(rgb, np.float64) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    t = linear @ _TO_XYZ.T / _TO_XYZ.sum(1)
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


_PLACES = cielab(np.array([list(bytes.fromhex(each[1:])) for some in EXAMPLES.values() for each in some]))
_FIRSTS = np.cumsum([0, *map(len, EXAMPLES.values())])[:-1]
"""Where each name's examples begin in `_PLACES`."""


def colour_shares(rgb: np.ndarray) -> np.ndarray:
    """Colours (…, 3), 0 to 255 -> each name's part of all votes, float64 (11,) in the order of `NAMES`."""
    kinds, counts = np.unique(np.asarray(rgb).reshape(-1, 3), axis=0, return_counts=True)
    lab = cielab(kinds)
    squares = (lab**2).sum(1)[:, None] - 2 * lab @ _PLACES.T + (_PLACES**2).sum(1)  # (N, examples)
    nearest = np.minimum.reduceat(squares, _FIRSTS, axis=1)  # (N, 11)
    likely = np.exp((nearest.min(1, keepdims=True) - nearest) / (2 * SOFT**2))
    return counts @ (likely / likely.sum(1, keepdims=True)) / counts.sum()


def background(rgb: np.ndarray) -> np.ndarray:
    """Picture (H, W, 3), 0 to 255 -> where its background is, bool (H, W); see the top of this file."""
    lab = cielab(rgb)
    ring = np.ones(lab.shape[:2], bool)
    ring[1:-1, 1:-1] = False
    colours = lab[ring]
    some = colours[:: max(1, len(colours) // MOST)]
    near = np.linalg.norm(some[:, None] - colours[None], axis=-1) <= SAME
    most = near[near.sum(1).argmax()]
    if most.mean() < HALF:
        return np.zeros(lab.shape[:2], bool)
    alike = np.linalg.norm(lab - colours[most].mean(0), axis=-1) <= SAME
    reached = ring & alike
    while True:
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= alike
        if (grown == reached).all():
            break
        reached = grown
    return reached if (~reached).mean() >= LEAST else np.zeros_like(reached)


def dominant_colour(rgb: np.ndarray) -> tuple[str, float]:
    """Picture (H, W, 3), 0 to 255 -> (name, its part of the votes) of the colour most seen; background left out."""
    return leading(colour_shares(np.asarray(rgb)[~background(rgb)]))


def leading(shares: np.ndarray) -> tuple[str, float]:
    """Parts of the votes (11,) -> the name that wins, and its part."""
    black = NAMES.index("black")
    counted = np.where((np.arange(len(NAMES)) == black) & (shares <= OUTLINES), 0, shares)
    return NAMES[int(counted.argmax())], float(counted.max())
