"""Rotary positions, the causal triangle, the cache."""

from __future__ import annotations

import math

import pytest
import torch

from bahumukha.nn.causal import EPSILON, Cache, CausalAttention, CausalBlock, laid_out_for_sampling
from bahumukha.nn.rotary import rotated, rotation


def places(rows: int, columns: int) -> torch.Tensor:
    return torch.cartesian_prod(torch.arange(rows), torch.arange(columns))


def test_rotation_turns_pairs_and_keeps_lengths() -> None:
    x = torch.randn(1, 12, 3, 8, generator=torch.Generator().manual_seed(0))
    turned = rotated(x, rotation(places(3, 4), 8))
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    assert torch.equal(turned[:, 0], x[:, 0]), "row 0, column 0 is not turned"
    for place, (row, column) in enumerate(places(3, 4).tolist()):
        for pair, angle in enumerate((row, row / 10, column, column / 10)):  # BASE 100, two pairs a direction
            a, b = x[0, place, :, 2 * pair], x[0, place, :, 2 * pair + 1]
            cos, sin = math.cos(angle), math.sin(angle)
            assert torch.allclose(turned[0, place, :, 2 * pair], a * cos - b * sin, atol=1e-5)
            assert torch.allclose(turned[0, place, :, 2 * pair + 1], b * cos + a * sin, atol=1e-5)


def test_what_two_tokens_say_depends_on_their_distance_only() -> None:
    q, k = torch.randn(2, 1, 1, 1, 16, generator=torch.Generator().manual_seed(0))

    def score(at: tuple[int, int], other: tuple[int, int]) -> torch.Tensor:
        turns = [rotation(torch.tensor([place]), 16) for place in (at, other)]
        return (rotated(q, turns[0]) * rotated(k, turns[1])).sum()

    assert torch.allclose(score((2, 3), (5, 1)), score((4, 9), (7, 7)), atol=1e-5)
    assert not torch.allclose(score((2, 3), (5, 1)), score((2, 3), (5, 2)), atol=1e-3)
    assert not torch.allclose(score((2, 3), (5, 1)), score((2, 3), (4, 1)), atol=1e-3)


def test_attention_agrees_with_the_formula() -> None:
    torch.manual_seed(0)
    attention = CausalAttention(16, 2)
    torch.nn.init.uniform_(attention.scale)
    x, turn = torch.randn(2, 6, 16), rotation(places(2, 3), 8)
    q, k, v = (part.reshape(2, 6, 2, 8) for part in attention.qkv(x).chunk(3, -1))

    def normed(part: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        unit = part / (part.pow(2).mean(-1, keepdim=True) + EPSILON).sqrt()
        return rotated(unit * scale, turn).transpose(1, 2)

    logits = normed(q, attention.scale[:8]) @ normed(k, attention.scale[8:]).mT / 8**0.5
    p = logits.masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf).softmax(-1)
    expected = attention.out((p @ v.transpose(1, 2)).transpose(1, 2).reshape(2, 6, 16))
    assert torch.allclose(attention(x, turn), expected, atol=1e-5)


def test_attention_is_bounded_however_large_the_numbers() -> None:
    """QK-norm: a stream a thousand times as strong asks the same questions."""
    torch.manual_seed(0)
    attention = CausalAttention(16, 2)
    torch.nn.init.zeros_(attention.qkv.bias)
    x, turn = torch.randn(1, 6, 16), rotation(places(2, 3), 8)
    torch.nn.init.zeros_(attention.out.bias)
    assert torch.allclose(attention(1000 * x, turn) / 1000, attention(x, turn), atol=1e-4)


def test_half_precision() -> None:
    torch.manual_seed(0)
    block = CausalBlock(16, 2)
    x, turn = torch.randn(1, 6, 16), rotation(places(2, 3), 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = block(x, turn).float()
    assert torch.allclose(half, block(x, turn), atol=0.05)


@pytest.mark.parametrize("parts", [(12,), (1,) * 12, (5, 1, 6), (1, 11)])
def test_the_cache_changes_nothing(parts: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    blocks = [CausalBlock(16, 2), CausalBlock(16, 2)]
    whole, turn = torch.randn(3, 12, 16), rotation(places(3, 4), 8)
    expected = blocks[1](blocks[0](whole, turn), turn)
    cache = Cache(2, 3, 2, 12, 8, whole)
    got = []
    for x, part in zip(whole.split(parts, 1), turn.split(parts), strict=True):
        for layer, block in enumerate(blocks):
            x = block(x, part, cache, layer)
        cache.length += x.shape[1]
        got.append(x)
    assert torch.allclose(torch.cat(got, 1), expected, atol=1e-5)


def test_a_full_cache_says_so() -> None:
    cache = Cache(1, 1, 1, 4, 4, torch.zeros(()))
    with pytest.raises(ValueError, match="5 tokens do not fit a cache of 4"):
        cache.append(0, torch.zeros(1, 1, 5, 4), torch.zeros(1, 1, 5, 4))


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="a multiple of 4 is needed"):
        rotation(places(1, 1), 6)
    with pytest.raises(ValueError, match="width 10 is not a multiple of heads 4"):
        CausalAttention(10, 4)


def test_the_layout_for_sampling_changes_nothing_but_the_layout() -> None:
    torch.manual_seed(0)
    block = CausalBlock(16, 2).eval()
    x, turn = torch.randn(2, 6, 16), rotation(places(2, 3), 8)
    before, weights = block(x, turn), {key: value.clone() for key, value in block.state_dict().items()}
    assert laid_out_for_sampling(block) is block
    wide, narrow = block.mlp[0].weight, block.mlp[2].weight
    assert wide.stride() == (1, 64) and narrow.stride() == (64, 1), "64 numbers lie together, either way"
    assert all(torch.equal(value, weights[key]) for key, value in block.state_dict().items())
    assert torch.allclose(block(x, turn), before, atol=1e-5)
    block.load_state_dict(weights)
    assert wide.stride() == (1, 64)
