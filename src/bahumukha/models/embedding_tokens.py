"""unCLIP's other prior: the embedding of a picture as a sequence of numbers, each rounded and drawn after those before
it (Ramesh et al. 2022, section 2.2: the autoregressive prior).

    y = A (z - mean),   A: the first principal axes, by falling variance;   ids_i = bucket of y_i
    p(ids | caption) = prod_i p(ids_i | caption, match, ids_0 … ids_{i - 1})

The buckets of an axis hold equally many of the pictures it was fitted on, and stand for the mean of theirs. `match`
says how near caption and picture are, in parts of the pictures fitted on; one samples with a high one. (The paper keeps
319 axes of 1,024 buckets, evenly wide.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.models.prior import PriorSizes, TextPrefix
from bahumukha.models.text import TextFeatures
from bahumukha.nn.attention import init_transformer
from bahumukha.nn.causal import Cache, CausalBlock
from bahumukha.nn.masks import stream_mask
from bahumukha.nn.sizes import check_least


@dataclass(frozen=True, kw_only=True)
class TokenPriorSizes(PriorSizes):
    """What one chooses of such a prior and its code."""

    axes: int = 96
    """Principal axes that are kept."""
    buckets: int = 128
    """Of each axis."""
    matches: int = 8
    """Grades of how near caption and picture are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, axes=1, buckets=2, matches=2)


@dataclass(frozen=True)
class TokenPriorConfig(TokenPriorSizes):
    """All that the transformer and its code need to know."""

    dim: int
    """Of CLIP's embeddings."""
    text_width: int
    """Of what its text tower makes of a token."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, text_width=1)
        if self.axes > self.dim:
            raise ValueError(f"axes is {self.axes}; it must be from 1 to dim {self.dim}")

    def to_dict(self) -> dict[str, Any]:
        """As stored under `architecture` in a model folder's `config.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TokenPriorConfig:
        """Inverse of `to_dict`. Raises TypeError for unknown fields and ValueError for values out of range."""
        return cls(**values)


class EmbeddingCode(nn.Module):
    """Embeddings (B, dim) <-> ids int64 (B, axes). `fit` it before anything else."""

    mean: Tensor
    basis: Tensor
    edges: Tensor
    centres: Tensor
    match_edges: Tensor

    def __init__(self, config: TokenPriorConfig):
        super().__init__()
        self.register_buffer("mean", torch.zeros(config.dim))
        self.register_buffer("basis", torch.eye(config.dim)[: config.axes].clone())
        self.register_buffer("edges", torch.linspace(-1, 1, config.buckets - 1).repeat(config.axes, 1))
        self.register_buffer("centres", torch.linspace(-1, 1, config.buckets).repeat(config.axes, 1))
        self.register_buffer("match_edges", torch.linspace(-1, 1, config.matches - 1))

    @torch.no_grad()
    def fit(self, embeddings: Tensor, captions: Tensor) -> None:
        """Take axes and buckets from embeddings (N, dim), and grades of matching from those of their captions."""
        self.mean.copy_(embeddings.mean(0))
        centred = (embeddings - self.mean).double()
        axes = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, : len(self.basis)]
        self.basis.copy_(axes.T)
        y, buckets = self._projected(embeddings), self.centres.shape[1]
        self.edges.copy_(_quantiles(y, buckets).T)
        ids = self.ids(embeddings)
        for axis in range(len(self.basis)):
            total = torch.zeros(buckets).index_add_(0, ids[:, axis], y[:, axis].float())
            count = torch.bincount(ids[:, axis], minlength=buckets)
            edges = torch.cat([self.edges[axis, :1], self.edges[axis], self.edges[axis, -1:]])
            middle = (edges[1:] + edges[:-1]) / 2  # of a bucket that no picture fell into
            self.centres[axis] = torch.where(count > 0, total / count.clamp(min=1), middle)
        self.match_edges.copy_(
            _quantiles((embeddings * captions).sum(1, keepdim=True), len(self.match_edges) + 1)[:, 0]
        )

    def ids(self, embeddings: Tensor) -> Tensor:
        """(B, dim) -> int64 (B, axes)."""
        return torch.searchsorted(self.edges, self._projected(embeddings).T.contiguous(), right=True).T

    def embeddings(self, ids: Tensor) -> Tensor:
        """int64 (B, axes) -> (B, dim) of norm 1."""
        y = self.centres.gather(1, ids.T).T
        return F.normalize(y @ self.basis + self.mean, dim=-1)

    def match(self, embeddings: Tensor, captions: Tensor) -> Tensor:
        """How near (B, dim) and (B, dim) are: int64 (B,), 0 to matches - 1."""
        return torch.searchsorted(self.match_edges, (embeddings * captions).sum(1), right=True)

    def _projected(self, embeddings: Tensor) -> Tensor:
        return (embeddings - self.mean) @ self.basis.T


