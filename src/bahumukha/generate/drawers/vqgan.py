"""A picture as the latents of a codec, VQGAN-CLIP's way: what can be drawn is what the decoder has learnt to draw.

    x = G(Q(z))

Q is the nearest code, straight through. After each step z is clamped to where codes are, and the gradient at a pixel
out of range is kept unless it leads further out (Crowson et al. 2022, "VQGAN-CLIP: Open Domain Image Generation and
Editing with Natural Language Guidance").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.errors import UsageError
from bahumukha.generate.drawers.base import Drawer, DrawerConfig, check_positive, clamp, read_options
from bahumukha.models.quantize import GumbelQuantizer, ProjectedQuantizer
from bahumukha.models.vqgan import Codec
from bahumukha.nn.precision import autocast
from bahumukha.protocols import ImageCodec

COARSENESS = 4
"""Codes along a side of a patch of the start's soft noise."""


@dataclass(frozen=True)
class VqganOptions:
    rate: float = 0.1
    ground: float = 0.5
    """Grey of the start, in [0, 1]: a codec of drawings leaves a ground that begins white as it is."""
    spread: float = 0.15
    """Standard deviation of the soft coloured noise about that grey whose encoding is the start."""

    def __post_init__(self) -> None:
        check_positive(self, "rate")
        if self.spread < 0:
            raise ValueError(f"spread is {self.spread}; it must be at least 0")
        if not 0 <= self.ground <= 1:
            raise ValueError(f"ground is {self.ground}; it must be from 0 to 1")


class VqganDrawer(Drawer):
    """One variable, `latents`: (B, C, h, w), as `ImageCodec.encode` gives them.

    A loaded picture becomes what the codec makes of it. Raises UsageError where sides are not multiples of the codec's
    `downsampling`, without a codec, and for one that is training.
    """

    def __init__(self, config: DrawerConfig):
        super().__init__(config)
        options = read_options(VqganOptions, config, "vqgan")
        if config.codec is None:
            raise UsageError("drawer vqgan needs a codec and none was given; name one or take another drawer")
        if isinstance(config.codec, nn.Module) and config.codec.training:
            raise UsageError("drawer vqgan was given a codec that is training; call its eval() first")
        self.codec = config.codec
        self._autocast = autocast(config.precision, self.device.type)
        step = self.codec.downsampling
        if self.width % step or self.height % step:
            nearest = " x ".join(str(max(1, round(side / step)) * step) for side in (self.width, self.height))
            raise UsageError(
                f"a picture of {self.width} x {self.height} pixels was asked for; this codec draws multiples of {step},"
                f" such as {nearest}"
            )
        self._low, self._high = (limit.to(self.device) for limit in latent_limits(self.codec))
        self._latents = self.add_variable("latents", self._encoded(self._noise(options)), options.rate)

    def render(self) -> Tensor:
        """(B, 3, H, W) in [0, 1]."""
        codes = self.codec.quantize(self._latents)[0]
        with self._autocast:
            decoded = self.codec.decode(codes).float()
        return clamp((decoded + 1) / 2, 0, 1)

    @torch.no_grad()
    def project(self) -> None:
        """Latents back to the range of the codes, channel by channel."""
        self._latents.clamp_(self._low, self._high)

    @torch.no_grad()
    def load_picture(self, pixels: Tensor) -> None:
        """The picture's encoding."""
        self._latents.copy_(self._encoded(self.checked(pixels)).expand_as(self._latents))

    @torch.no_grad()
    def _encoded(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> latents within the limits."""
        with self._autocast:
            latents = self.codec.encode(pixels * 2 - 1).float()
        return latents.clamp(self._low, self._high)

    def _noise(self, options: VqganOptions) -> Tensor:
        grid = [max(1, round(side / self.codec.downsampling / COARSENESS)) for side in (self.height, self.width)]
        coarse = options.ground + options.spread * torch.randn(self.count, 3, *grid, generator=self.config.generator)
        soft = F.interpolate(coarse, (self.height, self.width), mode="bilinear", align_corners=False)
        return soft.clamp(0, 1).to(self.device)


@torch.no_grad()
def latent_limits(codec: ImageCodec) -> tuple[Tensor, Tensor]:
    """Where latents are clamped, lowest and highest, each (C, 1, 1) or a scalar.

    Those of the codebook, channel by channel; of a codec that is not ours its `latent_range`. Infinite where codes live
    in a space of their own (Gumbel, projections): latents cannot be compared with them.
    """
    if not isinstance(codec, Codec):
        lowest, highest = codec.latent_range
        return torch.tensor(lowest), torch.tensor(highest)
    if isinstance(codec.quantizer, (GumbelQuantizer, ProjectedQuantizer)):
        return torch.tensor(-torch.inf), torch.tensor(torch.inf)
    low, high = codec.quantizer.codebook().aminmax(dim=0)
    return low[:, None, None], high[:, None, None]
