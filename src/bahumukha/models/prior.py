"""unCLIP's prior: from a caption to the embedding of a picture of it (Ramesh et al. 2022, "Hierarchical
Text-Conditional Image Generation with CLIP Latents", section 2.2).

    ẑ = f(tokens of the caption, its embedding, t, z_t, query)        z_t = (1 - t) z + t ε
    loss = mean (ẑ - z)²

f is a transformer that looks back only; what it makes of the last place, a learned query, is the estimate of the clean
embedding itself, not of the noise. A caption's embedding is near its pictures' and not among them: text and pictures
lie in two cones of the shared space (Liang et al. 2022, "Mind the Gap"). So embeddings are counted from the mean of all
pictures and scaled to a mean square of 1 a number, which is what noise has too (`Standard`).

Another kind, number by number, is in `models.embedding_tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.models.text import TextFeatures
from bahumukha.nn.attention import init_transformer
from bahumukha.nn.causal import CausalBlock
from bahumukha.nn.draws import Draws
from bahumukha.nn.masks import stream_mask
from bahumukha.nn.sizes import TransformerSizes, check_least
from bahumukha.nn.time import TimeEmbedding


@dataclass(frozen=True, kw_only=True)
class PriorSizes(TransformerSizes):
    """What one chooses of a prior. The paper's is 24 layers of 2,048 channels."""

    text_length: int = 64
    """Most tokens of a caption."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, text_length=1)


@dataclass(frozen=True)
class PriorConfig(PriorSizes):
    """All that the transformer needs to know."""

    dim: int
    """Of CLIP's embeddings."""
    text_width: int
    """Of what its text tower makes of a token."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, dim=1, text_width=1)

    def to_dict(self) -> dict[str, Any]:
        """As stored under `architecture` in a model folder's `config.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PriorConfig:
        """Inverse of `to_dict`. Raises TypeError for unknown fields and ValueError for values out of range."""
        return cls(**values)


class Standard(nn.Module):
    """Embeddings counted from their mean and scaled to a mean square of 1 a number; `fit` on those of many pictures.

    It also keeps what the space is explored along: the principal axes of those pictures.
    """

    mean: Tensor
    scale: Tensor
    axes: Tensor
    """(dim, dim): a row each, of length 1, by falling variance."""
    spread: Tensor
    """(dim,): standard deviation of standardised embeddings along each axis."""

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.tensor(dim**0.5))  # of unit vectors around the origin
        self.register_buffer("axes", torch.eye(dim))
        self.register_buffer("spread", torch.ones(dim))

    @torch.no_grad()
    def fit(self, embeddings: Tensor) -> None:
        """Take all of it from embeddings (N, dim)."""
        self.mean.copy_(embeddings.mean(0))
        self.scale.copy_((embeddings - self.mean).square().mean().rsqrt())
        z = self(embeddings).double()
        variance, axes = torch.linalg.eigh(z.T @ z / len(z))
        self.axes.copy_(axes.T.flip(0))
        self.spread.copy_(variance.flip(0).clamp(min=0).sqrt())

    def forward(self, embeddings: Tensor) -> Tensor:
        """Embeddings (…, dim) -> standardised ones."""
        return (embeddings - self.mean) * self.scale

    def back(self, z: Tensor) -> Tensor:
        """Standardised ones -> embeddings of norm 1."""
        return F.normalize(z / self.scale + self.mean, dim=-1)


class TextPrefix(nn.Module):
    """A caption as the first places of a stream: its tokens, then its embedding.

    Of a caption that is dropped no token is seen, and a learned vector stands in the embedding's place.
    """

    def __init__(self, dim: int, text_width: int, text_length: int, width: int):
        super().__init__()
        self.length, self.dim = text_length, dim
        self.words = nn.Linear(text_width, width)
        self.places = nn.Parameter(torch.zeros(text_length, width))
        self.caption = nn.Linear(dim, width)
        self.null = nn.Parameter(torch.zeros(1, width))

    def forward(self, text: TextFeatures, dropped: Tensor | None) -> tuple[Tensor, Tensor]:
        """dropped: bool (B,), None for none -> (B, L + 1, width), and bool (B, L): which tokens are seen.

        Tokens past the longest that this model takes are cut off.
        """
        tokens, seen = text.tokens[:, : self.length], text.seen[:, : self.length]
        words = self.words(tokens) + self.places[: tokens.shape[1]]
        caption = self.caption(text.embedding * self.dim**0.5)
        if dropped is not None:
            seen = seen & ~dropped[:, None]
            caption = torch.where(dropped[:, None], self.null.to(caption.dtype), caption)
        return torch.cat([words, caption[:, None]], dim=1), seen


class DiffusionPrior(nn.Module):
    """Noised embeddings, how noised they are, and captions -> clean embeddings; all standardised (`standard`)."""

    def __init__(self, config: PriorConfig):
        super().__init__()
        self.config = config
        width = config.width
        self.standard = Standard(config.dim)
        self.text = TextPrefix(config.dim, config.text_width, config.text_length, width)
        self.noised = nn.Linear(config.dim, width)
        self.query = nn.Parameter(torch.zeros(1, width))
        self.kinds = nn.Parameter(torch.zeros(2, width))
        self.blocks = nn.ModuleList(
            CausalBlock(width, config.heads, config.mlp_ratio, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.dim)
        init_transformer(self, config.layers)
        self.time = TimeEmbedding(width)

    def forward(self, z: Tensor, t: Tensor, text: TextFeatures, dropped: Tensor | None = None) -> Tensor:
        """z_t (B, dim), t (B,) in [0, 1], captions, and which of them are dropped (bool, None for none) -> (B, dim)."""
        prefix, seen = self.text(text, dropped)
        b = len(z)
        rest = [self.time(t) + self.kinds[0], self.noised(z) + self.kinds[1], self.query.expand(b, -1)]
        x = torch.cat([prefix, torch.stack([each.to(prefix.dtype) for each in rest], dim=1)], dim=1)
        mask = None
        if not bool(seen.all()):
            own = x.shape[1] - seen.shape[1]
            mask = stream_mask(seen, torch.ones(own, own, dtype=torch.bool, device=x.device).tril())
        for block in self.blocks:
            x = block(x, None, mask=mask)
        return self.head(self.norm(x[:, -1]))


def prior_loss(
    model: DiffusionPrior,
    embeddings: Tensor,
    text: TextFeatures,
    dropped: Tensor | None = None,
    draws: Draws = Draws(),
) -> dict[str, Tensor]:
    """`loss`, the mean squared error of the clean embedding, standardised, at random t.

    embeddings: of pictures, (B, dim) of norm 1. dropped: bool (B,), captions that are left out, which guidance needs.
    """
    z = model.standard(embeddings)
    t = draws.spread(len(z), z)
    noised = torch.lerp(z, draws.normal(z), t[:, None])
    return {"loss": F.mse_loss(model(noised, t, text, dropped).float(), z)}
