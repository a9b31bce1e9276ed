"""Cutouts: what they see, that nothing under them is skipped, and that a seed decides all of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from bahumukha.generate.cutouts import CutoutConfig, cut, draw_windows, look

PLAIN = CutoutConfig(
    count=8, sizes=(32,), perspective=0, rotation=0, flip=0, brightness=0, contrast=0, saturation=0, hue=0, noise=0
)
"""Crops and nothing else."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def square(left: float, top: float, side: float) -> torch.Tensor:
    corners = [[left, top], [left + side, top], [left + side, top + side], [left, top + side]]
    return torch.tensor([corners], dtype=torch.float64)


def ramps(height: int, width: int) -> torch.Tensor:
    """Red says where a pixel is from left to right, green from top to bottom."""
    y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    red, green = (x / width).expand(height, width), (y / height)[:, None].expand(height, width)
    return torch.stack([red, green, torch.full_like(red, 0.5)])[None]


def test_a_window_of_as_many_pixels_is_the_crop_itself() -> None:
    picture = torch.rand(1, 3, 48, 64, generator=generator())
    seen = look(picture, square(20, 10, 32), 32)
    assert torch.allclose(seen, picture[:, :, 10:42, 20:52], atol=1e-5)


def test_corners_are_what_is_seen() -> None:
    config = replace(PLAIN, perspective=0.4, rotation=10, flip=0.5, zoom=1, zoom_area=(0.25, 0.6))
    windows = draw_windows(replace(config, centred=0.5), (90, 120), generator(3))
    seen = cut(ramps(90, 120), windows, generator())
    for corners, cutout in zip(windows.corners, seen, strict=True):
        found = torch.stack([cutout[0] * 120, cutout[1] * 90], -1)[[0, 0, -1, -1], [0, -1, -1, 0]]
        assert (found - corners).norm(dim=1).max() < 5, "within a cutout's pixel or two"


def test_mirrored_windows_are_mirrored() -> None:
    windows = draw_windows(replace(PLAIN, flip=1), (64, 64), generator())
    seen = cut(ramps(64, 64), windows, generator())
    assert bool((seen[:, 0, 5:-5, 8] > seen[:, 0, 5:-5, 24]).all())


@pytest.mark.parametrize("size", [(64, 64), (64, 160), (200, 80)])
def test_zoom_windows_lie_inside_and_are_as_large_as_asked(size: tuple[int, int]) -> None:
    config = replace(PLAIN, count=200, zoom=1, zoom_area=(0.25, 0.81))
    corners = draw_windows(config, size, generator()).corners
    assert corners.min() > -1e-9
    assert corners[..., 0].max() < size[1] + 1e-9 and corners[..., 1].max() < size[0] + 1e-9
    sides = (corners[:, 1] - corners[:, 0]).norm(dim=1) / min(size)
    assert sides.min() >= 0.5 and sides.max() <= 0.9 and sides.std() > 0.05


def test_zoom_windows_reach_every_pixel_and_wide_ones_each_show_all() -> None:
    picture = torch.rand(1, 3, 40, 72, generator=generator()).requires_grad_()
    zooms = draw_windows(replace(PLAIN, count=1000, sizes=(16,), zoom=1), (40, 72), generator())
    cut(picture, zooms, generator()).sum().backward()
    assert picture.grad is not None and bool((picture.grad != 0).all())
    for seed in range(4):
        picture.grad = None
        wide = draw_windows(replace(PLAIN, count=1, zoom=0), (40, 72), generator(seed))
        cut(picture, wide, generator()).sum().backward()
        assert bool((picture.grad != 0).all())


def test_centred_windows() -> None:
    def spread(centred: float) -> float:
        windows = draw_windows(replace(PLAIN, count=100, zoom=1, centred=centred), (64, 64), generator())
        return float((windows.corners.mean(1) - 32).abs().mean())

    assert spread(1) < 1e-9 < spread(0.5) < spread(0)


def test_shares_of_the_kinds_hold_in_the_mean_even_where_they_do_not_divide() -> None:
    config = replace(PLAIN, count=3, zoom=0.5, zoom_area=(0.25, 0.3))
    random = generator()
    sides = torch.cat([draw_windows(config, (64, 64), random).corners for _ in range(200)])
    zooms = (sides[:, 1] - sides[:, 0]).norm(dim=1) < 40
    assert 0.4 < zooms.double().mean() < 0.6


