"""The text tower: a small transformer over tokens, in the three ways that are in use.

starter    looks both ways, past padding; mean over the tokens
CLIP       looks back only (Radford et al. 2021); at the end-of-text token
SigLIP     looks both ways, padding counts as text (Zhai et al. 2023); at the last place
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bahumukha.nn.attention import ACTIVATIONS, NORM_EPSILON, Activation, Block, init_transformer, padding_mask

Look = Literal["masked", "causal", "all"]
Pool = Literal["mean", "end", "last"]


@dataclass(frozen=True)
class TextTowerConfig:
    """A pre-norm transformer over byte-pair tokens; by default, mean of the last layer over the tokens."""

    vocabulary: int = 32_000
    context_length: int = 64
    width: int = 320
    layers: int = 4
    heads: int = 5
    mlp_ratio: float = 4.0
    """Width of the MLP's hidden layer over `width`."""
    activation: Activation = "gelu"
    attention: Look = "masked"
    """`masked`: both ways, padding hidden. `causal`: backwards. `all`: both ways, padding counts, and every text
    must be padded to `context_length`."""
    pool: Pool = "mean"
    """`mean`: over the tokens. `end`: at the first `end_token`. `last`: at the last place, padding or not."""
    end_token: int | None = None
    projection_bias: bool = False
    projection_hidden: int = 0
    """Hidden units of a perceptron beside the linear projection; 0 for none."""
    epsilon: float = NORM_EPSILON

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"text.width {self.width} is not a multiple of text.heads {self.heads}")
        if self.layers < 1:
            raise ValueError(f"text.layers is {self.layers}; at least 1 is needed")
        if self.projection_hidden < 0:
            raise ValueError(
                f"text.projection_hidden is {self.projection_hidden}; give a number of units, or 0 for none"
            )
        for name, allowed in (("activation", ACTIVATIONS), ("attention", get_args(Look)), ("pool", get_args(Pool))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"text.{name} {getattr(self, name)!r} is not one of {', '.join(allowed)}")
        if self.pool == "end" and self.end_token is None:
            raise ValueError("text.pool is 'end' without text.end_token; give the id of the end-of-text token")
        if self.pool == "last" and self.attention != "all":
            raise ValueError("text.pool is 'last', which takes text.attention 'all': the last place may be padding")


class TextFeatures(NamedTuple):
    """All that a text tower has read: what the generators that are conditioned on CLIP see of a text."""

    embedding: Tensor
    """(B, dim), rows of norm 1."""
    tokens: Tensor
    """(B, L, width): each token after the last layer."""
    seen: Tensor
    """bool (B, L): False where `tokens` stands for no token."""


class Perceptron(nn.Module):
    """One hidden layer, W_2 gelu(W_1 x + b): (…, width) -> (…, dim)."""

    def __init__(self, width: int, hidden: int, dim: int):
        super().__init__()
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, dim, bias=False)

    def hidden(self, x: Tensor) -> Tensor:
        """(…, width) -> (…, hidden)."""
        return F.gelu(self.inner(x))

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) -> (…, dim)."""
        return self.outer(self.hidden(x))


class TextTower(nn.Module):
    """Token ids -> a point of the shared space.

    With `projection_hidden` a perceptron stands beside the linear projection of the pooled state x:

        W x + W_2 gelu(W_1 x + b)

    A small tower's last layer has few numbers to tell many names by, and no linear map puts each of them where its
    pictures are; a wide hidden layer does, at the cost of one more layer for each text and not for each token.
    """

    def __init__(self, config: TextTowerConfig, dim: int):
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocabulary, config.width)
        self.position = nn.Parameter(torch.zeros(config.context_length, config.width))
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_ratio, config.activation, config.epsilon)
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width, eps=config.epsilon)
        self.projection = nn.Linear(config.width, dim, bias=config.projection_bias)
        self.projection_mlp = (
            Perceptron(config.width, config.projection_hidden, dim) if config.projection_hidden else None
        )
        self.grad_checkpointing = False
        init_transformer(self, config.layers)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping what it computed."""
        self.grad_checkpointing = enable

    def pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids, mask (B, L), mask 1 for tokens and 0 for padding -> (B, width), by the config's `pool`."""
        if self.config.pool == "mean":
            return self.pool(self.hidden(ids, mask), ids, mask)
        x, look, causal = self._begun(ids, mask)
        for block in self.blocks[:-1]:
            x = self._run(block, x, look, causal)
        at = self._place(ids)  # (B, 1)
        if causal:
            look = (torch.arange(ids.shape[1], device=ids.device) <= at)[:, None, None, :]
        row = x.gather(1, at[..., None].expand(-1, -1, x.shape[2]))  # of the last block, one place is used
        return self.norm(self._run(self.blocks[-1], x, look, False, row)[:, 0])

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, L) -> (B, dim), not normalised."""
        return self.project(self.pooled(ids, mask))

    def project(self, pooled: Tensor) -> Tensor:
        """What `pooled` gives -> (B, dim), not normalised."""
        projected = self.projection(pooled)
        return projected if self.projection_mlp is None else projected + self.projection_mlp(pooled)

    def hidden(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, L) -> what the last layer makes of every token, (B, L, width); of padding it means nothing."""
        x, look, causal = self._begun(ids, mask)
        for block in self.blocks:
            x = self._run(block, x, look, causal)
        return self.norm(x)

    def pool(self, hidden: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """What `hidden` gives -> what `pooled` gives, (B, width)."""
        if self.config.pool == "mean":
            weights = mask.to(hidden.dtype)[..., None]
            return (hidden * weights).sum(1) / weights.sum(1)
        return hidden.gather(1, self._place(ids)[..., None].expand(-1, -1, hidden.shape[2]))[:, 0]

    def _begun(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None, bool]:
        """What goes into the first block, and where attention may look."""
        look = padding_mask(mask) if self.config.attention == "masked" else None
        return self.token(ids) + self.position[: ids.shape[1]], look, self.config.attention == "causal"

    def _place(self, ids: Tensor) -> Tensor:
        """Where the text is read off: (B, 1)."""
        if self.config.end_token is not None and self.config.pool == "end":
            return ids.eq(self.config.end_token).int().argmax(1, keepdim=True)
        return torch.full_like(ids[:, :1], self.config.context_length - 1)

    def _run(self, block: nn.Module, x: Tensor, look: Tensor | None, causal: bool, row: Tensor | None = None) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, look, causal, row, use_reentrant=False)  # type: ignore[return-value]
        return block(x, look, causal, row)
