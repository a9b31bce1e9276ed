"""The work of `bahu generate --with vqgan-clip`: settings from everywhere, pictures and frames painted in turn.

Where they go, and what is kept for a run that is stopped, is in `guided_runs`.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bahumukha.cli.guided_runs import (
    CHECKPOINT,
    SYSTEM,
    Run,
    as_image,
    begin,
    frame_file,
    read_frames,
    save_painting,
)
from bahumukha.cli.guided_runs import new_runs as new_runs
from bahumukha.cli.guided_runs import resumed as resumed
from bahumukha.cli.output import note_line, print_json, progress
from bahumukha.cli.pictures import METADATA as METADATA
from bahumukha.cli.pictures import picture_size, read_settings
from bahumukha.errors import Interrupted, UsageError
from bahumukha.generate.animation import Animation
from bahumukha.generate.drawers import CurveDrawer
from bahumukha.generate.guided import Encoder, Painting
from bahumukha.generate.guided_config import DRAWER, FRAME_STEPS, GuidedConfig, merged, tier_table
from bahumukha.generate.video import FPS, MOST_FPS, write_video
from bahumukha.images import save_image, to_uint8
from bahumukha.runtime import thread_count
from bahumukha.train.config import from_table, overridden

if TYPE_CHECKING:
    from bahumukha.models.vqgan import Codec

CHECKPOINT_EVERY = 50
"""Steps; without --save-every."""


# --- settings ---------------------------------------------------------------------------------------------


def settings(given: dict[str, Any], quality: str, config: Path | None, overrides: Sequence[str]) -> GuidedConfig:
    """Tier < file < options < --set, checked. Raises UsageError naming the option or the file.

    A picture holds all of its settings, so no tier adds to them.
    """
    from_file = {} if config is None else read_settings(config, SYSTEM)
    tier = tier_table(quality, str(overridden(from_file | given, overrides).get("drawer", DRAWER)))
    file, base = ("--set", Path.cwd()) if config is None else (str(config), config.parent.resolve())
    if "size" in given:
        given = given | {"size": picture_size(given["size"], tier["size"])}
    if "seed" in given and given["seed"].strip().isdecimal():
        given = given | {"seed": int(given["seed"])}
    below = {} if config is not None and config.suffix.lower() == ".png" else tier
    table = overridden(merged(merged(below, from_file), given), overrides)
    said = {*from_file, *given, *(text.partition("=")[0].strip() for text in overrides)}
    if "steps" not in said and table.get("animation", {}).get("frames"):
        table["steps"] = FRAME_STEPS
    if "prompt" not in table:
        raise UsageError("no PROMPT; say what to show, as bahu generate 'a red fox in the snow'")
    for name in ("steps", "drawer", "seed", "prompt", "size"):
        if name in given and not any(text.partition("=")[0].strip() == name for text in overrides):
            _check_option(name, table)
    return from_table(GuidedConfig, table, file, base)


def _check_option(name: str, table: dict[str, Any]) -> None:
    """An option's value by itself, so that the message names the option and not a file."""
    alone = {"prompt": "a"} | {key: table[key] for key in (name, "mask", "fade") if key in table}
    option = "PROMPT" if name == "prompt" else f"--{name}"
    from_table(GuidedConfig, alone, option, Path.cwd())


# --- painting ---------------------------------------------------------------------------------------------


def paint_runs(runs: Sequence[Run], stop: threading.Event, as_json: bool) -> None:
    """Paint one after another and print what came of each. Raises Interrupted when `stop` was set."""
    torch.set_num_threads(thread_count())
    started = time.monotonic()
    job = _opened(runs[0])
    with progress(len(runs) * job.steps_left, "painting") as advance:
        for number, run in enumerate(runs):
            if number:
                if stop.is_set():
                    raise Interrupted(f"stopped: {number} of {len(runs)} are finished")
                started = time.monotonic()
                job = _opened(run)
            if isinstance(job, Animation):
                _paint_frames(job, run, stop, advance)
                path, score = run.frames, fmean(job.scores)
            else:
                _paint(job, run, stop, advance)
                path, score = run.picture, job.score()
            seconds = time.monotonic() - started
            if as_json:
                made = {"path": str(path), "seed": run.config.seed}
                print_json(made | {"seconds": round(seconds, 2), "score": round(score, 4)})
            else:
                print(f"{path}  seed {run.config.seed}, {seconds:.0f} s, score {score:.3f}")


