"""Fixtures that many tests share. No test sees the user's own data folder; few need the starter model."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: one thread each, before PyTorch counts them
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def ctrl_c() -> None:
    """Ctrl-C works in every test, also under a shell that started the tests with it ignored, as `nohup … &` does."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of this test alone; it does not exist yet."""
    home = tmp_path / "data-home"
    monkeypatch.setenv("BAHUMUKHA_HOME", str(home))
    monkeypatch.delenv("BAHUMUKHA_THREADS", raising=False)
    return home


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch, data_home: object) -> Iterator[None]:
    """This process and commands compute with one thread: tiny networks gain nothing from a second one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("BAHUMUKHA_THREADS", "1")
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete CLIP model folder with random weights; not to be changed."""
    from tests.tiny_models import make_clip_folder

    return make_clip_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def coloured_pictures(tmp_path: Path) -> Path:
    """A folder with red.png, green.png and blue.jpg, 40 x 30 pixels each."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in {"red.png": (255, 0, 0), "green.png": (0, 160, 0), "blue.jpg": (0, 0, 255)}.items():
        Image.new("RGB", (40, 30), colour).save(folder / name)
    return folder
