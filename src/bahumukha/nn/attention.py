"""Transformer blocks: pre-norm attention and MLP (Vaswani et al. 2017; pre-norm as in GPT-2 and ViT)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head self-attention through PyTorch's fused `scaled_dot_product_attention`."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """x (B, L, width); mask bool, broadcastable to (B, heads, L, L), True where attention may look."""
        b, length, width = x.shape
        q, k, v = self.qkv(x).view(b, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (B, heads, L, d)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return self.out(y.transpose(1, 2).reshape(b, length, width))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0):
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """(B, L, width) -> (B, L, width)."""
        x = x + self.attention(self.norm_attention(x), mask, causal)
        return x + self.mlp(self.norm_mlp(x))


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


def padding_mask(mask: Tensor) -> Tensor:
    """(B, L) with 1 for tokens, 0 for padding -> bool (B, 1, 1, L) for `Attention`."""
    return mask.to(torch.bool)[:, None, None, :]
