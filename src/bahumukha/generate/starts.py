"""What a painting starts from: a picture, a disc of one colour, noise of several kinds, or one over the other.

*Perlin* noise is smooth at every scale (Perlin, "An Image Synthesizer", 1985): random slopes at the points of a
lattice, interpolated with 6t⁵ - 15t⁴ + 10t³, octaves added with half the strength each. *Gradient* runs from one
colour to another; *snow* is each pixel on its own. Everything is (1, 3, H, W) in [0, 1], from an explicit generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from bahumukha.data.scene_colours import COLOURS, Rgb, named_in
from bahumukha.generate.drawers.matte import soft_disc
from bahumukha.generate.palettes import parse_colour
from bahumukha.images import open_image, to_float01

NAMED = "named"
RADIUS, SOFTNESS = 0.28, 0.02
"""Of the disc, and of its edge, in shorter sides of the picture."""

Noise = Literal["none", "perlin", "gradient", "snow"]
Pull = Literal["spherical", "l2", "cosine", "pixel"]


@dataclass(frozen=True)
class StartConfig:
    """[start]: the first picture, and how strongly the painting is held to it."""

    picture: Path | None = None
    """Filled to the size of the painting: scaled, its middle kept."""
    noise: Noise = "none"
    """Without a picture, `none` leaves the drawer's own random start."""
    colour: str = ""
    """Without a picture: a soft disc of this colour on white, or on the matte's ground; `named` for the one that the
    prompt names, if it does. CLIP tells colours apart but hardly leads to them: what begins red stays so, and a white
    ground stays calm."""
    alpha: float = 1.0
    """Part of the picture over the noise: 1 is all picture."""
    pull: float = 0.0
    """Weight of the distance to the start in the loss, at the first step."""
    pull_by: Pull = "l2"
    """Of what: the drawer's parameters (spherical, l2, cosine) or the picture (pixel)."""
    pull_until: float = 1.0
    """Part of the steps after which the pull, falling evenly, has become nothing."""

    def __post_init__(self) -> None:
        if self.noise not in ("none", *NOISES):
            raise ValueError(f"noise is {self.noise!r}; it must be one of none, {', '.join(NOISES)}")
        if self.colour and self.colour != NAMED:
            parse_colour(self.colour, "colour")
        if self.colour and (self.picture is not None or self.noise != "none"):
            raise ValueError(f"colour is {self.colour!r}, and a picture or noise is given too; leave one of them out")
        if self.pull_by not in ("spherical", "l2", "cosine", "pixel"):
            raise ValueError(f"pull_by is {self.pull_by!r}; it must be one of spherical, l2, cosine, pixel")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}; it must be from 0 to 1")
        if self.pull < 0:
            raise ValueError(f"pull is {self.pull}; it must be at least 0")
        if not 0 < self.pull_until <= 1:
            raise ValueError(f"pull_until is {self.pull_until}; it must be above 0 and at most 1")

    def pull_at(self, progress: float) -> float:
        """The weight when `progress` in [0, 1] of the steps is done."""
        return self.pull * max(0.0, 1 - progress / self.pull_until)


def start_picture(
    config: StartConfig, size: tuple[int, int], generator: torch.Generator, prompt: str = "", ground: str = "white"
) -> Tensor | None:
    """(1, 3, H, W) in [0, 1] for `size` (H, W), or None for the drawer's own start. Raises ImageError.

    prompt: where the colour `named` is looked for. ground: the colour around a disc.
    """
    if config.colour:
        colour = named_colour(prompt) if config.colour == NAMED else parse_colour(config.colour, "colour")
        return None if colour is None else disc(size, colour, parse_colour(ground, "ground"))
    noise = None if config.noise == "none" else NOISES[config.noise](size, generator)
    if config.picture is None:
        return noise
    picture = filled(config.picture, size)
    if config.alpha == 1:
        return picture
    beneath = torch.full_like(picture, 0.5) if noise is None else noise
    return torch.lerp(beneath, picture, config.alpha)


