"""Two processes with half the batch each have the gradient of one process with the whole."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
from torch import multiprocessing

from bahumukha.data.batches import Batch
from bahumukha.images import Preprocess
from bahumukha.train import processes
from bahumukha.train.clip_config import LossConfig
from bahumukha.train.objective import ClipObjective
from tests.train.test_objective import SIZE, TOKENIZER, batch_of, gradient, tiny_clip

CASES = [(kind, local, parts) for kind in ("clip", "siglip") for local in (True, False) for parts in (1, 2)]


def half(batch: Batch, rank: int) -> Batch:
    rows = slice(rank * 8, rank * 8 + 8)
    return Batch(0, batch.pixels[rows], batch.texts[rows], None)


def one_of_two(rank: int, port: int, folder: Path) -> None:
    """Runs in a process of its own: all cases, the gradients written down."""
    import os

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    found = {}
    with processes.joined():
        assert (processes.rank(), processes.count()) == (rank, 2)
        for kind, local, parts in CASES:
            model = tiny_clip(kind).train()
            loss = LossConfig(kind, local=local)  # type: ignore[arg-type]
            step = ClipObjective(model, TOKENIZER, Preprocess(SIZE, SIZE), loss, parts)
            losses = step(half(batch_of(16), rank))
            losses["loss"].backward()
            processes.average_gradients(model.parameters())
            means = processes.average({"loss": float(losses["loss"].detach())}, torch.device("cpu"))
            gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
            found[f"{kind} {local} {parts}"] = {"loss": torch.tensor(means["loss"])} | gradients
        assert processes.largest([float(rank), 5.0 - rank], torch.device("cpu")) == [1.0, 5.0]
        assert processes.everyones(rank) == [0, 1]
        model = torch.nn.Linear(2, 2)
        torch.nn.init.constant_(model.weight, rank)
        processes.same_start(model)
        assert float(model.weight.sum()) == 0
    torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, torch.Tensor]]]:
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(one_of_two, (port, folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize(("kind", "local", "parts"), CASES)
def test_gradients_are_those_of_one_process(two: list, kind: str, local: bool, parts: int) -> None:
    loss, alone = gradient(tiny_clip(kind).train(), kind, 1)
    for rank in (0, 1):
        shared = two[rank][f"{kind} {local} {parts}"]
        assert torch.allclose(shared.pop("loss").float(), loss, atol=1e-5)
        assert set(shared) == set(alone)
        for name, expected in alone.items():
            assert torch.allclose(shared[name], expected, atol=1e-5), (rank, name)


def test_alone_nothing_is_asked_of_others() -> None:
    x = torch.randn(3, 2)
    assert processes.gather(x) is x
    assert (processes.rank(), processes.count(), processes.are_several()) == (0, 1, False)
    assert processes.largest([2.0], torch.device("cpu")) == [2.0] and processes.everyones("a") == ["a"]
