"""Stages of convolutions: the same as PyTorch's convolutions, and back to the size that came."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bahumukha.nn.stages import Conv, ResBlock, Stages


@pytest.mark.parametrize("side", [1, 3])
def test_a_linear_map_of_what_is_around_is_a_convolution(side: int) -> None:
    ours, theirs = Conv(4, 6, side), nn.Conv2d(4, 6, side, padding="same")
    theirs.load_state_dict({"weight": ours.weight.view(6, 4, side, side), "bias": ours.bias})
    x = torch.randn(2, 4, 5, 7)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)


def test_a_block_is_told_scale_and_shift() -> None:
    block, x, about = ResBlock(8, 3), torch.randn(2, 8, 4, 4), torch.randn(2, 3)
    assert torch.equal(block(x, about), x), "at first it does nothing"
    nn.init.normal_(block.conv2.weight)
    nn.init.normal_(block.tell.weight)
    scale, shift = (about @ block.tell.weight.T)[:, :, None, None].chunk(2, dim=1)
    inner = block.norm2(block.conv1(F.silu(block.norm1(x)))) * (1 + scale) + shift
    assert torch.allclose(block(x, about), x + block.conv2(F.silu(inner)), atol=1e-5)


def test_each_stage_halves_and_comes_back() -> None:
    stages, about = Stages(5, (8, 16), 24, out=3, square=2), torch.randn(2, 24)
    tokens, remembered = stages.to_tokens(torch.randn(2, 5, 16, 32), about)
    assert tokens.shape == (2, 24, 2, 4)
    assert [each.shape[1:] for each in remembered] == [(8, 8, 16), (16, 4, 8)]
    nn.init.normal_(stages.pixels.weight)
    out = stages.to_pixels(tokens, remembered, about)
    assert out.shape == (2, 3, 16, 32)
    for each in (tokens, *remembered):  # all of it is seen
        each.mul_(2)
        before, out = out, stages.to_pixels(tokens, remembered, about)
        assert not torch.allclose(before, out)
