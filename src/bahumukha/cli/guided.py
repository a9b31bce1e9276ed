"""The work of `bahu generate --with vqgan-clip`: settings from everywhere, runs in their folders, pictures on disk.

A run's folder stands beside its picture, `NAME.run` beside `NAME.png`:

    run.json           settings, the picture's path, the video's, how often to save
    checkpoint.pt      what to go on from, while it is not finished or --save-every asks for it
    step-000050.png    of --save-every
    frames/            of --video, until the video is written: a run that was stopped has its whole video as well

It goes when the picture is finished and nothing was asked to be kept.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from bahumukha import __version__
from bahumukha.cli.generate import file_name
from bahumukha.cli.output import note_line, print_json, progress
from bahumukha.errors import Interrupted, ModelError, UsageError
from bahumukha.generate.guided import Encoder, Painting
from bahumukha.generate.guided_config import (
    ASPECTS,
    GuidedConfig,
    merged,
    quality_table,
    seed_number,
)
from bahumukha.generate.video import check_video, write_video
from bahumukha.images import open_image, save_image, shown, to_uint8
from bahumukha.runtime import thread_count
from bahumukha.train.config import from_table, overridden, read_table, to_table

if TYPE_CHECKING:
    from bahumukha.models.vqgan import Codec

RECORD, CHECKPOINT, FRAMES = "run.json", "checkpoint.pt", "frames"
CHECKPOINT_EVERY = 50
"""Steps; without --save-every."""
METADATA = "bahumukha"
"""Key of a PNG's text that holds how it was made."""
FPS = 15


@dataclass(frozen=True)
class Run:
    """One picture to be painted."""

    config: GuidedConfig
    picture: Path
    video: Path | None = None
    save_every: int | None = None
    going_on: bool = False
    """From the checkpoint in its folder."""

    @property
    def folder(self) -> Path:
        return self.picture.with_suffix(".run")


# --- settings ---------------------------------------------------------------------------------------------


def settings(given: dict[str, Any], quality: str, config: Path | None, overrides: Sequence[str]) -> GuidedConfig:
    """Tier < file < options < --set, checked. Raises UsageError naming the option or the file."""
    from_file = {} if config is None else _table(config)
    file, base = ("--set", Path.cwd()) if config is None else (str(config), config.parent.resolve())
    if "size" in given:
        given = given | {"size": _size(given["size"], quality_table(quality)["size"])}
    if "seed" in given and given["seed"].strip().isdecimal():
        given = given | {"seed": int(given["seed"])}
    table = overridden(merged(merged(quality_table(quality), from_file), given), overrides)
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


def _table(file: Path) -> dict[str, Any]:
    """The settings in a TOML file, or in a PNG that this command wrote."""
    return read_settings(file) if file.suffix.lower() == ".png" else read_table(file)


def read_settings(picture: Path) -> dict[str, Any]:
    """The settings that a picture of `bahu generate` holds. Raises UsageError, ImageError."""
    open_image(picture)  # what cannot be read is named in the usual words
    with Image.open(picture) as image:
        text = getattr(image, "text", {}).get(METADATA, "")
    try:
        made = json.loads(text)
        found = made["settings"]
    except (ValueError, TypeError, KeyError):
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"{shown(picture)}: holds no settings of bahu generate; give a picture that it made, or TOML")
    return found


def _size(text: str, usual: tuple[int, int]) -> list[int]:
    """`256x192`, `256`, or the name of a shape with the area of the usual size -> width and height."""
    if text in ASPECTS:
        across, down = ASPECTS[text]
        ideal = (usual[0] * usual[1] * across / down) ** 0.5
        width = max(16, round(ideal / 16) * 16)  # whole codes of any codec
        return [width, max(16, round(width * down / across / 16) * 16)]
    sides = text.lower().replace("×", "x").split("x")
    if not all(side.strip().isdecimal() for side in sides) or len(sides) > 2:
        raise UsageError(f"--size {text}: it is WxH in pixels, as 256x192, or one of {', '.join(ASPECTS)}")
    numbers = [int(side) for side in sides]
    return numbers * 2 if len(numbers) == 1 else numbers


# --- runs -------------------------------------------------------------------------------------------------


def new_runs(config: GuidedConfig, out: Path, count: int, video: Path | None, save_every: int | None) -> list[Run]:
    """`count` runs with seeds that follow one another, none over the pictures that are there. Raises UsageError."""
    if video is not None:
        check_video(video, FPS)
    if out.suffix and not out.is_dir() and out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}: a folder, or a file that ends in .png, as only a PNG holds its settings")
    runs: list[Run] = []
    for k in range(count):
        # The first keeps the seed as it was typed; the others are numbers.
        seed = config.seed if k == 0 else seed_number(config.seed, k)
        one = replace(config, seed=seed)
        if out.suffix.lower() == ".png":
            picture = _numbered(out, k)
        else:
            picture = _free(out / f"{file_name(config.prompt, seed)}.png")
        runs.append(Run(one, picture, video and _numbered(video, k), save_every))
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


