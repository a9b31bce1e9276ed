"""The work of `bahu generate --with dalle` and `bahu complete`: candidates drawn token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image, ImageOps
from torch import Tensor

from bahumukha.cli.candidates import check_options, encoder, table_of, typed
from bahumukha.cli.candidates import draw_pictures as draw_candidates
from bahumukha.errors import UsageError
from bahumukha.generate.candidates import check_style
from bahumukha.generate.dalle import complete, generate
from bahumukha.generate.dalle_config import CompletionConfig, DrawingConfig, grid_of
from bahumukha.generate.guided_config import seed_number
from bahumukha.images import open_image, to_float01
from bahumukha.protocols import Step
from bahumukha.runtime import thread_count
from bahumukha.train.config import from_table

if TYPE_CHECKING:
    from bahumukha.models.vqgan import Codec
    from bahumukha.protocols import ImageTextEncoder
    from bahumukha.zoo.dalle import LoadedDalle

SYSTEM = "dalle"
"""As `--with` names it."""


# --- settings ---------------------------------------------------------------------------------------------


def settings(
    given: dict[str, Any], config: Path | None, overrides: Sequence[str], completion: dict[str, Any] | None = None
) -> DrawingConfig:
    """File < options < --set, checked; `completion`: the options of the table of that name, for `bahu complete` alone.

    Raises UsageError naming the option or the file.
    """
    given = typed(given)
    plain = {name: value for name, value in given.items() if name != "style"}
    check_options(DrawingConfig, plain, {"prompt": "PROMPT", "pictures": "-n"}, {"prompt": "a"})
    if completion is not None:
        plain = {name: value for name, value in completion.items() if name != "picture"}
        check_options(CompletionConfig, plain, {}, {"picture": "a"})
        given = {"completion": completion, **given}
    table, file, base = table_of(given, config, overrides, SYSTEM)
    if completion is not None:
        table = {"prompt": "", **table}
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
class Models:
    """What takes part."""

    dalle: LoadedDalle
    codec: Codec
    ranking: ImageTextEncoder | None


def draw_pictures(config: DrawingConfig, out: Path, video: Path | None, as_json: bool, command: str) -> None:
    """See `candidates.draw_pictures`."""
    draw_candidates(lambda: DalleArtist(config), out, video, as_json, command)


class DalleArtist:
    """See `candidates.Artist`. Raises ModelError, UsageError where the models cannot do what is asked."""

    system = SYSTEM

    def __init__(self, config: DrawingConfig):
        self.config = config
        self.models = models_of(config.model, config.ranking if config.prompt.strip() else "")
        check_style(config.style, self.models.dalle.styles, config.model)
        self.grid = grid_of(config.size, self.models.dalle.model.config.grid, self.models.codec.downsampling)

    @property
    def ranking(self) -> ImageTextEncoder | None:
        """What orders the candidates."""
        return self.models.ranking

    @property
    def named(self) -> dict[str, str]:
        """Models that take part."""
        named = {self.config.model: f"{self.models.dalle.steps} steps", self.models.dalle.codec: "codec"}
        return named | ({} if self.ranking is None else {self.ranking.name: self.ranking.fingerprint})

    def steps(self, first: int, count: int, films: bool) -> Iterator[Step]:
        """A step is a row of tokens."""
        dalle, codec, config = self.models.dalle, self.models.codec, self.config
        prompt = config.caption if config.prompt.strip() else None
        common: dict[str, Any] = {"count": count, "sampling": config.sampling, "seed": seed_number(config.seed, first)}
        common["every"] = 1 if films else self.grid[0]
        completion = config.completion
        if completion is None:
            return generate(dalle, codec, prompt, grid=self.grid, **common)
        picture = pixels_of(completion, self.grid, codec.downsampling)
        kind: dict[str, Any] = {"side": completion.side, "keep": completion.keep, "tries": completion.tries}
        return complete(dalle, codec, picture, prompt, **kind, **common)


def models_of(name: str, ranking: str) -> Models:
    """A DALL-E with its codec, and a CLIP if one is named; PyTorch takes all the threads it may. Raises ModelError."""
    torch.set_num_threads(thread_count())
    dalle = _dalle(name)
    return Models(dalle, _codec(dalle.codec), encoder(ranking) if ranking else None)


@cache
def _dalle(name: str) -> LoadedDalle:
    from bahumukha.zoo.dalle import load_dalle

    return load_dalle(name)


@cache
def _codec(name: str) -> Codec:
    from bahumukha.zoo.codecs import load_codec

    return load_codec(name)


def pixels_of(completion: CompletionConfig, grid: tuple[int, int], downsampling: int) -> Tensor:
    """The middle of the picture to be completed, (1, 3, H, W) in [-1, 1], of a grid's size. Raises ImageError."""
    size = (grid[1] * downsampling, grid[0] * downsampling)
    image = ImageOps.fit(open_image(completion.picture, at_least=min(size)), size, Image.Resampling.BICUBIC)
    return 2 * torch.from_numpy(to_float01(image)).permute(2, 0, 1)[None] - 1
