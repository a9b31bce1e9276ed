"""Which numbers matrix products are computed in: float32, or bfloat16 where the processor multiplies it in hardware."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]
"""`auto`: bfloat16 where `bfloat16_is_fast`, else float32."""


def bfloat16_is_fast() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; elsewhere autocast is many times slower."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def autocast(precision: Precision, device: str = "cpu") -> AbstractContextManager[Any]:
    """Inside, matrix products and convolutions are computed in `precision`; it may be entered again and again.

    Weights stay float32; what leaves a network may be bfloat16.
    """
    fast = bfloat16_is_fast() if precision == "auto" else precision == "bfloat16"
    return torch.autocast(device, torch.bfloat16) if fast else nullcontext()
