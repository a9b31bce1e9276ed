"""kill -9 at any moment, and two processes at once: the ledger comes out as if made in one go."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bahumukha.search import PictureIndex
from bahumukha.search import index as indexing
from bahumukha.search.store import Ledger
from bahumukha.zoo.fake import ColourEncoder
from tests.search.pictures import fill

PICTURES = 60
SECONDS_A_PICTURE = 0.02


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    fill(folder, PICTURES)
    return folder


def start(database: Path, photos: Path) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    command = [
        sys.executable,
        "-m",
        "tests.search.indexing",
        str(database),
        str(photos),
        str(SECONDS_A_PICTURE),
    ]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def content(database: Path) -> dict[bytes, tuple[bytes, np.ndarray]]:
    with Ledger(database) as ledger:
        assert ledger.select("PRAGMA integrity_check") == [("ok",)]
        rows = ledger.select("SELECT path, content, embedding FROM files")
    assert len({path for path, _, _ in rows}) == len(rows)
    return {path: (hash, np.frombuffer(blob, np.float16).astype(np.float32)) for path, hash, blob in rows}


def assert_same(database: Path, reference: dict[bytes, tuple[bytes, np.ndarray]]) -> None:
    found = content(database)
    assert {path: row[0] for path, row in found.items()} == {path: row[0] for path, row in reference.items()}
    for path, (_, vector) in found.items():
        other = reference[path][1]
        assert vector @ other / (np.linalg.norm(vector) * np.linalg.norm(other)) >= 0.9999


@pytest.fixture(scope="module")
def reference(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bytes, tuple[bytes, np.ndarray]]:
    database = tmp_path_factory.mktemp("whole") / "index.db"
    assert PictureIndex(database, ColourEncoder()).index([photos]).added == PICTURES
    return content(database)


def test_killed_at_ten_moments(photos: Path, reference: dict, tmp_path: Path) -> None:
    moments = random.Random(5)
    partly = 0
    for round in range(10):
        database = tmp_path / f"{round}.db"
        process = start(database, photos)
        try:
            if round:  # the first is killed anywhere in its start-up, the others once the ledger is there
                while not database.exists() and process.poll() is None:
                    time.sleep(0.01)
            time.sleep(moments.uniform(0, 1.2 * PICTURES * SECONDS_A_PICTURE))
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        if database.exists():
            with Ledger(database, create=True) as ledger:
                before = ledger.select("SELECT count(*) FROM files WHERE embedding IS NOT NULL")[0][0]
            partly += 0 < before < PICTURES
        else:
            before = 0
        report = PictureIndex(database, ColourEncoder()).index([photos])
        assert (report.added, report.unchanged) == (PICTURES - before, before)
        assert_same(database, reference)
    assert partly, "no kill fell between two batches, so nothing was tested"


def test_batches_are_small(photos: Path) -> None:
    """What a kill can cost, and what the test above rests on."""
    assert indexing.BATCH < PICTURES


def test_two_processes_at_once(photos: Path, reference: dict, tmp_path: Path) -> None:
    database = tmp_path / "index.db"
    processes = [start(database, photos) for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in processes]
    for process, (stdout, stderr) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, stderr
        assert sum(map(int, stdout.split())) == PICTURES and stderr == ""
    assert_same(database, reference)


def test_searching_while_indexing(photos: Path, tmp_path: Path) -> None:
    database = tmp_path / "index.db"
    process = start(database, photos)
    found = []
    try:
        while process.poll() is None:
            time.sleep(0.05)
            if database.exists():
                with Ledger(database, create=True) as ledger:
                    ready = ledger.select("SELECT 1 FROM files WHERE embedding IS NOT NULL LIMIT 1")
                if ready:
                    found.append(len(PictureIndex(database, ColourEncoder()).search("red", top=100)))
    finally:
        process.communicate()
    assert process.returncode == 0
    assert found == sorted(found) and found[-1] <= PICTURES
