"""A picture of cells of one colour each: squares, bricks, hexagons, triangles, diamonds, or stitches of knitting.

Each shape tiles the plane, and each pixel belongs to the one cell that its centre lies in; drawing is then a look-up
in a list of colours, whatever the shape. The colours are the means, cell by cell, of a picture that is moved as a
spectrum (`fft`): moved each by itself, they become a grain that fools a network and shows nobody anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from bahumukha.generate.drawers.base import DrawerConfig, DrawerOver, check_positive, read_options
from bahumukha.generate.drawers.fft import FftDrawer, FftOptions
from bahumukha.generate.palettes import nearest, parse_palette


@dataclass(frozen=True)
class PixelOptions(FftOptions):
    """Of the cells, and of the spectrum beneath them."""

    shape: str = "square"
    """One of `SHAPES`."""
    columns: int = 40
    """Cells along the width of the picture."""
    palette: str | Sequence[str] | Sequence[Sequence[float]] | Tensor | None = None
    """What the cells are limited to: `parse_palette`'s text, names, or colours (N, 3) in [0, 1]; None: any colour."""
    decay: float = 1.5
    """As of `fft`: above 1.5 larger areas, below it each cell more for itself."""
    rate: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shape not in SHAPES:
            raise ValueError(f"shape is {self.shape!r}; it must be one of {', '.join(SHAPES)}")
        check_positive(self, "columns")
        if self.palette is not None:
            object.__setattr__(self, "palette", read_palette(self.palette))


class PixelDrawer(DrawerOver):
    """The variable is that of `FftDrawer`, `spectrum`.

    With a palette each cell shows the colour of it that is nearest (in RGB), and the gradient goes straight through.
    A loaded picture is kept as the mean colour of each cell, as closely as a spectrum keeps a picture.
    """

    def __init__(self, config: DrawerConfig):
        options = read_options(PixelOptions, config, "pixel")
        beneath = {each.name: getattr(options, each.name) for each in fields(FftOptions)}
        super().__init__(FftDrawer(replace(config, options=beneath)), config)
        self.cells = cell_map(options.shape, self.height, self.width, options.columns).to(self.device)
        self._sizes = self.cells.flatten().bincount()[:, None]
        self._palette = None if options.palette is None else torch.as_tensor(options.palette).to(self.device)

    def render(self) -> Tensor:
        """(B, 3, H, W) in [0, 1]."""
        colours = self._means(self.inner.render())  # (cells, B, 3)
        if self._palette is not None:
            shown = self._palette[nearest(colours, self._palette)]
            colours = shown + (colours - colours.detach())  # in this order the value is exactly the palette's
        return self._laid(colours)

    @torch.no_grad()
    def load_picture(self, pixels: Tensor) -> None:
        """The mean colour of each cell."""
        self.inner.load_picture(self._laid(self._means(self.checked(pixels).double())).float())

    def _means(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) -> mean colour of each cell, (cells, B, 3)."""
        flat = pictures.permute(2, 3, 0, 1).flatten(0, 1).flatten(1)  # (H W, B 3)
        sums = flat.new_zeros(len(self._sizes), flat.shape[1]).index_add(0, self.cells.flatten(), flat)
        return (sums / self._sizes).unflatten(1, (-1, 3))

    def _laid(self, colours: Tensor) -> Tensor:
        """(cells, B, 3) -> (B, 3, H, W)."""
        # An embedding, whose gradient is summed in the same order every time; that of plain indexing is not.
        return F.embedding(self.cells, colours.flatten(1)).permute(2, 0, 1).unflatten(0, (-1, 3))


def read_palette(palette: str | Sequence[str] | Sequence[Sequence[float]] | Tensor) -> Tensor:
    """Colours as float32 (N, 3). Raises ValueError unless they are in [0, 1], UsageError for a text it cannot read."""
    if isinstance(palette, str):
        return parse_palette(palette)
    if isinstance(palette, Sequence) and palette and all(isinstance(each, str) for each in palette):
        return parse_palette(f"[{','.join(map(str, palette))}]")
    colours = torch.as_tensor(palette, dtype=torch.float32)
    if colours.dim() != 2 or colours.shape[1] != 3 or not len(colours):
        raise ValueError(f"palette has shape {tuple(colours.shape)}; it takes colours (N, 3)")
    if not 0 <= float(colours.min()) <= float(colours.max()) <= 1:
        raise ValueError("palette has numbers outside [0, 1]")
    return colours


# --- cells: centres of pixels, in units of a cell's width -> whole numbers that tell the cell


def cell_map(shape: str, height: int, width: int, columns: int) -> Tensor:
    """The cell of each pixel, int64 (height, width), numbered without gaps; `columns` cells fill the width."""
    side = width / columns
    y = (torch.arange(height, dtype=torch.float64)[:, None] + 0.5) / side
    x = (torch.arange(width, dtype=torch.float64) + 0.5) / side
    keys = torch.stack(torch.broadcast_tensors(*(key.long() for key in SHAPES[shape](x, y))), dim=-1)
    _, cells = keys.flatten(0, 1).unique(dim=0, return_inverse=True)
    return cells.view(height, width)


def _square(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return x.floor(), y.floor()


def _brick(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Squares, every other row shifted by half of one."""
    row = y.floor()
    return (x + row.remainder(2) / 2).floor(), row


def _hexagon(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """The nearest centre of a triangular lattice: regular hexagons, a corner up."""
    rise = math.sqrt(3) / 2
    best: tuple[Tensor, ...] | None = None
    for step in (-1, 0, 1):  # the nearest centre lies in one of these rows
        row = (y / rise).round() + step
        shift = row.remainder(2) / 2
        column = (x - shift).round()
        distance = (x - shift - column).square() + (y - row * rise).square()
        if best is None:
            best = distance, column, row.expand_as(column)
        else:
            nearer = distance < best[0]
            best = tuple(torch.where(nearer, new, old) for new, old in zip((distance, column, row), best, strict=True))
    assert best is not None
    return best[1:]


def _triangle(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Equilateral triangles: rhombi of a skewed lattice, each cut along its shorter diagonal."""
    row = y / (math.sqrt(3) / 2)
    column = x - row / 2
    return column.floor(), row.floor(), row.frac() + column.remainder(1) > 1


def _diamond(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Squares that stand on a corner, as wide and as high as a cell."""
    return (x + y).floor(), (x - y).floor()


def _knit(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Stitches: a V a column wide, one above the other."""
    column = x.floor()
    return column, ((y + (x - column - 0.5).abs()) / 0.75).floor()


SHAPES: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, ...]]] = {
    "square": _square,
    "brick": _brick,
    "hexagon": _hexagon,
    "triangle": _triangle,
    "diamond": _diamond,
    "knit": _knit,
}
