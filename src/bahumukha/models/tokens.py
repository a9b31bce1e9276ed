"""An autoregressive transformer over the codes of pictures: VQGAN's second stage (Esser et al. 2021, "Taming
Transformers for High-Resolution Image Synthesis"), and the backbone of whatever writes pictures token by token.

    p(s) = prod_t p(s_t | condition, s_0 … s_{t - 1})          s: the codes of a grid, row by row

The sequence is a prefix, here one learned vector (a class's, or that of no class), and then the grid. The prefix
stands at row 0 and column 0, the grid's tokens at rows and columns from 1, so that a token knows by the prefix where it
is in the picture. A model with another prefix overrides `prefix` and `prefix_length`; `models.dalle`, whose prefix is a
sentence that it tells too, is one of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bahumukha.nn.attention import init_transformer
from bahumukha.nn.causal import Cache, CausalBlock, SideBySide
from bahumukha.nn.rotary import rotation
from bahumukha.nn.sizes import check_least, check_transformer


@dataclass(frozen=True)
class TokenTransformerConfig:
    """Sizes of the transformer; those of the paper are 24 layers of width 1024 with 16 heads."""

    codes: int
    """Of the codec's codebook."""
    grid: tuple[int, int] = (8, 8)
    """Rows and columns it is trained on; larger ones are sampled in windows of this size."""
    classes: int = 0
    """Classes that a picture can be asked for; 0 for an unconditional model."""
    width: int = 320
    layers: int = 8
    heads: int = 5
    mlp_ratio: float = 4.0
    dropout: float = 0.0
    """Of the embeddings and of what each block adds, in training."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))  # a list from JSON
        if len(self.grid) != 2 or min(self.grid) < 2:
            raise ValueError(f"grid is {list(self.grid)}; it takes two whole numbers, rows and columns, of at least 2")
        check_least(self, codes=2, classes=0)
        check_transformer(self, turned=True)

    def to_dict(self) -> dict[str, Any]:
        """As stored under `architecture` in a model folder's `config.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TokenTransformerConfig:
        """Inverse of `to_dict`. Raises TypeError for unknown fields and ValueError for values out of range."""
        return cls(**values)


class TokenTransformer(nn.Module):
    """Codes of a grid -> logits of each code given those before it.

    `forward` is for training: all tokens at once. `extend` is for sampling: a few tokens after those in a cache.
    """

    turns: Tensor
    prefix_length = 1

    def __init__(self, config: TokenTransformerConfig):
        super().__init__()
        self.config = config
        self.labels = nn.Embedding(config.classes + 1, config.width)
        self.embedding = nn.Embedding(config.codes, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            CausalBlock(config.width, config.heads, config.mlp_ratio, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.codes, bias=False)
        h, w = config.grid
        places = torch.cartesian_prod(torch.arange(1, h + 1), torch.arange(1, w + 1))
        turns = rotation(torch.cat([places.new_zeros(1, 2), places]), config.width // config.heads)
        self.register_buffer("turns", torch.view_as_real(turns), persistent=False)  # as .to(dtype) takes it
        init_transformer(self, config.layers)

    @property
    def tokens(self) -> int:
        """Of a grid: rows times columns."""
        return self.config.grid[0] * self.config.grid[1]

    @property
    def no_label(self) -> int:
        """The label that asks for nothing: the one of unconditional models, and of guidance's other half."""
        return self.config.classes

    def unconditional(self, labels: Tensor) -> Tensor:
        """As many labels that ask for nothing."""
        return torch.full_like(labels, self.no_label)

    def prefix(self, batch: int, labels: Tensor | None) -> Tensor:
        """Labels int64 (B,), or None for no class -> (B, prefix_length, width)."""
        if labels is None:
            labels = torch.full((batch,), self.no_label, device=self.head.weight.device)
        return self.labels(labels)[:, None]

    def forward(self, ids: Tensor, labels: Tensor | None = None) -> Tensor:
        """Ids int64 (B, n), the first n <= rows x columns of a grid -> logits (B, n, codes); [:, t] is of ids[:, t]."""
        first = self.prefix(len(ids), labels)
        x = torch.cat([first, self.embedding(ids[:, :-1])], dim=1)
        hidden = self._through(x, self._turn(0, x.shape[1]), None)[:, self.prefix_length - 1 :]
        return self.head(self.norm(hidden))

    def new_cache(self, batch: int) -> Cache:
        """An empty cache for pictures of the trained grid. The last token is never looked back at."""
        c = self.config
        most = self.prefix_length + self.tokens - 1
        return Cache(c.layers, batch, c.heads, most, c.width // c.heads, self.head.weight)

    def extend(self, cache: Cache, ids: Tensor, labels: Tensor | None = None) -> Tensor:
        """Ids int64 (B, n), the tokens after those in the cache -> logits (B, codes) of the one that comes next.

        An empty cache takes in the prefix first, and n may be 0; `labels` count only then.
        """
        return self.extend_all([cache], [ids], labels)[0]

    def extend_all(self, caches: Sequence[Cache], ids: Sequence[Tensor], labels: Tensor | None = None) -> list[Tensor]:
        """As `extend`, several caches and their tokens in one go: a token's time goes into reading weights."""
        rows, turns = [], []
        for cache, new in zip(caches, ids, strict=True):
            if cache.length and not new.shape[1]:
                raise ValueError("no tokens were given to a cache that holds some; what comes next was said before")
            x = self.embedding(new)
            if not cache.length:
                x = torch.cat([self.prefix(len(new), labels), x], dim=1)
            rows.append(x)
            turns.append(self._turn(cache.length, x.shape[1]))
        counts = [x.shape[1] for x in rows]
        beside = SideBySide(caches, counts)
        hidden = self._through(torch.cat(rows, dim=1), torch.cat(turns), beside)
        beside.grow()
        last = torch.tensor(counts, device=hidden.device).cumsum(0) - 1
        # The head is a tenth of a small model: each one's last token is enough.
        return list(self.head(self.norm(hidden[:, last])).unbind(1))

    def _through(self, x: Tensor, turn: Tensor, beside: SideBySide | None) -> Tensor:
        """x (B, L, width) and how its places are turned -> what the last block gives."""
        x = self.dropout(x)
        for layer, block in enumerate(self.blocks):
            x = block(x, turn, beside, layer)
        return x

    def _turn(self, start: int, count: int) -> Tensor:
        """Of places of the sequence; all of the prefix stands at row 0 and column 0."""
        turns = torch.view_as_complex(self.turns.float())
        first = start - (self.prefix_length - 1)
        if first >= 0:
            return turns[first : first + count]
        return turns[torch.arange(first, first + count, device=turns.device).clamp(min=0)]
