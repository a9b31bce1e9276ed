"""The two things of a composed picture, by its pixels alone: where each is, its picture, the colour that it has.

    ground     one colour or an even gradient: a plane p(x, y) = a + b x + c y in sRGB, fitted to the border (RANSAC,
               Fischler and Bolles 1981), as a thing may reach the border
    ink        pixels that differ from the ground, in pieces that hang together; specks are left out
    two things the pieces left and right of a line, or above and below it: the line that leaves the pieces on either
               side nearest to their own middle, among all upright and level ones
    colour     one of the eight basic ones, by what a thing's pixels vote for and by their mean, together:

                   log(v_k + VOID) - |m - p_k|² / 2 WIDTH²

               v: parts of the votes (`colours.colour_shares`), m: the mean in OKLab, weighted by chroma, p: the colour
               itself. Votes alone take shaded orange for brown, means alone take yellow with orange shades for orange.
               Pixels of the edge, which are half ground, are left out. What has hardly any colour is a gray.

Works down to 64 pixels, and on what a codec gives back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from bahumukha.data.scene_colours import BASIC, hues, oklab, prototype
from bahumukha.evaluate.colours import NAMES, colour_shares

NEAR = 0.07
"""Distance in OKLab up to which a pixel is ground; scenes keep 0.17 between a thing and what is behind it."""
BORDER = 2
"""Pixels of the border that the ground is fitted to."""
SOME = 160
"""Of them, about so many choose among the trials."""
TRIALS = 60
"""Of RANSAC, with three pixels each: half of the border may be covered, and one in a thousand fits fails."""
SPECK = 0.0015
"""Pieces of less than this part of the picture are not ink."""
MARGIN = 0.12
"""Around a thing in its picture, as a part of its longer side."""
GRAYS = ("black", "white", "gray")
COLOURED = 0.12
"""Least part of the votes that the basic colours have, for a thing to be called by one."""
FAINT, VOID, WIDTH = 0.04, 0.03, 0.1
"""Chroma below which a pixel says nothing; see above. The last is in units of OKLab."""
FEWEST = 12
"""Pixels inside the edge, for the edge to be left out."""


@dataclass(frozen=True)
class Thing:
    """One of them."""

    picture: Image.Image
    """Square, RGB, nothing of the other one in it."""
    centre: tuple[float, float]
    """x, y of the middle of its box, in units of the picture's sides."""
    colour: str
    """As `colour_of` has it."""


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
    some = slice(0, None, max(1, len(at) // SOME))
    planes = _planes_through_three(at[some], seen[some])
    near = _fits(at[some] @ planes, oklab(seen[some]), NEAR / 2).sum(-1)  # (trials,)
    plane, lab = planes[near.argmax()], oklab(seen)
    for near_enough in (NEAR / 2, NEAR):
        fits = _fits(at @ plane, lab, near_enough)
        if fits.sum() < 3:
            break
        plane = np.linalg.lstsq(at[fits], seen[fits], rcond=None)[0]
    return np.clip(places @ plane, 0, 255)


def _planes_through_three(at: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Places (N, 3), as (1, x, y), and their colours (N, 3) -> planes (TRIALS + 1, 3, 3), the last one level."""
    random = np.random.default_rng(0)
    threes = random.integers(len(at), size=(TRIALS, 3))
    # Nearly on one line no plane goes through three places alone; the level one stands in, of their mean colour.
    wide = np.abs(np.linalg.det(at[threes])) >= 0.05
    planes = np.zeros((TRIALS + 1, 3, 3))
    planes[:-1][wide] = np.linalg.solve(at[threes[wide]], seen[threes[wide]])
    planes[:-1][~wide, 0] = seen[threes[~wide]].mean(1)
    planes[-1, 0] = np.median(seen, axis=0)
    return planes


def _fits(rgb: np.ndarray, lab: np.ndarray, near: float) -> np.ndarray:
    """Colours (…, N, 3) and OKLab (N, 3) -> which of them are alike, bool (…, N)."""
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
    soft = _grown(_grown(here))  # its edge, which is nearly ground
    alone = np.where(soft[..., None], rgb, behind.round().astype(np.uint8))
    picture = np.pad(alone, ((side, side), (side, side), (0, 0)), mode="edge")
    picture = picture[row + side : row + 2 * side, column + side : column + 2 * side]
    centre = (left + right) / 2 / here.shape[1], (top + bottom) / 2 / here.shape[0]
    inside = here & ~_grown(~here)
    colour = colour_of(rgb[inside if inside.sum() >= FEWEST else here])
    return Thing(Image.fromarray(picture), (float(centre[0]), float(centre[1])), colour)


def _grown(here: np.ndarray) -> np.ndarray:
    """With the pixels around, corners left out."""
    padded = np.pad(here, 1)
    grown = here | padded[2:, 1:-1] | padded[:-2, 1:-1] | padded[1:-1, 2:] | padded[1:-1, :-2]
    return np.asarray(grown)


def colour_of(pixels: np.ndarray) -> str:
    """Pixels (N, 3), 0 to 255, of one thing -> its colour: one of the eight basic ones, or black, white or gray."""
    shares = colour_shares(pixels)
    basic = shares[[NAMES.index(name) for name in BASIC]]
    lab = oklab(pixels)
    chroma = hues(lab)[0]
    weights = np.where(chroma >= FAINT, chroma, 0)
    if basic.sum() < COLOURED or not weights.any():
        return max(GRAYS, key=lambda name: shares[NAMES.index(name)])
    mean = np.average(lab, axis=0, weights=weights)
    far = np.array([np.square(mean - prototype(name)).sum() for name in BASIC])
    return BASIC[int((np.log(basic / basic.sum() + VOID) - far / (2 * WIDTH**2)).argmax())]
