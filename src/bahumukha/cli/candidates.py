"""What the commands share that draw a sentence's candidates, rank them by CLIP and keep the best, whatever draws them.

A system comes as an `Artist`: its models open, its settings checked. Candidates are drawn in batches; between two of
them the work can be stopped, and what is finished is kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from PIL import Image

from bahumukha.cli.generate import file_name
from bahumukha.cli.output import note_line, print_json, progress
from bahumukha.cli.pictures import check_out, free, is_png, made_by, numbered, read_settings, sides_of
from bahumukha.errors import Interrupted
from bahumukha.generate.candidates import CandidatesConfig
from bahumukha.generate.dalle import rank
from bahumukha.generate.guided_config import merged, seed_number
from bahumukha.generate.video import check_video, write_video
from bahumukha.images import save_image, to_uint8
from bahumukha.protocols import Step
from bahumukha.runtime import stop_signals
from bahumukha.sheets import contact_sheet
from bahumukha.train.config import from_table, overridden, to_table

if TYPE_CHECKING:
    from bahumukha.protocols import ImageTextEncoder

T = TypeVar("T")

STOPPING = "stopping after these candidates; once more to stop at once"
LAST_ONLY = 1_000_000
"""As `every` of an artist's steps: more than there can be."""
AT_ONCE = 16
"""Candidates in a batch."""
FPS = 4
"""Frames a second of the video, one a step."""
HELD = 2 * FPS
"""Frames for which the finished pictures stand at its end."""
FILMED_SIDE = 256
"""About what the pictures of a video are enlarged to, in pixels."""


class Artist(Protocol):
    """A system that is ready to draw what its settings ask for."""

    @property
    def system(self) -> str:
        """As `--with` names it."""
        ...

    @property
    def config(self) -> CandidatesConfig:
        """What is asked."""
        ...

    @property
    def ranking(self) -> ImageTextEncoder | None:
        """What orders the candidates."""
        ...

    @property
    def named(self) -> dict[str, str]:
        """Models that take part, and which they are."""
        ...

    def steps(self, first: int, count: int, films: bool) -> Iterator[Step]:
        """Candidates `first` and after, `count` of them; each step if there is to be a film, else the last one."""
        ...


# --- settings ---------------------------------------------------------------------------------------------


def table_of(
    given: dict[str, Any], config: Path | None, overrides: Sequence[str], system: str, command: str | None = None
) -> tuple[dict[str, Any], str, Path]:
    """File < options < --set, unchecked; what messages call it; where its paths begin. A picture as file is one that
    the system made, by this command if one is named. Raises UsageError, ImageError."""
    from_file = {} if config is None else read_settings(config, system, command)
    file, base = ("--set", Path.cwd()) if config is None else (str(config), config.parent.resolve())
    if config is not None and is_png(config) and given.get("pictures", 1) > from_file.get("candidates", 1):
        from_file.pop("candidates", None)  # a picture's own settings draw that one alone
    return overridden(merged(from_file, given), overrides), file, base


def typed(given: dict[str, Any]) -> dict[str, Any]:
    """Options as they were typed -> `size` in numbers, and `seed` too if it is one. Raises UsageError."""
    if "size" in given:
        given = given | {"size": sides_of(given["size"])}
    if "seed" in given and given["seed"].strip().isdecimal():
        given = given | {"seed": int(given["seed"])}
    return given


def check_options(kind: type[Any], given: Mapping[str, Any], options: Mapping[str, str], least: dict[str, Any]) -> None:
    """Each option by itself, so that a message names it and no file; `options`: those not called as their field, and
    `least`: what the settings cannot do without. Raises UsageError."""
    for name in given:
        from_table(kind, least | {name: given[name]}, options.get(name, f"--{name}"), Path.cwd())


# --- drawing ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """Candidates, in the order of their seeds."""

    images: np.ndarray
    """float32 (N, H, W, 3) in [0, 1]."""
    films: list[np.ndarray]
    """Of each step uint8 (N, H, W, 3), if there is to be a video."""


