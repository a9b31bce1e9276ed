"""The same global batch gives the same losses on one, two and four processes, whole or sharded; a run moves between
them; one that loses a process goes on by itself."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch

from bahumukha import cli
from bahumukha.cli.train import _begun
from bahumukha.data import encoded
from bahumukha.data.lanes import open_lanes, own_lanes
from bahumukha.data.pairs import SourceConfig
from bahumukha.data.views import ViewConfig
from bahumukha.errors import UsageError
from bahumukha.train import loop
from bahumukha.zoo.dalle import load_dalle
from tests.cli import test_train_cli, test_train_dalle_cli, test_train_unclip_cli, test_train_vqgan_cli
from tests.tiny_unclip import make_clip
from tests.train.drawings import tiny_codec, write_codec, write_drawings
from tests.train.many import Job, run_on
from tests.train.shapes import write_folder, write_shards

COUNTS = (1, 2, 4)
STEPS = 4
CRITIC = """
[critic]
weight = 0.05
start = 0.3
warmup = 0.2
ramp = 0.3
network = { width = 8, layers = 1, norm = "none" }
"""
KINDS = ("clip", "lanes", "vqgan", "dalle", "prior", "decoder", "upsampler")
ON_FOUR = KINDS[:4]
"""Of the others two tell as much: their random numbers are drawn in one place."""
COMPARED = [(name, 2) for name in KINDS] + [(name, 4) for name in ON_FOUR]
SHARDED = ("clip", "dalle", "vqgan", "muon")
CLOSE = 2e-4
"""Of losses: sums in another order, and what Adam makes of them in a few steps."""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    """A run of each kind, in a folder of its name."""
    root = tmp_path_factory.mktemp("many")
    write_drawings(root / "data")
    write_codec(root / "codec")
    make_clip(root / "clip")
    shapes, shards = write_folder(root / "shapes"), write_shards(root / "shards")
    found = {}
    for name in ("clip", "lanes", "vqgan", "dalle", "unclip"):
        (root / "configs" / name).mkdir(parents=True)
    configs = root / "configs"
    quick = (
        "optimisation.warmup_steps=0", "optimisation.learning_rate=1e-3", "optimisation.precision=float32",
    )  # fmt: skip
    file = test_train_cli.config(configs / "clip", shapes, steps=STEPS)
    found["clip"] = Job("clip", file, Path("clip"), quick)
    file = test_train_cli.config(configs / "lanes", shards, steps=STEPS)
    found["lanes"] = Job("clip", file, Path("lanes"), (*quick, "batch.lanes=4"))
    batch = "[batch]\nsizes = [16, 32]\npictures = [8, 4]\nshares = [1, 1]\n"
    file = test_train_vqgan_cli.config(configs / "vqgan", shapes, f"average = 0.9\n{CRITIC}", steps=STEPS, batch=batch)
    found["vqgan"] = Job("vqgan", file, Path("vqgan"), quick)
    file = test_train_dalle_cli.config(configs / "dalle", root, steps=STEPS)
    found["dalle"] = Job("dalle", file, Path("dalle"), (*quick, "optimisation.average=0.9", "batch.drop_codes=0.5"))
    for kind in ("prior", "decoder", "upsampler"):
        file = test_train_unclip_cli.config(configs / "unclip", root, kind, steps=STEPS)
        more = (f"sketches.codec={root / 'codec'}", "sketches.noise=[0.5, 0.9]") if kind == "decoder" else ()
        found[kind] = Job(kind, file, Path(kind), (*quick, *more))
    found["muon"] = Job(
        "dalle", found["dalle"].file, Path("muon"), (*found["dalle"].sets, "optimisation.optimizer=muon")
    )
    return found


@pytest.fixture(scope="module")
def root(jobs: dict[str, Job], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1/, 2/ and 4/, the runs on so many processes; fsdp/, on two that share every weight; moved/, begun on those two
    and gone on with by four, each with the whole."""
    root = tmp_path_factory.mktemp("runs")
    for count in COUNTS:
        todo = [jobs[name].below(root / str(count)) for name in (ON_FOUR if count == 4 else KINDS)]
        if count == 1:
            todo.append(jobs["muon"].below(root / "1"))
        if count == 2:
            todo += [sharded(jobs[name]).below(root / "fsdp") for name in SHARDED]
            often = ("optimisation.checkpoint_minutes=0",)
            todo.append(replace(sharded(jobs["dalle"], *often), out=root / "moved", dies_after=STEPS - 1))
        if count == 4:
            assert torch.load(root / "moved/checkpoint.pt", weights_only=True)["step"] == STEPS - 2
            todo.append(replace(jobs["dalle"], out=root / "moved", resume=True))
        run_on(count, todo)
    return root


