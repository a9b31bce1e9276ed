"""The configs of `starter/unclip`: they can be read, and come to the size that is planned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bahumukha.models.denoiser import Denoiser
from bahumukha.models.prior import DiffusionPrior
from bahumukha.train.config import read_config
from bahumukha.train.dalle_config import DalleTraining
from bahumukha.train.unclip_config import (
    DecoderSizes,
    DecoderTraining,
    DiffusionSizes,
    PriorTraining,
    UpsamplerSizes,
    UpsamplerTraining,
)

CONFIGS = Path(__file__).parents[2] / "recipes/configs"
DIM, TEXT_WIDTH = 256, 320
"""Of the starter CLIP."""


def read(part: str) -> Any:
    kinds: dict[str, type[Any]] = {"prior": PriorTraining, "decoder": DecoderTraining, "upsampler": UpsamplerTraining}
    return read_config(kinds[part], CONFIGS / f"unclip-{part}-starter.toml")


def weights(model: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def test_thirteen_million_weights_in_all() -> None:
    prior, decoder, upsampler = read("prior").model, read("decoder").model, read("upsampler").model
    assert isinstance(prior, DiffusionSizes) and isinstance(decoder, DecoderSizes)
    assert isinstance(upsampler, UpsamplerSizes)
    small = decoder.sized(channels=3, grid=64, dim=DIM, text_width=TEXT_WIDTH)
    assert (small.grid // small.patch) ** 2 == 64, "tokens of a picture"
    with torch.device("meta"):
        each = [
            weights(DiffusionPrior(prior.sized(dim=DIM, text_width=TEXT_WIDTH))),
            weights(Denoiser(small)),
            weights(Denoiser(upsampler.sized(grid=read("upsampler").pictures.size))),
        ]
    assert 11 < sum(each) < 15, each


def test_prior_and_decoder_see_the_same_pictures() -> None:
    prior, decoder = read("prior"), read("decoder")
    assert prior.pictures == decoder.pictures and prior.data == decoder.data and prior.captions == decoder.captions


@pytest.mark.parametrize("part", ["prior", "decoder", "upsampler"])
def test_what_they_see_dalle_sees(part: str) -> None:
    """And two sets of pairs besides, which its fourth edition went on with."""
    dalle, unclip = read_config(DalleTraining, CONFIGS / "dalle-starter.toml"), read(part)
    seen, theirs = ([replace(source, weight=1.0) for source in each.data] for each in (unclip, dalle))
    assert seen == theirs[: len(seen)], "each how often it does best with"
    assert {source.path.parent.name for source in theirs[len(seen) :]} == {"pairs5", "pairs6"}
    assert unclip.validation.sources == dalle.validation.sources  # type: ignore[union-attr]


@pytest.mark.parametrize("part", ["prior", "decoder", "upsampler"])
def test_nothing_of_a_machine_is_in_them(part: str) -> None:
    config = read(part)
    assert config.output.name == f"starter/unclip-{part}"
    assert all(source.path.is_relative_to(CONFIGS) for source in config.data), "relative to the file"