def draw_pictures(opened: Callable[[], Artist], out: Path, video: Path | None, as_json: bool, command: str) -> None:
    """Draw, rank, save and print; command: what the pictures say they are made by.

    Raises UsageError, ModelError before anything is drawn; Interrupted after Ctrl-C, with what is finished kept.
    """
    started = time.monotonic()
    check_places(out, video)
    artist = opened()
    config = artist.config
    with stop_signals(lambda: note_line(STOPPING)) as stop:
        drawn = _drawn(artist, stop, films=video is not None)
    kept = best_of(config, drawn.images, artist.ranking)
    tiles = []
    for number, each in enumerate(kept):
        image, seed, score = Image.fromarray(to_uint8(drawn.images[each.place])), each.seed, each.score
        path = numbered(out, number) if is_png(out) else free(out / f"{file_name(config.prompt, seed)}.png")
        save_image(image, path, made_by(command, each.settings, **{"with": artist.system, "models": artist.named}))
        show(path, seed, time.monotonic() - started, score, as_json)
        tiles.append((image, f"seed {seed}" if score is None else f"seed {seed}\n{score:.3f}"))
    if len(tiles) > 1:
        name = file_name(config.prompt, config.seed)
        save_sheet(tiles, out, name, config.caption, 3 if len(tiles) in (3, 6, 9) else None)
    if video is not None:
        places = [each.place for each in kept]
        save_video([film[places] for film in drawn.films], video)
    if len(drawn.images) < config.drawn:
        best = f"the best {len(kept)} of them are kept" if len(kept) > 1 else "the best of them is kept"
        raise Interrupted(f"stopped after {len(drawn.images)} of {config.drawn} candidates; {best}")


@dataclass(frozen=True)
class Kept:
    """A candidate that is kept."""

    place: int
    """Which one it was."""
    score: float | None
    """What it was ranked by; None where nothing ranks."""
    seed: int | str
    settings: dict[str, Any]
    """Alone it is the same picture: its random numbers are those of its own seed."""


def best_of(config: CandidatesConfig, images: np.ndarray, ranking: ImageTextEncoder | None) -> list[Kept]:
    """Of candidates (N, H, W, 3) in [0, 1] as many as are wanted, the best first, or the first ones."""
    count = min(config.pictures, len(images))
    places: list[int] = list(range(count))
    scores: list[float | None] = [None] * count
    if ranking is not None:
        ranked = rank(ranking, images, config.caption, count)
        places, scores = ranked.places.tolist(), [round(float(score), 4) for score in ranked.scores]
    found = []
    for place, score in zip(places, scores, strict=True):
        seed = config.seed if place == 0 else seed_number(config.seed, place)
        found.append(Kept(place, score, seed, to_table(replace(config, seed=seed, pictures=1, candidates=1))))
    return found


@cache
def encoder(name: str) -> ImageTextEncoder:
    """The CLIP called `name`, once. Raises ModelError."""
    from bahumukha import zoo

    return zoo.load(name)


def _drawn(artist: Artist, stop: threading.Event, films: bool) -> Drawn:
    """All candidates, or those of the batches that were finished when `stop` was set. Raises Interrupted for none."""
    images: list[np.ndarray] = []
    filmed: list[list[np.ndarray]] = []
    total = artist.config.drawn
    with progress(total, "drawing") as advance:
        for first in range(0, total, AT_ONCE):
            count = min(AT_ONCE, total - first)
            film = []
            for step in artist.steps(first, count, films):
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


# --- what is left behind ----------------------------------------------------------------------------------


def check_places(out: Path, video: Path | None) -> None:
    """Raises UsageError where pictures or a video cannot go."""
    check_out(out)
    if video is not None:
        check_video(video, FPS)


def show(
    path: Path, seed: int | str, seconds: float, score: float | None, as_json: bool, facts: Mapping[str, Any] = {}
) -> None:
    """A line about a picture that is finished."""
    if as_json:
        print_json({"path": str(path), "seed": seed, "seconds": round(seconds, 2), "score": score} | dict(facts))
    else:
        print(f"{path}  seed {seed}, {seconds:.1f} s" + ("" if score is None else f", score {score:.3f}"))


def save_sheet(
    tiles: Sequence[tuple[Image.Image, str]], out: Path, name: str, title: str, columns: int | None = None
) -> None:
    """All on one page, beside `--out`; name: of the file, where that is a folder."""
    path = out.with_stem(f"{out.stem}-sheet") if is_png(out) else free(out / f"{name}-sheet.png")
    save_image(contact_sheet(tiles, columns=columns, title=title or None), path)
    note_line(f"all on one page in {path}")


def save_video(films: Sequence[np.ndarray], video: Path) -> None:
    """Of each step uint8 (N, H, W, 3) -> a video of all of them side by side."""
    write_video(_frames(films), video, fps=FPS)
    note_line(f"video in {video}")


def _frames(films: Sequence[np.ndarray]) -> Iterable[np.ndarray]:
    """The last one is held."""
    count, height, width = films[0].shape[:3]
    columns = int(np.ceil(np.sqrt(count)))
    scale = max(1, FILMED_SIDE // max(height, width))
    holes = -count % columns
    for film in [*films, *[films[-1]] * HELD]:
        cells = np.concatenate([film, np.full((holes, height, width, 3), 255, np.uint8)])
        page = cells.reshape(-1, columns, height, width, 3).swapaxes(1, 2).reshape(-1, columns * width, 3)
        yield page.repeat(scale, axis=0).repeat(scale, axis=1)
