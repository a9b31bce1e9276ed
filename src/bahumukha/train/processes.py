"""One run on several processes, one for each GPU or group of cores: who am I, and what do all of us agree on?

Started by `torchrun --nproc-per-node 2 -m bahumukha train …` or `accelerate launch`, which both set RANK, WORLD_SIZE,
MASTER_ADDR and MASTER_PORT. Alone, everything here is free: one process, nothing to wait for.

Every process draws its own part of one global batch and computes its part of one loss; `average_gradients` then gives
all of them the gradient of the whole. What a loss needs of the whole batch it asks for here (`gather`, `mean`), so that
the same batch gives the same losses however many share it. Norms of batches and dropout are each process's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

PATIENCE = timedelta(hours=12)
"""That processes wait for one that encodes pictures or draws a sheet; one that has died is the launcher's to notice."""


def are_several() -> bool:
    """Whether a group of processes has been joined (`joined`)."""
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if are_several() else 0


def count() -> int:
    """How many processes share the run."""
    return distributed.get_world_size() if are_several() else 1


def restarts() -> bool:
    """Whether the launcher starts all processes again when one has died, or another machine has joined
    (`torchrun --max-restarts`): the same command then goes on with the run that it began."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0


@contextmanager
def joined() -> Iterator[torch.device]:
    """Join the processes that a launcher started, if one did; yields the device of this process.

    NCCL between GPUs, gloo between CPUs.
    """
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or are_several():
        yield device
        return
    store, place, processes = _meeting()
    distributed.init_process_group(
        "nccl" if gpu else "gloo", store=store, rank=place, world_size=processes, timeout=PATIENCE
    )
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def _meeting() -> tuple[distributed.Store, int, int]:
    """Where the processes leave each other their addresses, the number of this one, and how many there are.

    A launcher that starts processes again keeps the place, with the addresses of those that died: each life has names
    of its own there.
    """
    store, place, processes = next(distributed.rendezvous("env://"))
    life = f"life {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')} of {processes}"
    return distributed.PrefixStore(life, store), place, processes


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(count())]
        distributed.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        gradient = gradient.contiguous().clone()
        distributed.all_reduce(gradient)  # what the losses of all processes say of these rows
        return gradient.chunk(count())[rank()]


def gather(x: Tensor) -> Tensor:
    """(n, …) of each process -> (n * processes, …) on all, in the order of their ranks; gradients flow back.

    The gradient of a row is the sum of what each process's loss asks of it, so that the mean of the parameters'
    gradients over the processes is that of the mean loss.
    """
    return _Gather.apply(x) if are_several() else x


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes, in one message; all must train the same parameters."""
    if not are_several():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    flat /= count()
    parts = flat.split([g.numel() for g in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


@torch.no_grad()
def mean(x: Tensor) -> Tensor:
    """A tensor's mean over the processes, without gradient; alone, the tensor itself."""
    if not are_several():
        return x
    x = x.detach().clone()
    distributed.all_reduce(x)
    return x / count()


def wait() -> None:
    """Until all processes have come here."""
    if are_several():
        distributed.barrier()


@contextmanager
def first_before_others(asked: bool = True) -> Iterator[None]:
    """The first process goes through the block, then all others: what it leaves on disk they need not make again.

    asked: without it, all at once.
    """
    if asked and rank() != 0:
        wait()
    try:
        yield
    finally:
        if asked and rank() == 0:
            wait()


def average(values: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """Means over the processes of numbers by name; all must bring the same names."""
    if not are_several() or not values:
        return dict(values)
    kind = torch.float32 if device.type == "mps" else torch.float64
    flat = torch.tensor(list(values.values()), dtype=kind, device=device)
    distributed.all_reduce(flat)
    return dict(zip(values, (flat / count()).tolist(), strict=True))


def largest(values: Iterable[float], device: torch.device) -> list[float]:
    """The largest of each number over the processes: a clock or a wish to stop on which all agree."""
    values = list(values)
    if not are_several():
        return values
    flat = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(flat, distributed.ReduceOp.MAX)
    return flat.tolist()


def everyones(value: Any) -> list[Any]:
    """A small Python object of each process, by rank."""
    if not are_several():
        return [value]
    values: list[Any] = [None] * count()
    distributed.all_gather_object(values, value)
    return values


@torch.no_grad()
def same_start(model: nn.Module) -> None:
    """Give every process the weights and buffers of the first."""
    if are_several():
        for tensor in model.state_dict().values():
            distributed.broadcast(tensor, 0)
