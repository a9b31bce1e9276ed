"""The other process: started when there is first something to do, told what by lines of JSON, killed at any moment.

    to it      {"job": ID, "kind": …, "settings": {…}, "folder": …}     or {"stop": ID}
    from it    {"job": ID, "event": "step" | "picture" | "progress" | "done" | "stopped" | "failed", …}

See `worker` for the other end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

ENDED = "the process that was at it ended unexpectedly"
OUT_OF_MEMORY = f"{ENDED} (killed from outside: perhaps there was not enough memory; try a smaller size)"


class WorkerProcess:
    """At most one child at a time. `heard` and `gone` are called on a thread of its own."""

    def __init__(self, making: str, heard: Callable[[dict[str, Any]], None], gone: Callable[[int, str], None]) -> None:
        """making: the module of the jobs' kinds; heard: is given each message; gone: that the child has ended.

        `gone` is given its exit code, 0 where nothing was asked of it for long, and the reason in words.
        """
        self.making, self.heard, self.gone = making, heard, gone
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Start the child if there is none, and tell it. One that is dying is no error here: `gone` will be called."""
        with self._lock:
            if self._process is None:
                self._start()
            assert self._process is not None and self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps(message).encode() + b"\n")
                self._process.stdin.flush()
            except (BrokenPipeError, ValueError):
                return

    @property
    def is_running(self) -> bool:
        """Whether there is a child, as far as is known."""
        return self._process is not None

    def kill(self) -> None:
        """At once; `gone` is called when it has ended."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """Kill the child and wait until nothing is left of it."""
        self.kill()
        listener = self._listener
        if listener is not None and listener is not threading.current_thread():
            listener.join()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            # -P: the folder that the server was started in is no place to import from
            [sys.executable, "-P", "-m", "bahumukha.web.worker", self.making],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONIOENCODING": "utf-8"},
            start_new_session=True,  # Ctrl-C is for the server, which then ends its child
        )
        self._listener = threading.Thread(target=self._listen, args=(self._process,), name="worker", daemon=True)
        self._listener.start()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None and process.stdin is not None
        with process.stdout:
            for line in process.stdout:
                try:
                    message = json.loads(line)
                except ValueError:  # cut off in the middle by a kill
                    continue
                self.heard(message)
        code = process.wait()
        with self._lock:
            try:
                process.stdin.close()
            except BrokenPipeError:
                pass
            if self._process is process:
                self._process = None
        self.gone(code, OUT_OF_MEMORY if code == -9 else f"{ENDED} (exit code {code})")
