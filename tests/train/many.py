"""Training runs on several processes of this machine, for the tests that compare them with one."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import torch
from torch import multiprocessing

from bahumukha.cli.train import KINDS
from bahumukha.train import processes
from bahumukha.train.config import read_config
from bahumukha.train.record import read_metrics

PRELOADED = [f"bahumukha.train.{kind.run[0]}" for kind in KINDS.values()] + ["bahumukha.train.sharding", __name__]


@dataclass(frozen=True)
class Job:
    """A run of a kind of model."""

    kind: str
    file: Path
    """Its config."""
    out: Path
    sets: tuple[str, ...] = ()
    resume: bool = False
    export: bool = False
    dies_after: int = 0
    """Leaves off after the report of this step, if it is not 0, without another checkpoint."""

    def below(self, folder: Path) -> Job:
        """The same run with its folder in another."""
        return replace(self, out=folder / self.out)

    def losses(self) -> list[dict[str, float]]:
        """Of each step, once it has run."""
        return [row["losses"] for row in read_metrics(self.out)]

    def run(self) -> None:
        """On as many processes as have joined."""
        run, training = (
            getattr(import_module(f"bahumukha.train.{module}"), name)
            for module, name in (KINDS[self.kind].run, KINDS[self.kind].settings)
        )
        begun = run(read_config(training, self.file, self.sets), self.out, resume=self.resume)
        for report in begun.reports():
            if report.step == self.dies_after:
                return
        model = begun.model
        assert not any(hasattr(p, "to_local") for p in model.parameters()), "still sharded"
        if self.export:
            begun.export()


def run_on(count: int, jobs: Sequence[Job]) -> None:
    """All jobs, one after another, on `count` processes, which are forked off one that has imported everything."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.set_forkserver_preload(PRELOADED)
    multiprocessing.start_processes(_one, (count, port, jobs), nprocs=count, start_method="forkserver")


def _one(rank: int, count: int, port: int, jobs: Sequence[Job]) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with processes.joined():
        assert processes.count() == count
        for job in jobs:
            job.run()