def _opened(run: Run) -> Painting | Animation:
    """At its start, or where its checkpoint left it."""
    config = run.config
    codec = _codec(config.codec) if config.drawer == "vqgan" else None
    encoders = [_encoder(name) for name in config.models]
    job: Painting | Animation
    if config.is_sequence:
        job = Animation(config, encoders, codec=codec)
    else:
        job = Painting(config, encoders, codec=codec)
    if run.video and config.video.of == "strokes" and not isinstance(job.drawer, CurveDrawer):
        raise UsageError(f"video.of: drawer {config.drawer} draws no strokes; take strokes or line")
    if run.going_on:
        job.load(run.folder / CHECKPOINT)
        if isinstance(job, Painting) and job.done > config.steps:
            raise UsageError(f"--steps {config.steps}: this run has done {job.done} already; give as many or more")
    return job


@cache
def _encoder(name: str) -> Encoder:
    from bahumukha.zoo.pytorch import TorchClip

    return TorchClip(name)


@cache
def _codec(name: str) -> Codec:
    from bahumukha.zoo.codecs import load_codec

    return load_codec(name)


def _paint(painting: Painting, run: Run, stop: threading.Event, advance: Callable[..., None]) -> None:
    """Paint to the end and leave behind what was asked for; when stopped, the best picture. Raises Interrupted."""
    begin(run)
    films_steps = run.video is not None and run.config.video.of == "becoming"
    try:
        for step in painting.steps():
            advance()
            done = step.index + 1
            if films_steps:
                save_image(as_image(step.images), frame_file(run.becoming, done))
            if run.save_every and done % run.save_every == 0:
                save_painting(painting, step.images, run.folder / f"step-{done:06}.png")
            if stop.is_set() and not painting.is_over:
                painting.save(run.folder / CHECKPOINT)
                break
            if done % (run.save_every or CHECKPOINT_EVERY) == 0:
                painting.save(run.folder / CHECKPOINT)
    except KeyboardInterrupt:  # the second Ctrl-C, in the middle of a step: the last checkpoint stays as it is
        stop.set()
    if not painting.is_over:
        save_painting(painting, painting.best_picture(), run.picture)
        raise Interrupted(_stopped(painting, run))
    advance(painting.steps_left)
    _finish(painting, run, step.images)


def _stopped(painting: Painting, run: Run) -> str:
    text = f"stopped after {painting.done} of {run.config.steps} steps; the best picture so far is {run.picture}"
    if (run.folder / CHECKPOINT).exists():
        return f"{text}, and bahu generate --resume {run.folder} goes on"
    return text


def _finish(painting: Painting, run: Run, images: np.ndarray) -> None:
    """The picture, its SVG and its video; then the folder, unless something in it was asked for."""
    save_painting(painting, images, run.picture)
    with painting.at_rest() as drawer:
        svg = drawer.to_svg()
    if svg is not None:
        run.picture.with_suffix(".svg").write_text(svg, encoding="utf-8")
    if run.video is not None:
        fps = run.config.video.fps or FPS
        if run.config.video.of == "strokes":
            write_video(map(to_uint8, painting.stroke_by_stroke()), run.video, fps=fps)
        else:
            write_video(read_frames(run.becoming), run.video, fps=fps)
            shutil.rmtree(run.becoming)
        note_line(f"video in {run.video}")
    if run.save_every:
        painting.save(run.folder / CHECKPOINT)  # --resume with more --steps goes on from the end
    else:
        shutil.rmtree(run.folder)


def _paint_frames(animation: Animation, run: Run, stop: threading.Event, advance: Callable[..., None]) -> None:
    """Paint frame after frame, and their video; when stopped, the finished frames stay. Raises Interrupted."""
    begin(run)
    finished = animation.done
    try:
        while finished < animation.total and not stop.is_set():
            painting = animation.next_painting()
            for step in painting.steps():
                advance()
                images = step.images
                if stop.is_set():
                    break
            if not painting.is_over:
                break
            advance(painting.steps_left)
            animation.keep(painting)
            save_painting(painting, images, frame_file(run.frames, animation.done), run.config)
            animation.save(run.folder / CHECKPOINT)
            finished = animation.done
    except KeyboardInterrupt:  # the second Ctrl-C
        stop.set()
    if finished < animation.total:
        text = f"stopped after {finished} of {animation.total} frames"
        going_on = f", which are in {run.frames}; bahu generate --resume {run.folder} goes on" if finished else ""
        raise Interrupted(text + going_on)
    if run.video is not None:
        usual = min(max(animation.rate or Fraction(FPS), Fraction(1)), Fraction(MOST_FPS))
        write_video(read_frames(run.frames), run.video, fps=run.config.video.fps or usual)
        note_line(f"video in {run.video}")
    shutil.rmtree(run.folder)
