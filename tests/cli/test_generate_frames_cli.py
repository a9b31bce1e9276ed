"""`bahu generate` over frames and through a camera: a folder of pictures, a video, and Ctrl-C between two frames."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bahumukha.cli import guided
from tests.cli.painting import SMALL, made, pixels

pytestmark = pytest.mark.usefixtures("colours")


@pytest.fixture
def walk() -> Path:
    """Five frames that get brighter."""
    Path("walk").mkdir()
    for k in range(5):
        Image.new("RGB", (40, 30), (60 + 30 * k,) * 3).save(f"walk/{k}.png")
    return Path("walk")


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


NAMES = [f"00000{k}.png" for k in range(1, 6)]


def test_painting_over_frames(bahu: Any, walk: Path) -> None:
    import av

    ran = bahu(
        "generate", "red", *SMALL, "--drawer", "fft", "--frames", walk, "--out", "a.png", "--video", "a.mp4", "--json"
    )
    assert ran.code == 0 and ran.err == "bahu: video in a.mp4\n"
    assert list(ran.object) == ["path", "seed", "seconds", "score"] and ran.object["path"] == "a.frames"
    assert list(contents("a.frames")) == NAMES and not Path("a.run").exists() and not Path("a.png").exists()
    bright = [pixels(Path("a.frames") / name)[..., 1].mean() for name in NAMES]
    assert bright[1:] == sorted(bright[1:]) and bright[-1] > bright[0] + 30
    assert pixels(Path("a.frames/000001.png")).shape == (24, 32, 3)
    with av.open("a.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
    stored = made(Path("a.frames/000003.png"))
    assert stored["settings"]["animation"]["frames"] == str(walk.absolute()) and stored["steps_done"] == 6
    assert bahu("generate", "--config", "a.frames/000003.png", "--out", "b.png").code == 0
    assert contents("b.frames") == contents("a.frames")
    ran = bahu(
        "generate",
        "red",
        *SMALL,
        "--drawer",
        "fft",
        "--frames",
        "a.mp4",
        "--set",
        "animation.every=2",
        "--out",
        "again",
    )
    assert ran.code == 0 and ran.out.startswith("again/red-0.frames  seed 0, ")
    assert list(contents("again/red-0.frames")) == NAMES[:3]


def test_steps_of_frames(walk: Path) -> None:
    def steps(given: dict[str, Any], *overrides: str) -> int:
        return guided.settings({"prompt": "a"} | given, "draft", None, overrides).steps

    frames = {"animation": {"frames": str(walk)}}
    assert steps(frames) == steps({}, "animation.frames=walk") == 20
    assert steps(frames | {"steps": 7}) == steps(frames, "steps=7") == 7 and steps({}) == 80


@pytest.mark.parametrize("kind", ["frames", "camera"])
def test_ctrl_c_keeps_the_finished_frames_and_resuming_gives_the_same_bytes(
    kind: str, bahu: Any, walk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = ("--set", "camera.frames=5", "--set", "camera.steps=3", "--set", "camera.zoom=1.1")
    options = ["red ^ blue", *SMALL, *(("--frames", walk) if kind == "frames" else camera)]
    assert bahu("generate", *options, "--out", "whole.png").code == 0
    real = guided.Animation.next_painting
    asked: list[int] = []

    def next_painting(self: Any) -> Any:
        asked.append(self.done)
        if len(asked) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(guided.Animation, "next_painting", next_painting)
        ran = bahu("generate", *options, "--out", "parts.png", "--video", "parts.mp4", "--json")
    assert ran.code == 130 and ran.out == "" and not Path("parts.mp4").exists()
    assert ran.err.splitlines()[1] == (
        "bahu: stopped after 2 of 5 frames, which are in parts.frames; bahu generate --resume parts.run goes on"
    )
    assert list(contents("parts.frames")) == NAMES[:2]
    assert "another steps" in bahu("generate", "--resume", "parts.run", "--steps", "9").err
    assert bahu("generate", "--resume", "parts.run").code == 0
    assert contents("parts.frames") == contents("whole.frames")
    assert Path("parts.mp4").exists() and not Path("parts.run").exists()


def test_frames_of_an_older_run_do_not_stay(bahu: Any, walk: Path) -> None:
    assert bahu("generate", "red", *SMALL, "--frames", walk, "--out", "a.png").code == 0
    fewer = ["--set", "camera.frames=2", "--set", "camera.steps=1"]
    assert bahu("generate", "red", *SMALL, *fewer, "--out", "a.png").code == 0
    assert list(contents("a.frames")) == NAMES[:2]
    first, second = (bahu("generate", "red", *SMALL, *fewer, "--json").object["path"] for _ in range(2))
    assert (first, second) == ("generated/red-0.frames", "generated/red-0-2.frames")
