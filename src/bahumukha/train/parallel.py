"""How several processes share a model: each holds a copy of it, or (`train.sharding`) a part of every weight.

Either way each process computes the losses of its own rows of one global batch, and the gradient that is followed is
the mean over the processes, which is that of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

from torch import Tensor, nn

from bahumukha.train import processes

Parallel = Literal["ddp", "fsdp"]


class Copies:
    """As DistributedDataParallel, without wrapping the model: `step` may call any part of it. Alone, all of it is free.

    What `train.loop` asks for; `train.sharding.Shards` answers the same.
    """

    def __init__(self, model: nn.Module, step: Callable[[Any], dict[str, Tensor]]):
        """All processes start from the weights of the first."""
        processes.same_start(model)
        self.model, self.step = model, step

    def finish_gradients(self, trained: Iterable[nn.Parameter], clip_norm: float) -> None:
        """After the backward pass: means over the processes, and no longer than `clip_norm`, where it is not 0."""
        trained = list(trained)
        processes.average_gradients(trained)
        if clip_norm:
            nn.utils.clip_grad_norm_(trained, clip_norm)

    def whole(self) -> AbstractContextManager[None]:
        """Inside the block each process holds the whole model, to be judged; it is not trained there."""
        return nullcontext()

    def gathered(self, state: Any) -> Any:
        """The state of a model, an optimiser or a mean -> the same with whole tensors, as files hold it. To be called
        by all processes; only the first gets it."""
        return state

    def scattered(self, state: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
        """Inverse of `gathered`, for tensors by name; `like`: of the same names, as this process holds them."""
        return state

    def scatter_optimizer(self, optimizer: Any) -> None:
        """Of an optimiser that whole tensors were loaded into."""

    def end(self) -> None:
        """The model is a plain one again, whole on every process."""


def shared_as(kind: Parallel, model: nn.Module, step: Callable[[Any], dict[str, Tensor]]) -> Copies:
    """Sharded where that is asked for and there is more than one process to share."""
    if kind == "fsdp" and processes.are_several():
        from bahumukha.train.sharding import Shards

        return Shards(model, step)
    return Copies(model, step)
