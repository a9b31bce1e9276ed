"""What CLIP is shown of a picture: many pieces, each seen through another window, under another light.

A network is fooled by one view far more easily than by many, so guidance scores N cutouts at a time. Two kinds, after
Pixray: *zoom* sees a part (a square of a quarter to nearly all of the picture), *wide* sees all of it and a margin.
Each is one projective map of the output square onto the picture

    (x, y, w) = A (u, v, 1),      picture coordinates (x / w, y / w),   u, v in [-1, 1]

in which crop, turn, mirror and perspective are one resampling, straight from the full resolution. Where a window
covers more pixels than it has, it reads a level of an antialiased pyramid (steps of sqrt 2) whose pixels are no finer
than 1 / `FINEST` of its own: no detail is skipped, and every pixel under a window gets a gradient.

Then colours (one affine map of RGB a cutout: brightness, contrast, saturation, hue) and noise. All of it is
differentiable, and every number comes from the generator that is given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from bahumukha.generate.schedules import parse_schedule

Fill = Literal["grey", "edge", "mirror"]
PADDING: dict[str, str] = {"grey": "zeros", "edge": "border", "mirror": "reflection"}
"""What lies outside of the picture, as `grid_sample` calls it; grey is zero around the middle of the range."""

FINEST = 1.2
"""Pixels of the picture's level that one pixel of a cutout may step over; below 2 bilinear sampling misses none."""
EDGES = 1.2
"""Places of zoom windows are drawn over this much of their room and held back at the edges, which would else be seen
least of all."""
LUMA = (0.299, 0.587, 0.114)
SMALLEST_SIDE = 16
MOST = 4096
"""Cutouts a step."""


@dataclass(frozen=True)
class CutoutConfig:
    """[cutouts]: how many, of what, and how they are changed."""

    count: int | str = 16
    """Cutouts a step, of each CLIP model; a schedule as "8 -> 24" changes it over time."""
    batches: int = 1
    """Parts in which they are scored, one after another: less memory, the same gradient."""
    sizes: tuple[int, ...] = (192,)
    """Sides in pixels; each step takes one of them at random."""
    zoom: float = 0.6
    """Part of the cutouts that see a part; the others see all."""
    zoom_area: tuple[float, float] = (0.25, 0.95)
    """Least and largest part of the largest square in the picture."""
    wide_side: tuple[float, float] = (1.0, 1.15)
    """Side of a wide window over the longest side of the picture: above 1 a margin shows."""
    centred: float = 0.0
    """0: zoom windows lie anywhere; 1: in the middle; between, that much nearer to it."""
    perspective: float = 0.3
    """Largest move of a corner towards the middle, over half the side."""
    rotation: float = 5.0
    """Largest turn in degrees, either way."""
    flip: float = 0.5
    """Part of the cutouts that are mirrored; 0 where writing matters."""
    brightness: float = 0.1
    contrast: float = 0.1
    saturation: float = 0.1
    """Largest change of each factor from 1, either way."""
    hue: float = 0.02
    """Largest turn of the hue, in turns, either way."""
    noise: float = 0.1
    """Each cutout gets Gaussian noise of a deviation between 0 and this."""
    fill: Fill = "grey"
    """What a window shows outside of the picture."""

    def __post_init__(self) -> None:
        fewest = parse_schedule(self.count, "count", least=1, most=MOST).bounds[0]
        if not 1 <= self.batches <= fewest:
            raise ValueError(f"batches is {self.batches}; it must be from 1 to count, which is {self.count}")
        if not self.sizes or min(self.sizes) < SMALLEST_SIDE:
            raise ValueError(f"sizes is {list(self.sizes)}; give at least one, each at least {SMALLEST_SIDE}")
        for name in ("zoom", "centred", "flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        for name in ("perspective", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        for name, most in (("rotation", 180), ("hue", 0.5), ("noise", 1)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to {most}")
        self._check_ranges()

    def _check_ranges(self) -> None:
        if not 0 < self.zoom_area[0] <= self.zoom_area[1] <= 1:
            raise ValueError(f"zoom_area is {list(self.zoom_area)}; give the least and the largest part, up to 1")
        if not 0 < self.wide_side[0] <= self.wide_side[1] <= 4:
            raise ValueError(f"wide_side is {list(self.wide_side)}; give the least and the largest factor, up to 4")
        if self.fill not in PADDING:
            raise ValueError(f"fill is {self.fill!r}; it must be one of {', '.join(PADDING)}")

    def count_at(self, step: int, total: int) -> int:
        """Cutouts at `step` of a run of `total` steps."""
        return round(parse_schedule(self.count, "count").at(step, total))


