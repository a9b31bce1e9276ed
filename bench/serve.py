"""`bahu serve` over 100,000 pictures: how soon the first page is there, how long answers take, how soon a cancel works.

Each figure stands beside its bar. Pictures are empty files, and embeddings random ones in clusters: all that a search
does is done, and no thumbnail is made.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.searching import clustered

RATE = 20.0
"""Requests a second."""
WORDS = "red blue old small two dog cat beach snow people boat tree night street dancing asleep happy broken".split()
FIRST_PAGE, MEDIAN, SLOWEST, CANCELLED, PREVIEWS = 1.5, 40.0, 150.0, 2.0, 2.0
"""Bars: seconds; milliseconds of the 50th and of the 99th of a hundred answers; seconds; previews a second."""

WATCHED = 5.0
"""Seconds for which a painting is looked at."""


def loaded(photos: Path | None = None, count: int = 100_000, requests: int = 10_000) -> None:
    """Start the server, look at the first page, search at a steady rate for ever new sentences, cancel a painting."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, ledger = Path(scratch) / "photos", Path(scratch) / "index.db"
        make_index(folder, ledger, count)
        starts = []
        for _ in range(3):
            with server(folder, ledger) as (address, started):
                urllib.request.urlopen(address).read()
                starts.append(time.perf_counter() - started)
        _row(
            f"first page after the start, {count:,} pictures, the slowest of {len(starts)}",
            max(starts),
            "s",
            FIRST_PAGE,
        )
        with server(folder, ledger) as (address, started):
            _call(address, "pictures?limit=60")
            _row("the newest pictures after the start", time.perf_counter() - started, "s")
            asyncio.run(ask(address, 60, seed=0))
            times, lost = asyncio.run(ask(address, requests, seed=1))
            milliseconds = np.array(times or [np.inf]) * 1e3
            print(f"  {requests:,} searches at {RATE:.0f} a second over {count:,} pictures:", flush=True)
            for share, bar in ((50, MEDIAN), (90, None), (99, SLOWEST), (100, None)):
                _row(f"  p{share}", float(np.percentile(milliseconds, share)), "ms", bar)
            _row("  lost", lost, "", 0)
            cancelling(address)


def cancelling(address: str, rounds: int = 5) -> None:
    """Cancel paintings of sentences in the middle, and see when the next job begins: then the old one is over."""
    waits, previews, steps = [], [], []
    for k in range(rounds):
        first = _call(address, "generate", {"prompt": "a red fox in the snow", "quality": "draft", "seed": k})
        second = _call(address, "generate", {"prompt": "a lighthouse", "quality": "draft", "seed": k})
        begun = _until(address, first["id"], lambda job: job["preview"])
        seen, asked = {begun["preview"]}, time.perf_counter()
        while time.perf_counter() - asked < WATCHED:
            seen.add(_call(address, f"jobs/{first['id']}")["preview"])
            time.sleep(0.05)
        took = time.perf_counter() - asked
        steps.append((_call(address, f"jobs/{first['id']}")["step"] - begun["step"]) / took)
        previews.append((len(seen) - 1) / took)
        started = time.perf_counter()
        _call(address, f"jobs/{first['id']}/cancel", {})
        _until(address, second["id"], lambda job: job["state"] != "queued")
        waits.append(time.perf_counter() - started)
        _call(address, f"jobs/{second['id']}/cancel", {})
    _row(f"a cancelled painting is over, the slowest of {rounds}", max(waits), "s", CANCELLED)
    # Half a preview less is one that fell outside the seconds in which they were counted.
    bar = min(median(steps), PREVIEWS) - 0.5 / WATCHED
    _row(f"previews of it, at {median(steps):.1f} steps a second", median(previews), "a second", bar, at_least=True)


def make_index(folder: Path, ledger: Path, count: int) -> None:
    """Random embeddings of `count` pictures, which are empty files: a result must exist to be shown."""
    from bahumukha import zoo
    from bahumukha.search.store import Ledger, Picture, Root

    encoder = zoo.load()
    folder.mkdir()
    root = os.path.realpath(folder)
    vectors = clustered(count, encoder.dim).astype("<f2")
    with Ledger(ledger, create=True) as store, store.writing():
        store.claim_model(encoder.name, encoder.fingerprint)
        found = folder.stat()
        store.put_root(Root(root, found.st_dev, found.st_ino, complete=True))
        for i, row in enumerate(vectors):
            path = f"{root}/{i:06d}.jpg"
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            taken = f"20{i % 25:02}-01-01T00:00:00"
            store.put(
                path, 0, i, Picture(i.to_bytes(16, "big"), None, 400, 300, "JPEG", taken, embedding=row.tobytes())
            )


@contextmanager
def server(folder: Path, ledger: Path) -> Iterator[tuple[str, float]]:
    """A `bahu serve` of its own: its address, and when it was started."""
    command = [sys.executable, "-m", "bahumukha", "serve", str(folder), "--db", str(ledger), "--port", "0"]
    started = time.perf_counter()
    with subprocess.Popen([*command, "--out", str(ledger) + "-created"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), started
        finally:
            process.terminate()


async def ask(address: str, requests: int, seed: int) -> tuple[list[float], int]:
    """Seconds of each answer, from when it was due to be asked, and how many did not come as they should."""
    import httpx2

    times: list[float] = []
    choose = random.Random(seed)
    async with httpx2.AsyncClient(base_url=address, timeout=30) as client:

        async def one(text: str, due: float) -> None:
            answer = await client.post("/api/v1/search", json={"text": text, "limit": 60})
            # What is in it is counted, not read: the reading would be measured too, on a machine of few cores.
            if answer.status_code == 200 and answer.content.count(b'"thumbnail":') == 60:
                times.append(time.perf_counter() - due)

        begin, tasks = time.perf_counter() + 0.1, []
        for k in range(requests):
            due = begin + k / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(" ".join(choose.choices(WORDS, k=5)), due)))
        await asyncio.gather(*tasks, return_exceptions=True)
    return times, requests - len(times)


def _call(address: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """An answer of the API; with a body it is sent."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}api/v1/{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def _until(address: str, id: str, holds: Any, seconds: float = 300.0) -> Any:
    """A job, as soon as something is true of it."""
    deadline = time.perf_counter() + seconds
    while not holds(job := _call(address, f"jobs/{id}")):
        if job["state"] in ("done", "failed") or time.perf_counter() > deadline:
            raise SystemExit(f"a painting that was to be cancelled is {job['state']}: {job['error']}")
        time.sleep(0.05)
    return job


def _row(name: str, value: float, unit: str, bar: float | None = None, at_least: bool = False) -> None:
    """One figure beside its bar."""
    kept = bar is None or (value >= bar if at_least else value <= bar)
    beside = "" if bar is None else f"   (bar: {'>=' if at_least else '<='} {bar:g}{'' if kept else ', MISSED'})"
    print(f"  {name:<66}{value:8.2f} {unit}{beside}", flush=True)
