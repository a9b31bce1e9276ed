"""The Vision Transformer of CLIP and SigLIP (Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021).

    x = [class, E p_1, ..., E p_n] + positions,  x = block(... block(norm_pre(x))),  y = W pool(norm(x))

CLIP pools at a class token after a norm before the blocks and one after; SigLIP has neither class token nor first
norm, and one learned query looks at all patches (`AttentionPool`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bahumukha.nn.attention import ACTIVATIONS, NORM_EPSILON, Activation, AttentionPool, Block, init_transformer

Pool = Literal["class", "mean", "attention"]


@dataclass(frozen=True)
class ViTConfig:
    """A Vision Transformer. The defaults are ViT-B/32 as OpenCLIP trains it."""

    size: int = 224
    """Side of the pictures, in pixels."""
    patch: int = 32
    """Side of a patch; a rest that fills no patch is left out."""
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    """Width of the MLP's hidden layer over `width`."""
    activation: Activation = "gelu"
    """OpenAI's weights take `quick_gelu`, some of SigLIP's `gelu_tanh`."""
    pool: Pool = "class"
    """`class`: the class token. `mean`: over the patches. `attention`: SigLIP's head."""
    class_token: bool = True
    pre_norm: bool = True
    """A norm before the first block."""
    patch_bias: bool = False
    projection: bool = True
    """A matrix to the shared space; without it `width` must be its dimension."""
    epsilon: float = NORM_EPSILON
    patch_dropout: float = 0.0
    """Share of the patches left out of each picture in training, in [0, 1) (FLIP, Li et al. 2023: half of them
    costs little accuracy and halves the time)."""

    def __post_init__(self) -> None:
        if not 1 <= self.patch <= self.size:
            raise ValueError(f"image.patch is {self.patch}; it must be from 1 to image.size {self.size}")
        if self.width % self.heads:
            raise ValueError(f"image.width {self.width} is not a multiple of image.heads {self.heads}")
        if self.layers < 1:
            raise ValueError(f"image.layers is {self.layers}; at least 1 is needed")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"image.activation {self.activation!r} is not one of {', '.join(ACTIVATIONS)}")
        if self.pool not in get_args(Pool):
            raise ValueError(f"image.pool {self.pool!r} is not one of {', '.join(get_args(Pool))}")
        if self.pool == "class" and not self.class_token:
            raise ValueError("image.pool is 'class' without image.class_token; set it, or pool by mean or attention")
        if not 0 <= self.patch_dropout < 1:
            raise ValueError(f"image.patch_dropout is {self.patch_dropout}; it must be at least 0 and below 1")

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.size // self.patch


class ViT(nn.Module):
    """Pictures -> a point of the shared space."""

    def __init__(self, config: ViTConfig, dim: int):
        super().__init__()
        if not config.projection and config.width != dim:
            raise ValueError(f"image.width {config.width} without a projection must be dim, which is {dim}")
        self.config = config
        width = config.width
        self.patches = nn.Conv2d(3, width, config.patch, config.patch, bias=config.patch_bias)
        self.class_token = nn.Parameter(torch.zeros(width)) if config.class_token else None
        self.position = nn.Parameter(torch.zeros(config.grid**2 + config.class_token, width))
        self.norm_pre = nn.LayerNorm(width, eps=config.epsilon) if config.pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.mlp_ratio, config.activation, config.epsilon)
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width, eps=config.epsilon)
        self.pool = (
            AttentionPool(width, config.heads, config.mlp_ratio, config.activation, config.epsilon)
            if config.pool == "attention"
            else None
        )
        self.projection = nn.Linear(width, dim, bias=False) if config.projection else nn.Identity()
        self.grad_checkpointing = False
        init_transformer(self, config.layers)
        if self.class_token is not None:
            nn.init.normal_(self.class_token, std=0.02)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping what it computed: less memory, more time."""
        self.grad_checkpointing = enable

    def embed(self, pixels: Tensor) -> Tensor:
        """Preprocessed pixels (B, 3, H, W) -> tokens before the first block (B, L, width), class token first.

        Of another size than the config's, the positions are interpolated.
        """
        b, _, height, width = pixels.shape
        p = self.config.patch
        rows, columns = height // p, width // p
        # A convolution whose stride is its kernel is a matrix product over patches, which also runs in int8.
        cells = pixels[:, :, : rows * p, : columns * p].reshape(b, 3, rows, p, columns, p)
        cells = cells.permute(0, 2, 4, 1, 3, 5).reshape(b, rows * columns, 3 * p * p)
        x = F.linear(cells, self.patches.weight.flatten(1), self.patches.bias)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(b, 1, -1).to(x.dtype), x], dim=1)
        return self.norm_pre(self._leave_out(x + self._positions(rows, columns)))

    def tokens(self, pixels: Tensor) -> Tensor:
        """Preprocessed pixels (B, 3, H, W) -> tokens after the last norm (B, L, width), class token first."""
        x = self.embed(pixels)
        for block in self.blocks:
            x = self._run(block, x)
        return self.norm(x)

    def features(self, pixels: Tensor) -> Tensor:
        """Preprocessed pixels (B, 3, H, W) -> pooled features (B, width)."""
        if self.config.pool == "class":
            x = self.embed(pixels)
            for block in self.blocks[:-1]:
                x = self._run(block, x)
            return self.norm(self._run(self.blocks[-1], x, x[:, :1])[:, 0])
        x = self.tokens(pixels)
        if self.pool is not None:
            return self.pool(x)
        return x[:, int(self.config.class_token) :].mean(1)

    def project(self, features: Tensor) -> Tensor:
        """Pooled features (B, width) -> (B, dim), not normalised."""
        return self.projection(features)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, dim), not normalised."""
        return self.project(self.features(pixels))

    def _run(self, block: nn.Module, x: Tensor, queries: Tensor | None = None) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, None, False, queries, use_reentrant=False)  # type: ignore[return-value]
        return block(x, queries=queries)

    def _positions(self, rows: int, columns: int) -> Tensor:
        grid, first = self.config.grid, int(self.config.class_token)
        if (rows, columns) == (grid, grid):
            return self.position
        cells = self.position[first:].T.view(1, -1, grid, grid)
        cells = F.interpolate(cells, (rows, columns), mode="bicubic", antialias=True, align_corners=False)
        return torch.cat([self.position[:first], cells[0].flatten(1).T])

    def _leave_out(self, x: Tensor) -> Tensor:
        """Patch dropout: another random choice of patches for each picture of a batch; the class token stays."""
        if not self.training or self.config.patch_dropout == 0:
            return x
        first = int(self.config.class_token)
        b, length, width = x.shape
        kept = max(1, round((length - first) * (1 - self.config.patch_dropout)))
        chosen = torch.rand(b, length - first, device=x.device).topk(kept).indices + first
        chosen = torch.cat([torch.zeros(b, first, dtype=chosen.dtype, device=x.device), chosen], dim=1)
        return x.gather(1, chosen[..., None].expand(-1, -1, width))
