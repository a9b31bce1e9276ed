"""The work of `bahu generate --with dalle` and `bahu complete`: candidates drawn, ranked by CLIP, the best kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from bahumukha.cli.generate import file_name
from bahumukha.cli.output import note_line, print_json, progress
from bahumukha.cli.pictures import check_out, free, is_png, made_by, numbered, read_settings, sides_of
from bahumukha.data.scene_captions import styled
from bahumukha.errors import Interrupted, UsageError
from bahumukha.generate.dalle import complete, generate, rank
from bahumukha.generate.dalle_config import CompletionConfig, DrawingConfig, check_style, grid_of
from bahumukha.generate.guided_config import merged, seed_number
from bahumukha.generate.video import check_video, write_video
from bahumukha.images import open_image, save_image, to_float01, to_uint8
from bahumukha.protocols import Step
from bahumukha.runtime import stop_signals, thread_count
from bahumukha.sheets import contact_sheet
from bahumukha.train.config import from_table, overridden, to_table

if TYPE_CHECKING:
    from bahumukha.models.vqgan import Codec
    from bahumukha.protocols import ImageTextEncoder
    from bahumukha.zoo.dalle import LoadedDalle

SYSTEM = "dalle"
"""As `--with` names it."""
STOPPING = "stopping after these candidates; once more to stop at once"
AT_ONCE = 16
"""Candidates in a batch; between two batches it can be stopped, and what is finished is kept."""
FPS = 4
"""Frames a second of the video, one a row of tokens."""
HELD = 2 * FPS
"""Frames for which the finished pictures stand at its end."""
FILMED_SIDE = 256
"""About what the pictures of a video are enlarged to, in pixels."""


# --- settings ---------------------------------------------------------------------------------------------


def settings(
    given: dict[str, Any], config: Path | None, overrides: Sequence[str], completion: dict[str, Any] | None = None
) -> DrawingConfig:
    """File < options < --set, checked; `completion`: the options of the table of that name, for `bahu complete` alone.

    Raises UsageError naming the option or the file.
    """
    from_file = {} if config is None else read_settings(config, SYSTEM)
    file, base = ("--set", Path.cwd()) if config is None else (str(config), config.parent.resolve())
    if "size" in given:
        given = given | {"size": sides_of(given["size"])}
    if "seed" in given and given["seed"].strip().isdecimal():
        given = given | {"seed": int(given["seed"])}
    if config is not None and is_png(config) and given.get("pictures", 1) > from_file.get("candidates", 1):
        from_file.pop("candidates", None)  # a picture's own settings draw that one alone
    for name in given.keys() - {"style"}:
        option = {"prompt": "PROMPT", "pictures": "-n"}.get(name, f"--{name}")
        from_table(DrawingConfig, {"prompt": "a", name: given[name]}, option, Path.cwd())
    for name in (completion or {}).keys() - {"picture"}:
        from_table(CompletionConfig, {"picture": "a", name: (completion or {})[name]}, f"--{name}", Path.cwd())
    if completion is not None:
        given = {"completion": completion, **given}
        from_file = {"prompt": "", **from_file}
    table = overridden(merged(from_file, given), overrides)
    _check_complete(table, completion is not None, file)
    return from_table(DrawingConfig, table, file, base)


def _check_complete(table: dict[str, Any], completes: bool, file: str) -> None:
    """Raises UsageError where what a command is about is missing, or what another one is about is there."""
    if not completes and "completion" in table:
        raise UsageError(f"{file}: completion is of bahu complete; take that command")
    if not completes and "prompt" not in table:
        raise UsageError("no PROMPT; say what to show, as bahu generate 'a red fox in the snow' --with dalle")
    if completes and "picture" not in table["completion"]:
        raise UsageError("no IMAGE; say which picture to complete, as bahu complete cat.png 'a cat in a red hat'")


# --- drawing ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """Candidates, in the order of their seeds."""

    images: np.ndarray
    """float32 (N, H, W, 3) in [0, 1]."""
    films: list[np.ndarray]
    """Of each row of tokens uint8 (N, H, W, 3), if there is to be a video."""


@dataclass(frozen=True)
class Models:
    """What takes part."""

    dalle: LoadedDalle
    codec: Codec
    ranking: ImageTextEncoder | None


def draw_pictures(config: DrawingConfig, out: Path, video: Path | None, as_json: bool, command: str) -> None:
    """Draw, rank, save and print; command: what the pictures say they are made by.

    Raises UsageError, ModelError before anything is drawn; Interrupted after Ctrl-C, with what is finished kept.
    """
    started = time.monotonic()
    check_out(out)
    if video is not None:
        check_video(video, FPS)
    models = opened(config)
    with stop_signals(lambda: note_line(STOPPING)) as stop:
        drawn = _drawn(models, config, stop, films=video is not None)
    caption = caption_of(config)
    kept = min(config.pictures, len(drawn.images))
    places: list[int] = list(range(kept))
    scores: list[float | None] = [None] * kept
    if models.ranking is not None:
        ranked = rank(models.ranking, drawn.images, caption, kept)
        places, scores = ranked.places.tolist(), [round(float(score), 4) for score in ranked.scores]
    tiles = []
    for number, (place, score) in enumerate(zip(places, scores, strict=True)):
        seed = config.seed if place == 0 else seed_number(config.seed, place)
        image = Image.fromarray(to_uint8(drawn.images[place]))
        path = numbered(out, number) if is_png(out) else free(out / f"{file_name(config.prompt, seed)}.png")
        # Alone it is the same picture: its random numbers are those of its own seed.
        own = replace(config, seed=seed, pictures=1, candidates=1)
        save_image(image, path, _made_by(command, own, models))
        _show(path, seed, time.monotonic() - started, score, as_json)
        tiles.append((image, f"seed {seed}" if score is None else f"seed {seed}\n{score:.3f}"))
    if len(tiles) > 1:
        _save_sheet(config, tiles, out, caption)
    if video is not None:
        write_video(_frames([film[places] for film in drawn.films]), video, fps=FPS)
        note_line(f"video in {video}")
    if len(drawn.images) < config.drawn:
        best = f"the best {kept} of them are kept" if kept > 1 else "the best of them is kept"
        raise Interrupted(f"stopped after {len(drawn.images)} of {config.drawn} candidates; {best}")


def caption_of(config: DrawingConfig) -> str:
    """What the model is told, and what the candidates are ranked by."""
    return config.prompt if config.style is None else styled(config.prompt, config.style)


def opened(config: DrawingConfig) -> Models:
    """The models of some settings, and that they can do what is asked. Raises ModelError, UsageError."""
    models = models_of(config.model, config.ranking if config.prompt.strip() else "")
    check_style(config.style, models.dalle.styles, config.model)
    grid_of(config.size, models.dalle.model.config.grid, models.codec.downsampling)
    return models


def models_of(name: str, ranking: str) -> Models:
    """A DALL-E with its codec, and a CLIP if one is named; PyTorch takes all the threads it may. Raises ModelError."""
    torch.set_num_threads(thread_count())
    dalle = _dalle(name)
    return Models(dalle, _codec(dalle.codec), _encoder(ranking) if ranking else None)


@cache
def _dalle(name: str) -> LoadedDalle:
    from bahumukha.zoo.dalle import load_dalle

    return load_dalle(name)


@cache
def _codec(name: str) -> Codec:
    from bahumukha.zoo.codecs import load_codec

    return load_codec(name)


@cache
def _encoder(name: str) -> ImageTextEncoder:
    from bahumukha import zoo

    return zoo.load(name)


def _drawn(models: Models, config: DrawingConfig, stop: threading.Event, films: bool) -> Drawn:
    """All candidates, or those of the batches that were finished when `stop` was set. Raises Interrupted for none."""
    images: list[np.ndarray] = []
    filmed: list[list[np.ndarray]] = []
    rows = grid_of(config.size, models.dalle.model.config.grid, models.codec.downsampling)[0]
    with progress(config.drawn, "drawing") as advance:
        for first in range(0, config.drawn, AT_ONCE):
            count = min(AT_ONCE, config.drawn - first)
            film = []
            for step in _steps(models, config, first, count, 1 if films else rows):
                if films:
                    film.append(to_uint8(step.images))
                if stop.is_set():
                    break
            if step.index + 1 == step.total:
                images.append(step.images)
                filmed.append(film)
                advance(count)
            if stop.is_set():
                break
    if not images:
        raise Interrupted("stopped before the first candidates were finished; nothing is kept")
    return Drawn(np.concatenate(images), [np.concatenate(row) for row in zip(*filmed, strict=True)])


def _steps(models: Models, config: DrawingConfig, first: int, count: int, every: int) -> Iterator[Step]:
    """Candidates `first` and after, `count` of them."""
    dalle, codec = models.dalle, models.codec
    prompt = caption_of(config) if config.prompt.strip() else None
    common: dict[str, Any] = {"count": count, "sampling": config.sampling, "every": every}
    common["seed"] = seed_number(config.seed, first)
    grid = grid_of(config.size, dalle.model.config.grid, codec.downsampling)
    completion = config.completion
    if completion is None:
        return generate(dalle, codec, prompt, grid=grid, **common)
    picture = pixels_of(completion, grid, codec.downsampling)
    kind: dict[str, Any] = {"side": completion.side, "keep": completion.keep, "tries": completion.tries}
    return complete(dalle, codec, picture, prompt, **kind, **common)


def pixels_of(completion: CompletionConfig, grid: tuple[int, int], downsampling: int) -> Tensor:
    """The middle of the picture to be completed, (1, 3, H, W) in [-1, 1], of a grid's size. Raises ImageError."""
    size = (grid[1] * downsampling, grid[0] * downsampling)
    image = ImageOps.fit(open_image(completion.picture, at_least=min(size)), size, Image.Resampling.BICUBIC)
    return 2 * torch.from_numpy(to_float01(image)).permute(2, 0, 1)[None] - 1