def _numbered(path: Path, k: int) -> Path:
    return path if k == 0 else path.with_stem(f"{path.stem}-{k + 1}")


def _free(path: Path) -> Path:
    """The path, with a number if there is a picture or a run of that name."""
    number, free = 1, path
    while free.exists() or free.with_suffix(".run").exists():
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free


# --- painting ---------------------------------------------------------------------------------------------


def paint_runs(runs: Sequence[Run], stop: threading.Event, as_json: bool) -> None:
    """Paint one after another and print what came of each. Raises Interrupted when `stop` was set."""
    torch.set_num_threads(thread_count())
    with progress(sum(run.config.steps for run in runs), "painting") as advance:
        for number, run in enumerate(runs):
            if stop.is_set():
                raise Interrupted(f"stopped: {number} of {len(runs)} pictures are finished")
            started = time.monotonic()
            painting = _opened(run)
            advance(painting.done)
            _paint(painting, run, stop, advance)
            seconds, score = time.monotonic() - started, painting.score()
            if as_json:
                made = {"path": str(run.picture), "seed": run.config.seed}
                print_json(made | {"seconds": round(seconds, 2), "score": round(score, 4)})
            else:
                print(f"{run.picture}  seed {run.config.seed}, {seconds:.0f} s, score {score:.3f}")


def _opened(run: Run) -> Painting:
    """At its start, or where its checkpoint left it."""
    config = run.config
    codec = _codec(config.codec) if config.drawer == "vqgan" else None
    painting = Painting(config, [_encoder(name) for name in config.models], codec=codec)
    if run.going_on:
        painting.load(run.folder / CHECKPOINT)
        if painting.done > config.steps:
            raise UsageError(f"--steps {config.steps}: this run has done {painting.done} already; give as many or more")
    return painting


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
    _begin(run)
    try:
        for step in painting.steps():
            advance()
            done = step.index + 1
            if run.video is not None:
                save_image(_image(step.images), run.folder / FRAMES / f"{done:06}.png")
            if run.save_every and done % run.save_every == 0:
                _save(painting, step.images, run.folder / f"step-{done:06}.png")
            if stop.is_set() and done < step.total:
                painting.save(run.folder / CHECKPOINT)
                break
            if done % (run.save_every or CHECKPOINT_EVERY) == 0:
                painting.save(run.folder / CHECKPOINT)
    except KeyboardInterrupt:  # the second Ctrl-C, in the middle of a step: the last checkpoint stays as it is
        stop.set()
    if painting.done < run.config.steps:
        _save(painting, painting.best_picture(), run.picture)
        raise Interrupted(_stopped(painting, run))
    _finish(painting, run, step.images)


def _begin(run: Run) -> None:
    """The run's folder, with all that --resume needs to know. An older run of the same name is gone."""
    try:
        if run.folder.exists() and not run.going_on:
            shutil.rmtree(run.folder)
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


def _stopped(painting: Painting, run: Run) -> str:
    text = f"stopped after {painting.done} of {run.config.steps} steps; the best picture so far is {run.picture}"
    if (run.folder / CHECKPOINT).exists():
        return f"{text}, and bahu generate --resume {run.folder} goes on"
    return text


def _finish(painting: Painting, run: Run, images: np.ndarray) -> None:
    """The picture, its SVG and its video; then the folder, unless something in it was asked for."""
    _save(painting, images, run.picture)
    if (svg := painting.drawer.to_svg()) is not None:
        run.picture.with_suffix(".svg").write_text(svg, encoding="utf-8")
    if run.video is not None:
        write_video(_frames(run.folder / FRAMES), run.video, fps=FPS)
        shutil.rmtree(run.folder / FRAMES)
        note_line(f"video in {run.video}")
    if run.save_every:
        painting.save(run.folder / CHECKPOINT)  # --resume with more --steps goes on from the end
    else:
        shutil.rmtree(run.folder)


def _frames(folder: Path) -> Iterator[np.ndarray]:
    for path in sorted(folder.glob("*.png")):
        yield np.asarray(open_image(path))


# --- pictures ---------------------------------------------------------------------------------------------


def _save(painting: Painting, images: np.ndarray, path: Path) -> None:
    """The first of the pictures, float32 (B, H, W, 3) in [0, 1], enlarged as asked, with all its settings inside."""
    config = painting.config
    image = _image(images)
    if config.upscale > 1:
        image = image.resize((image.width * config.upscale, image.height * config.upscale), Image.Resampling.LANCZOS)
    made = {
        "command": "generate",
        "with": "vqgan-clip",
        "version": __version__,
        "models": {encoder.name: encoder.fingerprint for encoder in painting.encoders},
        "steps_done": painting.done,
        "settings": to_table(config),
    }
    save_image(image, path, {METADATA: json.dumps(made, ensure_ascii=False)})


def _image(images: np.ndarray) -> Image.Image:
    return Image.fromarray(to_uint8(images[0]))
