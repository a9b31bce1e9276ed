"""Transformer blocks: pre-norm attention and MLP (Vaswani et al. 2017; pre-norm as in GPT-2 and ViT)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.nn.dot_product import attend

Activation = Literal["gelu", "quick_gelu", "gelu_tanh"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
NORM_EPSILON = 1e-5
"""PyTorch's own default, and CLIP's; SigLIP's is 1e-6."""


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x): what OpenAI trained CLIP with. Up to 0.02 from GELU, enough to spoil its weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise, any shape."""
        return x * torch.sigmoid(1.702 * x)


_MODULES: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "quick_gelu": QuickGELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
}


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, causal: bool = False, queries: Tensor | None = None
    ) -> Tensor:
        """x (B, L, width); mask bool, broadcastable to (B, heads, L, L), True where attention may look.

        With `queries` (B, Q, width) only those ask, of all of x, and the result is (B, Q, width).
        """
        b, length, width = x.shape if queries is None else queries.shape
        if queries is None:
            q, k, v = self.qkv(x).chunk(3, dim=-1)
        else:
            weight, bias = self.qkv.weight, self.qkv.bias
            q = F.linear(queries, weight[:width], bias[:width])
            k, v = F.linear(x, weight[width:], bias[width:]).chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))  # (B, heads, L, d)
        y = attend(q, k, v, mask, causal)
        return self.out(y.transpose(1, 2).reshape(b, length, width))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float = 4.0,
        activation: Activation = "gelu",
        epsilon: float = NORM_EPSILON,
    ):
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, eps=epsilon)
        self.attention = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width, eps=epsilon)
        self.mlp = mlp(width, mlp_ratio, activation)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, causal: bool = False, queries: Tensor | None = None
    ) -> Tensor:
        """(B, L, width) -> (B, L, width).

        `queries` (B, Q, width), rows of x: only they are computed, -> (B, Q, width). In a last block of which one
        row is used, that is the same result for a fraction of the work.
        """
        normed = self.norm_attention(x)
        if queries is None:
            x = x + self.attention(normed, mask, causal)
        else:
            x = queries + self.attention(normed, mask, queries=self.norm_attention(queries))
        return x + self.mlp(self.norm_mlp(x))


class AttentionPool(nn.Module):
    """One learned query looks at all tokens, then an MLP: SigLIP's head (Zhai et al. 2022, "Scaling Vision
    Transformers", appendix B: multihead attention pooling)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, activation: Activation, epsilon: float):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, width))
        self.attention = Attention(width, heads)
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.mlp = mlp(width, mlp_ratio, activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, width) -> (B, width)."""
        pooled = self.attention(x, queries=self.query.expand(len(x), 1, -1))
        return (pooled + self.mlp(self.norm(pooled)))[:, 0]


def mlp(width: int, ratio: float, activation: Activation) -> nn.Sequential:
    """Linear to `ratio` times the width, activation, Linear back."""
    hidden = round(width * ratio)
    return nn.Sequential(nn.Linear(width, hidden), _MODULES[activation](), nn.Linear(hidden, width))


def init_transformer(module: nn.Module, layers: int, std: float = 0.02) -> None:
    """Normal weights; projections back into the residual stream shrunk by sqrt(2 layers) (GPT-2)."""
    for name, parameter in module.named_parameters():
        if parameter.dim() < 2:
            continue
        residual = name.endswith(("attention.out.weight", "mlp.2.weight"))
        nn.init.normal_(parameter, std=std / (2 * layers) ** 0.5 if residual else std)
    for submodule in module.modules():
        if isinstance(submodule, nn.Linear) and submodule.bias is not None:
            nn.init.zeros_(submodule.bias)


def zeroed(*maps: nn.Linear | nn.Conv2d) -> None:
    """Weights and biases become 0."""
    for each in maps:
        nn.init.zeros_(each.weight)
        assert each.bias is not None
        nn.init.zeros_(each.bias)


def padding_mask(mask: Tensor) -> Tensor:
    """(B, L) with 1 for tokens, 0 for padding -> bool (B, 1, 1, L) for `Attention`."""
    return mask.to(torch.bool)[:, None, None, :]
