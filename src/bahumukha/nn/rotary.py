"""Rotary positions in two dimensions: queries and keys turned by the row and the column they stand at.

Half of the pairs of a head's numbers turn with the row, half with the column, so that what two places say to each other
depends on how far apart they are, either way, and no size of a grid is special (Su et al. 2021, "RoFormer"; over
pictures, Heo et al. 2024, "Rotary Position Embedding for Vision Transformer").
"""

from __future__ import annotations

import torch
from torch import Tensor

BASE = 100.0
"""The slowest pair turns by nearly 1 / BASE a place. Grids have sides of 8 to 64; with the 10,000 of texts most pairs
would hardly turn at all."""


def grid_positions(rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """Row and column of each place of a grid, row after row: (rows * columns, 2)."""
    at = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    return torch.stack(at, -1).flatten(0, 1)


def rotation(positions: Tensor, dim: int) -> Tensor:
    """The turns of heads of `dim` numbers, a multiple of 4, at positions (L, 2) of row and column.

    Complex numbers of length 1, (L, dim / 2): the first half of the pairs turns by the row, the second by the column.
    """
    if dim % 4:
        raise ValueError(f"a head has {dim} numbers; rows and columns each need pairs, so a multiple of 4 is needed")
    quarter = dim // 4
    frequency = BASE ** -(torch.arange(quarter, dtype=torch.float64, device=positions.device) / quarter)
    angles = (positions.double()[:, :, None] * frequency).flatten(1)
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def rotated(x: Tensor, turn: Tensor) -> Tensor:
    """x float32 (B, L, ..., dim), each pair (x_2i, x_2i+1) turned by its angle: a product of complex numbers."""
    turn = turn.view(turn.shape[0], *[1] * (x.dim() - 3), turn.shape[1])
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turn).flatten(-2)
