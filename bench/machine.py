"""What a process uses, and what of a folder the system keeps in its memory: figures of Linux, 0 elsewhere."""

from __future__ import annotations

import os
import time
from pathlib import Path
from threading import Event, Thread

BLOCK = 1 << 24
TICKS = os.sysconf("SC_CLK_TCK")


class Watched:
    """A process and its children, watched within a `with`.

    seconds: of the clock; core_seconds: of a core, of all together; memory: most bytes of their own, without what
    they share.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.seconds = 0.0
        self.memory = 0
        self._begun = _spent(pid)
        self._spent = dict(self._begun)
        self._over = Event()
        self._watcher = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watched:
        self.seconds = -time.perf_counter()
        self._watcher.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.seconds += time.perf_counter()
        self._over.set()
        self._watcher.join()

    @property
    def core_seconds(self) -> float:
        return sum(self._spent.values()) - sum(self._begun.values())

    def _watch(self) -> None:
        over = False
        while not over:
            over = self._over.wait(1)
            found = _spent(self.pid)
            self._spent |= found
            self.memory = max(self.memory, sum(map(_own_memory, found)))


def drop_from_memory(folder: Path) -> None:
    """Let the system forget what it keeps of the files; what is not yet on the disk stays."""
    for path in _files(folder):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_into_memory(folder: Path) -> None:
    """Let the system keep the files, as far as its memory reaches."""
    buffer = bytearray(BLOCK)
    for path in _files(folder):
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _own_memory(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon")), 0)


def core_seconds(child: int, parent: int) -> float:
    """Of a core, that `child` has used, and those children of `parent` that have ended."""
    try:
        ended = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[13:15]
        return int(Path(f"/proc/{child}/schedstat").read_text().split()[0]) / 1e9 + sum(map(int, ended)) / TICKS
    except OSError:
        return 0.0


def _spent(pid: int) -> dict[int, float]:
    """Seconds of a core that a process and its children have used, by their number."""
    spent = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = path.read_text().rpartition(")")[2].split()[1]
            if pid in (int(path.parent.name), int(parent)):
                spent[int(path.parent.name)] = int((path.parent / "schedstat").read_text().split()[0]) / 1e9
        except OSError:  # it has just ended
            continue
    return spent