def sharded(job: Job, *sets: str) -> Job:
    return replace(job, sets=(*job.sets, *sets, "optimisation.parallel=fsdp"), export=job.kind == "dalle")


def assert_same(ours: Job, theirs: Job) -> None:
    one, other = ours.losses(), theirs.losses()
    assert len(one) == len(other) == STEPS
    for step, (mine, its) in enumerate(zip(one, other, strict=True), 1):
        assert mine == pytest.approx(its, rel=CLOSE, abs=CLOSE), step


@pytest.mark.parametrize(("name", "count"), COMPARED)
def test_so_many_processes_have_the_losses_of_one(jobs: dict[str, Job], root: Path, name: str, count: int) -> None:
    alone = jobs[name].below(root / "1")
    assert_same(alone, jobs[name].below(root / str(count)))
    losses = [row["loss"] for row in alone.losses()]
    assert len(set(losses)) == STEPS  # it moves: what is compared is not one forward pass


@pytest.mark.parametrize("name", SHARDED)
def test_shards_have_the_losses_of_copies(jobs: dict[str, Job], root: Path, name: str) -> None:
    assert_same(jobs[name].below(root / "1"), jobs[name].below(root / "fsdp"))


@pytest.mark.parametrize("name", ["dalle", "vqgan"])
def test_a_checkpoint_of_shards_is_that_of_one_process(jobs: dict[str, Job], root: Path, name: str) -> None:
    """The same names, shapes and numbers: weights, moments of the optimiser and the mean."""
    alone, shards = (torch.load(root / each / name / "checkpoint.pt", weights_only=True) for each in ("1", "fsdp"))
    assert shards.keys() == alone.keys()
    for part in (lambda state: state["model"], lambda state: state["mean"]["mean"]):
        one, other = part(alone), part(shards)
        assert one.keys() == other.keys()
        assert all(torch.allclose(one[key].float(), other[key].float(), atol=1e-3) for key in one)
    one, other = alone["optimizer"], shards["optimizer"]
    assert one["param_groups"] == other["param_groups"] and one["state"].keys() == other["state"].keys()
    for number, values in one["state"].items():
        assert all(torch.allclose(value, other["state"][number][key], atol=1e-3) for key, value in values.items())


def test_a_model_of_shards_comes_back(jobs: dict[str, Job], root: Path) -> None:
    model = load_dalle(root / "fsdp/dalle/model").model
    mean = torch.load(root / "1/dalle/checkpoint.pt", weights_only=True)["mean"]["mean"]
    assert all((tensor - mean[name]).abs().max() < 2e-3 for name, tensor in model.state_dict().items())


def test_a_run_of_two_with_shards_goes_on_with_four_that_have_the_whole(jobs: dict[str, Job], root: Path) -> None:
    assert_same(jobs["dalle"].below(root / "1"), replace(jobs["dalle"], out=root / "moved"))


# --- lanes


def test_a_process_opens_the_shards_of_its_lanes_alone(tmp_path: Path) -> None:
    config = SourceConfig(write_shards(tmp_path / "shards"))
    whole = [[caption for i in range(len(s)) for caption in s.captions(i)[""]] for s in open_lanes(config, range(4), 4)]
    assert [len(lane) for lane in whole] == [16] * 4 and len({text for lane in whole for text in lane}) == 64
    for gone in (0, 2):
        (tmp_path / f"shards/shapes-{gone:03d}.tar").write_bytes(b"not a tar file")
    own = open_lanes(config, range(1, 2), 2)  # shards 1 and 3
    assert [len(lane) for lane in own] == [32]
    with pytest.raises(UsageError, match="4 shards are too few for batch.lanes = 8"):
        open_lanes(config, range(8), 8)


def test_lanes_of_a_table_part_it(tmp_path: Path) -> None:
    config = SourceConfig(write_folder(tmp_path / "shapes"))
    lanes = open_lanes(config, range(3), 3)
    assert [len(lane) for lane in lanes] == [22, 21, 21]
    texts = [lane.captions(i)[""][0] for lane in lanes for i in range(len(lane))]
    assert len(set(texts)) == 64 and lanes[1].open(0, 48).size == (48, 48)
    with pytest.raises(UsageError, match="64 pictures are too few for batch.lanes = 65"):
        open_lanes(config, range(65), 65)


