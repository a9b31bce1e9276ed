"""Where to stop a ranked list: a cut-off that adapts to each query's own scores.

A fixed cosine fails, since every sentence has its own level: "a photo" is near to everything, a rare word to
nothing, and pictures are nearer to each other than to any sentence. But for one query most pictures are
misses, and the misses' scores form a bulk. Hits are what the bulk does not explain:

1. Estimate the bulk by its median m and by the spread of its *lower* half (hits disturb only the upper one):
   sigma = root mean square of m - s over s < m, which for a normal bulk is its standard deviation.
2. The largest of n independent normal scores stays below m + sigma * sqrt(2 ln n), nearly always for large n.
   What lies above is no accident of the bulk's size: a hit. For few scores the estimate of sigma is itself
   uncertain, so the limit is widened by 1 + 4 / n.
3. Leave the hits out, and estimate again until nothing changes (hits had shifted the median).
4. When hits are half of all pictures or more, the median sits among them and nothing stands out. So a second
   reading: split the scores in two where the variance between the parts is largest (Otsu, 1979), and accept
   the split if the parts are clearly apart: their means by more than five times their root mean square spread
   (Ashman's D; cutting one normal bulk in two gives 2.6, a uniform one 3.5).

If neither finds anything, nothing in the collection stands out for this query, and an empty answer is true.
"""

from __future__ import annotations

import math

import numpy as np

_APART = 5.0
_FEW = 4  # with fewer scores there is no bulk to speak of


def auto_cutoff(scores: np.ndarray) -> float:
    """The lowest score that still counts as a hit for the query that gave `scores` (N,), in any order.

    Infinity when nothing stands out; minus infinity when there are too few scores to tell.
    """
    scores = np.sort(np.asarray(scores, np.float64))
    if len(scores) < _FEW:
        return -math.inf
    outliers = _above_bulk(scores)
    if outliers < len(scores):
        return float(scores[outliers])
    split = _two_parts(scores)
    return float(scores[split]) if split is not None else math.inf


def _above_bulk(scores: np.ndarray) -> int:
    """Position in ascending `scores` from which on they are above the bulk; N when none is."""
    size = len(scores)
    while True:
        bulk = scores[:size]
        median = float(np.median(bulk))
        below = median - bulk[bulk < median]
        sigma = math.sqrt(np.mean(below**2)) if len(below) else 0.0
        # Scores come from float16 embeddings: differences below their rounding are none.
        sigma = max(sigma, 1e-4)
        limit = median + sigma * math.sqrt(2 * math.log(size)) * (1 + 4 / size)
        smaller = int(np.searchsorted(scores, limit, side="right"))
        if smaller >= size or smaller < _FEW:
            return size
        size = smaller


def _two_parts(scores: np.ndarray) -> int | None:
    """Position that splits ascending `scores` into two parts far apart, or None when they are one."""
    total, squares = np.cumsum(scores), np.cumsum(scores**2)
    n = len(scores)
    low_n = np.arange(1, n)
    high_n = n - low_n
    low, high = total[:-1] / low_n, (total[-1] - total[:-1]) / high_n
    at = int(np.argmax(low_n * high_n * (high - low) ** 2))
    low_variance = squares[at] / low_n[at] - low[at] ** 2
    high_variance = (squares[-1] - squares[at]) / high_n[at] - high[at] ** 2
    spread = math.sqrt(max((low_variance + high_variance) / 2, 1e-8))
    # A handful of scores in a part says little about its spread; ask for more then.
    needed = _APART * (1 + 2 / min(low_n[at], high_n[at]))
    return at + 1 if (high[at] - low[at]) / spread > needed else None