@pytest.mark.parametrize("side", [16, 50, 100, 199])
def test_smaller_windows_are_antialiased(side: int) -> None:
    y, x = torch.arange(400), torch.arange(400)
    checks = ((y[:, None] + x) % 2).float().expand(1, 3, 400, 400)
    seen = look(checks, square(3, 5, 390), side)[:, :, 1:-1, 1:-1]
    assert (seen - 0.5).abs().max() < 0.02, "the finest checks become grey, not a moiré"


def test_smaller_windows_skip_no_pixel() -> None:
    picture = torch.rand(1, 3, 300, 300, generator=generator()).requires_grad_()
    windows = draw_windows(replace(PLAIN, count=6, sizes=(20,), perspective=0.4, zoom=0), (300, 300), generator(1))
    for corners in windows.corners:
        picture.grad = None
        look(picture, corners[None], 20).sum().backward()
        assert picture.grad is not None
        low, high = corners.amin(0).ceil().int(), corners.amax(0).floor().int()
        inner = picture.grad[0, 0, low[1] + 60 : high[1] - 60, low[0] + 60 : high[0] - 60]
        assert bool((inner != 0).all()), "every pixel well inside counts"


def test_gradients_are_right() -> None:
    picture = torch.rand(1, 3, 6, 8, dtype=torch.float64, generator=generator()).requires_grad_()
    config = CutoutConfig(count=2, sizes=(16,), noise=0.1, hue=0.1)
    windows = draw_windows(config, (6, 8), generator())
    assert torch.autograd.gradcheck(lambda x: cut(x, windows, generator()).square().mean(), picture, fast_mode=True)


def test_fills() -> None:
    white = torch.ones(1, 3, 32, 32)
    beyond = square(-32, -32, 96)
    assert look(white, beyond, 24, "grey")[0, 0, 0, 0] == 0.5
    assert look(white, beyond, 24, "edge").min() == 1
    assert look(white, beyond, 24, "mirror").min() == 1


def test_colours() -> None:
    config = replace(PLAIN, brightness=0.3, contrast=0.3, saturation=0.5, hue=0.2, fill="edge")
    windows = draw_windows(config, (32, 32), generator())
    for grey in (0.2, 0.5, 0.9):
        seen = cut(torch.full((1, 3, 32, 32), grey), windows, generator())
        assert (seen.amax(1) - seen.amin(1)).max() < 1e-5, "neither hue nor saturation colours a grey"
    red = cut(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 32, 32), windows, generator())
    assert red[:, :, 16, 16].std(0).min() > 0.02


def test_noise_is_up_to_what_was_asked() -> None:
    config = replace(PLAIN, count=40, noise=0.2)
    seen = cut(torch.full((1, 3, 64, 64), 0.5), draw_windows(config, (64, 64), generator()), generator())
    deviations = seen.flatten(1).std(1)
    assert 0.0 < deviations.min() < 0.03 and 0.17 < deviations.max() < 0.21


def test_several_sizes_and_pictures() -> None:
    random = generator()
    config = replace(PLAIN, sizes=(24, 40))
    assert {draw_windows(config, (32, 32), random).side for _ in range(20)} == {24, 40}
    pictures = torch.rand(2, 3, 32, 32, generator=generator())
    windows = draw_windows(replace(config, noise=0.0), (32, 32), generator(), count=5)
    both = cut(pictures, windows, generator())
    assert both.shape == (10, 3, windows.side, windows.side)
    assert torch.allclose(both[5:], cut(pictures[1:], windows, generator()))


def test_the_seed_decides() -> None:
    picture = torch.rand(1, 3, 32, 32, generator=generator())

    def seen(seed: int) -> torch.Tensor:
        random = generator(seed)
        return cut(picture, draw_windows(CutoutConfig(count=4, sizes=(24,)), (32, 32), random), random)

    before = torch.get_rng_state()
    assert torch.equal(seen(1), seen(1)) and not torch.equal(seen(1), seen(2))
    assert torch.equal(before, torch.get_rng_state()), "the global generator is left alone"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"count": 4, "batches": 5}, "batches"),
        ({"sizes": ()}, "sizes"),
        ({"sizes": (8,)}, "sizes"),
        ({"zoom": 1.5}, "zoom"),
        ({"flip": -0.1}, "flip"),
        ({"perspective": 1.0}, "perspective"),
        ({"rotation": 200}, "rotation"),
        ({"hue": 0.6}, "hue"),
        ({"noise": 2}, "noise"),
        ({"zoom_area": (0.5, 0.2)}, "zoom_area"),
        ({"wide_side": (0.0, 1.0)}, "wide_side"),
        ({"fill": "black"}, "fill"),
    ],
)
def test_wrong_settings(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named) as error:
        CutoutConfig(**options)
    assert "\n" not in str(error.value)
