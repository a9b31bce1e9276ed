"""A model cut among the processes: FSDP2 (Zhao et al. 2023, "PyTorch FSDP: Experiences on Scaling Fully Sharded Data
Parallel"), for models that with their gradients and Adam's moments do not fit on one device.

Each process keeps 1/n of every weight, of its gradient, of the optimiser's state and of the running mean. A block of a
transformer is gathered when the pass reaches it and let go after it; the rest of the network is gathered for the step.
Files know nothing of it: checkpoints hold whole tensors under the model's own names, so a run is taken up by any number
of processes, with or without shards.

What stays whole on each process: single numbers (a temperature), and quantisers, which write into their codebook in the
forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from bahumukha.models.quantize import Quantizer
from bahumukha.train import processes
from bahumukha.train.parallel import Copies

BLOCKS = "blocks"
"""What our transformers call their list of blocks, each of which is gathered by itself."""


class _Stepped(nn.Module):
    """A step as the forward pass of a module, so that whatever part of the model it calls has its weights."""

    def __init__(self, model: nn.Module, step: Callable[[Any], dict[str, Tensor]]):
        super().__init__()
        self.model, self.of_batch = model, step

    def forward(self, batch: Any) -> dict[str, Tensor]:
        return self.of_batch(batch)


class Shards(Copies):
    """See above; answers as `Copies` does."""

    def __init__(self, model: nn.Module, step: Callable[[Any], dict[str, Tensor]]):
        """Cuts the model in place: its parameters are `DTensor`s from now on, under the same names."""
        super().__init__(model, step)
        device = next(model.parameters()).device
        mesh = init_device_mesh(device.type, (processes.count(),))
        kept = staying_whole(model)
        wrapper = _Stepped(model, step)
        for module in [*blocks_of(model), wrapper]:
            fully_shard(module, mesh=mesh, ignored_params=kept)
        self.step: Callable[[Any], dict[str, Tensor]] = wrapper
        self.wrapper = wrapper
        self.sharded = [module for module in wrapper.modules() if isinstance(module, FSDPModule)]

    @torch.no_grad()
    def finish_gradients(self, trained: Iterable[nn.Parameter], clip_norm: float) -> None:
        """See `Copies`; gradients of what is sharded are means already, each process having its part of them."""
        gradients = [p.grad for p in trained if p.grad is not None]
        parts = [g.to_local() for g in gradients if isinstance(g, DTensor)]
        processes.average_gradients(p for p in trained if not isinstance(p, DTensor))
        whole = [g for g in gradients if not isinstance(g, DTensor)]
        if not clip_norm or not gradients:
            return
        squares = processes.count() * processes.mean(_squares(parts, gradients[0])) + _squares(whole, gradients[0])
        factor = (clip_norm / (squares.sqrt() + 1e-6)).clamp(max=1.0)  # as nn.utils.clip_grad_norm_ has it
        torch._foreach_mul_([*parts, *whole], factor)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """See `Copies`. Nothing in the block waits for another process."""
        for module in self.sharded:
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()
        try:
            yield
        finally:
            for module in self.sharded:
                module.reshard()
                module.set_reshard_after_forward(module is not self.wrapper, recurse=False)

    def gathered(self, state: Any) -> Any:
        """See `Copies`. One tensor at a time is whole on the others than the first."""
        if isinstance(state, DTensor):
            tensor = _whole(state)
            return tensor.cpu() if processes.rank() == 0 else None
        if isinstance(state, dict):
            return {name: self.gathered(each) for name, each in state.items()}
        return [self.gathered(each) for each in state] if isinstance(state, list) else state

    def scattered(self, state: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Copies`."""
        return {name: part_of(tensor, like[name]) if name in like else tensor for name, tensor in state.items()}

    def scatter_optimizer(self, optimizer: Any) -> None:
        """See `Copies`."""
        for each in getattr(optimizer, "parts", (optimizer,)):
            for parameter, values in each.state.items():
                for name, value in values.items():
                    if isinstance(value, Tensor) and value.shape == parameter.shape:
                        values[name] = part_of(value, parameter)

    def end(self) -> None:
        """See `Copies`. Everything FSDP2 hung on the modules is taken off again."""
        whole = {name: _whole(tensor) for name, tensor in self.model.named_parameters()}
        for module in self.sharded:
            for hooks in (
                module._forward_pre_hooks,
                module._forward_hooks,
                module._state_dict_pre_hooks,
                module._load_state_dict_pre_hooks,
            ):
                hooks.clear()
            module.__class__ = type(module).__mro__[2]  # FSDPBlock(FSDPModule, Block) -> Block
        for name, tensor in whole.items():
            parent, _, last = name.rpartition(".")
            owner, before = self.model.get_submodule(parent), self.model.get_parameter(name)
            owner._parameters[last] = nn.Parameter(tensor, requires_grad=before.requires_grad)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """All blocks of all transformers in a model, each called as a module."""
    lists = (m for name, m in model.named_modules() if name.rpartition(".")[2] == BLOCKS)
    return [block for each in lists if isinstance(each, nn.ModuleList) for block in each]


def staying_whole(model: nn.Module) -> set[nn.Parameter]:
    """What is not cut; see above."""
    quantizers = [module for module in model.modules() if isinstance(module, Quantizer)]
    single = (p for p in model.parameters() if p.dim() == 0)
    return {*single, *(p for quantizer in quantizers for p in quantizer.parameters())}


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, which every process has -> this process's part of it, if `like` is sharded."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def _squares(gradients: list[Tensor], like: Tensor) -> Tensor:
    """Sum of all squares, a scalar."""
    norms = torch._foreach_norm(gradients) if gradients else [torch.zeros((), device=like.device)]
    return torch.stack([norm.float() for norm in norms]).square().sum()
