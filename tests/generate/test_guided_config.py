"""Settings of guidance: they come back from JSON, tiers are other defaults, and a wrong one gives one clear line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bahumukha.errors import BahumukhaError, UsageError
from bahumukha.generate.guided import paint
from bahumukha.generate.guided_config import QUALITY, GuidedConfig, seed_number, tier
from tests.tiny_guidance import ColourClip, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def test_settings_come_back_from_json() -> None:
    config = tiny(
        "a | b:0.5",
        seed="text",
        drawer="pixel",
        drawer_options={"shape": "hexagon"},
        losses={"tv": "0.1 -> 0.2", "palette": {"weight": 2.0, "colours": "red"}},
        filters={"tile": {"margin": 0.2}},
        start={"pull": 0.1},
        cutouts={"count": "2 -> 4", "sizes": (16, 32)},
        ema=0.5,
        overlay={"picture": "c.png", "every": "5%"},
        animation={"frames": "d", "every": 2},
        video={"fps": 24},
        templates=("a {}",),
    )
    assert GuidedConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_tiers_are_other_defaults() -> None:
    for name in QUALITY:
        assert tier(name, prompt="a").steps == QUALITY[name]["steps"]
    mixed = tier("draft", prompt="a", steps=7, cutouts={"flip": 0.0})
    assert mixed.steps == 7 and mixed.cutouts.flip == 0
    assert mixed.cutouts.count == QUALITY["draft"]["cutouts"]["count"]
    work = [tier(q, prompt="a") for q in ("draft", "normal", "better", "best")]
    amounts = [c.steps * int(c.cutouts.count) * max(c.cutouts.sizes) ** 2 for c in work]
    assert amounts == sorted(amounts)


def test_a_drawer_adds_to_a_tier_and_what_is_said_holds() -> None:
    spectra, codes = (tier("draft", prompt="a", drawer=name) for name in ("fft", "vqgan"))
    assert spectra.rivals.weight > 0 and "tv" in spectra.losses and tier("draft", prompt="a") == codes
    assert codes.losses == {} and codes.rivals.weight == 0 and codes.steps == spectra.steps
    assert tier("draft", prompt="a", drawer="fft", losses={"tv": 0.0}).losses["tv"] == 0


def test_seeds() -> None:
    assert seed_number(7) == seed_number("7") == 7 and seed_number(7, 2) == 9
    assert seed_number("fox") == seed_number("fox") != seed_number("Fox")
    assert seed_number("fox", 1) == seed_number("fox") + 1


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"prompt": ""}, "says nothing"),
        ({"prompt": "inside=a"}, "mask"),
        ({"seed": -1}, "seed"),
        ({"seed": ""}, "seed"),
        ({"size": (8, 32)}, "size"),
        ({"steps": 0}, "steps"),
        ({"models": ()}, "models"),
        ({"drawer": "chalk"}, "drawer"),
        ({"drawer_options": {"chalk": 1}, "drawer": "fft"}, "chalk"),
        ({"rate": -1.0}, "rate"),
        ({"rate": "fast"}, "rate"),
        ({"losses": {"beauty": 1.0}}, "losses.beauty"),
        ({"losses": {"tv": "much"}}, "losses.tv.weight"),
        ({"losses": {"palette": {"weight": 1.0}}}, "palette"),
        ({"filters": {"blur": {}}}, "filters.blur"),
        ({"ema": 1.0}, "ema"),
        ({"upscale": 0}, "upscale"),
        ({"fade": 2.0}, "fade"),
        ({"cutouts": {"flip": 2.0}}, "flip"),
        ({"cutouts": {"count": "many"}}, "count"),
        ({"cutouts": {"size": 3}}, "size"),
        ({"start": {"noise": "fog"}}, "noise"),
        ({"start": {"pull": -1.0}}, "pull"),
        ({"start": {"pull_by": "force"}}, "pull_by"),
        ({"start": {"pull_until": 0.0}}, "pull_until"),
        ({"start": {"alpha": 2.0}}, "alpha"),
        ({"start": {"picture": "missing.png"}}, "missing.png"),
        ({"colour": "red"}, "colour"),
        ({"precision": "float16"}, "precision"),
        ({"stop_after": -1}, "stop_after"),
        ({"stop_after": 5, "prompt": "red ^ blue"}, "stop_after"),
        ({"stop_after": 5, "losses": {"tv": "0 -> 1"}}, "stop_after"),
        ({"stop_after": 5, "rivals": {"weight": "0 -> 1"}}, "stop_after"),
        ({"overlay": {"alpha": 0.0}}, "alpha"),
        ({"overlay": {"picture": "missing.png"}}, "missing.png"),
        ({"video": {"of": "paint"}}, "of"),
        ({"video": {"fps": 500}}, "fps"),
        ({"templates": ("a photo",), "prompt": "label=red"}, "a photo"),
    ],
)
def test_each_wrong_setting_gives_one_clear_line(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(BahumukhaError) as error:
        config = tiny(**{"prompt": "red"} | settings)
        list(paint(config, [ColourClip()]))
    assert named in str(error.value) and "\n" not in str(error.value)
    assert isinstance(error.value, UsageError) or "missing.png" in str(error.value)
