"""A picture codec that trains on a processor: most of it matrix products over 8x8 patches, little of it convolutions.

    z = W norm(blocks(merge(convs(stem(x))))),   (z_q, ids) = Q(z),   x̂ = lap(convs(split(blocks(W' z_q))))

as ViT-VQGAN (Yu et al. 2022, "Vector-quantized Image Modeling with Improved VQGAN"), with three differences that keep
patch borders from showing and any size possible. Pixels enter by kernels twice as wide as their stride and leave the
same way, as in a lapped transform (Malvar 1989), so neighbouring patches share their seam. Around the transformer a
few convolutional blocks work at half a patch. Positions are rotary and attention stays within windows (`nn.grid`), so a
codec trained at 64 and 128 pixels takes any multiple of its patch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.models.quantize import QuantizerConfig, build_quantizer
from bahumukha.models.vqgan import Codec
from bahumukha.nn.attention import init_transformer
from bahumukha.nn.grid import ConvBlock, GridBlock, channels_first, channels_last
from bahumukha.nn.sizes import check_least


def _default_quantizer() -> QuantizerConfig:
    return QuantizerConfig("fsq", levels=(8, 8, 8, 8))


@dataclass(frozen=True)
class VitCodecConfig:
    """Sizes of the codec; the default has 12 bits a place."""

    kind: Literal["vit"] = "vit"
    patch: int = 8
    """Pixels along a side for each code: a multiple of 4."""
    width: int = 256
    """Channels of a place in the transformer."""
    heads: int = 4
    mlp_ratio: float = 2.5
    encoder_layers: int = 2
    decoder_layers: int = 3
    fine_width: int = 96
    """Channels at half a patch, where there are four places for each code."""
    fine_ratio: float = 2.0
    """Width of a convolutional block's hidden layer over `fine_width`."""
    encoder_convs: int = 1
    """Convolutional blocks before the transformer."""
    decoder_convs: int = 2
    """And after it."""
    window: int = 16
    """Places along a side up to which attention is over the whole grid."""
    latent_channels: int | None = None
    """Channels of the latents; None: as many numbers as a code has (`gumbel`, and `vq` without `code_dim`: 32)."""
    quantizer: QuantizerConfig = field(default_factory=_default_quantizer)

    def __post_init__(self) -> None:
        check_least(self, width=1, heads=1, encoder_layers=1, decoder_layers=1, fine_width=1, window=1)
        if self.patch < 4 or self.patch % 4:
            raise ValueError(f"patch is {self.patch}; it must be a multiple of 4")
        if self.width % (4 * self.heads):
            raise ValueError(f"width {self.width} is not a multiple of 4 times heads {self.heads}")
        if min(self.encoder_convs, self.decoder_convs) < 0:
            raise ValueError("encoder_convs and decoder_convs must be at least 0")
        if not min(self.mlp_ratio, self.fine_ratio) > 0:
            raise ValueError("mlp_ratio and fine_ratio must be above 0")
        if self.latent_channels is not None and self.latent_channels < 1:
            raise ValueError(f"latent_channels is {self.latent_channels}; it must be at least 1")

    @property
    def channels(self) -> int:
        """Of the latents."""
        return self.latent_channels or self.quantizer.own_dim or 32


class VitCodec(Codec):
    """Pictures (B, 3, H, W) in [-1, 1] <-> codes, one for each patch; H and W multiples of `patch`."""

    config: VitCodecConfig

    def __init__(self, config: VitCodecConfig):
        quantizer = build_quantizer(config.quantizer, config.channels)
        super().__init__(Encoder(config), quantizer, Decoder(config), downsampling=config.patch)
        self.config = config

    @property
    def last_layer(self) -> nn.Parameter:
        """Weight of the lapped map that makes the pixels."""
        assert isinstance(self.decoder, Decoder)
        weight = self.decoder.pixels.weight
        assert isinstance(weight, nn.Parameter)
        return weight


class Encoder(nn.Module):
    """(B, 3, H, W) -> (B, channels, h, w)."""

    def __init__(self, config: VitCodecConfig):
        super().__init__()
        stride = config.patch // 2
        self.stem = nn.Conv2d(3, config.fine_width, 2 * stride, stride, padding=stride // 2)
        self.convs = nn.ModuleList(ConvBlock(config.fine_width, config.fine_ratio) for _ in range(config.encoder_convs))
        self.merge = nn.Conv2d(config.fine_width, config.width, 2, 2)
        self.blocks = _blocks(config, config.encoder_layers)
        self.norm = nn.LayerNorm(config.width)
        _init(self, config.encoder_layers)
        self.latents = nn.Linear(config.width, config.channels)
        nn.init.normal_(self.latents.weight, std=config.width**-0.5)  # of deviation 1, which spans FSQ's levels

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, channels, h, w)."""
        x = channels_last(self.stem(x))
        for block in self.convs:
            x = block(x)
        x = channels_last(self.merge(channels_first(x)))
        for block in self.blocks:
            x = block(x)
        return channels_first(self.latents(self.norm(x)))


class Decoder(nn.Module):
    """(B, channels, h, w) -> (B, 3, H, W)."""

    def __init__(self, config: VitCodecConfig):
        super().__init__()
        self.blocks = _blocks(config, config.decoder_layers)
        self.norm = nn.LayerNorm(config.width)
        self.split = nn.Linear(config.width, 4 * config.fine_width)
        self.convs = nn.ModuleList(ConvBlock(config.fine_width, config.fine_ratio) for _ in range(config.decoder_convs))
        self.pixels = Lapped(config.fine_width, config.patch // 2)
        _init(self, config.decoder_layers)
        self.places = nn.Linear(config.channels, config.width)
        nn.init.normal_(self.places.weight, std=config.channels**-0.5)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, channels, h, w) -> (B, 3, H, W), about in [-1, 1]."""
        x = self.places(channels_last(latents))
        for block in self.blocks:
            x = block(x)
        b, rows, columns, _ = x.shape
        x = self.split(self.norm(x)).view(b, rows, columns, 2, 2, -1)
        x = x.transpose(2, 3).reshape(b, 2 * rows, 2 * columns, -1)
        for block in self.convs:
            x = block(x)
        return self.pixels(x)


class Lapped(nn.Linear):
    """Each place of a grid paints a square twice as wide as its stride; what overlaps is added."""

    def __init__(self, width: int, stride: int):
        super().__init__(width, 3 * (2 * stride) ** 2)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, width) -> (B, 3, h * stride, w * stride)."""
        _, rows, columns, _ = x.shape
        squares = super().forward(x).flatten(1, 2).transpose(1, 2)  # (B, 3 * side * side, h * w)
        size = (rows * self.stride, columns * self.stride)
        return F.fold(squares, size, 2 * self.stride, padding=self.stride // 2, stride=self.stride)


def _blocks(config: VitCodecConfig, layers: int) -> nn.ModuleList:
    return nn.ModuleList(
        GridBlock(config.width, config.heads, config.mlp_ratio, config.window, shifted=i % 2 == 1)
        for i in range(layers)
    )


def _init(module: nn.Module, layers: int) -> None:
    """Weights of an encoder or decoder of so many blocks. Convolutions keep the size of what they see, so that pictures
    and not biases decide the first codes; depthwise kernels that are added begin at zero."""
    init_transformer(module, layers)
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=part.weight[0].numel() ** -0.5)
            nn.init.zeros_(part.bias)  # type: ignore[arg-type]
    for part in module.modules():
        if isinstance(part, GridBlock):
            nn.init.zeros_(part.neighbours.weight)
