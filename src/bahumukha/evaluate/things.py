"""The two things of a composed picture, by its pixels alone: where each is, its picture, the colour that it has.

    ground     one colour or an even gradient: a plane p(x, y) = a + b x + c y in sRGB, fitted to the border (RANSAC,
               Fischler and Bolles 1981), as a thing may reach the border
    ink        pixels that differ from the ground, in pieces that hang together; specks are left out
    two things the pieces left and right of a line, or above and below it: the line that leaves the pieces on either
               side nearest to their own middle, among all upright and level ones
    colour     that which most of a thing's coloured pixels vote for (`colours.colour_shares`); black, white and gray
               count only where hardly anything else is there, since outlines and lights have them

Works down to 64 pixels, and on what a codec gives back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from bahumukha.data.scene_colours import oklab
from bahumukha.evaluate.colours import NAMES, colour_shares

NEAR = 0.07
"""Distance in OKLab up to which a pixel is ground; scenes keep 0.17 between a thing and what is behind it."""
BORDER = 2
"""Pixels of the border that the ground is fitted to."""
TRIALS = 60
"""Of RANSAC, with three pixels each: half of the border may be covered, and one in a thousand fits fails."""
SPECK = 0.0015
"""Pieces of less than this part of the picture are not ink."""
MARGIN = 0.12
"""Around a thing in its picture, as a part of its longer side."""
GRAYS = ("black", "white", "gray")
COLOURED = 0.12
"""Least part of the votes that colours other than black, white and gray have, for a thing to be called by one."""


@dataclass(frozen=True)
class Thing:
    """One of them."""

    picture: Image.Image
    """Square, RGB, nothing of the other one in it."""
    centre: tuple[float, float]
    """x, y of the middle of its box, in units of the picture's sides."""
    colour: str
    """One of `colours.NAMES`."""


def two_things(rgb: np.ndarray) -> tuple[Thing, Thing, str] | None:
    """Picture uint8 (H, W, 3) -> two things and how the first stands to the second, "left of" or "above".

    None where there is no ink, or it is all in one piece.
    """
    behind, pieces = _seen(rgb)
    parted = _parted(pieces)
    if parted is None:
        return None
    first, second, relation = parted
    return _thing(rgb, behind, first), _thing(rgb, behind, second), relation


def one_thing(rgb: np.ndarray) -> Thing | None:
    """Picture uint8 (H, W, 3) -> all ink as one thing; None where there is none."""
    behind, pieces = _seen(rgb)
    return _thing(rgb, behind, np.any(pieces, axis=0)) if pieces else None


