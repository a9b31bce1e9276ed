"""Embedding on Ray: the same ledger as from one process, whatever is killed on the way.

One cluster for the module; its processes import the package afresh, which is most of the time these tests take.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bahumukha import zoo
from bahumukha.errors import ModelError, ModelMismatch, PictureIndexError, UsageError
from bahumukha.search import IndexProgress, IndexReport, PictureIndex
from bahumukha.search.engines.ray import RayEngine
from bahumukha.search.places import open_store
from bahumukha.zoo.fake import COLOURS, ColourEncoder
from bench.postgres import MODULE, Server
from tests.search.indexing import SlowEncoder
from tests.search.packs import named, write_parquet, write_tar
from tests.search.pictures import fill
from tests.search.test_index import counts

ray = pytest.importorskip("ray")

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # what Ray, pandas and their threads warn of is not ours
]


@dataclass
class Cluster:
    """One on this machine, in processes that are not this one's children: what Ray leaves open is not ours."""

    address: str
    process: subprocess.Popen[bytes]

    def engine(self) -> RayEngine:
        return RayEngine(self.address, workers=2)

    def workers(self) -> dict[int, str]:
        """Process -> title of its workers; Ray titles them by what they run, or IDLE."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                title = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                of_cluster = os.getsid(int(process.name)) == self.process.pid
            except (OSError, ValueError):
                continue
            if of_cluster and title.startswith("ray::") and "Agent" not in title:
                found[int(process.name)] = title
        return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two cores and little memory; nothing is left behind, nothing reported."""
    # Ray's sockets have paths of at most 107 bytes: pytest's folders are too deep for them.
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    for attempt in range(4):
        started = _start(folder / str(attempt))
        if started is not None:
            break
    else:
        pytest.fail("Ray did not start: " + (folder / "3.log").read_text()[-2000:])
    try:
        yield started
    finally:
        _end(started.process)
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path) -> Cluster | None:
    """None when it gave up, as it does on a machine too busy to start it within 30 seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        "--head",
        "--block",
        "--disable-usage-stats",
        "--include-dashboard=false",
        "--num-cpus=2",
        f"--object-store-memory={80 << 20}",
        f"--port={port}",
        "--node-ip-address=127.0.0.1",
        f"--temp-dir={folder}",
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "disabled",  # listens on this machine alone; a token would be looked for in the user's home
        "RAY_worker_niceness": "0",  # at 15, as is usual, they starve beside other tests
    }
    command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", *options]
    with Path(f"{folder}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    while process.poll() is None:
        if b"Ray runtime started" in Path(f"{folder}.log").read_bytes():
            return Cluster(f"127.0.0.1:{port}", process)
        time.sleep(0.2)
    _end(process)
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for member in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(member.name)) == process.pid:
                os.kill(int(member.name), signal.SIGKILL)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A folder, two shards, a table and a store of pictures; some are broken."""
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("sources")
    fill(folder / "photos", 40)
    (folder / "photos" / "bad.jpg").write_bytes(b"no picture")
    for number in range(2):
        start = 100 + 20 * number
        write_tar(folder / f"s-{number}.tar", {**named(range(start, start + 20)), f"bad-{number}.png": b"none"})
    write_parquet(folder / "t.parquet", named(range(200, 220)))
    (folder / "store").mkdir()
    for name, data in named(range(300, 320)).items():
        (folder / "store" / name).write_bytes(data)
    return [
        f"{folder}/photos",
        f"{folder}/s-{{0..1}}.tar",
        f"{folder}/t.parquet",
        f"local://{folder}/store",
    ]


PICTURES, BROKEN = 120, 3


def rows(index: PictureIndex) -> list[tuple]:
    """All that the ledger says but numbers of rows, without embeddings, by path."""
    columns = "path, folder, name, size, mtime_ns, content, error, width, height, format, taken, camera, dhash"
    with open_store(index.path) as ledger:
        return ledger.select(f"SELECT {columns}, embedding IS NULL FROM files ORDER BY path")


