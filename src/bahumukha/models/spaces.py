"""Where a picture is diffused: in its pixels, or in a codec's latents, of which there are far fewer."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from bahumukha.models.vqgan import Codec


def as_pictures(pixels: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W) in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float().mul_(2 / 255).sub_(1)


class Space(Protocol):
    """Pictures (B, 3, H, W) in [-1, 1] <-> what is diffused, (B, channels, H / downsampling, W / downsampling)."""

    @property
    def channels(self) -> int:
        """Of what is diffused."""
        ...

    @property
    def downsampling(self) -> int:
        """Pixels along a side for each place."""
        ...

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures -> numbers about as large as normal noise."""
        ...

    def decode(self, x: Tensor) -> Tensor:
        """The inverse, in [-1, 1]."""
        ...


class Pixels:
    """The pictures themselves."""

    channels, downsampling = 3, 1

    def encode(self, pictures: Tensor) -> Tensor:
        """As they are."""
        return pictures

    def decode(self, x: Tensor) -> Tensor:
        """Clipped to [-1, 1]."""
        return x.clamp(-1, 1)


class Latents:
    """What a frozen codec makes of them, its range brought to [-1, 1]: the codes that it would keep, so that what is
    drawn and snapped to codes again is what was aimed at (Rombach et al. 2021, "Latent Diffusion")."""

    def __init__(self, codec: Codec):
        self.codec = codec
        low, high = codec.latent_range
        self.middle, self.half = (low + high) / 2, (high - low) / 2

    @property
    def channels(self) -> int:
        """Of a latent."""
        return self.codec.latent_channels

    @property
    def downsampling(self) -> int:
        """Pixels along a side for each latent."""
        return self.codec.downsampling

    def encode(self, pictures: Tensor) -> Tensor:
        """The nearest codes."""
        return (self.codec.quantize(self.codec.encode(pictures))[0] - self.middle) / self.half

    def decode(self, x: Tensor) -> Tensor:
        """Of the nearest codes."""
        latents = self.codec.quantize(x * self.half + self.middle)[0]
        return self.codec.decode(latents).float().clamp(-1, 1)
