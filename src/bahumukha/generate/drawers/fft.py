"""A picture as a spectrum: every step changes it at all scales at once, and no pixel by itself.

    x = sigmoid(A irfft2(s(f) z)),     s(f) = max(f, 1 / N)^-decay

f is the frequency in cycles a pixel, N the longer side. With decay 1 all octaves have the same energy, as in natural
pictures. The columns of A are the axes on which colours of natural pictures vary independently, as long as they vary:
grey, red against blue, green against purple (Ohta, Kanade, Sakai 1980, "Color information for region segmentation";
Olah, Mordvintsev, Schubert 2017, "Feature Visualization", where both ideas come from).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bahumukha.generate.drawers.base import Drawer, DrawerConfig, check_positive, read_options

AXES = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (-1.0, 2.0, -1.0))
"""Of colour, in RGB; orthogonal."""
DEVIATIONS = (1.0, 0.28, 0.13)
"""How much natural pictures vary along the axes, grey first, relative to it."""
DARKEST = 0.005
"""Colours of a loaded picture end here and at 1 minus it: a sigmoid never reaches 0 or 1."""


@dataclass(frozen=True)
class FftOptions:
    decay: float = 1.0
    """Exponent of the spectrum: above 1 softer, below 1 more detail."""
    saturation: float = 1.0
    """Of the decorrelated colours: factor of both axes of colour; below 1 colours come more slowly."""
    rate: float = 0.05
    spread: float = 0.05
    """Standard deviation of the random spectrum of the start, about a grey of 1/2."""

    def __post_init__(self) -> None:
        check_positive(self, "saturation", "rate")
        if min(self.decay, self.spread) < 0:
            raise ValueError("decay and spread must be at least 0")


class FftDrawer(Drawer):
    """One variable, `spectrum`: (B, 3, H, W // 2 + 1, 2), real and imaginary parts.

    A loaded picture is kept to within `DARKEST` at every pixel.
    """

    def __init__(self, config: DrawerConfig):
        super().__init__(config)
        options = read_options(FftOptions, config, "fft")
        rows = torch.fft.fftfreq(self.height, dtype=torch.float64)[:, None]
        columns = torch.fft.rfftfreq(self.width, dtype=torch.float64)
        frequencies = (rows.square() + columns.square()).sqrt().clamp_min(1 / max(self.height, self.width))
        self._scale = frequencies.pow(-options.decay).to(self.device, torch.float32)  # (H, W // 2 + 1)
        deviations = torch.tensor(DEVIATIONS) * torch.tensor([1.0, options.saturation, options.saturation])
        self._colours = (torch.nn.functional.normalize(torch.tensor(AXES), dim=1).T * deviations).to(self.device)
        start = torch.randn(self.count, 3, *self._scale.shape, 2, generator=config.generator)
        self._spectrum = self.add_variable("spectrum", options.spread * start, options.rate)

    def render(self) -> Tensor:
        """(B, 3, H, W) in (0, 1)."""
        spectrum = torch.view_as_complex(self._spectrum) * self._scale
        axes = torch.fft.irfft2(spectrum, s=(self.height, self.width), norm="ortho")
        return torch.einsum("ca,bahw->bchw", self._colours, axes).sigmoid()

    @torch.no_grad()
    def load_picture(self, pixels: Tensor) -> None:
        """The picture's own spectrum."""
        logits = self.checked(pixels).clamp(DARKEST, 1 - DARKEST).logit()
        axes = torch.einsum("ac,bchw->bahw", self._colours.inverse(), logits)
        spectrum = torch.fft.rfft2(axes, norm="ortho") / self._scale
        self._spectrum.copy_(torch.view_as_real(spectrum).expand_as(self._spectrum))
