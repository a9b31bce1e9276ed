"""Tensors of a `model.safetensors` that take less than they are: float16, and int8 with one scale a row.

NAME        int8 (N, width)
NAME.scale  float32 (N, 1); the tensor is their product
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor

SCALE = ".scale"


def quantize_rows(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 matrix -> int8 and float32 scales so that int8 * scale is near it; one scale along `axis`."""
    scale = np.abs(values).max(axis=axis, keepdims=True) / 127
    scale = np.where(scale == 0, 1, scale).astype(np.float32)
    return np.clip(np.rint(values / scale), -127, 127).astype(np.int8), scale


def with_int8_rows(state: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """A state dict with the matrices `names` in int8 and their scales beside them."""
    small = dict(state)
    for name in names:
        rows, scale = quantize_rows(state[name].float().numpy(), axis=1)
        small |= {name: torch.from_numpy(rows), name + SCALE: torch.from_numpy(scale)}
    return small


def restored(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `with_int8_rows` or float16 made small, in float32 under its own name; all else as it is."""
    full = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    for name, value in state.items():
        if value.dtype == torch.int8 and name + SCALE in state:
            full[name] = value * full.pop(name + SCALE)
    return full
