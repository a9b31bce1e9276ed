"""Overlays: when they are due, and what they cover."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bahumukha.errors import BahumukhaError, ImageError
from bahumukha.generate.overlays import Overlay, OverlayConfig


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, [2, 4, 6, 8, 10, 12, 14, 16, 18]),
        ({"every": 6.0}, [6, 12, 18]),
        ({"every": "25%", "until": "50%"}, [5]),
        ({"every": "4 iterations", "until": "12 iterations"}, [4, 8, 12]),
    ],
)
def test_when(options: dict[str, Any], steps: list[int]) -> None:
    config = OverlayConfig(**options)
    assert [step for step in range(20) if config.is_due(step, 20)] == steps


def test_what_is_transparent_covers_nothing(tmp_path: Path) -> None:
    layers = np.zeros((24, 32, 4), np.uint8)
    layers[:, :, 0] = 255
    layers[:, 16:, 3] = 255  # red on the right half
    Image.fromarray(layers).save(tmp_path / "red.png")
    overlay = Overlay(tmp_path / "red.png", 0.25, (24, 32))
    laid = overlay(torch.full((1, 3, 24, 32), 0.4))
    assert torch.allclose(laid[..., :16], torch.tensor(0.4))
    assert torch.allclose(laid[0, :, 5, 20], torch.tensor([0.4 * 0.75 + 0.25, 0.3, 0.3]))


def test_it_fills_the_painting(tmp_path: Path) -> None:
    Image.new("RGB", (80, 20), (0, 0, 255)).save(tmp_path / "blue.png")
    laid = Overlay(tmp_path / "blue.png", 1.0, (24, 32))(torch.zeros(1, 3, 24, 32))
    assert torch.equal(laid, torch.tensor([0.0, 0.0, 1.0])[None, :, None, None].expand(1, 3, 24, 32))


def test_a_picture_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="none.png"):
        Overlay(tmp_path / "none.png", 1.0, (8, 8))


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"alpha": 1.5}, {"every": "often"}, {"until": "200%"}])
def test_wrong_settings_are_named(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, BahumukhaError)) as error:
        OverlayConfig(**options)
    assert str(error.value).startswith(next(iter(options)))
