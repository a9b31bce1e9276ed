"""`bahu serve` over 100,000 pictures: how soon the first page is there, and how long answers take at 20 a second."""

from __future__ import annotations

import asyncio
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

import numpy as np

from bench.searching import clustered

RATE = 20.0
"""Requests a second."""
WORDS = "red blue old small two dog cat beach snow people boat tree night street dancing asleep happy broken".split()


def loaded(photos: Path | None = None, count: int = 100_000, requests: int = 2_000) -> None:
    """Start the server, look at the first page, then search at a steady rate, each time for another sentence."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, ledger = Path(scratch) / "photos", Path(scratch) / "index.db"
        make_index(folder, ledger, count)
        with server(folder, ledger) as (address, started):
            urllib.request.urlopen(address).read()
            first_page = time.perf_counter() - started
            urllib.request.urlopen(f"{address}api/v1/pictures?limit=60").read()
            first_pictures = time.perf_counter() - started
            print(f"  first page {first_page:.2f} s after the start, its pictures {first_pictures:.2f} s")
            asyncio.run(ask(address, 20))
            times, lost = asyncio.run(ask(address, requests))
    shares = (50, 90, 99, 100)
    took = "   ".join(
        f"p{p} {t:.0f} ms" for p, t in zip(shares, np.percentile(np.array(times) * 1e3, shares), strict=True)
    )
    print(f"  {requests:,} searches at {RATE:.0f} a second over {count:,} pictures: {took}   lost {lost}")


def make_index(folder: Path, ledger: Path, count: int) -> None:
    """Random embeddings of `count` pictures, which are links to one file: a result must exist to be shown."""
    from bahumukha import zoo
    from bahumukha.search.store import Ledger, Picture, Root

    encoder = zoo.load()
    folder.mkdir()
    root = os.path.realpath(folder)
    (folder / "shown.jpg").touch()
    vectors = clustered(count, encoder.dim).astype("<f2")
    with Ledger(ledger, create=True) as store, store.writing():
        store.claim_model(encoder.name, encoder.fingerprint)
        found = folder.stat()
        store.put_root(Root(root, found.st_dev, found.st_ino, complete=True))
        for i, row in enumerate(vectors):
            os.symlink("shown.jpg", f"{root}/{i:06d}.jpg")
            taken = f"20{i % 25:02}-01-01T00:00:00"
            picture = Picture(i.to_bytes(16, "big"), None, 400, 300, "JPEG", taken, embedding=row.tobytes())
            store.put(f"{root}/{i:06d}.jpg", 0, i, picture)


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


async def ask(address: str, requests: int) -> tuple[list[float], int]:
    """Seconds of each answer, from when it was due to be asked, and how many did not come as they should."""
    import httpx2

    times: list[float] = []
    choose = random.Random(1)
    async with httpx2.AsyncClient(base_url=address, timeout=30) as client:

        async def one(due: float, text: str) -> None:
            await asyncio.sleep(due - time.perf_counter())
            answer = await client.post("/api/v1/search", json={"text": text, "limit": 60})
            if answer.status_code == 200 and len(answer.json()["pictures"]) == 60:
                times.append(time.perf_counter() - due)

        begin = time.perf_counter() + 0.1
        sentences = [" ".join(choose.choices(WORDS, k=4)) for _ in range(requests)]
        tasks = [one(begin + k / RATE, text) for k, text in enumerate(sentences)]
        await asyncio.gather(*tasks, return_exceptions=True)
    return times, requests - len(times)
