"""Attention on grids: positions are relative, windows are what they would be alone, any size works."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bahumukha.nn.attention import Attention
from bahumukha.nn.grid import ConvBlock, GridAttention, GridBlock
from bahumukha.nn.rotary import grid_positions, rotated, rotation

WIDTH, HEADS = 32, 2


def attention(window: int, shifted: bool = False) -> GridAttention:
    torch.manual_seed(0)
    return GridAttention(WIDTH, HEADS, window, shifted).requires_grad_(False)


def grid(rows: int, columns: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, rows, columns, WIDTH, generator=torch.Generator().manual_seed(rows * 100 + columns))


def test_what_two_places_say_to_each_other_depends_on_their_distance_alone() -> None:
    q, k = torch.randn(2, 16)
    everywhere = [each.expand(1, 35, 1, 1, 16) for each in (q, k)]
    turned_q, turned_k = (rotated(each, rotation(grid_positions(5, 7), 16)).view(5, 7, 16) for each in everywhere)
    products = torch.einsum("rcd,RCd->rcRC", turned_q, turned_k)
    assert torch.allclose(products[:3, :4, 2:, 3:].diagonal(0, 0, 2).diagonal(0, 0, 1), products[0, 0, 2, 3])
    assert torch.allclose(products[0, 0, 0, 0], q @ k, atol=1e-5)
    by_row, by_column = products[0, 0, 1:, 0], products[0, 0, 0, 1:]
    assert (by_row.diff().abs() > 1e-3).all() and (by_column.diff().abs() > 1e-3).all()
    assert not torch.allclose(by_row, by_column[: len(by_row)], atol=1e-2)  # down is not rightward


def test_one_place_alone_is_plain_attention() -> None:
    ours, x = attention(4), grid(1, 1)
    plain = Attention(WIDTH, HEADS)
    plain.load_state_dict(ours.state_dict())
    assert torch.allclose(ours(x)[:, 0], plain(x[:, 0]), atol=1e-6)


def test_windows_are_attended_to_as_if_alone() -> None:
    layer, x = attention(4), grid(8, 12)
    whole = layer(x)
    for top in (0, 4):
        for left in (0, 4, 8):
            part = slice(None), slice(top, top + 4), slice(left, left + 4)
            assert torch.allclose(whole[part], layer(x[part]), atol=1e-5)


def test_shifted_windows_lie_across_the_borders_of_the_others() -> None:
    layer, x = attention(4, shifted=True), grid(8, 8)
    whole = layer(x)
    for rows in (slice(0, 2), slice(2, 6), slice(6, 8)):
        for columns in (slice(0, 2), slice(2, 6), slice(6, 8)):
            assert torch.allclose(whole[:, rows, columns], layer(x[:, rows, columns]), atol=1e-5)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("rows", "columns"), [(5, 3), (7, 9), (4, 13), (17, 1)])
def test_sizes_that_windows_do_not_divide(rows: int, columns: int, shifted: bool) -> None:
    layer, x = attention(4, shifted), grid(rows, columns, 1)
    before = layer(x)
    assert before.shape == x.shape and before.isfinite().all()
    seen = torch.zeros(rows, columns, rows, columns, dtype=torch.bool)
    for r in range(rows):
        for c in range(columns):
            other = x.clone()
            other[0, r, c] += 1
            seen[r, c] = (layer(other) != before).any(-1)[0]
    flat = seen.flatten(0, 1).flatten(1)
    assert torch.equal(flat, flat.T) and flat.diagonal().all()  # places that see each other
    assert torch.equal(flat.float() @ flat.float() > 0, flat)  # in groups, the windows
    assert flat.sum(1).max() <= 16 and (rows * columns == 1 or flat.sum(1).min() >= 1)
    tall = flat.view(rows, columns, rows, columns).any(3).any(1)
    assert tall.sum(1).max() <= 4


def test_blocks_pass_gradients_to_all_that_they_have() -> None:
    for block in (GridBlock(WIDTH, HEADS, 2.0, 4, True), ConvBlock(WIDTH, 2.0)):
        x = grid(6, 5).requires_grad_()
        block(x).square().mean().backward()
        assert x.grad is not None and x.grad.abs().min() > 0
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in block.parameters())


def test_heads_too_narrow_for_two_directions_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        GridAttention(12, 2, 4, False)
