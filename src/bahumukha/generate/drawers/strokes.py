"""A picture of strokes with a soft brush, each a colour, a width and a curve (CLIPDraw: Frans, Soros, Witkowski 2021,
"CLIPDraw: Exploring Text-to-Drawing Synthesis through Language-Image Encoders").

Lengths are in heights of the picture, so that rates and widths mean the same at any size.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from bahumukha.generate.drawers.base import Drawer, DrawerConfig, check_positive, clamp, read_options
from bahumukha.generate.drawers.raster import PIECES, paint_strokes

MARGIN = 0.05
"""How far beyond the paper's edge control points may go, in heights: further out a stroke would never come back."""
LARGEST_CURVES = 255 // PIECES


class CurveDrawer(Drawer):
    """What drawers of curves share: one variable `points` (B, N, 3 C + 1, 2), (x, y) in heights; paper; SVG."""

    softness: float

    def __init__(self, config: DrawerConfig):
        super().__init__(config)
        self.aspect = self.width / self.height

    @property
    def strokes(self) -> int:
        """How many there are in a picture."""
        return self._variables["points"].shape[1]

    @abstractmethod
    def styles(self) -> tuple[Tensor, Tensor]:
        """Widths (B, N) in heights and colours (B, N, 4) in [0, 1], the last one opacity."""

    def render(self, first: int | None = None) -> Tensor:
        """(B, 3, H, W) in [0, 1]; with `first` only that many strokes from below, for a film of how it is drawn."""
        widths, colours = self.styles()
        size = self.height, self.width
        pictures = [
            paint_strokes(
                points[:first] * self.height,
                width[:first] * self.height,
                colour[:first],
                size,
                softness=self.softness,
            )
            for points, width, colour in zip(self._variables["points"], widths, colours, strict=True)
        ]
        return torch.stack(pictures).clamp(0, 1)  # a rounding error beyond

    @torch.no_grad()
    def project(self) -> None:
        """Control points back to the paper and a small margin about it."""
        self._variables["points"].clamp_(self._corner(-MARGIN), self._corner(1, MARGIN))

    @torch.no_grad()
    def to_svg(self) -> str:
        """The first picture: one `path` a stroke, in pixels, the lowest first."""
        widths, colours = self.styles()
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}"'
            f' viewBox="0 0 {self.width} {self.height}">',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            '<g fill="none" stroke-linecap="round" stroke-linejoin="round">',
        ]
        points = (self._variables["points"][0] * self.height).tolist()
        for path, width, colour in zip(points, (widths[0] * self.height).tolist(), colours[0].tolist(), strict=True):
            start, *rest = (f"{x:.2f},{y:.2f}" for x, y in path)
            paint = "".join(f"{round(255 * value):02x}" for value in colour[:3])
            lines.append(
                f'<path d="M{start} C{" ".join(rest)}" stroke="#{paint}" stroke-width="{width:.2f}"'
                f' stroke-opacity="{colour[3]:.3f}"/>'
            )
        return "\n".join([*lines, "</g>", "</svg>"]) + "\n"

    def add_curves(self, strokes: int, curves: int, reach: float, rate: float, random: torch.Generator) -> None:
        """Make the variable `points`: each stroke begins anywhere and wanders on by up to `reach` a control point."""
        start = torch.rand(self.count, strokes, 1, 2, generator=random) * torch.tensor([self.aspect, 1.0])
        steps = torch.rand(self.count, strokes, 3 * curves, 2, generator=random) * 2 - 1
        points = start + torch.cat([torch.zeros_like(start), reach * steps.cumsum(2)], dim=2)
        self.add_variable("points", points, rate)
        self.project()

    def _corner(self, part: float, beyond: float = 0.0) -> Tensor:
        """(2,): `part` of the way from the left and upper edge to the right and lower one, and `beyond` that."""
        if part < 0:
            part, beyond = 0.0, part
        return torch.tensor([part * self.aspect + beyond, part + beyond], device=self.device)


