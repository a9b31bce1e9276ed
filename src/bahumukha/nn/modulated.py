"""Transformer blocks that are told, from outside, how to scale, shift and weigh what they do: adaLN-zero.

    x + g₁ attention((1 + a₁) norm(x) + b₁),  then x + g₂ mlp((1 + a₂) norm(x) + b₂)

The six vectors come of the condition (time, an embedding) and begin at zero, so that a block at first does nothing
(Peebles and Xie 2022, "Scalable Diffusion Models with Transformers"). They are made once for all blocks, and each block
adds learned vectors of its own (Chen et al. 2023, "PixArt-α"): a map in every block would be a third of all weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bahumukha.nn.attention import mlp
from bahumukha.nn.causal import EPSILON
from bahumukha.nn.dot_product import attend
from bahumukha.nn.rotary import rotated

VECTORS = 6
"""That a block is told: a, b and g of attention and of the MLP."""


class RotaryAttention(nn.Module):
    """Attention of all places of a sequence to all, QK-norm and rotary positions as in `nn.causal`."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % (4 * heads):
            raise ValueError(f"width {width} is not a multiple of 4 times heads {heads}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.scale = nn.Parameter(torch.ones(2 * width // heads))  # of each query's numbers, then of each key's
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, turns: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, L, width), turns (L, dim / 2) -> (B, L, width); mask bool (B, 1, 1, L), True where one may look."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        qk = qkv[:, :, :2].float()
        qk = qk * (qk.square().mean(-1, keepdim=True) + EPSILON).rsqrt() * self.scale.view(2, 1, -1)
        q, k = rotated(qk, turns).to(qkv.dtype).transpose(1, 3).unbind(2)  # (B, heads, L, d)
        y = attend(q, k, qkv[:, :, 2].transpose(1, 2), mask)
        return self.out(y.transpose(1, 2).flatten(2))


class ModulatedBlock(nn.Module):
    """See above."""

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0):
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = RotaryAttention(width, heads)
        self.mlp = mlp(width, mlp_ratio, "gelu_tanh")
        self.own = nn.Parameter(torch.zeros(VECTORS, width))

    def forward(self, x: Tensor, told: Tensor, turns: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, L, width), told (B, VECTORS, width) -> (B, L, width); the rest as `RotaryAttention` has it."""
        a1, b1, g1, a2, b2, g2 = (told + self.own)[:, :, None].unbind(1)
        x = x + g1 * self.attention(modulated(self.norm(x), a1, b1), turns, mask)
        return x + g2 * self.mlp(modulated(self.norm(x), a2, b2))


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """(1 + scale) x + shift; x (B, L, width), the others (B, 1, width)."""
    return x * (1 + scale) + shift
