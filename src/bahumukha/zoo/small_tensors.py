"""Tensors of a `model.safetensors` that take less than they are: float16, and int8 with one scale a row.

NAME        int8 (N, width)
NAME.scale  float32 (N, 1); the tensor is their product
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from bahumukha.zoo.storage import quantize_rows

SCALE = ".scale"


def with_int8_rows(state: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """A state dict with the matrices `names` in int8 and their scales beside them."""
    small = dict(state)
    for name in names:
        rows, scale = quantize_rows(state[name].float().numpy(), axis=1)
        small |= {name: torch.from_numpy(rows), name + SCALE: torch.from_numpy(scale)}
    return small


def restored(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `with_int8_rows` or float16 made small, in float32 under its own name; all else as it is."""
    scales = {name.removesuffix(SCALE): value for name, value in state.items() if name.endswith(SCALE)}
    scales = {name: value for name, value in scales.items() if name in state and state[name].dtype == torch.int8}
    own = {name: value for name, value in state.items() if name.removesuffix(SCALE) not in scales or name in scales}
    return {name: _float32(value) * scales[name] if name in scales else _float32(value) for name, value in own.items()}


def _float32(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() or value.dtype == torch.int8 else value
