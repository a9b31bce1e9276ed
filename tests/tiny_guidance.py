"""A CLIP, a drawer and settings small enough to paint with in a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from bahumukha.generate.drawers import Drawer, DrawerConfig
from bahumukha.generate.guided import paint
from bahumukha.generate.guided_config import GuidedConfig, seed_number
from bahumukha.images import to_float01
from bahumukha.protocols import ImageTextEncoder, Step

COLOURS = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "white": (1, 1, 1)}


class ColourClip(ImageTextEncoder):
    """A picture's embedding is a smooth function of its mean colour and its slopes; a text's is that of its colour."""

    name, dim, logit_scale, templates = "colours", 5, 20.0, ("a {}",)

    def __init__(self, fingerprint: str = "colours-1") -> None:
        self.fingerprint = fingerprint
        self.seen: list[tuple[int, ...]] = []
        """Shapes that were asked for."""

    def encode_pixels(self, x: Tensor, size: int | None = None, crop: bool = True) -> Tensor:
        assert not crop and size == x.shape[-1], "cutouts are shown whole, at their own size"
        self.seen.append(tuple(x.shape))
        return self._embedded(x)

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        pixels = [torch.from_numpy(to_float01(image)).permute(2, 0, 1)[None] for image in images]
        return torch.cat([self._embedded(each) for each in pixels]).numpy()

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        rows = []
        for text in texts:
            colour = next((COLOURS[word] for word in text.split() if word in COLOURS), (0.1, 0.1, 0.1))
            rows.append([*colour, 0.2, 0.2])
        return F.normalize(torch.tensor(rows), dim=1).numpy()

    def _embedded(self, x: Tensor) -> Tensor:
        colour = x.mean((2, 3)) * 2 - 1
        slopes = [x.diff(dim=axis).square().mean((1, 2, 3)) for axis in (2, 3)]
        return F.normalize(torch.cat([colour, 0.2 + torch.stack(slopes, 1)], 1), dim=1)


class CellsDrawer(Drawer):
    """Cells of one colour each, 8 x 8 pixels."""

    def __init__(self, config: DrawerConfig, **_: Any):
        super().__init__(config)
        start = torch.rand(1, 3, config.height // 8, config.width // 8, generator=config.generator)
        self.cells = self.add_variable("cells", 0.4 + 0.2 * start, 0.05)

    def render(self) -> Tensor:
        return self.cells.repeat_interleave(8, 2).repeat_interleave(8, 3)

    def project(self) -> None:
        with torch.no_grad():
            self.cells.clamp_(0, 1)

    def load_picture(self, pixels: Tensor) -> None:
        with torch.no_grad():
            self.cells.copy_(F.avg_pool2d(self.checked(pixels), 8))


def tiny(prompt: str = "a red thing", **settings: Any) -> GuidedConfig:
    """Twelve steps at 32 x 24 pixels, in fft unless it is said."""
    cutouts = {"count": 6, "sizes": (16, 24)} | settings.pop("cutouts", {})
    table = {"prompt": prompt, "size": (32, 24), "steps": 12, "rate": 1.0, "cutouts": cutouts}
    return GuidedConfig.from_dict(table | settings)


def cells(config: GuidedConfig) -> CellsDrawer:
    return CellsDrawer(DrawerConfig(*config.size, seed=seed_number(config.seed)))


def painted(config: GuidedConfig, **options: Any) -> list[Step]:
    return list(paint(config, [ColourClip()], cells(config), **options))


def last(config: GuidedConfig) -> np.ndarray:
    return painted(config)[-1].images
