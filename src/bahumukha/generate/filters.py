r"""Filters: what is done to every render before it is judged, and to the last one before it is saved.

    FILTERS["lookup"](colours="black->red\8")(render, step)      (B, 3, H, W) in [0, 1] -> the same

*lookup* gives every pixel the nearest colour of a palette; *tile* makes left meet right and top meet bottom;
*wallpaper* moves the picture around on a torus from step to step, so that the edges are judged in the middle of the
picture as often as anything else and no seam can form where they meet. Gradients pass through all of them. A filter has
no state: what it does at a step follows from the step's number, so a resumed run goes on as it would have; step 0 moves
nothing, which is how the finished picture is filtered.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from bahumukha.generate.palettes import nearest, parse_palette
from bahumukha.generate.registry import check_choice, check_number, check_text, make, register

PLASTIC = 1.32471795724474602596
"""Real root of x³ = x + 1. The parts behind the point of n / p and n / p² fill a square evenly (Roberts 2018,
http://extremelearning.com.au/unreasonable-effectiveness-of-quasirandom-sequences/)."""


class Filter(Protocol):
    """A differentiable change of a render."""

    def __call__(self, render: Tensor, step: int = 0) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> the same shape and range."""
        ...


@dataclass(frozen=True)
class Lookup:
    """Only colours of a palette (see `palettes`): exactly them forward, straight through backward."""

    colours: str
    _palette: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_text("colours", self.colours, "red->rust; [white]")
        object.__setattr__(self, "_palette", parse_palette(self.colours, "colours"))

    def __call__(self, render: Tensor, step: int = 0) -> Tensor:
        palette = self._palette.to(render)
        found = palette[nearest(render.movedim(1, -1), palette)].movedim(-1, 1)
        return found + (render - render.detach())  # the bracket is exactly 0


@dataclass(frozen=True)
class Tile:
    """Repeats without a seam: towards its edges the picture passes into itself moved by half its size.

        y = w x + (1 - w) roll(x, size / 2)        along the width, then along the height

    w is 0 at both edges and 1 from `margin` of the side on. At the edges stand pixels that were neighbours in the
    middle, so they still are when the tiles are laid; where the moved copy has its own seam, w is 1.
    """

    margin: float = 0.25
    """Share of each side over which the picture passes over; above 0, below 0.5."""

    def __post_init__(self) -> None:
        check_number("margin", self.margin, 0.01, 0.49)

    def __call__(self, render: Tensor, step: int = 0) -> Tensor:
        return self._seamless(self._seamless(render, -1), -2)

    def _seamless(self, x: Tensor, axis: int) -> Tensor:
        side = x.shape[axis]
        from_edge = torch.arange(side, device=x.device, dtype=x.dtype)
        from_edge = torch.minimum(from_edge, side - 1 - from_edge)
        weight = (from_edge / (self.margin * side)).clamp(max=1).mul(math.pi / 2).sin().square()
        return torch.lerp(x.roll(side // 2, axis), x, weight[:, None] if axis == -2 else weight)


@dataclass(frozen=True)
class Wallpaper:
    """The render as a wall covered with it shows it, through a window that moves at every step."""

    kind: str = "shift"
    """`shift` both ways, `horizontal` (a frieze: only the left and right edges have to meet) or `vertical`."""

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, ("shift", "horizontal", "vertical"))

    def __call__(self, render: Tensor, step: int = 0) -> Tensor:
        height, width = render.shape[-2:]
        across = int(step / PLASTIC % 1 * width) if self.kind != "vertical" else 0
        down = int(step / PLASTIC**2 % 1 * height) if self.kind != "horizontal" else 0
        return render.roll((down, across), (-2, -1))


FILTERS: dict[str, Callable[..., Filter]] = {"lookup": Lookup, "tile": Tile, "wallpaper": Wallpaper}
"""Factories by name; each takes its options by keyword."""


def register_filter(name: str, factory: Callable[..., Filter]) -> None:
    """Make a filter of one's own known by name. Raises UsageError for a name that is taken."""
    register("filter", FILTERS, name, factory)


def make_filter(name: str, **options: Any) -> Filter:
    """The filter called `name`. Raises UsageError naming the filter and the option at fault."""
    return make("filter", FILTERS, name, options)
