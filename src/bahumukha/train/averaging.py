"""The running mean of the weights (EMA), which scores better than the last step's (Polyak and Juditsky, 1992).

    mean <- d_t mean + (1 - d_t) weights,   d_t = min(decay, (1 + t) / (10 + t))

The warm-up of d_t keeps the random start from weighing on a short run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightMean:
    """A copy of a model's parameters and buffers, moved a little towards the model at each step."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.updates = 0
        self.mean = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def decay_now(self) -> float:
        """d_t of the next update."""
        return min(self.decay, (1 + self.updates) / (10 + self.updates))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights of one more step; whole numbers (counters) are copied. Of sharded weights each process
        has the mean of its own part."""
        weight = 1 - self.decay_now()
        self.updates += 1
        means, values = [], []
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                means.append(_own(self.mean[name]))
                values.append(_own(tensor))
            else:
                self.mean[name].copy_(tensor)
        torch._foreach_lerp_(means, values, weight)

    @contextmanager
    def swapped_in(self, model: nn.Module) -> Iterator[None]:
        """The model holds the mean inside the block, and its own weights again after it."""
        own = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(self.mean)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state_dict(self) -> dict[str, Tensor | int | dict[str, Tensor]]:
        """For a checkpoint."""
        return {"updates": self.updates, "mean": self.mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.updates = state["updates"]
        for name, tensor in state["mean"].items():
            self.mean[name].copy_(tensor)


def _own(tensor: Tensor) -> Tensor:
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor  # a DTensor, of `train.sharding`
