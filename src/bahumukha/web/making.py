"""How each kind of job is done, in the worker: painting a sentence, indexing folders; drawing is in `drawing`.

A kind takes the job's settings and its folder, and is a generator of what is to be told (`kinds.News`). A finished
picture holds its settings, as those of `bahu generate` do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bahumukha.protocols import Step
from bahumukha.web import drawing
from bahumukha.web.kinds import Kind, Made, News

if TYPE_CHECKING:
    from bahumukha.generate.guided import Encoder
    from bahumukha.models.vqgan import Codec

MOST_FRAMES = 240
"""Of a video of a picture's becoming; of more steps some are left out."""


def paint(settings: Mapping[str, Any], folder: Path) -> Iterator[News]:
    """`bahu generate --with vqgan-clip`: `count` pictures, seeds that follow one another. Raises UsageError."""
    import torch

    from bahumukha.cli import guided
    from bahumukha.cli.guided_runs import save_painting
    from bahumukha.generate.guided import Painting
    from bahumukha.generate.guided_config import seed_number
    from bahumukha.generate.video import write_video
    from bahumukha.images import to_uint8
    from bahumukha.runtime import thread_count

    torch.set_num_threads(thread_count())
    named = ("prompt", "seed", "size", "steps", "drawer")
    given = {name: settings[name] for name in named if settings.get(name) is not None}
    config = guided.settings(given, settings["quality"], None, settings.get("set", ()))
    encoders = [_encoder(name) for name in config.models]
    codec = _codec(config.codec) if config.drawer == "vqgan" else None
    count = settings.get("count", 1)
    for k in range(count):
        started = time.monotonic()
        # The first keeps the seed as it was typed; the others are numbers.
        one = config if k == 0 else replace(config, seed=seed_number(config.seed, k))
        painting = Painting(one, encoders, codec=codec)
        frames = []
        for step in painting.steps():
            yield Step(k * config.steps + step.index, count * config.steps, step.images, step.losses)
            if settings.get("video") and step.index % -(-config.steps // MOST_FRAMES) == 0:
                frames.append(to_uint8(step.images[0]))
        picture = folder / f"{k + 1}.png"
        save_painting(painting, step.images, picture)
        facts = {"seed": one.seed, "score": round(painting.score(), 4), "seconds": round(time.monotonic() - started, 1)}
        height, width = (side * config.upscale for side in step.images.shape[1:3])
        if frames:
            write_video([*frames, to_uint8(step.images[0])], picture.with_suffix(".mp4"))
            facts["video"] = f"{k + 1}.mp4"
        yield Made(picture.name, facts | {"width": width, "height": height})


def index(settings: Mapping[str, Any], folder: Path) -> Iterator[News]:
    """`bahu index`. Raises ModelMismatch, PictureIndexError, UsageError."""
    from bahumukha.search import IndexReport, PictureIndex

    pictures = PictureIndex(settings["index"], settings.get("model"))
    told = 0.0
    for step in pictures.index_steps(settings["folders"]):
        if isinstance(step, IndexReport):
            yield {"report": step.to_json(), "notices": step.notices}
        elif time.monotonic() - told > 0.25:
            told = time.monotonic()
            yield {"done": step.done, "total": step.total}


@cache
def _encoder(name: str) -> Encoder:
    from bahumukha.zoo.pytorch import TorchClip

    return TorchClip(name)


@cache
def _codec(name: str) -> Codec:
    from bahumukha.zoo.codecs import load_codec

    return load_codec(name)


KINDS: dict[str, Kind] = {
    "vqgan-clip": paint,
    "dalle": drawing.draw_tokens,
    "unclip": drawing.draw_embeddings,
    **{command: partial(drawing.change, command) for command in drawing.PICTURES},
    "index": index,
}
"""Kind of job -> the generator that does it."""
