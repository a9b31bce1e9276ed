"""One subject on a plain ground: a second variable says, place by place, how much of the drawn picture is there.

    x = g + α (drawn - g),     α = sigmoid(enlarged m)

g is one colour and m a coarse grid of logits, which the optimiser moves with the rest. Guidance puts a little of the
subject everywhere; here it has to pay for it: after each step m loses 4 σ(m) (1 - σ(m)) `shrink`. Adam's steps are
the longer the steadier the sign of a gradient is, so the subject stays where most views of most steps want it, and
what only some of them want goes back to the ground. Where the matte is full or empty it hardly loses anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bahumukha.errors import UsageError
from bahumukha.generate.drawers.base import Drawer, DrawerOver
from bahumukha.generate.drawers.strokes import CurveDrawer
from bahumukha.generate.palettes import parse_colour

CELL = 8
"""Pixels between two points of the grid."""
MOST = 3.0
"""Largest logit either way."""
STEEP = 4.0
"""Factor of the logits: the picture is there or not, and hardly anywhere in part."""
SURE = 2.0
"""Logit of what a loaded picture shows, and minus it of its ground."""
DIFFERENT = 0.1
"""Of a channel, from which on a loaded picture is not ground."""
RADIUS, SOFTNESS = 0.42, 0.05
"""Of the disc that the matte is at first, and of its edge, in shorter sides."""


@dataclass(frozen=True)
class MatteConfig:
    """[matte]: a plain ground around the subject."""

    colour: str = ""
    """Of the ground, as "white"; without one there is no matte, and the drawer fills the picture."""
    shrink: float = 0.03
    """What the matte's logits lose a step where it is half there: more of it leaves a smaller, plainer subject."""
    rate: float = 0.1
    """Of the matte's logits."""

    def __post_init__(self) -> None:
        if self.colour:
            parse_colour(self.colour, "colour")
        if not 0 < self.rate <= MOST:
            raise ValueError(f"rate is {self.rate}; it must be above 0 and at most {MOST:g}")
        if not 0 <= self.shrink < self.rate:
            raise ValueError(f"shrink is {self.shrink}; it must be from 0 up and below the rate, {self.rate}")


class MattedDrawer(DrawerOver):
    """Another drawer's pictures over a ground. Its variables are the other's, and `matte`: (B, 1, h, w).

    Raises UsageError for a drawer of strokes, whose ground is plain as it is.
    """

    def __init__(self, inner: Drawer, config: MatteConfig):
        super().__init__(inner, inner.config)
        if isinstance(inner, CurveDrawer):
            raise UsageError("matte.colour: strokes lie on a plain ground as it is; leave it out, or take vqgan or fft")
        self._shrink = config.shrink
        self._ground = torch.tensor(parse_colour(config.colour, "colour"), device=self.device).view(3, 1, 1) / 255
        rows, columns = (max(2, round(side / CELL)) for side in (self.height, self.width))
        inside = soft_disc((rows, columns), RADIUS, SOFTNESS)
        self._matte = self.add_variable("matte", ((2 * inside - 1) * SURE).expand(self.count, 1, -1, -1), config.rate)

    def render(self) -> Tensor:
        """(B, 3, H, W) in [0, 1]."""
        return self._ground + self.alpha() * (self.inner.render() - self._ground)

    def alpha(self) -> Tensor:
        """How much of the drawing is there, (B, 1, H, W) in (0, 1)."""
        return (
            F.interpolate(self._matte, (self.height, self.width), mode="bilinear", align_corners=False)
            .mul(STEEP)
            .sigmoid()
        )

    @torch.no_grad()
    def project(self) -> None:
        """The drawer's own rules, and the matte a little smaller."""
        super().project()
        inside = self._matte.sigmoid()
        self._matte.sub_(4 * self._shrink * inside * (1 - inside)).clamp_(-MOST, MOST)

    @torch.no_grad()
    def load_picture(self, pixels: Tensor) -> None:
        """The drawer's way to begin with it; the matte covers what is not the ground's colour, if anything is."""
        self.inner.load_picture(pixels)
        shown = ((self.checked(pixels) - self._ground).abs().amax(1, keepdim=True) > DIFFERENT).float()
        if not shown.any():
            return
        rows, columns = self._matte.shape[-2:]
        self._matte.copy_((2 * F.adaptive_avg_pool2d(shown, (rows, columns)) - 1) * SURE)


def matted(drawer: Drawer, config: MatteConfig) -> Drawer:
    """The drawer with a matte: beneath its cells, if it makes cells of another's pictures."""
    if isinstance(drawer, DrawerOver):
        drawer.inner = matted(drawer.inner, config)
        return drawer
    return MattedDrawer(drawer, config)


def soft_disc(size: tuple[int, int], radius: float, softness: float) -> Tensor:
    """A disc in the middle of (H, W): near 1 inside, near 0 outside; radius and edge in shorter sides."""
    y, x = (torch.arange(length) - (length - 1) / 2 for length in size)
    away = (y[:, None].square() + x[None, :].square()).sqrt() / min(size)
    return torch.sigmoid((radius - away) / softness)
