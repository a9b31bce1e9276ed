"""What the machine offers: cores, threads, the folder for the user's data, and the signals that ask to stop."""

from __future__ import annotations

import math
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bahumukha.errors import UsageError

CREATING = ("torch", "safetensors")
"""Packages of the extra [create] without which no picture is made; PyTorch alone may have come with something else."""
_ROOT = Path("/")


def thread_count(threads: int | None = None) -> int:
    """Worker threads to use: `threads` if given, else BAHUMUKHA_THREADS, else `physical_cores()`."""
    if threads is not None:
        if threads < 1:
            raise UsageError(f"threads: {threads} was given; it takes a whole number above 0")
        return threads
    asked = os.environ.get("BAHUMUKHA_THREADS", "").strip()
    if not asked:
        return physical_cores()
    if not (asked.isascii() and asked.isdigit() and int(asked) > 0):
        raise UsageError(f"BAHUMUKHA_THREADS: {asked!r} is set; it takes a whole number above 0")
    return int(asked)


def check_place(path: Path, named: str) -> None:
    """Before the work, that no file is in the way of the folder that `path` is to be in. Raises UsageError.

    named: how a message begins, as "--sheet out/a.png".
    """
    above = next(each for each in path.absolute().parents if each.exists())
    if not above.is_dir():
        raise UsageError(f"{named}: {above} is a file and no folder; give another place")


def data_home() -> Path:
    """Where the user's index lives: BAHUMUKHA_HOME, else the platform's data folder. It may not exist yet."""
    if home := os.environ.get("BAHUMUKHA_HOME", "").strip():
        return Path(home).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("bahumukha", appauthor=False)


def physical_cores() -> int:
    """Cores this process may use, at least 1: hyper-threads count once, affinity and container limits hold.

    Matrix products gain nothing from a second thread on the same core, and lose much when a container's
    quota stops them in mid-flight.
    """
    if sys.platform == "linux":
        allowed = os.sched_getaffinity(0)
        cores = _distinct_cores(allowed, _ROOT)
        return max(1, min([cores, *(math.ceil(quota) for quota in _quotas(_ROOT))]))
    logical = os.cpu_count() or 1
    # Neither macOS nor Windows tells without a system call; nearly every x86 machine runs two threads a core,
    # and no Arm machine does.
    two_threads = platform.machine().lower() in ("x86_64", "amd64") and logical % 2 == 0
    return logical // 2 if two_threads else logical


def _distinct_cores(cpus: Iterable[int], root: Path) -> int:
    """Of these logical CPUs, how many are cores of their own; all of them where the kernel does not say."""
    cores: set[object] = set()
    for cpu in cpus:
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        siblings = _read(topology / "thread_siblings_list")
        cores.add(siblings or cpu)
    return len(cores)


def _quotas(root: Path) -> Iterator[float]:
    """CPU limits, in cores, of the control groups this process is in (containers); cgroups versions 2 and 1.

    A group's own limit holds together with those of all groups above it.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            mount, is_v2 = root / "sys/fs/cgroup", True
        elif "cpu" in controllers.split(","):
            mount, is_v2 = root / "sys/fs/cgroup/cpu", False
        else:
            continue
        parts = [part for part in group.split("/") if part and part != ".."]
        for depth in range(len(parts) + 1):
            folder = mount.joinpath(*parts[:depth])
            if is_v2:
                quota, _, period = _read(folder / "cpu.max").partition(" ")
            else:
                quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
            if quota.isdigit() and period.isdigit() and int(quota) and int(period):  # "max" and -1: no limit
                yield int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


@contextmanager
def stop_signals(noticed: Callable[[], object] = lambda: None) -> Iterator[threading.Event]:
    """Inside the block the first Ctrl-C or SIGTERM sets the event instead of breaking off a half-done step.

    `noticed` is called then. A second one is as without. What is ignored already (`nohup`) stays ignored; in threads
    nothing is changed.
    """
    asked = threading.Event()
    before: dict[int, Any] = {}

    def ask(number: int, frame: Any) -> None:
        asked.set()
        noticed()
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None):
                before[number] = handler
                signal.signal(number, ask)
    try:
        yield asked
    finally:
        for changed, handler in before.items():
            signal.signal(changed, handler)
