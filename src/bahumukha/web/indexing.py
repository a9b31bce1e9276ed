"""Keeping the index of the server's folders up to date while it runs, in a process of its own.

That process ends with the run: searching goes on beside it, on what is indexed already.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from bahumukha.errors import UsageError
from bahumukha.web.config import ServerConfig
from bahumukha.web.opening import told
from bahumukha.web.process import WorkerProcess

JOB = "index"
MOST_FAILED = 100
"""Files named that could not be read."""


class Indexer:
    """At most one run at a time. Every method may be called from any thread."""

    def __init__(self, config: ServerConfig, tell: Callable[[dict[str, Any]], None]) -> None:
        self.config, self._tell = config, tell
        self._lock = threading.Lock()
        self._run = 0
        self._worker = self._new_worker()
        self._state: dict[str, Any] = {"running": False, "done": 0, "total": None, "failed": [], "error": None}

    @property
    def state(self) -> dict[str, Any]:
        """`running`, `done` of `total` (None while the folders are listed), `failed` files and an `error`, or None."""
        with self._lock:
            return dict(self._state)

    def start(self, folders: list[str] | None = None) -> None:
        """Index all folders of the server, or these; nothing more where a run is under way. Raises UsageError."""
        folders = folders if folders is not None else list(self.config.roots)
        if not folders:
            raise UsageError("the server was started without folders; start it as bahu serve FOLDER...")
        with self._lock:
            if self._state["running"]:
                return
            self._state = {"running": True, "done": 0, "total": None, "failed": [], "error": None}
            self._run += 1
            before, self._worker = self._worker, self._new_worker()
            worker = self._worker
        before.close()
        settings = {"folders": folders, "index": str(self.config.place), "model": self.config.model}
        worker.send({"job": JOB, "kind": "index", "settings": settings, "folder": ""})
        self._tell(self.state)

    def close(self) -> None:
        """Stop a run that is under way; what it has finished is kept."""
        self._worker.close()

    def _new_worker(self) -> WorkerProcess:
        run = self._run
        return WorkerProcess(self.config.making, partial(self._heard, run), partial(self._gone, run))

    def _heard(self, run: int, message: dict[str, Any]) -> None:
        changes: dict[str, Any] = {}
        if "report" in message:
            report = message["report"]
            # File names need not be text; what goes over the line has to be.
            failed = [{key: told(said) for key, said in each.items()} for each in report["failed"][:MOST_FAILED]]
            changes = {"failed": failed, "done": self._state["total"] or 0, "error": None}
        elif message["event"] == "progress":
            changes = {"done": message["done"], "total": message["total"]}
        elif message["event"] in ("done", "failed", "stopped"):
            error = message.get("error")
            changes = {"running": False, "error": None if error is None else told(error)}
        with self._lock:
            if run != self._run:
                return
            self._state |= changes
            is_over, worker = not self._state["running"], self._worker
        if is_over:
            worker.kill()  # its models take memory that nothing needs now
        self._tell(self.state)

    def _gone(self, run: int, code: int, reason: str) -> None:
        with self._lock:
            was_running = run == self._run and self._state["running"]
            if was_running:
                self._state |= {"running": False, "error": reason}
        if was_running:
            self._tell(self.state)