def _quantiles(values: Tensor, parts: int) -> Tensor:
    """(N, n) -> (parts - 1, n): what divides each column into equal parts."""
    ranked = values.sort(0).values
    at = torch.arange(1, parts) * len(ranked) / parts
    return ranked[at.long().clamp(max=len(ranked) - 1)]


class TokenPrior(nn.Module):
    """Captions and ids -> logits of each id given all before it. `forward` is for training, `extend` for sampling."""

    def __init__(self, config: TokenPriorConfig):
        super().__init__()
        self.config = config
        width = config.width
        self.code = EmbeddingCode(config)
        self.text = TextPrefix(config.dim, config.text_width, config.text_length, width)
        self.matches = nn.Embedding(config.matches, width)
        self.embedding = nn.Embedding(config.buckets, width)
        self.places = nn.Parameter(torch.zeros(config.axes, width))
        self.blocks = nn.ModuleList(
            CausalBlock(width, config.heads, config.mlp_ratio, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.buckets, bias=False)
        init_transformer(self, config.layers)

    def forward(self, text: TextFeatures, match: Tensor, ids: Tensor, dropped: Tensor | None = None) -> Tensor:
        """match int64 (B,), ids int64 (B, axes), dropped bool (B,) -> logits (B, axes, buckets)."""
        x, mask = self._stream(text, match, ids[:, :-1], dropped)
        for block in self.blocks:
            x = block(x, None, mask=mask)
        return self.head(self.norm(x[:, -ids.shape[1] :]))

    def begin(self, text: TextFeatures, match: Tensor, dropped: Tensor | None = None) -> tuple[Cache, Tensor, Tensor]:
        """An empty cache takes the captions -> itself; which tokens of them are seen; logits (B, buckets) of ids[0]."""
        c = self.config
        x, mask = self._stream(text, match, match.new_zeros(len(match), 0), dropped)
        most = x.shape[1] + c.axes - 1
        cache = Cache(c.layers, len(match), c.heads, most, c.width // c.heads, self.head.weight)
        seen = torch.ones(len(match), most, dtype=torch.bool, device=x.device)
        if mask is not None:
            seen[:, : x.shape[1]] = mask[:, 0, -1]
        return cache, seen, self._through(x, cache, mask)

    def extend(self, cache: Cache, seen: Tensor, ids: Tensor, axis: int) -> Tensor:
        """The id (B,) of an axis -> logits (B, buckets) of the next one's."""
        x = (self.embedding(ids) + self.places[axis])[:, None]
        return self._through(x, cache, seen[:, None, None, : cache.length + 1])

    def _stream(
        self, text: TextFeatures, match: Tensor, ids: Tensor, dropped: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        prefix, seen = self.text(text, dropped)
        own = self.embedding(ids) + self.places[: ids.shape[1]]
        x = torch.cat([prefix, self.matches(match)[:, None], own], dim=1)
        if bool(seen.all()):
            return x, None
        rest = x.shape[1] - seen.shape[1]
        return x, stream_mask(seen, torch.ones(rest, rest, dtype=torch.bool, device=x.device).tril())

    def _through(self, x: Tensor, cache: Cache, mask: Tensor | None) -> Tensor:
        new = x.shape[1]
        for layer, block in enumerate(self.blocks):
            x = block(x, None, cache, layer, mask)
        cache.length += new
        return self.head(self.norm(x[:, -1]))


def token_prior_loss(
    model: TokenPrior, embeddings: Tensor, text: TextFeatures, dropped: Tensor | None = None
) -> dict[str, Tensor]:
    """`loss`, mean cross-entropy of an id in nats. embeddings: of pictures, (B, dim) of norm 1."""
    ids = model.code.ids(embeddings)
    logits = model(text, model.code.match(embeddings, text.embedding), ids, dropped)
    return {"loss": F.cross_entropy(logits.flatten(0, 1).float(), ids.flatten())}
