"""Every setting of guided painting does something: it paints, at tiny size, and the picture is another one.

What is to come out is said in the tests of each part; here nothing may be missing, and nothing may be without effect.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from bahumukha.generate.drawers import DRAWERS
from bahumukha.generate.drawers.fft import FftOptions
from bahumukha.generate.drawers.line import LineOptions
from bahumukha.generate.drawers.pixel import SHAPES, PixelOptions
from bahumukha.generate.drawers.strokes import StrokesOptions
from bahumukha.generate.drawers.vqgan import VqganOptions
from bahumukha.generate.filters import FILTERS
from bahumukha.generate.guided import paint
from bahumukha.generate.guided_config import ASPECTS, GuidedConfig, merged
from bahumukha.generate.losses import LOSSES
from bahumukha.models.perceptual import TrunkDistance
from tests.tiny_drawers import tiny_codec
from tests.tiny_guidance import ColourClip

TINY = {"prompt": "red", "size": (32, 32), "steps": 4, "cutouts": {"count": 4, "sizes": (16,)}}

Case = tuple[dict[str, Any], dict[str, Any]]
"""What stands in both pictures, and what in the second one alone."""


def drawer(name: str, base: dict[str, Any] | None = None, **options: Any) -> list[Case]:
    few = {"strokes": {"strokes": 12}, "line": {"strokes": 6}, "pixel": {"columns": 8}}.get(name, {})
    both = {"drawer": name, "drawer_options": few | (base or {})}
    return [(both, {"drawer_options": {option: value}}) for option, value in options.items()]


def loss(name: str, base: dict[str, Any] | None = None, **options: Any) -> list[Case]:
    """With and without the loss, and then with each of the options other than before."""
    given = {"weight": 30.0} | (base or {})
    cases: list[Case] = [({}, {"losses": {name: given}})]
    return cases + [({"losses": {name: given}}, {"losses": {name: {key: value}}}) for key, value in options.items()]


def cutouts(**options: Any) -> list[Case]:
    return [({"cutouts": {"zoom": 0.5}}, {"cutouts": {option: value}}) for option, value in options.items()]


CASES: list[Case] = [
    # drawers
    *drawer("fft", decay=1.5, saturation=0.5, rate=0.1, spread=0.2),
    *drawer("pixel", columns=5, palette="[red, blue]", decay=0.5, saturation=0.5, rate=0.1, spread=0.2),
    *[case for shape in SHAPES if shape != "square" for case in drawer("pixel", shape=shape)],
    *drawer("strokes", strokes=9, curves=2, min_width=0.04, max_width=0.2, reach=0.3, softness=2.0),
    *drawer("strokes", point_rate=0.05, width_rate=0.01, colour_rate=0.2),
    *drawer("line", strokes=4, curves=1, width=0.1, reach=0.3, softness=3.0, rate=0.05),
    *drawer("vqgan", rate=0.5, ground=1.0, spread=0.4),
    # losses
    *loss("palette", {"colours": "[blue]"}, colours="red->rust\\8; [light pink, #00f]"),
    *loss("saturation", target=0.5),
    *loss("range", {"low": 0.6, "high": 0.8}, low=0.7, high=0.61),
    *loss("symmetry", axis="both"),
    *loss("smoothness", {"kind": "clipped"}, kind="log", edge=0.01),
    ({"losses": {"smoothness": 1.0}}, {"losses": {"smoothness": {"weight": 1.0, "kind": "clipped", "edge": 0.001}}}),
    *loss("tv"),
    *loss("edge", colour="navy", thickness=0.3, mask="half.png"),
    *loss("target", {"picture": "photo.png"}, picture="half.png", measure="cosine"),
    ({"losses": {"target": {"picture": "photo.png"}}}, {"losses": {"target": {"measure": "spherical"}}}),
    ({"losses": {"target": {"picture": "photo.png"}}}, {"losses": {"target": {"measure": "pixel"}}}),
    *loss("style", {"picture": "photo.png", "size": 32, "stages": (0,)}, picture="half.png", size=40, stages=(1, 2)),
    # filters
    ({}, {"filters": {"lookup": {"colours": "[red, blue]"}}}),
    ({"filters": {"lookup": {"colours": "[red, blue]"}}}, {"filters": {"lookup": {"colours": "@photo.png\\4"}}}),
    ({}, {"filters": {"tile": {}}}),
    ({"filters": {"tile": {"margin": 0.1}}}, {"filters": {"tile": {"margin": 0.4}}}),
    ({}, {"filters": {"wallpaper": {}}}),
    ({"filters": {"wallpaper": {}}}, {"filters": {"wallpaper": {"kind": "horizontal"}}}),
    ({"filters": {"wallpaper": {}}}, {"filters": {"wallpaper": {"kind": "vertical"}}}),
    # prompts
    ({}, {"prompt": "blue"}),
    ({"prompt": "red | blue"}, {"prompt": "red | blue:0.3"}),
    ({"prompt": "red"}, {"prompt": "red | blue:-0.5"}),
    ({"prompt": "red"}, {"prompt": "red:1:4.9"}),
    ({"prompt": "red"}, {"prompt": "red | noise=7"}),
    ({"prompt": "red"}, {"prompt": "vector=vector.npy"}),
    ({"prompt": "red"}, {"prompt": "picture=photo.png"}),
    ({"prompt": "picture=photo.png"}, {"prompt": "picture=*.png:0.5 | red"}),
    ({"prompt": "label=red"}, {"prompt": "label=blue"}),
    ({"prompt": "label=red"}, {"templates": ("a {} thing", "a blue {}")}),
    ({"prompt": "red | blue", "mask": "half.png"}, {"prompt": "inside=red | outside=blue"}),
    ({"prompt": "inside=red | outside=blue", "mask": "half.png"}, {"mask": "top.png"}),
    ({"prompt": "red | blue"}, {"prompt": "red ^ blue"}),
    ({"prompt": "red ^ blue"}, {"fade": 1.0}),
    # rivals
    ({}, {"rivals": {"weight": 2.0}}),
    ({"rivals": {"weight": 2.0, "things": ("blue", "green")}}, {"rivals": {"things": ("white",)}}),
    ({"rivals": {"weight": 2.0, "things": ("blue", "green")}}, {"rivals": {"scale": 3.0}}),
    (
        {"prompt": "vector=vector.npy", "rivals": {"weight": 2.0, "things": ("blue", "green")}},
        {"rivals": {"near": 0.5}},  # green is near to it
    ),
    # the start
    ({}, {"start": {"picture": "photo.png"}}),
    ({"start": {"picture": "photo.png"}}, {"start": {"alpha": 0.5}}),
    ({"start": {"picture": "photo.png", "alpha": 0.5}}, {"start": {"noise": "perlin"}}),
    ({}, {"start": {"noise": "gradient"}}),
    ({}, {"start": {"noise": "snow"}}),
    ({}, {"start": {"colour": "blue"}}),
    ({"start": {"noise": "perlin"}}, {"start": {"pull": 50.0}}),
    ({"start": {"noise": "perlin", "pull": 50.0}}, {"start": {"pull_by": "spherical"}}),
    ({"start": {"noise": "perlin", "pull": 50.0}}, {"start": {"pull_by": "cosine"}}),
    ({"start": {"noise": "perlin", "pull": 50.0}}, {"start": {"pull_by": "pixel"}}),
    ({"start": {"noise": "perlin", "pull": 50.0}}, {"start": {"pull_until": 0.3}}),
    ({}, {"matte": {"colour": "white"}}),
    ({"matte": {"colour": "white"}}, {"matte": {"colour": "navy"}}),
    ({"matte": {"colour": "white"}}, {"matte": {"shrink": 0.09}}),
    ({"matte": {"colour": "white"}}, {"matte": {"rate": 0.5}}),
    # cutouts
    *cutouts(count=6, sizes=(24,), zoom=1.0, zoom_area=(0.1, 0.3), wide_side=(1.5, 2.0), centred=1.0, perspective=0.0),
    *cutouts(rotation=90.0, flip=0.0, brightness=0.5, contrast=0.5, saturation=0.9, hue=0.4, noise=0.5, fill="mirror"),
    *cutouts(fill="edge", count="2 -> 8"),
    # the rest
    ({}, {"seed": "any text"}),
    ({}, {"size": (48, 32)}),
    ({}, {"steps": 5}),
    ({}, {"rate": "0.5, 0.1 at 50%"}),
    ({}, {"rate": "0.1 -> 2 at 3 iterations"}),
    ({"losses": {"tv": 5.0}}, {"losses": {"tv": "0, 5 at 2 iterations"}}),
    ({}, {"ema": 0.9}),
    ({"drawer": "vqgan"}, {"precision": "bfloat16"}),
    ({}, {"overlay": {"picture": "photo.png", "every": 2}}),
    ({"overlay": {"picture": "photo.png", "every": 2}}, {"overlay": {"alpha": 1.0}}),
    ({"overlay": {"picture": "photo.png", "every": 2}}, {"overlay": {"every": "25%"}}),
    ({"overlay": {"picture": "photo.png", "every": 1}}, {"overlay": {"until": "30%"}}),
]

ELSEWHERE = {
    "models": "test_guided: several models have the same say",
    "drawer": "every case of `drawer` above, test_drawers and test_each_drawer",
    "codec": "read by the command; here it is given",
    "cutouts.batches": "test_guided: the gradient is the same, as it should be",
    "stop_after": "test_guided_runs",
    "upscale": "test_generate_cli: it is done when the picture is saved",
    "video.of": "test_generate_runs_cli",
    "video.fps": "test_generate_runs_cli",
    "animation.frames": "test_animation",
    "animation.smoothing": "test_animation",
    "animation.every": "test_animation",
    "camera.frames": "test_animation",
    "camera.steps": "test_animation",
    "camera.zoom": "test_animation, test_camera",
    "camera.shift": "test_animation, test_camera",
    "camera.turn": "test_animation, test_camera",
    "camera.fill": "test_camera",
    "losses.style.features": "no setting: for callers with a network of their own, test_losses",
}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pictures, a mask and a vector in the current folder; one thread; a random trunk in place of the starter's."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(4)
    Image.fromarray((random.random((48, 64, 3)) * 255).astype(np.uint8)).save("photo.png")
    half = np.zeros((32, 32, 3), np.uint8)
    half[:, :16] = 255
    Image.fromarray(half).save("half.png")
    Image.fromarray(half.transpose(1, 0, 2)).save("top.png")
    np.save("vector.npy", np.array([-1.0, 1.0, 0.3, 0.2, 0.2], np.float32))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def random_trunk() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("tf_efficientnet_lite0", num_classes=0)


def image_of(table: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.setattr("bahumukha.zoo.perceptual.trunk_distance", lambda: TrunkDistance(random_trunk()))
    config = GuidedConfig.from_dict(table)
    codec = tiny_codec() if config.drawer == "vqgan" else None
    *_, last = paint(config, [ColourClip()], codec=codec)
    assert np.isfinite(last.images).all() and 0 <= last.images.min() and last.images.max() <= 1
    return last.images


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case[1])[:60])
def test_the_setting_changes_the_picture(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    both, changed = case
    base = merged(TINY, both)
    one, other = image_of(base, monkeypatch), image_of(merged(base, changed), monkeypatch)
    assert not np.array_equal(one, other)


# --- nothing is missing


def leaves(table: Any, before: str = "") -> set[str]:
    """`start.pull`, `losses.tv.weight`, … of a nested table."""
    if not isinstance(table, dict):
        return {before.removesuffix(".")}
    return {name for key, value in table.items() for name in leaves(value, f"{before}{key}.")}


def of_dataclass(kind: Any, before: str = "") -> set[str]:
    """Names of the fields, those of sections with the section's before it."""
    found: set[str] = set()
    for each in fields(kind):
        if each.init:
            section = each.default if is_dataclass(each.default) else None
            found |= of_dataclass(section, f"{each.name}.") if section is not None else {before + each.name}
    return found