def embeddings(index: PictureIndex) -> np.ndarray:
    with open_store(index.path) as ledger:
        found = ledger.select("SELECT embedding FROM files WHERE embedding IS NOT NULL ORDER BY path")
    matrix = np.stack([np.frombuffer(blob, "<f2").astype(np.float32) for (blob,) in found])
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def assert_same(index: PictureIndex, reference: PictureIndex) -> None:
    assert rows(index) == rows(reference)
    assert (embeddings(index) * embeddings(reference)).sum(axis=1).min() >= 0.9999


def during(
    cluster: Cluster, index: PictureIndex, sources: list[str], acts: dict[int, Callable[[], object]]
) -> IndexReport:
    """Index on Ray, and do something, once each, when so many pictures are there."""
    report, left = IndexReport(), dict(acts)
    for step in index.index_steps(sources, engine=cluster.engine()):
        if isinstance(step, IndexReport):
            report = step
        elif not step.is_listing and left and step.done >= min(left):
            left.pop(min(left))()
    assert not left
    return report


def test_two_workers_and_one_process_make_the_same_ledger(
    cluster: Cluster, sources: list[str], tiny_clip: Path, tmp_path: Path
) -> None:
    here = PictureIndex(tmp_path / "here.db", tiny_clip)
    there = PictureIndex(tmp_path / "there.db", tiny_clip)
    expected = here.index(sources)
    steps = list(there.index_steps(sources, engine=cluster.engine()))
    report = steps[-1]
    assert isinstance(report, IndexReport)
    assert counts(report) == counts(expected) == {"added": PICTURES, "failed": BROKEN}
    assert sorted(report.failed) == sorted(expected.failed)
    done = [step.done for step in steps if isinstance(step, IndexProgress) and not step.is_listing]
    assert done == list(range(1, PICTURES + BROKEN + 1))
    assert_same(there, here)
    for number in range(50):
        query = f"{list(COLOURS)[number % len(COLOURS)]} thing number {number}"
        one, other = here.search(query, top=20), there.search(query, top=20)
        assert [match.path for match in one] == [match.path for match in other]
        assert [match.score for match in one] == pytest.approx([match.score for match in other], abs=1e-4)
    again = there.index(sources, engine=cluster.engine())
    assert counts(again) == {"unchanged": PICTURES, "failed": BROKEN}


