"""Timing two ways of doing one thing fairly: in turns, after a warm-up, the median of the rounds."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any


def seconds(*ways: Callable[[], Any], rounds: int = 5) -> list[float]:
    """Median seconds of each way; they take turns, so that a drift of the machine's speed meets all alike."""
    for way in ways:
        way()
    spent: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for times, way in zip(spent, ways, strict=True):
            started = time.perf_counter()
            way()
            times.append(time.perf_counter() - started)
    return [median(times) for times in spent]


def line(name: str, rate: float, unit: str, baseline: float | None = None) -> None:
    """One row: name, rate, and the ratio to a baseline's rate."""
    ratio = f"{rate / baseline:8.2f} x" if baseline else ""
    print(f"  {name:<58}{rate:10.1f} {unit}{ratio}", flush=True)