# --- what is left behind ----------------------------------------------------------------------------------


def _made_by(command: str, config: DrawingConfig, models: Models) -> dict[str, str]:
    named = {config.model: f"{models.dalle.steps} steps", models.dalle.codec: "codec"}
    if models.ranking is not None:
        named[models.ranking.name] = models.ranking.fingerprint
    return made_by(command, to_table(config), **{"with": SYSTEM, "models": named})


def _show(path: Path, seed: int | str, seconds: float, score: float | None, as_json: bool) -> None:
    if as_json:
        print_json({"path": str(path), "seed": seed, "seconds": round(seconds, 2), "score": score})
    else:
        print(f"{path}  seed {seed}, {seconds:.1f} s" + ("" if score is None else f", score {score:.3f}"))


def _save_sheet(config: DrawingConfig, tiles: Sequence[tuple[Image.Image, str]], out: Path, caption: str) -> None:
    """All that were kept on one page, the best first."""
    if is_png(out):
        path = out.with_stem(f"{out.stem}-sheet")
    else:
        path = free(out / f"{file_name(config.prompt, config.seed)}-sheet.png")
    columns = 3 if len(tiles) in (3, 6, 9) else None
    save_image(contact_sheet(tiles, columns=columns, title=caption or None), path)
    note_line(f"all on one page in {path}")


def _frames(films: Sequence[np.ndarray]) -> Iterable[np.ndarray]:
    """Of each row of tokens uint8 (N, H, W, 3) -> frames with all of them side by side, the last one held."""
    count, height, width = films[0].shape[:3]
    columns = int(np.ceil(np.sqrt(count)))
    scale = max(1, FILMED_SIDE // max(height, width))
    holes = -count % columns
    for film in [*films, *[films[-1]] * HELD]:
        cells = np.concatenate([film, np.full((holes, height, width, 3), 255, np.uint8)])
        page = cells.reshape(-1, columns, height, width, 3).swapaxes(1, 2).reshape(-1, columns * width, 3)
        yield page.repeat(scale, axis=0).repeat(scale, axis=1)
