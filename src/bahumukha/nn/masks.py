"""Which tokens of one stream of text and picture may look at which: DALL-E 1's patterns of attention (Ramesh et al.
2021, "Zero-Shot Text-to-Image Generation", section 2.2 and figure 11).

    text -> text          those before it
    picture -> text       all of it
    picture -> picture    full            those before it, in reading order
                          row             the last ones, as many as a row has: back to the one right above
                          column          those above it in its column
                          convolutional   those before it that stand at most kernel // 2 rows above and columns aside

All see themselves. A layer keeps one pattern; over several layers of different ones everything reaches everything. (The
paper's convolution runs on over the edge into the row before; this one ends at the edge.)
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Pattern = Literal["full", "row", "column", "convolutional"]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)


def picture_mask(pattern: Pattern, grid: tuple[int, int], kernel: int) -> Tensor:
    """bool (n, n) for the n = rows x columns tokens of a grid: [q, k] is True where q may look at k.

    kernel: side of the convolutional pattern's square, odd; the paper's is 11.
    """
    at = torch.arange(grid[0] * grid[1])
    row, column = at // grid[1], at % grid[1]
    back, up, aside = (each[:, None] - each for each in (at, row, column))
    reach = kernel // 2
    seen = {
        "full": torch.ones_like(back, dtype=torch.bool),
        "row": back <= grid[1],
        "column": aside == 0,
        "convolutional": (up <= reach) & (aside.abs() <= reach),
    }[pattern]
    return seen & (back >= 0)


def stream_mask(shown: Tensor, picture: Tensor) -> Tensor:
    """The whole stream's, bool (B, 1, P + n, P + n), as `attend` takes it.

    shown: bool (B, P), False for tokens of the text that nobody but themselves looks at, as padding.
    picture: bool (n, n), of `picture_mask`.
    """
    length, text = shown.shape[1] + len(picture), shown.shape[1]
    plain = torch.ones(length, length, dtype=torch.bool, device=shown.device).tril()
    plain[text:, text:] = picture
    mask = plain.expand(len(shown), 1, -1, -1).clone()
    mask[..., :text] &= shown[:, None, None]
    mask.diagonal(dim1=-2, dim2=-1).fill_(True)  # attention to nothing at all has no value
    return mask
