"""Runs of `bahu generate`: pictures and videos on the way, Ctrl-C, and going on to the same bytes."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bahumukha.cli import guided
from bahumukha.images import to_uint8
from bahumukha.protocols import Step
from tests.cli.painting import SMALL, made, pixels
from tests.tiny_guidance import ColourClip

pytestmark = pytest.mark.usefixtures("colours")

ALONE = [word for name in ("rivals.weight", "losses.tv", "losses.range") for word in ("--set", f"{name}=0")]
"""The prompt's own loss, without those that a drawer's tier adds."""


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Ctrl-C is pressed while that step is under way."""
    real = guided.Painting._advance

    def advance(self: Any) -> dict[str, float]:
        losses = real(self)
        if self.done == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return losses

    monkeypatch.setattr(guided.Painting, "_advance", advance)


# --- on the way


def test_intermediate_pictures_and_going_further(bahu: Any) -> None:
    assert bahu("generate", "red", *SMALL, "--save-every", "2", "--out", "a.png").code == 0
    folder = Path("a.run")
    names = sorted(each.name for each in folder.iterdir())
    assert names == ["checkpoint.pt", "run.json", "step-000002.png", "step-000004.png", "step-000006.png"]
    assert made(folder / "step-000004.png")["steps_done"] == 4
    assert np.array_equal(pixels(folder / "step-000006.png"), pixels(Path("a.png")))
    assert bahu("generate", "--resume", folder, "--steps", "8").code == 0
    assert (folder / "step-000008.png").exists() and made(Path("a.png"))["settings"]["steps"] == 8


def test_a_video(bahu: Any) -> None:
    import av

    ran = bahu("generate", "red", *SMALL, "--video", "becoming.mp4", "--out", "a.png")
    assert ran.code == 0 and ran.err == "bahu: video in becoming.mp4\n"
    with av.open("becoming.mp4") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 6 and frames[0].shape == (24, 32, 3)
    assert np.abs(frames[-1].astype(int) - pixels(Path("a.png"))).mean() < 12
    assert not Path("a.run").exists()


def test_ctrl_c_keeps_the_best_picture_and_resuming_gives_the_same_bytes(
    bahu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import av

    options = ["red ^ blue", *SMALL, "--drawer", "cells", "--set", "losses.tv=0.1"]
    assert bahu("generate", *options, "--out", "whole.png").code == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        ran = bahu("generate", *options, "--out", "parts.png", "--video", "parts.mp4", "--json")
    assert ran.code == 130 and ran.out == ""
    first, second = ran.err.splitlines()
    assert first == "bahu: stopping after this step; once more to stop at once"
    assert second == (
        "bahu: stopped after 4 of 6 steps; the best picture so far is parts.png, and"
        " bahu generate --resume parts.run goes on"
    )
    assert made(Path("parts.png"))["steps_done"] == 4
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert bahu("generate", "--resume", "parts.run").code == 0
    assert Path("parts.png").read_bytes() == Path("whole.png").read_bytes()
    assert not Path("parts.run").exists()
    with av.open("parts.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 6, "the frames from before the stop are there too"


def test_a_second_ctrl_c_stops_in_the_middle_of_a_step(bahu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = guided.Painting._guide

    def guide(self: Any, *arguments: Any) -> float:
        if self.done == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(guided.Painting, "_guide", guide)
        patch.setattr(guided, "CHECKPOINT_EVERY", 2)
        ran = bahu("generate", "red", *SMALL, "--out", "a.png")
    assert ran.code == 130 and "stopped after 3 of 6 steps" in ran.err and "--resume a.run" in ran.err
    assert Path("a.png").exists()
    assert bahu("generate", "--resume", "a.run").code == 0
    assert bahu("generate", "red", *SMALL, "--out", "b.png").code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes(), "from the checkpoint of step 2"


def test_the_best_picture_is_the_one_kept(bahu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Step] = []
    real = guided.Painting.steps

    def steps(self: Any, every: int = 1) -> Any:
        for step in real(self, every):
            shown.append(step)
            yield step

    class Turning(ColourClip):
        def encode_pixels(self, x: torch.Tensor, size: int | None = None, crop: bool = True) -> torch.Tensor:
            seen = super().encode_pixels(x, size, crop)
            return seen if len(self.seen) <= 3 else -seen

    monkeypatch.setattr(guided, "_encoder", lambda name: Turning())
    monkeypatch.setattr(guided.Painting, "steps", steps)
    stop_after(monkeypatch, 5)
    assert bahu("generate", "red", *SMALL, *ALONE, "--out", "a.png").code == 130
    kept = pixels(Path("a.png"))
    alike = [i for i, step in enumerate(shown) if np.array_equal(to_uint8(step.images[0]), kept)]
    assert alike == [2], "the last before everything looked wrong"


def test_between_two_pictures(bahu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(monkeypatch, 6)
    ran = bahu("generate", "red", *SMALL, "-n", "2", "--json")
    assert ran.code == 130 and len(ran.objects) == 1
    assert "1 of 2 are finished" in ran.err


def test_a_picture_that_is_finished_early(bahu: Any) -> None:
    few = ["red:1:4.9", "--steps", "60", "--set", "stop_after=4"]  # past its stop nothing is bettered
    ran = bahu("generate", *few, *SMALL, *ALONE, "--out", "a.png")
    assert ran.code == 0 and ran.err == "" and not Path("a.run").exists()
    assert 5 <= made(Path("a.png"))["steps_done"] < 60


def test_a_video_of_strokes(bahu: Any) -> None:
    import av

    few = ["--drawer", "strokes", "--set", "drawer_options.strokes=9", "--set", "video.of=strokes"]
    ran = bahu("generate", "red", *SMALL, *few, "--set", "video.fps=24", "--video", "s.mp4", "--out", "a.png")
    assert ran.code == 0 and Path("a.svg").exists()
    with av.open("s.mp4") as container:
        assert container.streams.video[0].average_rate == 24
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 10 and frames[0].min() > 250
    assert np.abs(frames[-1].astype(int) - pixels(Path("a.png"))).mean() < 12
    ran = bahu("generate", "red", *SMALL, "--set", "video.of=strokes", "--video", "s.mp4")
    assert ran.code == 1 and ran.err == "bahu: video.of: drawer vqgan draws no strokes; take strokes or line\n"


def test_a_checkpoint_of_other_settings(bahu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        bahu("generate", "red", *SMALL, "--out", "a.png")
    record = json.loads(Path("a.run/run.json").read_text())
    record["settings"]["ema"] = 0.5
    Path("a.run/run.json").write_text(json.dumps(record))
    ran = bahu("generate", "--resume", "a.run")
    assert ran.code == 1 and "was painted with another ema" in ran.err
    record["settings"]["ema"] = 0.0
    Path("a.run/run.json").write_text(json.dumps(record))
    ran = bahu("generate", "--resume", "a.run", "--steps", "2")
    assert ran.code == 1 and "--steps 2: this run has done 3 already" in ran.err


def test_signals_are_left_alone_in_threads() -> None:
    from bahumukha.runtime import stop_signals

    seen: list[Any] = []

    def inside() -> None:
        with stop_signals():
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [before]