class Windows(NamedTuple):
    """What was drawn for N cutouts."""

    corners: Tensor
    """float64 (N, 4, 2): x, y in pixels of the picture of the upper left, upper right, lower right and lower left."""
    colours: Tensor
    """float32 (N, 3, 4): an affine map of RGB in [0, 1]."""
    noise: Tensor
    """float32 (N,): deviations."""
    side: int
    """Of the cutouts, in pixels."""
    fill: Fill

    def parts(self, count: int) -> list[Windows]:
        """The same in `count` parts that differ by one window at most."""
        pieces = [each.tensor_split(count) for each in (self.corners, self.colours, self.noise)]
        return [
            Windows(corners, colours, noise, self.side, self.fill)
            for corners, colours, noise in zip(*pieces, strict=True)
        ]


def draw_windows(
    config: CutoutConfig, size: tuple[int, int], generator: torch.Generator, count: int | None = None
) -> Windows:
    """Windows on a picture of `size` (H, W) pixels; `count` of them, as at the first step by default."""
    n = config.count_at(0, 1) if count is None else count
    side = config.sizes[int(torch.randint(len(config.sizes), (), generator=generator))]
    corners, colours = _corners(config, size, n, generator), _colours(config, n, generator)
    return Windows(corners, colours, _uniform((n,), 0, config.noise, generator).float(), side, config.fill)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low


def _corners(config: CutoutConfig, size: tuple[int, int], n: int, generator: torch.Generator) -> Tensor:
    height, width = size
    # The rounding is drawn too: 5 cutouts with zoom 0.5 are two or three zooms, and a batch of 1 is either.
    zooms = int(n * config.zoom + float(_uniform((), 0, 1, generator)))
    is_zoom = torch.arange(n) < zooms
    area = _uniform((n,), *config.zoom_area, generator)
    wide = _uniform((n,), *config.wide_side, generator) * max(height, width)
    sides = torch.where(is_zoom, area.sqrt() * min(height, width), wide)
    middle = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    room = (2 * middle - sides[:, None]).clamp(min=0) / 2  # a zoom window stays inside, a wide one in the middle
    place = _uniform((n, 2), -EDGES, EDGES, generator).clamp(-1, 1)
    centres = middle + place * room * (1 - config.centred * is_zoom[:, None].double())
    square = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64).expand(n, 4, 2)
    square = square * (1 - _uniform((n, 4, 2), 0, config.perspective, generator))
    mirrored = _uniform((n,), 0, 1, generator) < config.flip
    square = torch.where(mirrored[:, None, None], square[:, [1, 0, 3, 2]], square)
    angle = _uniform((n,), -config.rotation, config.rotation, generator).deg2rad()
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(n, 2, 2)
    return centres[:, None] + sides[:, None, None] / 2 * square @ turn.mT


def _colours(config: CutoutConfig, n: int, generator: torch.Generator) -> Tensor:
    """contrast · (brightness · hue · saturation · x - 1/2) + 1/2, as (N, 3, 4)."""
    factors = [
        _uniform((n, 1, 1), 1 - spread, 1 + spread, generator)
        for spread in (config.brightness, config.contrast, config.saturation)
    ]
    brightness, contrast, saturation = factors
    identity = torch.eye(3, dtype=torch.float64)
    grey = torch.tensor(LUMA, dtype=torch.float64).expand(3, 3)
    angle = _uniform((n, 1, 1), -config.hue, config.hue, generator) * 2 * math.pi
    # Rodrigues: a turn of RGB about the grey axis.
    axis = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64) / math.sqrt(3)
    hue = angle.cos() * identity + angle.sin() * axis + (1 - angle.cos()) / 3
    matrix = contrast * brightness * hue @ (saturation * identity + (1 - saturation) * grey)
    shift = ((1 - contrast) / 2).expand(n, 3, 1)
    return torch.cat([matrix, shift], dim=2).float()


# --- from windows to pixels -------------------------------------------------------------------------------


