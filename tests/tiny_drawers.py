"""Every drawer at a size small enough for a test, a picture for it to draw, and steps towards that picture."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bahumukha.generate.drawers import Drawer, DrawerConfig, build_drawer
from bahumukha.models.quantize import QuantizerConfig
from bahumukha.models.vqgan import Codec, VqganConfig, build_codec

WIDTH, HEIGHT = 48, 32


def tiny_codec(quantizer: QuantizerConfig = QuantizerConfig("vq", codes=20)) -> Codec:
    torch.manual_seed(0)
    config = VqganConfig(
        ch=8, ch_mult=(1, 1, 2), num_res_blocks=1, attn_resolutions=(), resolution=32, z_channels=8, embed_dim=4,
        groups=4, quantizer=quantizer,
    )  # fmt: skip
    return build_codec(config).eval().requires_grad_(False)


TINY: dict[str, dict[str, Any]] = {
    "vqgan": {},
    "fft": {},
    "pixel": {"columns": 12},
    "strokes": {"strokes": 24, "curves": 2},
    "line": {"strokes": 6},
}


def tiny(name: str, seed: int = 0, count: int = 1, **options: Any) -> Drawer:
    codec = tiny_codec() if name == "vqgan" else None
    config = DrawerConfig(WIDTH, HEIGHT, count=count, seed=seed, options=TINY[name] | options, codec=codec)
    return build_drawer(name, config)


def disc() -> Tensor:
    """A red disc on light blue, (1, 3, HEIGHT, WIDTH)."""
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    inside = ((x - 20) ** 2 + (y - 16) ** 2) < 10**2
    return torch.where(
        inside, torch.tensor([0.8, 0.2, 0.1])[:, None, None], torch.tensor([0.6, 0.7, 0.9])[:, None, None]
    )[None]


def fit(drawer: Drawer, target: Tensor, steps: int) -> tuple[float, float]:
    """Squared error before and after that many steps of Adam at the drawer's own rates."""
    optimizer = torch.optim.Adam(drawer.parameters())
    errors = []
    for _ in range(steps):
        error = (drawer.render() - target).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        drawer.project()
        errors.append(float(error.detach()))
    return errors[0], float((drawer.render() - target).square().mean().detach())
