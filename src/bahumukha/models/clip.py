"""CLIP: two towers, one space (Radford et al., "Learning Transferable Visual Models From Natural Language
Supervision", 2021).

    v_i = normalize(f(image_i)),  u_j = normalize(g(text_j)),  logits_ij = exp(s) <v_i, u_j>

N true pairs a batch; the loss pulls them together and pushes the N^2 - N others apart (`contrastive_loss`).
The image tower is any timm trunk with a linear head, or a Vision Transformer (`models.vit`); the text tower a
transformer (`models.text`). Between them they hold OpenAI's, OpenCLIP's and SigLIP's weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.models.contrastive import contrastive_loss as contrastive_loss
from bahumukha.models.regions import RegionHead, RegionHeadConfig, colour_channels, region_tokens
from bahumukha.models.text import TextTower, TextTowerConfig
from bahumukha.models.vit import ViT, ViTConfig

MAX_LOGIT_SCALE = 100.0


@dataclass(frozen=True)
class ImageTowerConfig:
    """A timm trunk by its name, without its classifier; `size` is the side of the pictures it is fed."""

    trunk: str = "tf_efficientnet_lite2"
    size: int = 260
    head: RegionHeadConfig | None = None
    """Looks at the places of the trunk's maps as well; None pools them and nothing more."""
    classes: int = 0
    """Classes that the pooled feature is asked for first (`ClassMixture`); 0 for none."""

    def __post_init__(self) -> None:
        if self.size < 32:
            raise ValueError(f"image.size is {self.size}; at least 32 is needed")
        if self.classes < 0:
            raise ValueError(f"image.classes is {self.classes}; give the number of classes, or 0 for none")
        if isinstance(self.head, Mapping):
            object.__setattr__(self, "head", RegionHeadConfig(**self.head))


@dataclass(frozen=True)
class ClipConfig:
    """Both towers and the dimension of the space they share."""

    dim: int = 256
    image: ImageTowerConfig | ViTConfig = field(default_factory=ImageTowerConfig)
    text: TextTowerConfig = field(default_factory=TextTowerConfig)
    logit_bias: bool = False
    """Whether a learned number is added to the logits: SigLIP's loss needs one."""

    def to_dict(self) -> dict[str, Any]:
        """As stored under `architecture` in a model folder's `config.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClipConfig:
        """Inverse of `to_dict`."""
        tower: type[ImageTowerConfig | ViTConfig] = ImageTowerConfig if "trunk" in values["image"] else ViTConfig
        return cls(
            values["dim"],
            tower(**values["image"]),
            TextTowerConfig(**values["text"]),
            values.get("logit_bias", False),
        )


class ClassMixture(nn.Module):
    """Which classes a picture may show, and the mean of their vectors (ConSE, Norouzi et al. 2014).

        p = softmax(W x + b),  sum_c p_c v_c

    A linear map of a classifier's features keeps what sets a class apart from its neighbours, and a hundred breeds
    then have little in common: no one direction says "dog". The vectors v_c say it.
    """

    def __init__(self, dim: int, classes: int):
        super().__init__()
        self.logits = nn.Linear(dim, classes)
        self.vectors = nn.Linear(classes, dim, bias=False)

    def forward(self, projected: Tensor) -> Tensor:
        """(B, dim) -> (B, dim)."""
        return self.vectors(self.logits(projected).softmax(-1))


class ImageTower(nn.Module):
    """Pictures -> features of the trunk -> a point of the shared space.

    `mean` is the trunk's average feature: taken off before the projection, so that two unrelated pictures
    are near orthogonal and a cosine tells more than that both are pictures. With `classes`, a mixture of their vectors
    is added (`ClassMixture`). With a head (`models.regions`), the pooled embedding is brought to norm 1 and corrected
    by what the head sees.
    """

    mean: Tensor

    def __init__(self, config: ImageTowerConfig, dim: int):
        super().__init__()
        import timm

        self.trunk = timm.create_model(config.trunk, pretrained=False, num_classes=0)
        width: int = self.trunk.num_features  # type: ignore[assignment]
        self.register_buffer("mean", torch.zeros(width))
        self.projection = nn.Linear(width, dim, bias=False)
        self.mixture = ClassMixture(dim, config.classes) if config.classes else None
        self.head: RegionHead | None = None
        if config.head is not None:
            middle, deep = (stage["num_chs"] for stage in self.trunk.feature_info[-2:])  # type: ignore[index]
            self.head = RegionHead(config.head, middle + deep + colour_channels(config.head.levels), dim)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As timm does it for this trunk."""
        self.trunk.set_grad_checkpointing(enable)  # type: ignore[operator]

    def features(self, pixels: Tensor) -> Tensor:
        """Preprocessed pixels (B, 3, H, W) -> pooled features (B, width)."""
        return self.trunk(pixels)

    def project(self, features: Tensor, mixed: bool = True) -> Tensor:
        """Pooled features (B, width) -> (B, dim), not normalised; `mixed` False leaves out the mixture of classes."""
        projected = self.projection(features - self.mean)
        if self.mixture is None or not mixed:
            return projected
        return F.normalize(projected, dim=-1) + self.mixture(projected)

    def maps(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Preprocessed pixels (B, 3, H, W) -> pooled features (B, width), region tokens (B, h, w, channels)."""
        last, (middle, deep) = self.trunk.forward_intermediates(pixels, indices=2)  # type: ignore[operator]
        levels = self.head.levels if self.head is not None else 0
        return self.trunk.forward_head(last, pre_logits=True), region_tokens(pixels, middle, deep, levels)  # type: ignore[operator]

    def embed(self, features: Tensor, tokens: Tensor, mixed: bool = True) -> Tensor:
        """What `maps` gives -> (B, dim), not normalised; needs a head."""
        assert self.head is not None
        return F.normalize(self.project(features, mixed), dim=-1) + self.head(tokens)

    def forward(self, pixels: Tensor, mixed: bool = True) -> Tensor:
        """(B, 3, H, W) -> (B, dim), not normalised; `mixed` as in `project`."""
        if self.head is None:
            return self.project(self.features(pixels), mixed)
        return self.embed(*self.maps(pixels), mixed)


class Clip(nn.Module):
    """Both towers and the temperature."""

    def __init__(self, config: ClipConfig):
        super().__init__()
        self.config = config
        self.image: ImageTower | ViT
        if isinstance(config.image, ViTConfig):
            self.image = ViT(config.image, config.dim)
        else:
            self.image = ImageTower(config.image, config.dim)
        self.text = TextTower(config.text, config.dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.logit_bias = nn.Parameter(torch.tensor(-10.0)) if config.logit_bias else None  # SigLIP's start

    @property
    def logit_scale(self) -> Tensor:
        """exp of the learned temperature, at most 100 as in the paper."""
        return self.log_scale.exp().clamp(max=MAX_LOGIT_SCALE)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping what it computed: less memory, more time."""
        self.image.set_grad_checkpointing(enable)
        self.text.set_grad_checkpointing(enable)

    def encode_image(self, pixels: Tensor, normalize: bool = False) -> Tensor:
        """Preprocessed pixels (B, 3, H, W) -> (B, dim)."""
        embeddings = self.image(pixels)
        return F.normalize(embeddings, dim=-1) if normalize else embeddings

    def encode_text(self, ids: Tensor, mask: Tensor, normalize: bool = False) -> Tensor:
        """Token ids and mask (B, L) -> (B, dim)."""
        embeddings = self.text(ids, mask)
        return F.normalize(embeddings, dim=-1) if normalize else embeddings
