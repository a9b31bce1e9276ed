"""Attention is the same numbers whichever way it goes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bahumukha.nn import dot_product
from bahumukha.nn.dot_product import attend


def tensors(dtype: torch.dtype, queries: int = 5, keys: int = 7) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3, n, 8).to(dtype).requires_grad_() for n in (queries, keys, keys)]


def out_and_gradients(form: str, dtype: torch.dtype, cast: bool, fused: bool) -> list[Tensor]:
    q, k, v = tensors(dtype, 7 if form == "causal" else 5)
    mask = torch.rand(2, 1, 1, 7, generator=torch.Generator().manual_seed(1)) > 0.3 if form == "mask" else None
    with torch.autocast("cpu", torch.bfloat16, enabled=cast):
        if fused:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=form == "causal")
        else:
            y = attend(q, k, v, mask, form == "causal")
    y.float().square().sum().backward()
    return [y.float(), *(each.grad.float() for each in (q, k, v))]


@pytest.mark.parametrize("form", ["plain", "mask", "causal"])
@pytest.mark.parametrize(("dtype", "cast"), [(torch.bfloat16, False), (torch.float32, True), (torch.float32, False)])
def test_as_pytorch_has_it(form: str, dtype: torch.dtype, cast: bool) -> None:
    """To a rounding of bfloat16; float32 takes PyTorch's way, to the bit."""
    exact = dtype == torch.float32 and not cast
    own, theirs = (out_and_gradients(form, dtype, cast, fused) for fused in (False, True))
    for mine, other in zip(own, theirs, strict=True):
        assert torch.equal(mine, other) if exact else torch.allclose(mine, other, atol=0.06, rtol=0.05)


def test_which_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products one by one for short sequences in bfloat16 that are gone back through, and never else."""
    fused = []
    whole = F.scaled_dot_product_attention
    monkeypatch.setattr(
        dot_product.F, "scaled_dot_product_attention", lambda *a, **k: fused.append(1) or whole(*a, **k)
    )
    attend(*tensors(torch.bfloat16))
    assert not fused
    attend(*tensors(torch.float32))
    with torch.no_grad():
        attend(*tensors(torch.bfloat16))
    attend(*(each.detach() for each in tensors(torch.bfloat16)))
    attend(*tensors(torch.bfloat16, keys=dot_product.SHORT + 1))
    assert len(fused) == 4
