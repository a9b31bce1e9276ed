"""Jobs that draw pictures of a sentence by the dozen and keep the best, and jobs that change pictures that were made.

What they do is what `bahu generate --with dalle|unclip` and `bahu vary|blend|edit` do, and the pictures hold the same
settings: each command makes its picture again.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bahumukha.errors import ModelError, UsageError
from bahumukha.protocols import Step
from bahumukha.web.kinds import Made, News
from bahumukha.web.weights import MADE_BY, weights_of

if TYPE_CHECKING:
    from bahumukha.cli.candidates import Artist

EACH = {"draft": 1, "normal": 4, "better": 8, "best": 16}
"""Candidates for each picture that is kept, by quality."""
PICTURES = {"vary": ("picture",), "blend": ("first", "second"), "edit": ("picture",)}
"""Settings of a change that are pictures: {"job": ID, "number": 1}."""
FILMED_SIDE = 256
"""About what the pictures of a video are enlarged to, in pixels."""


def draw_tokens(settings: Mapping[str, Any], folder: Path) -> Iterator[News]:
    """`bahu generate --with dalle`. Raises UsageError, ModelError."""
    from bahumukha.cli import drawn

    config = drawn.settings(*_asked(settings, "dalle"))
    return _best(drawn.DalleArtist(config), settings, folder)


def draw_embeddings(settings: Mapping[str, Any], folder: Path) -> Iterator[News]:
    """`bahu generate --with unclip`. Raises UsageError, ModelError."""
    from bahumukha.cli import unclip

    config = unclip.settings(*_asked(settings, "unclip"))
    return _best(unclip.artist(config), settings, folder)


def _asked(settings: Mapping[str, Any], kind: str) -> tuple[dict[str, Any], None, list[str]]:
    """As the command line is given it: options, no file, and what `--set` has."""
    count = settings.get("count", 1)
    given = {name: settings[name] for name in ("prompt", "seed", "size", "style") if settings.get(name) is not None}
    candidates = f"candidates={count * EACH[settings['quality']]}"
    return given | {"pictures": count, "model": _model(kind)}, None, [candidates, *settings.get("set", ())]


def _model(kind: str) -> str:
    weights = weights_of(kind)
    if weights is None:
        raise ModelError(f"{kind} has no weights on this machine: {MADE_BY[kind]}")
    return weights.name


def _best(artist: Artist, settings: Mapping[str, Any], folder: Path) -> Iterator[News]:
    """Candidates in batches, then the best of them, best first."""
    from PIL import Image

    from bahumukha.cli.candidates import AT_ONCE, FPS, best_of
    from bahumukha.cli.pictures import made_by
    from bahumukha.generate.video import write_video
    from bahumukha.images import save_image, to_uint8

    config, started = artist.config, time.monotonic()
    drawn, films = yield from _drawn(artist, AT_ONCE, bool(settings.get("video")))
    for number, each in enumerate(best_of(config, drawn, artist.ranking), 1):
        place, image = each.place, Image.fromarray(to_uint8(drawn[each.place]))
        made = made_by("generate", each.settings, **_with(artist.system, artist.named))
        save_image(image, folder / f"{number}.png", made)
        facts = _facts(each.seed, each.score, started, image)
        if settings.get("video"):
            frames = [_enlarged(frame[place % AT_ONCE]) for frame in films[place // AT_ONCE]]
            write_video(frames, folder / f"{number}.mp4", fps=FPS)
            facts["video"] = f"{number}.mp4"
        yield Made(f"{number}.png", facts)


Films = list[list[np.ndarray]]
"""Of each batch of candidates uint8 (N, H, W, 3) at each step."""


def _drawn(artist: Artist, at_once: int, films: bool) -> Generator[Step, None, tuple[np.ndarray, Films]]:
    """-> all candidates, float32 (N, H, W, 3) in [0, 1], and their becoming if it is asked for."""
    from bahumukha.images import to_uint8

    total = artist.config.drawn
    batches = -(-total // at_once)
    images: list[np.ndarray] = []
    filmed: Films = []
    for batch in range(batches):
        first, film = batch * at_once, []
        for step in artist.steps(first, min(at_once, total - first), True):
            yield Step(batch * step.total + step.index, batches * step.total, step.images, step.losses)
            if films:
                film.append(to_uint8(step.images))
        images.append(step.images)
        filmed.append(film)
    return np.concatenate(images), filmed


def change(command: str, settings: Mapping[str, Any], folder: Path) -> Iterator[News]:
    """`bahu vary`, `blend` or `edit`, of pictures of other jobs. Raises UsageError, ModelError, ImageError."""
    from PIL import Image

    from bahumukha.classify import shortest_side
    from bahumukha.cli import changed, unclip
    from bahumukha.cli.pictures import made_by
    from bahumukha.images import save_image, to_uint8
    from bahumukha.train.config import to_table

    started = time.monotonic()
    names = PICTURES[command]
    sources = {name: _source(settings[name], folder) for name in names}
    plain = ("seed", "far", "own_noise", "source", "target")
    given: dict[str, Any] = {name: settings[name] for name in plain if settings.get(name) is not None}
    given |= {"pictures": settings["count"]} if "count" in settings else {}
    given |= sources | {"model": _model("unclip")}
    config = changed.settings(command, given, None, settings.get("set", ()))
    networks = unclip.opened(config)
    read = changed.reader(max(shortest_side(networks.encoder) or 0, networks.size))
    for step in config.steps(networks, read, 1):
        yield step
    images = [Image.fromarray(pixels) for pixels in to_uint8(step.images)]
    scores, _ = changed.scored(networks, config, [read(path) for path in config.sources], images)
    for place, image in enumerate(images):
        own = config.alone(place)
        # Named from where the picture lies, so that it can be made again wherever the results are moved to.
        table = to_table(own) | {name: _beside(settings[name]) for name in names}
        facts = _with(unclip.SYSTEM, unclip.named(networks, config)) | ({"place": place} if config.is_strip else {})
        save_image(image, folder / f"{place + 1}.png", made_by(command, table, **facts))
        yield Made(f"{place + 1}.png", _facts(own.seed, round(float(scores[place]), 4), started, image))


def _source(picture: Mapping[str, Any], folder: Path) -> Path:
    path = folder.parent / picture["job"] / f"{picture['number']}.png"
    if not path.is_file():
        raise UsageError("the picture that this begins with was deleted")
    return path


def _beside(picture: Mapping[str, Any]) -> str:
    return f"../{picture['job']}/{picture['number']}.png"


def _with(system: str, models: Mapping[str, str]) -> dict[str, Any]:
    return {"with": system, "models": dict(models)}


def _facts(seed: int | str, score: float | None, started: float, image: Any) -> dict[str, Any]:
    """What is told of a finished picture."""
    told = {"seed": seed, "score": score, "seconds": round(time.monotonic() - started, 1)}
    return told | {"width": image.width, "height": image.height}


def _enlarged(frame: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3), each pixel as a square."""
    scale = max(1, FILMED_SIDE // max(frame.shape[:2]))
    return frame.repeat(scale, axis=0).repeat(scale, axis=1)
