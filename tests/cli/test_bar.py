"""The progress bar is for the eye: what a script reads from stdout is whole whether or not a bar is drawn."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from importlib.resources import files
from pathlib import Path


def test_stdout_in_a_pipe_is_whole_while_a_bar_is_on_the_terminal():
    photos = [str(Path(str(files("bahumukha"))) / "demo_photos" / name) for name in ("owl.jpg", "cow.jpg")]
    arguments = ["classify", *photos, "--label", "an owl", "a cow", "--json"]
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "bahumukha", *arguments],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
        )
        out, _ = process.communicate(timeout=120)
    finally:
        os.close(theirs)
    drawn = os.read(ours, 100_000)
    os.close(ours)
    assert process.returncode == 0 and drawn
    assert [json.loads(line)["labels"][0]["label"] for line in out.decode().splitlines()] == ["an owl", "a cow"]