OPTIONS = {
    "fft": FftOptions,
    "pixel": PixelOptions,
    "strokes": StrokesOptions,
    "line": LineOptions,
    "vqgan": VqganOptions,
}


def test_no_setting_is_left_out() -> None:
    tried = {name for _, changed in CASES for name in leaves(changed)}
    settings = of_dataclass(GuidedConfig) - {"losses", "filters", "drawer_options"}
    assert settings - tried - set(ELSEWHERE) == set()
    assert set(ELSEWHERE) - {"losses.style.features"} <= settings, "settings that are gone"


def test_no_loss_no_filter_and_no_drawers_option_is_left_out() -> None:
    tried = {name for _, changed in CASES for name in leaves(changed)}
    for kind, table in (("losses", LOSSES), ("filters", FILTERS)):
        for name, factory in table.items():
            assert any(each.startswith(f"{kind}.{name}") for each in tried), name
            options = of_dataclass(factory, f"{kind}.{name}.")
            assert options - tried - set(ELSEWHERE) == set()
    assert set(OPTIONS) == set(DRAWERS)
    for name, kind in OPTIONS.items():
        changed = {each for both, made in CASES if both.get("drawer") == name for each in leaves(made)}
        assert of_dataclass(kind, "drawer_options.") - changed == set()


def test_shapes_by_name_have_pixrays() -> None:
    assert {"widescreen", "square", "portrait"} <= set(ASPECTS)
