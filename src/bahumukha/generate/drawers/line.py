"""A sketch of few black lines on white paper: only where they run is learnt (as in CLIPasso: Vinker et al. 2022,
"CLIPasso: Semantically-Aware Object Sketching")."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bahumukha.errors import UsageError
from bahumukha.generate.drawers.base import DrawerConfig, check_positive, read_options
from bahumukha.generate.drawers.strokes import LARGEST_CURVES, CurveDrawer


@dataclass(frozen=True)
class LineOptions:
    strokes: int = 24
    curves: int = 2
    """Cubic Bézier curves of a line, end to end."""
    width: float = 0.015
    """Of a line, in heights of the picture."""
    reach: float = 0.12
    """Of a new line: largest step from one control point to the next, along each axis, in heights."""
    softness: float = 1.5
    """Half the width of a line's soft edge, in pixels; the wider, the further a line sees."""
    rate: float = 0.005

    def __post_init__(self) -> None:
        check_positive(self, "strokes", "curves", "width", "reach", "softness", "rate")
        if self.curves > LARGEST_CURVES:
            raise ValueError(f"curves is {self.curves}; it must be at most {LARGEST_CURVES}")


class LineDrawer(CurveDrawer):
    """One variable, `points`; no picture can be loaded."""

    def __init__(self, config: DrawerConfig):
        super().__init__(config)
        options = read_options(LineOptions, config, "line")
        self.softness = float(options.softness)
        self.add_curves(options.strokes, options.curves, options.reach, options.rate, config.generator)
        shape = (self.count, options.strokes)
        self._widths = torch.full(shape, float(options.width), device=self.device)
        self._ink = torch.tensor([0.0, 0.0, 0.0, 1.0], device=self.device).expand(*shape, 4)

    def styles(self) -> tuple[Tensor, Tensor]:
        """The same for all lines."""
        return self._widths, self._ink

    def load_picture(self, pixels: Tensor) -> None:
        """Raises UsageError."""
        raise UsageError("drawer line cannot start from a picture; give the picture as a prompt, or draw with strokes")
