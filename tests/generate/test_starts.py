"""Starts: noises that are what their names say, pictures that fill the canvas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from bahumukha.errors import ImageError, UsageError
from bahumukha.generate.starts import NOISES, StartConfig, filled, gradient, perlin, snow, start_picture


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def roughness(x: torch.Tensor) -> float:
    return float(x.diff(dim=-1).abs().mean() / x.std())


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("size", [(48, 80), (33, 17), (256, 64)])
def test_noises(kind: str, size: tuple[int, int]) -> None:
    x = start_picture(StartConfig(noise=kind), size, generator(1))  # type: ignore[arg-type]
    assert x is not None and x.shape == (1, 3, *size) and x.dtype == torch.float32
    assert x.min() >= 0 and x.max() <= 1 and x.std() > 0.03
    again = start_picture(StartConfig(noise=kind), size, generator(1))  # type: ignore[arg-type]
    other = start_picture(StartConfig(noise=kind), size, generator(2))  # type: ignore[arg-type]
    assert again is not None and other is not None
    assert torch.equal(x, again) and not torch.allclose(x, other, atol=0.05)


def test_perlin_is_smooth_and_snow_is_not() -> None:
    smooth, rough = perlin((128, 128), generator()), snow((128, 128), generator())
    assert roughness(smooth) < 0.25 * roughness(rough)
    assert smooth.amin((2, 3)).allclose(torch.zeros(1, 3)) and smooth.amax((2, 3)).allclose(torch.ones(1, 3))


def test_perlin_is_zero_on_its_lattice_and_has_no_seams() -> None:
    from bahumukha.generate.starts import _octave

    octave = _octave((64, 64), 16, generator())
    assert octave[:, ::16, ::16].abs().max() < 1e-6 < octave.std()
    jumps = octave.diff(dim=-1).abs()
    assert jumps[:, :, 15::16].max() < 1.5 * jumps.max(), "across the lattice's lines as elsewhere"


def test_a_gradient_is_straight() -> None:
    x = gradient((40, 60), generator(3))
    assert x.diff(n=2, dim=-1).abs().max() < 1e-5 and x.diff(n=2, dim=-2).abs().max() < 1e-5


def test_pictures_fill_the_canvas_around_their_middle(tmp_path: Path) -> None:
    image = Image.new("RGB", (300, 100), (255, 0, 0))
    image.paste((0, 0, 255), (100, 0, 200, 100))
    image.save(tmp_path / "a.png")
    x = filled(tmp_path / "a.png", (64, 64))
    assert x.shape == (1, 3, 64, 64) and x[0, 2, :, 4:-4].min() > 0.99
    wide = filled(tmp_path / "a.png", (32, 96))
    assert wide[0, 0, 16, 4] > 0.99 and wide[0, 2, 16, 48] > 0.99


def test_a_picture_over_noise(tmp_path: Path) -> None:
    Image.new("RGB", (50, 50), (255, 255, 255)).save(tmp_path / "white.png")

    def start(**options: Any) -> torch.Tensor:
        x = start_picture(StartConfig(picture=tmp_path / "white.png", **options), (32, 32), generator())
        assert x is not None
        return x

    assert torch.equal(start(), torch.ones(1, 3, 32, 32))
    assert torch.allclose(start(alpha=0.5), torch.full((1, 3, 32, 32), 0.75))
    noise = start_picture(StartConfig(noise="perlin"), (32, 32), generator())
    assert noise is not None
    assert torch.allclose(start(alpha=0.25, noise="perlin"), 0.25 + 0.75 * noise)


def test_no_start() -> None:
    assert start_picture(StartConfig(), (32, 32), generator()) is None


def test_a_picture_that_is_missing_is_named() -> None:
    with pytest.raises(ImageError, match="none.png"):
        start_picture(StartConfig(picture=Path("none.png")), (32, 32), generator())


def test_the_pull_decays_evenly() -> None:
    config = StartConfig(pull=2.0, pull_until=0.5)
    assert [config.pull_at(p) for p in (0, 0.25, 0.5, 1)] == [2, 1, 0, 0]


def test_a_disc_of_the_colour_that_is_named() -> None:
    x = start_picture(StartConfig(colour="named"), (32, 48), generator(), "a photo of a Blue car | red:-0.2")
    assert x is not None and x.shape == (1, 3, 32, 48)
    assert torch.allclose(x[0, :, 0, 0], torch.ones(3), atol=1e-3)
    red, _, blue = x[0, :, 16, 24]
    assert blue > red + 0.3
    assert start_picture(StartConfig(colour="named"), (32, 32), generator(), "a car") is None
    given = start_picture(StartConfig(colour="#102030"), (64, 64), generator())
    assert given is not None
    assert torch.allclose(given[0, :, 32, 32] * 255, torch.tensor([16.0, 32.0, 48.0]), atol=1)


@pytest.mark.parametrize("options", [{"colour": "no colour"}, {"colour": "red", "noise": "snow"}])
def test_colours_of_a_start_that_are_refused(options: dict[str, str]) -> None:
    with pytest.raises((ValueError, UsageError), match="colour"):
        StartConfig(**options)  # type: ignore[arg-type]