@pytest.fixture
def database() -> Iterator[str]:
    """The URL of an empty one."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    pytest.importorskip(MODULE, reason=f"{MODULE}, which carries the server, is not installed")
    with Server(settings={"fsync": "off"}) as server:
        yield server.new_database()


def test_command_into_a_database_and_one_process_into_a_file_make_the_same_ledger(
    cluster: Cluster, sources: list[str], tiny_clip: Path, tmp_path: Path, database: str
) -> None:
    here, there = PictureIndex(tmp_path / "here.db", tiny_clip), PictureIndex(database, tiny_clip)
    expected = here.index(sources)
    assert counts(expected) == {"added": PICTURES, "failed": BROKEN}

    def bahu_index() -> dict[str, Any]:
        options = ["--engine", "ray", "--address", cluster.address, "--store", database, "--model", tiny_clip, "--json"]
        command = [sys.executable, "-m", "bahumukha", "index", *sources, *options]
        ran = subprocess.run(command, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        assert "Traceback" not in ran.stderr and ran.stderr.count("\n") <= BROKEN + 1, ran.stderr
        return json.loads(ran.stdout) | {"seconds": 0}

    reports = [bahu_index(), expected.to_json() | {"seconds": 0}]
    for report in reports:
        report["failed"].sort(key=lambda each: each["path"])
    assert reports[0] == reports[1]
    assert_same(there, here)
    with open_store(here.path) as one, open_store(there.path) as other:
        assert one.roots() == other.roots() and one.packs() == other.packs() != []
        assert (one.model, one.fact("fingerprint")) == (other.model, other.fact("fingerprint"))
    packed = Path(sources[2]).parent / "s-1.tar"
    questions: list[dict[str, Any]] = [{"query": f"{colour} thing", "top": 20} for colour in COLOURS]
    questions += [
        {"query": "red", "folders": [packed], "where": "name ~ 1", "top": 20},
        {"query": "blue", "plus": ["0.5:green"], "minus": ["red"], "top": 20},
    ]
    for question in questions:
        ours, theirs = here.search(**question), there.search(**question)
        assert [match.path for match in theirs] == [match.path for match in ours] and ours, question
        assert [match.score for match in theirs] == pytest.approx([match.score for match in ours], abs=1e-4)
    ours, theirs = (index.similar(here.search("red")[0].path, top=20) for index in (here, there))
    assert [match.path for match in theirs] == [match.path for match in ours] and len(ours) == 20
    again = bahu_index()
    assert (again["added"], again["unchanged"], len(again["failed"])) == (0, PICTURES, BROKEN)


def test_killed_actor_and_killed_workers_cost_no_picture(cluster: Cluster, sources: list[str], tmp_path: Path) -> None:
    """kill -9 for an actor that encodes, and later for every process of the cluster that is not one."""
    reference = PictureIndex(tmp_path / "reference.db", ColourEncoder())
    reference.index(sources)
    killed: dict[int, str] = {}

    def kill(which: Callable[[str], bool], most: int) -> None:
        for pid, title in [each for each in cluster.workers().items() if which(each[1])][:most]:
            os.kill(pid, signal.SIGKILL)
            killed[pid] = title

    index = PictureIndex(tmp_path / "index.db", SlowEncoder(0.05))
    acts = {20: lambda: kill(is_actor, 1), 50: lambda: kill(lambda title: not is_actor(title), 9)}
    report = during(cluster, index, sources, acts)
    assert sum(map(is_actor, killed.values())) == 1 and len(killed) > 1, killed
    assert counts(report) == {"added": PICTURES, "failed": BROKEN}
    assert_same(index, reference)


def is_actor(title: str) -> bool:
    return "_Encode" in title


def test_run_stopped_by_ctrl_c_goes_on(cluster: Cluster, sources: list[str], tmp_path: Path) -> None:
    reference = PictureIndex(tmp_path / "reference.db", ColourEncoder())
    reference.index(sources)
    index = PictureIndex(tmp_path / "index.db", SlowEncoder(0.05))
    steps = index.index_steps(sources, engine=cluster.engine())
    pressed = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        for step in steps:
            if isinstance(step, IndexProgress) and not step.is_listing and step.done == 30:
                pressed.start()
    steps.close()
    had = sum(row[-1] == 0 for row in rows(index))
    assert 30 - BROKEN <= had < PICTURES
    report = index.index(sources, engine=cluster.engine())
    assert report.unchanged == had and report.added == PICTURES - had
    assert_same(index, reference)


class Damaged(ColourEncoder):
    """A model that cannot run."""

    def encode_each(self, items: Iterable, load: Callable) -> Iterator[tuple[Any, Any]]:
        raise ModelError("image.onnx is damaged")


def test_trouble_with_the_model_is_told_once_and_as_it_is(cluster: Cluster, sources: list[str], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="damaged"):
        PictureIndex(tmp_path / "a.db", Damaged()).index(sources, engine=cluster.engine())


def test_machine_with_another_model_is_refused(
    cluster: Cluster, sources: list[str], tiny_clip: Path, tmp_path: Path
) -> None:
    encoder = zoo.load(tiny_clip)
    encoder.fingerprint = "another"
    with pytest.raises(ModelMismatch, match="install the same on every machine"):
        PictureIndex(tmp_path / "a.db", encoder).index(sources, engine=cluster.engine())


def test_address_that_answers_nothing_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**_: object) -> None:
        raise ConnectionError("a stack\nof lines\nnobody is there")

    fill(tmp_path / "p", 2)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(PictureIndexError, match="--address 10.0.0.1:6379: cannot be reached.*nobody is there"):
        PictureIndex(tmp_path / "i.db", ColourEncoder()).index([tmp_path / "p"], engine=RayEngine("10.0.0.1:6379"))


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"bahumukha\[scale\]"):
        RayEngine()
