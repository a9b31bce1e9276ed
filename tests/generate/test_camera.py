"""The camera: it moves what it says to where it says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bahumukha.errors import BahumukhaError
from bahumukha.generate.camera import CameraConfig, move


def noise(height: int = 12, width: int = 12) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_a_still_camera_changes_nothing() -> None:
    picture = noise()
    assert move(picture) is picture


def test_shifts_are_in_widths_and_heights_to_the_right_and_downwards() -> None:
    picture = noise(12, 20)
    moved = move(picture, shift=(5 / 20, -3 / 12))
    assert torch.allclose(moved[..., :-3, 5:], picture[..., 3:, :-5], atol=1e-6)


def test_turns_are_clockwise_at_any_aspect() -> None:
    picture = noise()
    assert torch.allclose(move(picture, turn=90), torch.rot90(picture, -1, (-2, -1)), atol=1e-6)
    wide = noise(12, 20)
    assert torch.allclose(move(wide, turn=180), wide.flip(-1, -2), atol=1e-6)
    there = move(wide, turn=90, fill="grey")  # the middle square is turned, as all of it stays inside
    assert torch.allclose(there[..., 4:16], torch.rot90(wide[..., 4:16], -1, (-2, -1)), atol=1e-6)


def test_zoom_goes_in_about_the_middle() -> None:
    ramp = torch.linspace(0, 1, 33, dtype=torch.float64).expand(1, 3, 33, 33)
    closer = move(ramp, zoom=2)
    assert float(closer[0, 0, 16, 16]) == pytest.approx(0.5)
    assert torch.allclose(closer[0, 0, 16].diff(), torch.full((32,), 0.5 / 32, dtype=torch.float64), atol=1e-6)


def test_shift_comes_after_zoom_and_turn() -> None:
    spot = torch.zeros(1, 3, 41, 41, dtype=torch.float64)
    spot[..., 20, 24] = 1  # four to the right of the middle
    moved = move(spot, zoom=2, turn=90, shift=(5 / 41, 0))[0, 0]  # eight below it, then five to the right
    assert divmod(int(moved.argmax()), 41) == (28, 25)


@pytest.mark.parametrize("fill", ["mirror", "edge", "grey"])
def test_fills_and_range(fill: Any) -> None:
    picture = noise(16, 16).round()
    away = move(picture, zoom=0.5, turn=20, fill=fill)
    assert away.min() >= 0 and away.max() <= 1
    corner = away[0, :, 0, 0]
    assert torch.allclose(corner, torch.full_like(corner, 0.5)) == (fill == "grey")


def test_moves_change_over_the_frames() -> None:
    camera = CameraConfig(frames=5, zoom="1, 2 at 50%", shift=("0 -> 0.4", 0.0), turn="0, 90 at 4 iterations")
    picture = noise()
    assert torch.equal(camera.moved(picture, 0), picture)
    assert torch.equal(camera.moved(picture, 1), move(picture, shift=(0.1, 0)))
    assert torch.equal(camera.moved(picture, 4), move(picture, 2, (0.4, 0), 90))


@pytest.mark.parametrize(
    "options",
    [
        {"frames": -1},
        {"steps": 0},
        {"zoom": 0.0},
        {"zoom": "in"},
        {"shift": (0.0, 2.0)},
        {"turn": 400.0},
        {"fill": "black"},
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, BahumukhaError)) as error:
        CameraConfig(**options)
    assert str(error.value).startswith(next(iter(options))) and "\n" not in str(error.value)
