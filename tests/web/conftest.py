"""A server over a few coloured pictures, with jobs that take no time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from bahumukha.search import PictureIndex
from bahumukha.web.app import create_app
from bahumukha.web.config import ServerConfig
from bahumukha.zoo.fake import ColourEncoder
from tests.search.pictures import draw, fill

ROOT = Path(__file__).parents[2]
HOME = "http://127.0.0.1:8000"
KINDS = "tests.web.kinds"


@dataclass(frozen=True)
class Place:
    """Where a server's things are: a folder of 24 pictures, one of a picture that is not shown, and its own files."""

    folder: Path
    outside: Path
    index: Path
    created: Path

    def config(self, **changes: Any) -> ServerConfig:
        values: dict[str, Any] = {"folders": (self.folder,), "index": self.index, "created": self.created}
        return ServerConfig(**values | {"making": KINDS} | changes)

    def client(self, **changes: Any) -> TestClient:
        app = create_app(self.config(**changes), encoder=ColourEncoder())
        return TestClient(app, base_url=HOME, raise_server_exceptions=False, follow_redirects=False)


def make_place(folder: Path) -> Place:
    """Pictures, a copy of one, one with EXIF, a link that leads out, and their index."""
    place = Place(folder / "pictures", folder / "outside", folder / "index.db", folder / "created")
    fill(place.folder, 20)
    (place.folder / "copy.png").write_bytes((place.folder / "red-008.png").read_bytes())
    draw("red", 8).resize((96, 64), Image.Resampling.BICUBIC).save(place.folder / "near.png")
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "Canon EOS R5"
    exif[0x8769] = {0x9003: "2021:05:03 10:00:00"}
    draw("green", 50, (120, 80)).save(place.folder / "dated.jpg", exif=exif)
    draw("blue", 51, (90, 60)).save(place.folder / "slide.tiff")
    place.outside.mkdir()
    draw("red", 99).save(place.outside / "secret.png")
    (place.folder / "link.png").symlink_to(place.outside / "secret.png")
    PictureIndex(place.index, ColourEncoder()).index([place.folder, place.outside])
    return place


@pytest.fixture(scope="session", autouse=True)
def importable() -> Iterator[None]:
    """The worker finds the tests' kinds of jobs wherever it is started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        yield


@pytest.fixture(scope="session")
def shared_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Not to be changed."""
    return make_place(tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="session")
def client(shared_place: Place) -> Iterator[TestClient]:
    """Of a server that all tests share."""
    with shared_place.client() as client:
        yield client


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


def until(holds: Callable[[], Any], seconds: float = 300.0) -> Any:
    """Wait until something is true, and give it back; long, as a busy machine may take a minute to start a process."""
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)
    return value


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """A real server on loopback while the block runs; its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        settings = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2)
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            app.state.services.hub.close()
            server.should_exit = True
            thread.join()