@dataclass(frozen=True)
class StrokesOptions:
    strokes: int = 256
    curves: int = 1
    """Cubic Bézier curves of a stroke, end to end."""
    min_width: float = 0.01
    """Of a stroke, in heights of the picture."""
    max_width: float = 0.05
    reach: float = 0.1
    """Of a new stroke: largest step from one control point to the next, along each axis, in heights."""
    softness: float = 1.0
    """Half the width of a stroke's soft edge, in pixels."""
    point_rate: float = 0.005
    """A pixel a step at 224 px, as in the paper."""
    width_rate: float = 0.0005
    colour_rate: float = 0.02

    def __post_init__(self) -> None:
        check_positive(
            self, "strokes", "curves", "min_width", "reach", "softness", "point_rate", "width_rate", "colour_rate"
        )
        if self.max_width < self.min_width:
            raise ValueError(f"max_width is {self.max_width}; it must be at least min_width, {self.min_width}")
        if self.curves > LARGEST_CURVES:
            raise ValueError(f"curves is {self.curves}; it must be at most {LARGEST_CURVES}")


class StrokesDrawer(CurveDrawer):
    """Variables `points`, `widths` (B, N) in heights, `colours` (B, N, 4) with opacity; white paper.

    A loaded picture is laid out in dabs, one stroke each, as a painter would block it in: of one even colour it is kept
    to within 0.1 on average with 256 strokes and more; small things in it are lost.
    """

    def __init__(self, config: DrawerConfig):
        super().__init__(config)
        options = self.options = read_options(StrokesOptions, config, "strokes")
        self.softness = float(options.softness)
        random = config.generator
        self.add_curves(options.strokes, options.curves, options.reach, options.point_rate, random)
        shape = (self.count, options.strokes)
        widths = options.min_width + (options.max_width - options.min_width) * torch.rand(shape, generator=random)
        self._widths = self.add_variable("widths", widths, options.width_rate)
        colours = torch.rand(*shape, 4, generator=random)
        colours[..., 3] = 0.3 + 0.7 * colours[..., 3]  # what cannot be seen cannot be moved
        self._colours = self.add_variable("colours", colours, options.colour_rate)

    def styles(self) -> tuple[Tensor, Tensor]:
        """Widths (B, N) in heights, colours (B, N, 4)."""
        return clamp(self._widths, self.options.min_width, self.options.max_width), clamp(self._colours, 0, 1)

    @torch.no_grad()
    def project(self) -> None:
        """Points to the paper, widths and colours to their ranges."""
        super().project()
        if "widths" in self._variables:  # not yet when the points are made
            self._widths.clamp_(self.options.min_width, self.options.max_width)
            self._colours.clamp_(0, 1)

    @torch.no_grad()
    def load_picture(self, pixels: Tensor) -> None:
        """Dabs on a grid, as wide as strokes may be, each at an angle of its own in the colour under its middle."""
        picture = self.checked(pixels)
        random = torch.Generator().manual_seed(self.config.seed)
        number = self.options.strokes
        columns = max(1, round(math.sqrt(number * self.aspect)))
        rows = -(-number // columns)
        for each in range(self.count):
            order = torch.randperm(number, generator=random)
            places = torch.stack([order % columns * (self.aspect / columns), order // columns / rows], dim=1)
            cell = torch.tensor([self.aspect / columns, 1 / rows])
            middle = places + cell * (0.25 + 0.5 * torch.rand(number, 2, generator=random))
            angle = math.pi * torch.rand(number, generator=random)
            along = torch.stack([angle.cos(), angle.sin()], dim=1) * cell  # half a dab
            parts = torch.linspace(-1, 1, self._variables["points"].shape[2])[:, None]
            self._variables["points"][each] = middle[:, None] + parts * along[:, None]
            column = (middle[:, 0] / self.aspect * self.width).long().clamp(0, self.width - 1)
            row = (middle[:, 1] * self.height).long().clamp(0, self.height - 1)
            self._colours[each, :, :3] = picture[0, :, row.to(self.device), column.to(self.device)].T
        self._colours[..., 3] = 1.0
        self._widths.fill_(self.options.max_width)
        self.project()
