"""Which drawing is it? Small pictures of things compared with known ones by their edges, whatever their colours.

    descriptor   histograms of oriented gradients (Dalal, Triggs 2005) of 32 x 32 pixels in cells of 4 x 4, nine
                 orientations without a sign, each cell scaled by those around it: once of the lightness, once of the
                 distance in OKLab to the ground, which is a thing's outline also where its lightness is the ground's;
                 and that distance itself, coarsely, which is its silhouette
    metric       differences between examples of one name count less (within-class whitening, as in Fisher's linear
                 discriminant): W = (S + SMOOTHED t I)^(-1/2), S their covariance, t its mean variance; then cosines
    name         that of the nearest example

No network takes part, so that it has no opinion in common with one that drew or ranked the pictures. It knows drawings
again that it has seen, recoloured, small, and blurred by a codec; a drawing of another hand is mostly strange to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from bahumukha.data.scene_colours import oklab

SIDE, CELL, ORIENTATIONS = 32, 4, 9
SILHOUETTE = 3.0
"""Weight of the silhouette beside the edges."""
SMOOTHED = 10.0
AT_ONCE = 256
"""Pictures compared at a time: with eight thousand examples 8 MB of cosines."""


def descriptors(pictures: Sequence[Image.Image]) -> np.ndarray:
    """Square RGB pictures of things, the ground in their corners -> float32 (N, dim), rows of norm 1."""
    small = [picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC) for picture in pictures]
    lab = oklab(np.stack([np.asarray(picture.convert("RGB")) for picture in small]))  # (N, 32, 32, 3)
    apart = np.linalg.norm(lab - lab[:, :1, :1], axis=-1)
    silhouette = apart.reshape(len(lab), SIDE // 2, 2, SIDE // 2, 2).mean((2, 4)).reshape(len(lab), -1)
    silhouette /= np.linalg.norm(silhouette, axis=1, keepdims=True) + 1e-6
    return _unit(np.concatenate([_edges(lab[..., 0]), _edges(apart), SILHOUETTE * silhouette], axis=1))


def _edges(values: np.ndarray) -> np.ndarray:
    """(N, 32, 32) -> (N, 8 * 8 * 9): square roots of the scaled histograms."""
    down, across = np.gradient(values, axis=(1, 2))
    strength = np.hypot(across, down)
    turn = np.degrees(np.arctan2(down, across)) % 180 / 180 * ORIENTATIONS
    lower = np.floor(turn)
    share = turn - lower
    cells = SIDE // CELL
    counts = np.zeros((len(values), cells, cells, ORIENTATIONS))
    for orientation in range(ORIENTATIONS):
        is_lower, is_upper = (lower % ORIENTATIONS == at % ORIENTATIONS for at in (orientation, orientation - 1))
        part = strength * (is_lower * (1 - share) + is_upper * share)
        counts[..., orientation] = part.reshape(-1, cells, CELL, cells, CELL).sum((2, 4))
    padded = np.pad(counts, ((0, 0), (1, 1), (1, 1), (0, 0)))
    around = sum(padded[:, y : y + cells, x : x + cells] for y in range(3) for x in range(3))
    scale = np.sqrt(np.square(around).sum(-1, keepdims=True) + 1e-4)
    return np.sqrt(counts / scale).reshape(len(values), -1)


class KnownShapes:
    """Examples of things by name."""

    def __init__(self, rows: np.ndarray, names: Sequence[str]):
        """rows: (N, dim) as `descriptors` gives them; names: N of them, of two kinds or more, each once or more."""
        self.names = tuple(sorted(set(names)))
        place = {name: i for i, name in enumerate(self.names)}
        labels = np.array([place[name] for name in names])
        order = np.argsort(labels, kind="stable")  # examples of one name side by side
        self.firsts = np.searchsorted(labels[order], np.arange(len(self.names)))
        self.whitening = _whitening(rows, labels)
        self.rows = _unit(rows[order] @ self.whitening)

    def scores(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Pictures as `descriptors` takes them -> float (N, names): cosine with the nearest example of each name."""
        parts = [np.zeros((0, len(self.names)))]
        for start in range(0, len(pictures), AT_ONCE):
            rows = _unit(descriptors(pictures[start : start + AT_ONCE]) @ self.whitening)
            parts.append(np.maximum.reduceat(rows @ self.rows.T, self.firsts, axis=1))
        return np.concatenate(parts)


def _whitening(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    counts = np.bincount(labels)
    means = np.zeros((len(counts), rows.shape[1]))
    np.add.at(means, labels, rows)
    within = rows - (means / counts[:, None])[labels]
    variances, directions = np.linalg.eigh(within.T @ within / len(rows))
    mean = max(float(variances.mean()), 1e-12)  # one example a name has no spread within
    return np.asarray(directions / np.sqrt(variances.clip(min=0) + SMOOTHED * mean), np.float32)


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-12), np.float32)
