"""A prompt against what else a picture might show."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bahumukha.errors import UsageError
from bahumukha.generate.guided import Painting
from bahumukha.generate.guided_config import GuidedConfig
from bahumukha.generate.prompts import encode_prompts, parse_prompts
from bahumukha.generate.rivals import RivalConfig, Rivals
from tests.tiny_guidance import ColourClip

THINGS = ("red", "green", "blue", "white")


def rivals_of(prompt: str, **options) -> tuple[Rivals, ColourClip]:
    encoder = ColourClip()
    return Rivals(
        RivalConfig(1.0, things=THINGS, **options), encode_prompts(parse_prompts(prompt), encoder), encoder
    ), encoder


def test_the_loss_is_the_cross_entropy_of_the_prompt_among_the_things():
    rivals, _ = rivals_of("a fox", scale=7.0)
    u = F.normalize(torch.randn(5, rivals.things.shape[1], generator=torch.Generator().manual_seed(1)), dim=1)
    v, r = rivals.targets.numpy()[0], rivals.things.numpy()
    own, others = np.exp(7 * u.numpy() @ v), np.exp(7 * u.numpy() @ r.T).sum(1)
    wanted = -np.log(own / (own + others)).mean()
    assert float(rivals.loss(u, torch.tensor([1.0]))) == pytest.approx(wanted, rel=1e-5)
    assert float(rivals.loss(u, torch.tensor([0.5]))) == pytest.approx(0.5 * wanted, rel=1e-5)


def test_what_says_the_same_is_no_rival():
    rivals, _ = rivals_of("a red")
    assert rivals.same[0, 0], "red itself is near"
    u = rivals.things[:1]
    without = rivals.loss(u, torch.tensor([1.0]))
    strict, _ = rivals_of("a red", near=1.0)
    strict.same.zero_()
    assert float(strict.loss(u, torch.tensor([1.0]))) > float(without)


def test_what_repels_has_no_rivals():
    rivals, _ = rivals_of("red fox | a city:-0.5")
    u = F.normalize(torch.randn(3, rivals.things.shape[1]), dim=1)
    both, alone = (rivals.loss(u, torch.tensor(weights)) for weights in ([1.0, -0.5], [1.0, 0.0]))
    assert float(both) == float(alone)
    assert float(rivals.loss(u, torch.tensor([0.0, -0.5]))) == 0.0


def test_a_painting_with_rivals_differs_and_adds_to_the_loss():
    def losses(weight: float) -> list[float]:
        config = GuidedConfig.from_dict(
            {
                "prompt": "red fox",
                "size": [32, 32],
                "steps": 3,
                "cutouts": {"count": 2, "sizes": [16]},
                "rivals": {"weight": weight, "scale": 0.01, "near": 1.0, "things": list(THINGS)},
            }
        )
        return [step.losses["prompts"] for step in Painting(config, [ColourClip()]).steps()]

    plain, against = losses(0.0), losses(1.0)
    assert against[0] - plain[0] == pytest.approx(math.log(4), abs=0.3), "of four or five, all alike at that scale"


@pytest.mark.parametrize("wrong", [{"scale": 0.0}, {"near": 0.0}, {"near": 1.5}, {"weight": -1.0}])
def test_bad_options_are_named(wrong):
    with pytest.raises((ValueError, UsageError), match=next(iter(wrong))):
        RivalConfig(**wrong)