def cut(picture: Tensor, windows: Windows, generator: torch.Generator) -> Tensor:
    """Pictures (B, 3, H, W) in [0, 1] -> cutouts (B * N, 3, side, side), those of the first picture first.

    Differentiable. Values may leave [0, 1] by what noise and colours add: clipping them would take gradients away.
    """
    seen = look(picture, windows.corners, windows.side, windows.fill)
    colours = windows.colours.to(seen).repeat(len(picture), 1, 1)
    seen = torch.einsum("nij,njhw->nihw", colours[:, :, :3], seen) + colours[:, :, 3, None, None]
    if not windows.noise.any():
        return seen
    noise = torch.randn(seen.shape, generator=generator).to(seen)
    return seen + windows.noise.to(seen).repeat(len(picture))[:, None, None, None] * noise


def look(picture: Tensor, corners: Tensor, side: int, fill: Fill = "grey") -> Tensor:
    """Pictures (B, 3, H, W) through windows, corners (N, 4, 2) as in `Windows` -> (B * N, 3, side, side)."""
    height, width = picture.shape[2:]
    scale = torch.tensor([2 / width, 2 / height], dtype=torch.float64)
    grid = _grid(corners * scale - 1, side).to(picture)  # (N, side, side, 2)
    levels = _levels(corners, side, min(height, width))
    parts, order = [], []
    for level in sorted(set(levels)):
        chosen = [i for i, each in enumerate(levels) if each == level]
        parts.append(_sampled(_smaller(picture, level), grid[chosen], fill))
        order += chosen
    seen = torch.cat(parts, dim=1)[:, torch.tensor(order).argsort()]
    return seen.flatten(0, 1)


def _sampled(picture: Tensor, grid: Tensor, fill: Fill) -> Tensor:
    """(B, 3, h, w), grids (N, side, side, 2) -> (B, N, 3, side, side)."""
    n, side = grid.shape[:2]
    # All windows in one tall grid: the picture is not copied for each of them, nor is its gradient.
    tall = grid.reshape(1, n * side, side, 2).expand(len(picture), -1, -1, -1)
    seen = F.grid_sample(picture - 0.5, tall, mode="bilinear", padding_mode=PADDING[fill], align_corners=False) + 0.5
    return seen.view(len(picture), 3, n, side, side).transpose(1, 2)


def _levels(corners: Tensor, side: int, shortest: int) -> list[int]:
    """The level of the pyramid that each window reads; level l has 2^(l/2) times fewer pixels along a side."""
    longest = (corners - corners.roll(1, dims=1)).norm(dim=2).amax(1) / side
    most = max(0, int(2 * math.log2(max(1, shortest / 2))))
    return [min(most, max(0, math.ceil(2 * math.log2(step / FINEST) - 1e-9))) for step in longest.tolist()]


def _smaller(picture: Tensor, level: int) -> Tensor:
    if level == 0:
        return picture
    size = [max(1, round(length / 2 ** (level / 2))) for length in picture.shape[2:]]
    return F.interpolate(picture, size, mode="bilinear", antialias=True, align_corners=False)


def _grid(corners: Tensor, side: int) -> Tensor:
    """Corners (N, 4, 2) in grid_sample's coordinates -> where each pixel of the cutouts looks, (N, side, side, 2)."""
    a = _projective(corners)  # (N, 3, 3)
    line = (torch.arange(side, dtype=torch.float64) + 0.5) * 2 / side - 1
    v, u = torch.meshgrid(line, line, indexing="ij")
    points = torch.stack([u, v, torch.ones_like(u)], dim=-1).view(-1, 3) @ a.mT  # (N, side * side, 3)
    return (points[..., :2] / points[..., 2:]).view(-1, side, side, 2)


def _projective(corners: Tensor) -> Tensor:
    """The map A (N, 3, 3) that takes the corners of the square [-1, 1]² to these (N, 4, 2).

    Eight equations in eight unknowns: a1 u + a2 v + a3 - x (a7 u + a8 v) = x, and the same for y.
    """
    n = len(corners)
    u, v = torch.tensor([[-1, 1, 1, -1], [-1, -1, 1, 1]], dtype=torch.float64).expand(n, 2, 4).unbind(1)
    x, y = corners.unbind(2)
    one, zero = torch.ones_like(u), torch.zeros_like(u)
    rows = [
        torch.stack([u, v, one, zero, zero, zero, -x * u, -x * v], 2),
        torch.stack([zero, zero, zero, u, v, one, -y * u, -y * v], 2),
    ]
    solved = torch.linalg.solve(torch.cat(rows, 1), torch.cat([x, y], 1))
    return torch.cat([solved, torch.ones(n, 1, dtype=torch.float64)], 1).view(n, 3, 3)
