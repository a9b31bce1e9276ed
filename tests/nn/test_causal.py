"""Rotary positions, the causal triangle, the cache."""

from __future__ import annotations

import pytest
import torch

from bahumukha.nn.causal import Cache, CausalAttention, CausalBlock, Rotation, rotated, rotation


def places(rows: int, columns: int) -> torch.Tensor:
    return torch.cartesian_prod(torch.arange(rows), torch.arange(columns))


def test_rotation_turns_pairs_and_keeps_lengths() -> None:
    x = torch.randn(1, 1, 12, 8, generator=torch.Generator().manual_seed(0))
    turned = rotated(x, rotation(places(3, 4), 8))
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    assert torch.equal(turned[:, :, 0], x[:, :, 0]), "row 0, column 0 is not turned"
    by_hand = torch.complex(x[..., :4], x[..., 4:])
    angle = torch.stack([torch.arange(3).repeat_interleave(4), torch.arange(4).repeat(3)], 1)[:, :, None]
    angle = (angle * torch.tensor([1.0, 0.1])).flatten(1)  # BASE 100, two pairs a direction
    expected = by_hand * torch.polar(torch.ones_like(angle), angle)
    assert torch.allclose(turned, torch.cat([expected.real, expected.imag], -1), atol=1e-5)


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
    torch.nn.init.uniform_(attention.norm_q.weight)
    x, turn = torch.randn(2, 6, 16), rotation(places(2, 3), 8)
    q, k, v = (part.reshape(2, 6, 2, 8).transpose(1, 2) for part in attention.qkv(x).chunk(3, -1))
    q = rotated(q / q.pow(2).mean(-1, keepdim=True).sqrt() * attention.norm_q.weight, turn)
    k = rotated(k / k.pow(2).mean(-1, keepdim=True).sqrt(), turn)
    logits = (q @ k.mT / 8**0.5).masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf)
    expected = attention.out((logits.softmax(-1) @ v).transpose(1, 2).reshape(2, 6, 16))
    assert torch.allclose(attention(x, turn), expected, atol=1e-5)


@pytest.mark.parametrize("parts", [(12,), (1,) * 12, (5, 1, 6), (1, 11)])
def test_the_cache_changes_nothing(parts: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    blocks = [CausalBlock(16, 2), CausalBlock(16, 2)]
    whole, turn = torch.randn(3, 12, 16), rotation(places(3, 4), 8)
    expected = blocks[1](blocks[0](whole, turn), turn)
    cache = Cache(2, 3, 2, 12, 8, whole)
    got = []
    for x, cos, sin in zip(whole.split(parts, 1), turn.cos.split(parts), turn.sin.split(parts), strict=True):
        for layer, block in enumerate(blocks):
            x = block(x, Rotation(cos, sin), cache, layer)
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