def test_lanes_must_fit() -> None:
    assert own_lanes(4, 8, 1, 2) == range(2, 4)
    for lanes, size, parts, message in ((3, 8, 1, "must divide batch.size"), (2, 8, 4, "must be a multiple of 4")):
        with pytest.raises(UsageError, match=message):
            own_lanes(lanes, size, 0, parts)


# --- sharing what comes before the first step


def test_processes_encode_parts_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once, as threads; each part is made by one of them, and both read the same file."""
    monkeypatch.setattr(encoded, "PART", 5)
    source = SourceConfig(write_drawings(tmp_path / "data"))
    made: dict[int, list[int]] = {0: [], 1: []}
    barrier, codec = Barrier(2), tiny_codec()

    class Counted(encoded.Encoder):
        number = 0

        def encode(self, pixels: np.ndarray) -> np.ndarray:
            made[self.number].append(len(pixels))
            return super().encode(pixels)

    def wait() -> None:
        barrier.wait(60)

    def one(number: int) -> np.ndarray:
        encoder = Counted(codec, 16, ViewConfig(count=1))
        object.__setattr__(encoder, "number", number)
        share = encoded.Share(number, 2, wait)
        return np.array(encoded.encoded_pictures(source, encoder, tmp_path / "cache", share=share).rows)

    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(one, (0, 1)))
    alone = encoded.encoded_pictures(source, encoded.Encoder(codec, 16, ViewConfig(count=1)), tmp_path / "alone")
    assert made == {0: [5, 5, 4], 1: [5, 5]}
    assert np.array_equal(rows[0], alone.rows) and np.array_equal(rows[1], alone.rows)


# --- a process that dies


def test_only_a_launcher_that_starts_again_goes_on_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_MAX_RESTARTS", raising=False)
    (tmp_path / "checkpoint.pt").write_bytes(b"")
    assert not _begun(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "0")
    assert not _begun(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")
    assert _begun(tmp_path) and not _begun(tmp_path / "other")


def lives_twice(file: Path, out: Path, sets: tuple[str, ...]) -> None:
    """One of two processes of `torchrun --max-restarts 1`; the second is killed at its third step, once."""
    torch.set_num_threads(1)
    life, rank, take_step = os.environ["TORCHELASTIC_RESTART_COUNT"], os.environ["RANK"], loop._Run.take_step

    def watched(self: loop._Run, *rest: Any) -> bool:
        if (life, rank) == ("0", "1") and self.step == STEPS - 2:
            os.kill(os.getpid(), signal.SIGKILL)
        with (out.parent / f"{life}-{rank}").open("a") as file:
            file.write(f"{self.step} ")
        return take_step(self, *rest)

    loop._Run.take_step = watched  # type: ignore[method-assign, assignment]
    spread = [word for each in (*sets, "optimisation.checkpoint_minutes=0") for word in ("--set", each)]
    with pytest.raises(SystemExit) as leaving:
        cli.main(["train", "vqgan", str(file), "--out", str(out), *spread])
    assert not leaving.value.code


@pytest.mark.slow
def test_a_run_that_loses_a_process_goes_on_from_its_checkpoint(
    jobs: dict[str, Job], root: Path, tmp_path: Path
) -> None:
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    launch = LaunchConfig(
        1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="localhost:0", run_id="dies", max_restarts=1,
        start_method="forkserver",
    )  # fmt: skip
    job = replace(jobs["vqgan"], out=tmp_path / "run")
    kinds = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    before = {kind: signal.getsignal(kind) for kind in kinds}
    try:
        elastic_launch(launch, lives_twice)(job.file, job.out, job.sets)
    finally:  # the launcher leaves its own, which are in the way of tests that press Ctrl-C
        for kind, handler in before.items():
            signal.signal(kind, handler)
    assert_same(jobs["vqgan"].below(root / "1"), job)
    assert (job.out / "model/config.json").exists()
    assert json.loads((job.out / "loop.json").read_text())["step"] == STEPS
    assert (tmp_path / "0-1").read_text() == "0 1 "
    assert (tmp_path / "1-0").read_text() in ("2 3 ", "1 2 3 "), "from the last checkpoint, not from the beginning"
