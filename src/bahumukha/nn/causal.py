"""Causal transformer blocks over a grid of tokens: QK-norm, 2-D rotary positions, keys and values kept in a cache.

    q, k <- R(row, column) norm(q), R(row, column) norm(k)

R turns pairs of a head's numbers by a token's place (`nn.rotary`). The norm keeps the logits of attention bounded, and
training stable (Henry et al. 2020; Dehghani et al. 2023).

With a cache a token is computed once; the next one reads the keys and values of all before it. Both the norm and the
rotation can be left out, and a mask (`nn.masks`) can hide some of what stands before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from bahumukha.nn.attention import mlp
from bahumukha.nn.dot_product import attend
from bahumukha.nn.rotary import rotated

M = TypeVar("M", bound=nn.Module)
EPSILON = 1e-6
"""Added to the mean square of a query or a key."""


class Cache:
    """Keys and values of the first `length` tokens, of all layers, in memory that is taken once."""

    def __init__(self, layers: int, batch: int, heads: int, most: int, dim: int, like: Tensor):
        """`most`: tokens that fit; `like`: a tensor of the device and type."""
        self.keys = like.new_zeros(layers, batch, heads, most, dim)
        self.values = like.new_zeros(layers, batch, heads, most, dim)
        self.length = 0

    @property
    def most(self) -> int:
        """Tokens that fit."""
        return self.keys.shape[3]

    def clear(self) -> None:
        """Forget all tokens; the memory is used again."""
        self.length = 0

    def reorder(self, places: Tensor) -> None:
        """Row b becomes what row `places[b]` was; int64 (batch,), rows may come several times or not at all."""
        for kept in (self.keys, self.values):
            kept[:, :, :, : self.length] = kept[:, places, :, : self.length]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep what a layer computed of the new tokens, (B, heads, new, dim) -> of all, (B, heads, length + new, dim).

        `length` is the caller's to raise, once all layers have been through.
        """
        end = self.length + keys.shape[2]
        if end > self.most:
            raise ValueError(f"{end} tokens do not fit a cache of {self.most}")
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Keep keys and values of the new tokens; what their queries, (B, heads, new, dim), find among all so far."""
        return attention(q, *self.append(layer, k, v), mask)


class SideBySide:
    """Several caches, for tokens of several sequences in one row: weights are read once for all of them."""

    def __init__(self, caches: Sequence[Cache], counts: Sequence[int]):
        """`counts`: new tokens of each sequence, which stand one after another."""
        self.caches, self.counts = caches, list(counts)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """As `Cache` does, each sequence for itself; a mask is each cache's own matter."""
        assert mask is None
        parts = zip(self.caches, *(each.split(self.counts, dim=2) for each in (q, k, v)), strict=True)
        return torch.cat([cache.attend(layer, *part) for cache, *part in parts], dim=2)

    def grow(self) -> None:
        """All layers have been through."""
        for cache, count in zip(self.caches, self.counts, strict=True):
            cache.length += count


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Of the last tokens, q (B, heads, new, dim), to themselves and all before, k and v (B, heads, all, dim).

    mask: bool, broadcastable to (B, heads, new, all), True where they may look; None for all that stand before.
    """
    new, known = q.shape[2], k.shape[2]
    if mask is None and new not in (1, known):
        mask = torch.ones(new, known, dtype=torch.bool, device=q.device).tril(known - new)
    # One token sees all; from the first token on it is the plain triangle.
    return attend(q, k, v, mask, causal=mask is None and new > 1)


def laid_out_for_sampling(model: M) -> M:
    """The same model, of each Linear's weight (out, in) the longer side lying together in memory.

    One token at a time is a product with one row, and all its time goes into reading weights: along 1280 numbers that
    is 1.5 to 1.7 times faster than along 320, and no slower for many rows (`python -m bench tokens`). `state_dict` and
    `load_state_dict` see no difference.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.out_features > module.in_features:
            module.weight.data = module.weight.data.t().contiguous().t()
    return model


class CausalAttention(nn.Module):
    """Multi-head attention of each token to itself and those before it."""

    scale: nn.Parameter | None

    def __init__(self, width: int, heads: int, qk_norm: bool = True):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        # Of the numbers of each query, then of each key, after the norm; one axis, as norms have, so never decayed.
        self.register_parameter("scale", nn.Parameter(torch.ones(2 * width // heads)) if qk_norm else None)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Tensor,
        turn: Tensor | None,
        cache: Cache | SideBySide | None = None,
        layer: int = 0,
        mask: Tensor | None = None,
    ) -> Tensor:
        """x (B, L, width), the tokens that follow those in the cache -> (B, L, width).

        turn: (L, dim / 2), theirs; None for no rotation. mask: bool, broadcastable to (B, heads, L, all so far), True
        where they may look; None for all before them.
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (B, L, 3, heads, d)
        # Queries and keys go through norm and rotation together: while sampling, the calls cost more than the sums.
        qk = qkv[:, :, :2].float()
        if self.scale is not None:
            qk = qk * (qk.square().mean(-1, keepdim=True) + EPSILON).rsqrt() * self.scale.view(2, 1, -1)
        if turn is not None:
            qk = rotated(qk, turn)
        q, k = qk.to(qkv.dtype).transpose(1, 3).unbind(2)  # (B, heads, L, d)
        v = qkv[:, :, 2].transpose(1, 2)
        y = attention(q, k, v, mask) if cache is None else cache.attend(layer, q, k, v, mask)
        return self.out(y.transpose(1, 2).flatten(2))


class CausalBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), as `nn.attention.Block`."""

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0, dropout: float = 0.0, qk_norm: bool = True):
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads, qk_norm)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = mlp(width, mlp_ratio, "gelu")
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        turn: Tensor | None,
        cache: Cache | SideBySide | None = None,
        layer: int = 0,
        mask: Tensor | None = None,
    ) -> Tensor:
        """(B, L, width) -> (B, L, width); the rest as `CausalAttention` has it."""
        x = x + self.dropout(self.attention(self.norm_attention(x), turn, cache, layer, mask))
        return x + self.dropout(self.mlp(self.norm_mlp(x)))
