"""A camera that moves over the painting: every frame of the video is the last one zoomed, shifted, turned, painted on.

    x'(p) = x(R(-turn) (p - shift) / zoom)        p from the middle of the picture, in heights

so above 1 zoom goes into the picture, and shift and turn move what it shows to the right, downwards and clockwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bahumukha.generate.cutouts import PADDING, Fill
from bahumukha.generate.schedules import parse_schedule

MOST_FRAMES = 100_000


@dataclass(frozen=True)
class CameraConfig:
    """[camera]: moves from one frame to the next; each may be a schedule over the frames, as "1.02, 0.98 at 50%"."""

    frames: int = 0
    """Of the video, the first painting among them; 0 for one picture and no camera."""
    steps: int = 10
    """Of painting, a frame; the first one has those of the painting itself."""
    zoom: float | str = 1.0
    shift: tuple[float | str, float | str] = (0.0, 0.0)
    """To the right and downwards, in widths and heights of the picture."""
    turn: float | str = 0.0
    """Degrees, clockwise."""
    fill: Fill = "mirror"
    """What comes in over the edges: the picture's mirror image, its edge drawn out, or grey."""

    def __post_init__(self) -> None:
        if not 0 <= self.frames <= MOST_FRAMES:
            raise ValueError(f"frames is {self.frames}; it must be from 0 to {MOST_FRAMES:,}")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; it must be at least 1")
        parse_schedule(self.zoom, "zoom", least=0.1, most=10)
        for each in self.shift:
            parse_schedule(each, "shift", least=-1, most=1)
        parse_schedule(self.turn, "turn", least=-360, most=360)
        if self.fill not in PADDING:
            raise ValueError(f"fill is {self.fill!r}; it must be one of {', '.join(PADDING)}")

    def moved(self, picture: Tensor, frame: int) -> Tensor:
        """A picture (B, 3, H, W) in [0, 1] as it is before `frame`, counted from 0, is painted on."""
        zoom, across, down, turn = (
            parse_schedule(each).at(frame, self.frames) for each in (self.zoom, *self.shift, self.turn)
        )
        return move(picture, zoom, (across, down), turn, self.fill)


def move(
    picture: Tensor,
    zoom: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
    turn: float = 0.0,
    fill: Fill = "mirror",
) -> Tensor:
    """The formula at the module's head: pictures (B, 3, H, W) in [0, 1] -> the same shape and range.

    Shift in widths and heights, turn in degrees. Bicubic: pictures go through this once a frame, and each time bilinear
    sampling would take some of their detail.
    """
    if (zoom, *shift, turn) == (1.0, 0.0, 0.0, 0.0):
        return picture
    height, width = picture.shape[-2:]
    aspect, angle = width / height, math.radians(turn)
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    # Coordinates of grid_sample run from -1 to 1 along both sides: a turn has to know the aspect.
    across, down = 2 * shift[0], 2 * shift[1]
    rows = [
        [cos, sin / aspect, -cos * across - sin / aspect * down],
        [-sin * aspect, cos, sin * aspect * across - cos * down],
    ]
    where = torch.tensor(rows, dtype=picture.dtype, device=picture.device).expand(len(picture), 2, 3)
    grid = F.affine_grid(where, list(picture.shape), align_corners=False)
    # Grey is zero around the middle of the range.
    seen = F.grid_sample(picture - 0.5, grid, mode="bicubic", padding_mode=PADDING[fill], align_corners=False) + 0.5
    return seen.clamp(0, 1)
