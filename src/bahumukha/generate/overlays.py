"""A picture that is laid over the painting every now and then: what CLIP makes of it grows around it and through it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bahumukha.generate.drawers import Drawer
from bahumukha.generate.schedules import parse_moment
from bahumukha.generate.starts import fill
from bahumukha.images import open_image


@dataclass(frozen=True)
class OverlayConfig:
    """[overlay]: of what, how strongly and when."""

    picture: Path | None = None
    """Filled to the size of the painting; where it is transparent nothing is laid."""
    alpha: float = 0.3
    """How much of it covers what is there."""
    every: float | str = "10%"
    """Steps from one time to the next, as "20 iterations" or a share of all."""
    until: float | str = "100%"
    """When it stops, so that the last steps may heal its edges."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}; it must be above 0 and at most 1")
        parse_moment(self.every, "every")
        parse_moment(self.until, "until")

    def is_due(self, step: int, total: int) -> bool:
        """Whether it is laid over what `step` of `total` begins with, counted from 0; never before the first one."""
        distance = parse_moment(self.every, "every").length(total)
        return step > 0 and step % distance == 0 and step <= parse_moment(self.until, "until").position(total)


class Overlay:
    """The picture, read and scaled."""

    def __init__(self, path: Path, alpha: float, size: tuple[int, int]):
        """`size` (H, W). Raises ImageError."""
        image = fill(open_image(path, at_least=max(size), transparent=True).convert("RGBA"), size)
        layers = torch.from_numpy(np.asarray(image).copy()).float().permute(2, 0, 1)[None] / 255  # (1, 4, H, W)
        self._colours, self._cover = layers[:, :3], alpha * layers[:, 3:]

    def __call__(self, picture: Tensor) -> Tensor:
        """(1, 3, H, W) in [0, 1] -> the same under the overlay."""
        return torch.lerp(picture, self._colours.to(picture), self._cover.to(picture))


def check_loading(drawer: Drawer) -> None:
    """Raises UsageError, before the first step, where a drawer cannot take a picture on the way."""
    before = drawer.state_dict()
    with torch.no_grad():
        drawer.load_picture(drawer.render()[:1])
    drawer.load_state_dict(before)
