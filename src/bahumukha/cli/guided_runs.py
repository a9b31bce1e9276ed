"""Runs of `bahu generate --with vqgan-clip` on disk: where each one's pictures go, and what a stopped one needs.

A run's folder stands beside its picture, `NAME.run` beside `NAME.png`:

    run.json           settings, the picture's path, the video's, how often to save
    checkpoint.pt      what to go on from, while it is not finished or --save-every asks for it
    step-000050.png    of --save-every
    frames/            of --video, until the video is written: a run that was stopped has its whole video as well

It goes when the picture is finished and nothing was asked to be kept. A run over frames or under a camera has no one
picture: its frames are `NAME.frames/000001.png` and so on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bahumukha.cli.generate import file_name
from bahumukha.cli.pictures import check_out, free, is_png, made_by, numbered
from bahumukha.errors import ModelError, UsageError
from bahumukha.generate.guided import Painting
from bahumukha.generate.guided_config import GuidedConfig, seed_number
from bahumukha.generate.video import FPS, check_video
from bahumukha.images import open_image, save_image, shown, to_uint8
from bahumukha.train.config import from_table, to_table

RECORD, CHECKPOINT, FRAMES = "run.json", "checkpoint.pt", "frames"
SYSTEM = "vqgan-clip"
"""As `--with` names it."""


@dataclass(frozen=True)
class Run:
    """One picture to be painted, or the frames of one video."""

    config: GuidedConfig
    picture: Path
    video: Path | None = None
    save_every: int | None = None
    going_on: bool = False
    """From the checkpoint in its folder."""

    @property
    def folder(self) -> Path:
        """Where it keeps what it needs to go on."""
        return self.picture.with_suffix(".run")

    @property
    def frames(self) -> Path:
        """Where the frames go that are the result, where there is no one picture."""
        return self.picture.with_suffix(".frames")

    @property
    def becoming(self) -> Path:
        """Where the steps of a picture are kept until its video is written."""
        return self.folder / FRAMES


def new_runs(config: GuidedConfig, out: Path, count: int, video: Path | None, save_every: int | None) -> list[Run]:
    """`count` runs with seeds that follow one another, none over the pictures that are there. Raises UsageError."""
    if video is not None:
        check_video(video, config.video.fps or FPS)
    if save_every and config.is_sequence:
        raise UsageError("--save-every is for one picture; of a video's frames each is kept as it is finished")
    check_out(out)
    runs: list[Run] = []
    for k in range(count):
        # The first keeps the seed as it was typed; the others are numbers.
        seed = config.seed if k == 0 else seed_number(config.seed, k)
        one = replace(config, seed=seed)
        if is_png(out):
            picture = numbered(out, k)
        else:
            picture = free(out / f"{file_name(config.prompt, seed)}.png", ".run", ".frames")
        runs.append(Run(one, picture, video and numbered(video, k), save_every))
    return runs


def resumed(folder: Path, steps: int | None) -> Run:
    """The run in a folder, to go on with. Raises ModelError, UsageError."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        table = record["settings"] | ({} if steps is None else {"steps": steps})
        name, video, save_every = record["picture"], record["video"], record["save_every"]
    except FileNotFoundError as error:
        raise ModelError(f"{shown(folder)}: holds no {RECORD}, so there is no run to go on with; start one") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{shown(path)}: is damaged; start the run anew") from error
    config = from_table(GuidedConfig, table, str(path), Path.cwd())
    return Run(config, folder.parent / name, video and Path(video), save_every, going_on=True)


def begin(run: Run) -> None:
    """The run's folder, with all that --resume needs to know. What an older one of the same name left is gone."""
    try:
        if not run.going_on:
            if run.folder.exists():
                shutil.rmtree(run.folder)
            for path in frame_files(run.frames) if run.config.is_sequence else []:
                path.unlink()
        run.folder.mkdir(parents=True, exist_ok=True)
        record = {
            "settings": to_table(run.config),
            "picture": run.picture.name,
            "video": None if run.video is None else str(run.video.absolute()),
            "save_every": run.save_every,
        }
        (run.folder / RECORD).write_text(json.dumps(record, ensure_ascii=False, indent=1), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{shown(run.folder)}: cannot be written ({error.strerror or error})") from error


def frame_files(folder: Path) -> list[Path]:
    """The frames in a folder, in order; none where there is no folder."""
    return sorted(folder.glob(f"{'[0-9]' * 6}.png"))


def frame_file(folder: Path, number: int) -> Path:
    """Of the frame with a number, counted from 1."""
    return folder / f"{number:06}.png"


def read_frames(folder: Path) -> Iterator[np.ndarray]:
    """The frames in a folder as `write_video` takes them."""
    for path in frame_files(folder):
        yield np.asarray(open_image(path))


# --- pictures ---------------------------------------------------------------------------------------------


def save_painting(painting: Painting, images: np.ndarray, path: Path, config: GuidedConfig | None = None) -> None:
    """The first of the pictures, float32 (B, H, W, 3) in [0, 1], enlarged as asked, with all its settings inside.

    `config`: settings other than the painting's own, of the video whose frame it is.
    """
    config = config or painting.config
    image = as_image(images)
    if config.upscale > 1:
        image = image.resize((image.width * config.upscale, image.height * config.upscale), Image.Resampling.LANCZOS)
    models = {encoder.name: encoder.fingerprint for encoder in painting.encoders}
    facts: dict[str, Any] = {"with": SYSTEM, "models": models, "steps_done": painting.done}
    save_image(image, path, made_by("generate", to_table(config), **facts))


def as_image(images: np.ndarray) -> Image.Image:
    """The first of the pictures, float32 (B, H, W, 3) in [0, 1]."""
    return Image.fromarray(to_uint8(images[0]))