def named_colour(prompt: str) -> Rgb | None:
    """The first of the eleven basic colours among the words of a prompt."""
    names = named_in(prompt)
    return COLOURS[names[0]] if names else None


def disc(size: tuple[int, int], colour: Rgb, ground: Rgb) -> Tensor:
    """A soft disc of one sRGB colour in the middle of another: (1, 3, H, W) in [0, 1]."""
    inside = soft_disc(size, RADIUS, SOFTNESS)
    below, above = (torch.tensor(each).view(3, 1, 1).expand(3, *size) / 255 for each in (ground, colour))
    return torch.lerp(below, above, inside)[None]


def filled(path: Path, size: tuple[int, int]) -> Tensor:
    """A file's picture, scaled to cover `size` (H, W) and cut around its middle: (1, 3, H, W) in [0, 1].

    Raises ImageError.
    """
    return pixels(fill(open_image(path, at_least=max(size)), size))


def fill(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A picture scaled to cover `size` (H, W) and cut around its middle."""
    height, width = size
    factor = min(image.width / width, image.height / height)
    left, top = (image.width - width * factor) / 2, (image.height - height * factor) / 2
    box = (left, top, min(image.width, left + width * factor), min(image.height, top + height * factor))
    return image.resize((width, height), box=box, reducing_gap=None)


def pixels(image: Image.Image) -> Tensor:
    """An RGB picture -> (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(to_float01(image)).permute(2, 0, 1)[None].contiguous()


# --- noise ------------------------------------------------------------------------------------------------


def perlin(size: tuple[int, int], generator: torch.Generator, cell: int | None = None) -> Tensor:
    """Octaves of smooth noise, each channel its own, filling [0, 1]; `cell`: pixels of the coarsest lattice."""
    cell = cell or max(4, min(size) // 2)
    total = torch.zeros(3, *size)
    strength = 1.0
    while cell >= 4:
        total += strength * _octave(size, cell, generator)
        cell, strength = cell // 2, strength / 2
    low, high = total.amin((1, 2), keepdim=True), total.amax((1, 2), keepdim=True)
    return ((total - low) / (high - low).clamp(min=1e-6))[None]


def _octave(size: tuple[int, int], cell: int, generator: torch.Generator) -> Tensor:
    """Slopes at the lattice's points, their planes blended: (3, H, W), 0 at every point of the lattice."""
    rows, columns = (length // cell + 2 for length in size)
    angle = torch.rand(3, rows, columns, generator=generator) * 2 * math.pi
    slopes = torch.stack([angle.cos(), angle.sin()], -1)
    y, x = (torch.arange(length) / cell for length in size)
    i, j = y.long(), x.long()
    fy, fx = (y - i)[:, None], (x - j)[None, :]

    def plane(down: int, right: int) -> Tensor:
        slope = slopes[:, i + down][:, :, j + right]
        return slope[..., 0] * (fx - right) + slope[..., 1] * (fy - down)

    sy, sx = (t**3 * (t * (6 * t - 15) + 10) for t in (fy, fx))
    return torch.lerp(torch.lerp(plane(0, 0), plane(0, 1), sx), torch.lerp(plane(1, 0), plane(1, 1), sx), sy)


def gradient(size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """From one colour to another across the picture, in a random direction."""
    one, other = torch.rand(2, 3, 1, 1, generator=generator)
    angle = float(torch.rand((), generator=generator)) * 2 * math.pi
    y, x = (torch.linspace(-1, 1, length) for length in size)
    along = math.sin(angle) * y[:, None] + math.cos(angle) * x[None, :]
    return torch.lerp(one, other, (along - along.min()) / (along.max() - along.min()).clamp(min=1e-6))[None]


def snow(size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Every channel of every pixel on its own, evenly in [0, 1]."""
    return torch.rand(1, 3, *size, generator=generator)


NOISES: dict[str, Callable[[tuple[int, int], torch.Generator], Tensor]] = {
    "perlin": perlin,
    "gradient": gradient,
    "snow": snow,
}
