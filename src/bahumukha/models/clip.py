"""CLIP: two towers, one space (Radford et al., "Learning Transferable Visual Models From Natural Language
Supervision", 2021).

    v_i = normalize(f(image_i)),  u_j = normalize(g(text_j)),  logits_ij = exp(s) <v_i, u_j>

N true pairs a batch; the loss pulls them together and pushes the N^2 - N others apart (`contrastive_loss`).
The image tower is any timm trunk with a linear head; the text tower a small transformer that looks both ways.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.nn.attention import Block, init_transformer, padding_mask

MAX_LOGIT_SCALE = 100.0


@dataclass(frozen=True)
class ImageTowerConfig:
    """A timm trunk by its name, without its classifier; `size` is the side of the pictures it is fed."""

    trunk: str = "tf_efficientnet_lite2"
    size: int = 260

    def __post_init__(self) -> None:
        if self.size < 32:
            raise ValueError(f"image.size is {self.size}; at least 32 is needed")


@dataclass(frozen=True)
class TextTowerConfig:
    """A pre-norm transformer over byte-pair tokens; mean of the last layer over the tokens."""

    vocabulary: int = 32_000
    context_length: int = 64
    width: int = 320
    layers: int = 4
    heads: int = 5

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"text.width {self.width} is not a multiple of text.heads {self.heads}")


@dataclass(frozen=True)
class ClipConfig:
    """Both towers and the dimension of the space they share."""

    dim: int = 256
    image: ImageTowerConfig = field(default_factory=ImageTowerConfig)
    text: TextTowerConfig = field(default_factory=TextTowerConfig)

    def to_dict(self) -> dict[str, Any]:
        """As stored under `architecture` in a model folder's `config.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClipConfig:
        """Inverse of `to_dict`."""
        return cls(values["dim"], ImageTowerConfig(**values["image"]), TextTowerConfig(**values["text"]))


class ImageTower(nn.Module):
    """Pictures -> features of the trunk -> a point of the shared space.

    `mean` is the trunk's average feature: taken off before the projection, so that two unrelated pictures
    are near orthogonal and a cosine tells more than that both are pictures.
    """

    mean: Tensor

    def __init__(self, config: ImageTowerConfig, dim: int):
        super().__init__()
        import timm

        self.trunk = timm.create_model(config.trunk, pretrained=False, num_classes=0)
        width: int = self.trunk.num_features  # type: ignore[assignment]
        self.register_buffer("mean", torch.zeros(width))
        self.projection = nn.Linear(width, dim, bias=False)

    def features(self, pixels: Tensor) -> Tensor:
        """Preprocessed pixels (B, 3, H, W) -> pooled features (B, width)."""
        return self.trunk(pixels)

    def project(self, features: Tensor) -> Tensor:
        """Pooled features (B, width) -> (B, dim), not normalised."""
        return self.projection(features - self.mean)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, dim), not normalised."""
        return self.project(self.features(pixels))


class TextTower(nn.Module):
    """Token ids -> a point of the shared space."""

    def __init__(self, config: TextTowerConfig, dim: int):
        super().__init__()
        self.token = nn.Embedding(config.vocabulary, config.width)
        self.position = nn.Parameter(torch.zeros(config.context_length, config.width))
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.projection = nn.Linear(config.width, dim, bias=False)
        init_transformer(self, config.layers)

    def pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids, mask (B, L), mask 1 for tokens and 0 for padding -> mean over tokens (B, width)."""
        x = self.token(ids) + self.position[: ids.shape[1]]
        look = padding_mask(mask)
        for block in self.blocks:
            x = block(x, look)
        weights = mask.to(x.dtype)[..., None]
        return (self.norm(x) * weights).sum(1) / weights.sum(1)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, L) -> (B, dim), not normalised."""
        return self.projection(self.pooled(ids, mask))


class Clip(nn.Module):
    """Both towers and the temperature."""

    def __init__(self, config: ClipConfig):
        super().__init__()
        self.config = config
        self.image = ImageTower(config.image, config.dim)
        self.text = TextTower(config.text, config.dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @property
    def logit_scale(self) -> Tensor:
        """exp of the learned temperature, at most 100 as in the paper."""
        return self.log_scale.exp().clamp(max=MAX_LOGIT_SCALE)

    def encode_image(self, pixels: Tensor, normalize: bool = False) -> Tensor:
        """Preprocessed pixels (B, 3, H, W) -> (B, dim)."""
        embeddings = self.image(pixels)
        return F.normalize(embeddings, dim=-1) if normalize else embeddings

    def encode_text(self, ids: Tensor, mask: Tensor, normalize: bool = False) -> Tensor:
        """Token ids and mask (B, L) -> (B, dim)."""
        embeddings = self.text(ids, mask)
        return F.normalize(embeddings, dim=-1) if normalize else embeddings


def contrastive_loss(images: Tensor, texts: Tensor, logit_scale: Tensor, positives: Tensor | None = None) -> Tensor:
    """Symmetric cross-entropy over cosine similarities (the paper's figure 3), several positives allowed.

    images (N, dim) and texts (M, dim) of norm 1; positives (N, M), True where picture and sentence belong together
    (the diagonal when None). A row or column with several positives shares its probability among them
    (Khosla et al., "Supervised Contrastive Learning", 2020); one with none is left out.
    """
    logits = logit_scale * images @ texts.T
    if positives is None:
        target = torch.arange(len(images), device=images.device)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    return (_soft_cross_entropy(logits, positives) + _soft_cross_entropy(logits.T, positives.T)) / 2


def _soft_cross_entropy(logits: Tensor, positives: Tensor) -> Tensor:
    weights = positives.to(logits.dtype)
    count = weights.sum(1)
    rows = count > 0
    losses = -(weights * logits.log_softmax(1)).sum(1)[rows] / count[rows]
    return losses.mean()
