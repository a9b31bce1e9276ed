"""`bahu serve` as a user starts and stops it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from bahumukha.cli import serve
from bahumukha.search import PictureIndex
from bahumukha.web.config import ServerConfig
from bahumukha.zoo.fake import ColourEncoder
from tests.search.packs import picture_bytes
from tests.search.pictures import draw


def test_it_starts_answers_and_stops_at_ctrl_c(tmp_path: Path, tiny_clip: Path) -> None:
    (tmp_path / "pictures").mkdir()
    draw("red").save(tmp_path / "pictures/red.png")
    arguments = ["serve", "pictures", "--port", "0", "--db", "i.db", "--out", "made", "--model", str(tiny_clip)]
    command = [sys.executable, "-m", "bahumukha", *arguments]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:")
            assert b"Bahumukha" in urllib.request.urlopen(address, timeout=60).read()
            # An open page's stream must not keep the server from stopping.
            stream = urllib.request.urlopen(f"{address}api/v1/events", timeout=60)
            assert stream.readline() == b"retry: 2000\n"
            started = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            assert time.monotonic() - started < 30
            stream.close()
        finally:
            process.kill()
    assert process.returncode in (0, 130) and out == "" and "Traceback" not in err, err


HANGING = """
import sys, time
from functools import partial
from bahumukha.cli import main
from bahumukha.search import remote
from bahumukha.web import app
from bahumukha.zoo.fake import ColourEncoder

def hang(*arguments):
    print("asked", flush=True)
    time.sleep(600)

remote.read_part = hang
app.create_app = partial(app.create_app, encoder=ColourEncoder())
main(sys.argv[1:])
"""


def test_ctrl_c_does_not_wait_for_a_store_that_hangs(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    store, url = fsspec.filesystem("memory"), "memory://hanging/photos"
    store.pipe_file("/hanging/photos/red.png", picture_bytes("red", 1))
    try:
        PictureIndex(tmp_path / "i.db", ColourEncoder()).index([url])
    finally:
        store.rm("/hanging", recursive=True)
    command = [sys.executable, "-c", HANGING, "serve", url, "--port", "0", "--db", "i.db", "--out", "made"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = urlsplit(process.stdout.readline().strip())
            asking = HTTPConnection(address.netloc, timeout=60)
            asking.request("GET", "/api/v1/pictures/1/full")
            assert process.stdout.readline() == "asked\n"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
            asking.close()
        finally:
            process.kill()
    assert process.returncode in (0, 130), err


def test_what_cannot_be_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, said in (
            (["--port", port], f"--port {port}: cannot be listened at"),
            (["--host", "0.0.0.0"], "give --token TEXT too"),
            ([str(tmp_path / "none")], "there is no such folder"),
        ):
            command = [sys.executable, "-m", "bahumukha", "serve", *arguments]
            ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert ran.returncode == 1 and ran.stdout == ""
            assert ran.stderr.count("\n") == 1 and said in ran.stderr


def test_a_token_of_any_signs_is_whole_in_the_address() -> None:
    token = "correct#horse & battery+%41"
    address = serve._address(ServerConfig(host="::1", token=token), 8000)
    assert address.startswith("http://[::1]:8000/?token=") and " " not in address
    assert parse_qs(urlsplit(address).query)["token"] == [token]


def test_without_the_extra_it_says_what_to_install() -> None:
    script = "import sys\nsys.modules['uvicorn'] = None\nfrom bahumukha.cli import main\nmain(['serve'])\n"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr == "bahu: bahu serve needs uvicorn, of the extra [web]: pip install 'bahumukha[web]'\n"
