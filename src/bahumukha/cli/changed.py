"""The work of `bahu vary`, `blend`, `edit`, `inpaint` and `explore`: given pictures changed by unCLIP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bahumukha.classify import shortest_side
from bahumukha.cli.candidates import check_options, check_places, save_sheet, save_video, show, table_of, typed
from bahumukha.cli.generate import file_name
from bahumukha.cli.output import note_line, progress
from bahumukha.cli.pictures import free, is_png, made_by, numbered
from bahumukha.cli.unclip import SYSTEM, factor_of, named, opened, with_steps
from bahumukha.errors import Interrupted, UsageError
from bahumukha.generate.change_config import CHANGES, ChangeConfig
from bahumukha.generate.unclip import Unclip
from bahumukha.images import open_image, save_image, to_uint8
from bahumukha.runtime import stop_signals
from bahumukha.train.config import from_table, to_table

STOPPING = "stopping after this step; once more to stop at once"
WATCHED = 4
"""Steps after which the progress is told, where no film needs every one."""
FILMED_SIDE = 512
"""About what large pictures are brought down to in a film, in pixels."""

Operands = dict[str, tuple[str, str]]
"""What a command cannot do without: the field of its settings -> its name in the help, and something that fits."""
OPERANDS: dict[str, Operands] = {
    "vary": {"picture": ("IMAGE", "cat.png")},
    "blend": {"first": ("A", "cat.png"), "second": ("B", "dog.png")},
    "edit": {"picture": ("IMAGE", "cat.png"), "source": ("FROM", "'a cat'"), "target": ("TO", "'a lion'")},
    "inpaint": {"picture": ("IMAGE", "cat.png"), "mask": ("MASK", "mask.png"), "prompt": ("PROMPT", "'a red hat'")},
    "explore": {"picture": ("IMAGE", "cat.png")},
}
OPTIONS = {"pictures": "-n", "decoder": "--steps", "strengths": "--strength", "amounts": "--amount"}
OPTIONS |= {"own_noise": "--own-noise"}
"""Fields -> the options that set them, where these are called otherwise."""


def settings(command: str, given: dict[str, Any], config: Path | None, overrides: Sequence[str]) -> ChangeConfig:
    """File < options < --set, checked. Raises UsageError naming the option or the file."""
    kind, operands = CHANGES[command], OPERANDS[command]
    given = with_steps(typed(given))
    names = OPTIONS | {name: metavar for name, (metavar, _) in operands.items()}
    check_options(kind, given, names, {name: "a" for name in operands})
    table, file, base = table_of(given, config, overrides, SYSTEM, command)
    for name, (metavar, _) in operands.items():
        if name not in table:
            example = " ".join(fitting for _, fitting in operands.values())
            raise UsageError(f"no {metavar}; give it, as bahu {command} {example}")
    return from_table(kind, table, file, base)


def change(config: ChangeConfig, out: Path, video: Path | None, as_json: bool, command: str) -> None:
    """Draw, save and print; command: what the pictures say they are made by.

    Raises UsageError, ModelError, ImageError before anything is drawn; Interrupted after Ctrl-C, with what is finished
    kept: a shorter strip.
    """
    started = time.monotonic()
    check_places(out, video)
    sources = [reader(224)(path) for path in config.sources]
    unclip = opened(config)
    with stop_signals(lambda: note_line(STOPPING)) as stop:
        drawn = _drawn(unclip, config, stop, films=video is not None)
    images = [Image.fromarray(rgb) for rgb in drawn.pictures]
    scores, likeness = scored(unclip, config, sources, images)
    name = "-".join(path.stem for path in config.sources)
    tiles = []
    for place, image in enumerate(images):
        own, made = config.alone(place), config.made(place)
        path = numbered(out, place) if is_png(out) else free(out / f"{_own_name(config, name, place)}.png")
        facts = {"with": SYSTEM, "models": named(unclip, config)} | ({"place": place} if config.is_strip else {})
        save_image(image, path, made_by(command, to_table(own), **facts))
        told = made.facts | {"likeness": [round(float(each), 4) for each in likeness[place]]}
        show(path, own.seed, time.monotonic() - started, round(float(scores[place]), 4), as_json, told)
        tiles.append((image, f"{made.label}\n{scores[place]:.3f}"))
    given = [(source, path.name) for source, path in zip(sources, config.sources, strict=True)]
    columns = None if len(tiles) > 9 or not config.is_strip else len(tiles) + len(given)
    save_sheet(given[:1] + tiles + given[1:], out, file_name(name, config.seed), config.caption, columns)
    if video is not None:
        save_video(drawn.films, video)
    if len(images) < config.count:
        raise Interrupted(f"stopped after {len(images)} of {config.count} pictures; they are kept")


@dataclass(frozen=True)
class _Drawn:
    pictures: np.ndarray
    """uint8 (N, H, W, 3)."""
    films: list[np.ndarray]
    """Of each step the same, smaller if need be, if there is to be a video."""


def _drawn(unclip: Unclip, config: ChangeConfig, stop: threading.Event, films: bool) -> _Drawn:
    """All pictures, or those of the parts that were finished when `stop` was set. Raises UsageError, ImageError;
    Interrupted for none."""
    read = reader(max(shortest_side(unclip.encoder) or 0, unclip.size))
    calls = config.decoder.steps + (config.upsampler.steps if factor_of(unclip, config) > 1 else 0)
    images: list[np.ndarray] = []
    filmed: list[list[np.ndarray]] = []
    every = 1 if films else WATCHED
    with progress(None, "beginning"):  # a picture's noise is looked for, or strips are compared
        parts = config.parts(unclip, read, every)
    with progress(len(parts) * -(-calls // every), "drawing") as advance:
        for part in parts:
            film = []
            for step in part:
                advance()
                if films:
                    apart = -(-max(step.images.shape[1:3]) // FILMED_SIDE)
                    film.append(to_uint8(step.images[:, ::apart, ::apart]))
                if stop.is_set():
                    break
            if step.index + 1 == step.total:
                images.append(to_uint8(step.images))
                filmed.append(film)
            if stop.is_set():
                break
    if not images:
        raise Interrupted("stopped before the first pictures were finished; nothing is kept")
    return _Drawn(np.concatenate(images), [np.concatenate(row) for row in zip(*filmed, strict=True)])


def reader(side: int) -> Callable[[Path], Image.Image]:
    """Files as the project reads them: upright, on white, in 8 bits; large ones no larger than they need be."""
    return lambda path: open_image(path, at_least=side)


def scored(
    unclip: Unclip, config: ChangeConfig, sources: Sequence[Image.Image], images: Sequence[Image.Image]
) -> tuple[np.ndarray, np.ndarray]:
    """Of each result the cosine with the caption, or with the first source where there is none, (N,); and the cosines
    with all sources, (N, sources)."""
    rows = unclip.encoder.encode_images(images)
    likeness = rows @ unclip.encoder.encode_images(sources).T
    if not config.caption:
        return likeness[:, 0], likeness
    return rows @ unclip.encoder.encode_texts([config.caption])[0], likeness


def _own_name(config: ChangeConfig, name: str, place: int) -> str:
    """Of a result's file."""
    return file_name(name, f"{config.seed}-{place + 1}" if config.is_strip else config.alone(place).seed)