def _seen(rgb: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The ground, and the pieces of ink on it."""
    behind = ground(rgb)
    return behind, ink_pieces(np.linalg.norm(oklab(behind) - oklab(rgb), axis=-1) > NEAR)


def ground(rgb: np.ndarray) -> np.ndarray:
    """Picture (H, W, 3), 0 to 255 -> its ground everywhere, float64 of the same shape and range."""
    height, width = rgb.shape[:2]
    y, x = np.mgrid[:height, :width]
    places = np.stack([np.ones((height, width)), (x + 0.5) / width - 0.5, (y + 0.5) / height - 0.5], -1)
    ring = np.ones((height, width), bool)
    ring[BORDER:-BORDER, BORDER:-BORDER] = False
    at, seen = places[ring], rgb[ring].astype(np.float64)
    lab = oklab(seen)
    random = np.random.default_rng(0)
    best = np.zeros(len(at), bool)
    for _ in range(TRIALS):
        three = random.choice(len(at), 3, replace=False)
        if abs(np.linalg.det(at[three])) < 0.05:  # nearly on one line: no plane goes through these alone
            continue
        fits = _fits(at @ np.linalg.solve(at[three], seen[three]), lab, NEAR / 2)
        best = fits if fits.sum() > best.sum() else best
    for _ in range(2):
        if best.sum() >= 3:
            plane = np.linalg.lstsq(at[best], seen[best], rcond=None)[0]
            best = _fits(at @ plane, lab, NEAR)
        else:
            plane = np.stack([np.median(seen, axis=0), np.zeros(3), np.zeros(3)])
    return np.clip(places @ plane, 0, 255)


def _fits(rgb: np.ndarray, lab: np.ndarray, near: float) -> np.ndarray:
    return np.linalg.norm(oklab(np.clip(rgb, 0, 255)) - lab, axis=-1) < near


def ink_pieces(ink: np.ndarray) -> list[np.ndarray]:
    """Where ink is, bool (H, W) -> its pieces, each bool (H, W): pixels that touch, corners included; no specks."""
    labels = np.where(ink, np.arange(1, ink.size + 1).reshape(ink.shape), 0)
    while True:
        padded = np.pad(labels, 1)
        grown = labels
        for dy in range(3):
            for dx in range(3):
                grown = np.maximum(grown, padded[dy : dy + ink.shape[0], dx : dx + ink.shape[1]])
        grown = np.where(ink, grown, 0)
        if (grown == labels).all():
            break
        labels = grown
    names, sizes = np.unique(labels[labels > 0], return_counts=True)
    return [labels == name for name, size in zip(names, sizes, strict=True) if size >= SPECK * ink.size]


def _parted(pieces: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, str] | None:
    """The pieces on either side of the line that parts them best."""
    if len(pieces) < 2:
        return None
    middles = np.array([[at.mean() for at in np.nonzero(piece)[::-1]] for piece in pieces])  # x, y
    sizes = np.array([piece.sum() for piece in pieces])
    best: tuple[float, list[int], list[int], str] | None = None
    for axis, relation in enumerate(("left of", "above")):
        order = np.argsort(middles[:, axis]).tolist()
        for k in range(1, len(pieces)):
            sides = order[:k], order[k:]
            spread = sum(_spread(middles[side, axis], sizes[side]) for side in sides)
            # What the line takes from the spread along its axis: from the pieces' own width nothing is won.
            gain = _spread(middles[:, axis], sizes) - spread
            if best is None or gain > best[0]:
                best = gain, *sides, relation
    assert best is not None
    _, first, second, relation = best
    return np.any([pieces[i] for i in first], axis=0), np.any([pieces[i] for i in second], axis=0), relation


def _spread(places: np.ndarray, weights: np.ndarray) -> float:
    return float((weights * (places - np.average(places, weights=weights)) ** 2).sum())


def _thing(rgb: np.ndarray, behind: np.ndarray, here: np.ndarray) -> Thing:
    rows, columns = np.nonzero(here)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    side = round(max(bottom - top, right - left) * (1 + 2 * MARGIN))
    row, column = round((top + bottom - side) / 2), round((left + right - side) / 2)
    alone = np.where(_grown(here)[..., None], rgb, behind.round().astype(np.uint8))
    picture = np.pad(alone, ((side, side), (side, side), (0, 0)), mode="edge")
    picture = picture[row + side : row + 2 * side, column + side : column + 2 * side]
    centre = (left + right) / 2 / here.shape[1], (top + bottom) / 2 / here.shape[0]
    return Thing(Image.fromarray(picture), (float(centre[0]), float(centre[1])), colour_of(rgb[here]))


def _grown(here: np.ndarray) -> np.ndarray:
    """With the pixels around: the soft edge of a thing, which is nearly ground."""
    padded = np.pad(here, 1)
    around = [padded[dy : dy + here.shape[0], dx : dx + here.shape[1]] for dy in range(3) for dx in range(3)]
    return np.any(around, axis=0)


def colour_of(pixels: np.ndarray) -> str:
    """Pixels (N, 3), 0 to 255, of one thing -> the colour that it is called by, one of `colours.NAMES`."""
    shares = colour_shares(pixels)
    gray = np.array([name in GRAYS for name in NAMES])
    if shares[~gray].sum() >= COLOURED:
        shares = np.where(gray, 0, shares)
    return NAMES[int(shares.argmax())]
