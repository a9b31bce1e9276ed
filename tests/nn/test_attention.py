"""Attention against PyTorch's own module with the same weights."""

from __future__ import annotations

import pytest
import torch

from bahumukha.nn.attention import Attention, Block, padding_mask


def test_agrees_with_torch():
    torch.manual_seed(0)
    ours, theirs = Attention(32, 4), torch.nn.MultiheadAttention(32, 4, batch_first=True)
    theirs.in_proj_weight.data.copy_(ours.qkv.weight)
    theirs.in_proj_bias.data.copy_(ours.qkv.bias)
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(2, 5, 32)
    expected, _ = theirs(x, x, x, need_weights=False)
    assert torch.allclose(ours(x), expected, atol=1e-5)


def test_mask_hides_positions():
    torch.manual_seed(0)
    block = Block(16, 2)
    x = torch.randn(1, 4, 16)
    mask = padding_mask(torch.tensor([[1, 1, 1, 0]]))
    changed = x.clone()
    changed[:, 3] = torch.randn(16)
    assert torch.allclose(block(x, mask)[:, :3], block(changed, mask)[:, :3], atol=1e-6)
    assert not torch.allclose(block(x)[:, :3], block(changed)[:, :3], atol=1e-4)


def test_causal_looks_back_only():
    torch.manual_seed(0)
    block = Block(16, 2)
    x = torch.randn(1, 4, 16)
    changed = x.clone()
    changed[:, 2] = torch.randn(16)
    assert torch.allclose(block(x, causal=True)[:, :2], block(changed, causal=True)[:, :2], atol=1e-6)


def test_width_must_divide():
    with pytest.raises(ValueError, match="width 10 is not a multiple of heads 4"):
        Attention(10, 4)
