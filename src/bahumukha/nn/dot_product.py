"""Scaled dot-product attention by whatever way is fastest (Vaswani et al. 2017).

PyTorch's fused kernel for processors is made for long sequences: going back through it in bfloat16 takes a short one
four to twelve times as long as three matrix products (64 x 4 heads, 96 tokens of 64 numbers, forward and back on one
core with AVX-512 BF16: 61 ms and 14.5; 280 x 4 heads, 12 tokens: 62 and 7).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SHORT = 512
"""Most tokens that are looked at for the products to be taken one by one: their table of weights is kept for the way
back."""


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """softmax(q k^T / sqrt(d)) v: q (…, L, d), k and v (…, S, d) -> (…, L, d).

    mask: bool, broadcastable to (…, L, S), True where attention may look. causal: query i looks at keys 0 to i only;
    not with a mask.
    """
    back = torch.is_grad_enabled() and q.requires_grad
    if not (back and k.shape[-2] <= SHORT and _in_bfloat16_on_a_processor(q)):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ v


def _in_bfloat16_on_a_processor(x: Tensor) -> bool:
    """Whether products with x are: by its own numbers, or because autocast makes them so."""
    if x.device.type != "cpu":
        return False
    casts = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return casts or x.dtype == torch.bfloat16
