"""Jobs: a bounded queue, one at a time in the other process, and their results on disk.

    RESULTS/ID/job.json       what was asked and what came of it
    RESULTS/ID/preview.jpg    while it is under way
    RESULTS/ID/1.png, …       results, each with its settings inside

A job that is cancelled leaves nothing behind. One that waits when the server is stopped waits on when it is started
again; one that was under way then has failed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from bahumukha.errors import BahumukhaError
from bahumukha.web.errors import Busy, NotFound, NotOver
from bahumukha.web.process import WorkerProcess
from bahumukha.web.worker import PREVIEW

RECORD = "job.json"
GRACE_SECONDS = 1.0
"""For a job to stop between two steps, which keeps the models loaded; then its process is killed."""
ID = re.compile(r"[0-9a-f]{24}")
QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"

STOPPED = "the server was stopped while this was being made; ask for it again"


@dataclass
class Job:
    """One job; times in seconds since 1970."""

    id: str
    kind: str
    settings: dict[str, Any]
    state: str = QUEUED
    created: float = 0.0
    started: float | None = None
    finished: float | None = None
    step: int = 0
    total: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    preview: int = 0
    """The step that the preview shows; 0 while there is none."""
    pictures: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None

    @property
    def is_over(self) -> bool:
        return self.state in (DONE, FAILED, CANCELLED)


class JobQueue:
    """All jobs, by the time they were asked for. Every method may be called from any thread."""

    def __init__(self, folder: Path, making: str, most: int, tell: Callable[[dict[str, Any]], None]) -> None:
        """most: jobs that may wait; tell: is given each job whenever something about it is new."""
        self.folder, self.most, self._tell = folder, most, tell
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._waiting: list[Job] = []
        self._current: Job | None = None
        self._timer: threading.Timer | None = None
        self._is_closed = self._is_killed = False
        self._worker = WorkerProcess(making, self._heard, self._gone)
        self._load()

    # --- asking -----------------------------------------------------------------------------------------------

    def submit(self, kind: str, settings: Mapping[str, Any]) -> Job:
        """Raises Busy when too many wait, BahumukhaError where the results cannot be written."""
        with self._lock:
            if len(self._waiting) >= self.most:
                raise Busy(f"{self.most} jobs are waiting already; cancel one, or come back later")
            now = time.time()
            # Names in the order of time, which cannot be guessed.
            job = Job(f"{time.time_ns() // 1000:014x}{secrets.token_hex(5)}", kind, dict(settings), created=now)
            self._save(job)
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._next()
            self._news(job)
            return job

    def get(self, id: str) -> Job:
        """Raises NotFound."""
        with self._lock:
            if id not in self._jobs:
                raise NotFound(f"there is no job {id}")
            return self._jobs[id]

    def jobs(self) -> list[Job]:
        """The newest first."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda job: job.id, reverse=True)

    def position(self, job: Job) -> int:
        """How many have to be finished before it, and itself; 0 for one that does not wait."""
        with self._lock:
            return self._waiting.index(job) + 1 if job in self._waiting else 0

    def file(self, id: str, name: str) -> Path:
        """A result, or the preview. Raises NotFound for every other name."""
        with self._lock:
            job = self.get(id)
            names = {PREVIEW} | {str(p[key]) for p in job.pictures for key in ("name", "video") if key in p}
        path = self.folder / job.id / name
        if name not in names or not path.is_file() or path.is_symlink():
            raise NotFound(f"job {id} has no file of that name")
        return path

    def cancel(self, id: str) -> Job:
        """Stop a job and leave nothing of it; one that is over stays as it is. Raises NotFound."""
        with self._lock:
            job = self.get(id)
            if job.is_over:
                return job
            job.state, job.finished = CANCELLED, time.time()
            if job in self._waiting:
                self._waiting.remove(job)
                self._sweep(job)
            else:
                self._worker.send({"stop": job.id})
                self._timer = threading.Timer(GRACE_SECONDS, self._kill, [job])
                self._timer.daemon = True
                self._timer.start()
            self._news(job)
            self._news_of_waiting()
            return job

    def forget(self, id: str) -> None:
        """Delete a job that is over, with its results. Raises NotFound, NotOver."""
        with self._lock:
            job = self.get(id)
            if not job.is_over or job is self._current:
                raise NotOver(f"job {id} is not over; cancel it first")
            del self._jobs[id]
            self._sweep(job)
            self._tell({"id": id, "state": "forgotten"})

    def close(self) -> None:
        """End the other process. What waits is on disk; what was under way is marked as failed there."""
        with self._lock:
            self._is_closed = True
        self._worker.close()

    # --- the other process ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Go on with what was waiting when the server was stopped."""
        with self._lock:
            self._next()

    def _kill(self, job: Job) -> None:
        with self._lock:  # by now the process may be at another job
            if self._current is job:
                self._is_killed = True
                self._worker.kill()

    def _next(self) -> None:
        """Start the first that waits, unless one is under way."""
        if self._current is not None or not self._waiting or self._is_closed:
            return
        job = self._current = self._waiting.pop(0)
        job.state, job.started = RUNNING, time.time()
        self._record(job)
        folder = str(self.folder / job.id)
        self._worker.send({"job": job.id, "kind": job.kind, "settings": job.settings, "folder": folder})
        self._news(job)
        self._news_of_waiting()

    def _heard(self, message: dict[str, Any]) -> None:
        with self._lock:
            job = self._current
            # One that was killed as it said that it had stopped can take no next job: that it is gone is told too.
            if job is None or message.get("job") != job.id or self._is_killed:
                return
            event = message["event"]
            if event in ("done", "stopped", "failed"):
                self._over(DONE if event == "done" else FAILED, message.get("error"))
                return
            if event == "step":
                job.step, job.total, job.losses = message["step"], message["total"], message["losses"]
                job.preview = job.step if message["preview"] else job.preview
            elif event == "picture":
                job.pictures.append({key: value for key, value in message.items() if key not in ("job", "event")})
            if not job.is_over:
                if event == "picture":
                    self._record(job)
                self._news(job)

    def _gone(self, code: int, reason: str) -> None:
        with self._lock:
            job = self._current
            self._is_killed = False
            if code == 0 and self._worker.is_running:
                return  # the next one was started before this one's end was heard of, and has the job
            if code == 0 and job is not None and not job.is_over and not self._is_closed:
                # It left for want of work in the moment in which it got some.
                self._current = None
                self._waiting.insert(0, job)
                self._next()
            else:
                self._over(FAILED, STOPPED if self._is_closed else reason)

    def _over(self, state: str, error: str | None) -> None:
        """The current job has ended: tidy up after it and start the next one."""
        job = self._current
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if job is None:
            return
        if job.state == CANCELLED:
            self._sweep(job)
        else:
            job.state, job.error, job.finished = state, error, time.time()
            self._tidy(job)
            self._record(job)
            self._news(job)
        self._current = None
        self._next()

    # --- telling ----------------------------------------------------------------------------------------------

    def told(self, job: Job) -> dict[str, Any]:
        """A job in plain values, with its place in the queue."""
        with self._lock:
            return asdict(job) | {"position": self.position(job)}

    def _news(self, job: Job) -> None:
        self._tell(self.told(job))

    def _news_of_waiting(self) -> None:
        for job in self._waiting:
            self._news(job)

    # --- the disk ---------------------------------------------------------------------------------------------

    def _load(self) -> None:
        for record in sorted(self.folder.glob(f"*/{RECORD}")):
            try:
                values = json.loads(record.read_text(encoding="utf-8"))
                job = Job(**{each.name: values[each.name] for each in fields(Job) if each.name in values})
            except (OSError, ValueError, TypeError):  # not ours, or damaged: left as it is
                continue
            if job.id != record.parent.name or not ID.fullmatch(job.id):
                continue
            if job.state == RUNNING:
                job.state, job.error, job.finished = FAILED, STOPPED, time.time()
                self._tidy(job)
                self._record(job)
            self._jobs[job.id] = job
            if job.state == QUEUED:
                self._waiting.append(job)

    def _record(self, job: Job) -> None:
        """Save, and if the disk refuses, say so with the job: its work need not end for that."""
        try:
            self._save(job)
        except BahumukhaError as error:
            job.error = job.error or str(error)

    def _save(self, job: Job) -> None:
        folder = self.folder / job.id
        aside = folder / f".{RECORD}.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            aside.write_text(json.dumps(asdict(job), ensure_ascii=False, indent=1), encoding="utf-8")
            os.replace(aside, folder / RECORD)
        except OSError as error:
            raise BahumukhaError(f"{folder}: cannot be written ({error.strerror or error})") from error

    def _tidy(self, job: Job) -> None:
        """Of a job that is over only what it came to stays."""
        kept = {RECORD} | {str(p[key]) for p in job.pictures for key in ("name", "video") if key in p}
        job.preview = 0
        for path in (self.folder / job.id).glob("*"):
            if path.name not in kept and path.is_file():
                path.unlink(missing_ok=True)

    def _sweep(self, job: Job) -> None:
        shutil.rmtree(self.folder / job.id, ignore_errors=True)
