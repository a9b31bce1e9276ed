"""VQGAN: pictures <-> a grid of codes, by a convolutional encoder and decoder (Esser, Rombach, Ommer, "Taming
Transformers for High-Resolution Image Synthesis", 2021; the networks are those of Ho et al. 2020's U-Net).

    z = E(x),   (z_q, ids) = Q(z),   x̂ = G(z_q)

`Codec` is what all such models share, whatever their networks; `Vqgan` has the paper's, whose modules carry the names
that taming-transformers gave them, so that public weights load by three renamings (`zoo.taming`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.errors import ModelError, UsageError
from bahumukha.models.quantize import Quantized, Quantizer, QuantizerConfig, build_quantizer
from bahumukha.nn.dot_product import attend

if TYPE_CHECKING:
    from bahumukha.models.dvae import DvaeConfig
    from bahumukha.models.vit_codec import VitCodecConfig

KINDS = ("vqgan", "vit", "dvae")
"""Of networks; a config's field `kind` says which."""


class Codec(nn.Module, ABC):
    """Pictures <-> discrete codes: an encoder, a quantiser, a decoder. Satisfies `protocols.ImageCodec`.

    Pictures are float (B, 3, H, W) in [-1, 1], H and W multiples of `downsampling`; latents (B, latent_channels, h, w)
    with h = H / downsampling; ids int64 (B, h, w) in [0, codes). A subclass sets `config` and builds the three parts:
    `encoder` (B, 3, H, W) -> (B, quantizer.dim, h, w), `decoder` the way back.
    """

    config: Any
    """A dataclass, one of those that `build_codec` takes: it rebuilds the network."""

    def __init__(self, encoder: nn.Module, quantizer: Quantizer, decoder: nn.Module, downsampling: int):
        super().__init__()
        self.encoder, self.quantizer, self.decoder = encoder, quantizer, decoder
        self.downsampling = downsampling
        self.codes, self.latent_channels = quantizer.codes, quantizer.dim
        self.encoder_frozen = False

    def freeze_encoder(self) -> Self:
        """From now on only the decoder learns: ids keep their meaning, and what draws them need not learn again."""
        self.encoder_frozen = True
        for part in (self.encoder, self.quantizer):
            part.requires_grad_(False)
        return self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`; a frozen codebook stays in eval mode, where it neither moves nor is counted."""
        super().train(mode)
        if self.encoder_frozen:
            self.encoder.eval()
            self.quantizer.eval()
        return self

    @property
    def latent_range(self) -> tuple[float, float]:
        """Smallest and largest number in any code: where latents may be clamped."""
        return self.quantizer.latent_range

    @property
    @abstractmethod
    def last_layer(self) -> nn.Parameter:
        """The weight of the decoder's last layer, where the GAN's gradient and the others' are balanced."""

    def encode(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> latents (B, C, h, w), not quantised. Raises UsageError (`check`)."""
        self.check(x)
        return self.quantizer.prepare(self.encoder(x))

    def quantize(self, latents: Tensor) -> Quantized:
        """Latents (B, C, h, w) -> (codes' latents, straight through; ids (B, h, w); losses by name)."""
        return self.quantizer(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w), quantised or not -> (B, 3, H, W), about in [-1, 1]: clamp it to show it."""
        return self.decoder(latents)

    def decode_ids(self, ids: Tensor, grid: tuple[int, int]) -> Tensor:
        """Ids (B, h * w), row after row, and grid (h, w) -> (B, 3, H, W). Raises UsageError."""
        rows, columns = grid
        if ids.dim() != 2 or ids.shape[1] != rows * columns:
            raise UsageError(f"ids of shape {tuple(ids.shape)} do not fill a grid of {rows} x {columns}")
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.codes:
            raise UsageError(
                f"ids are from {int(ids.min())} to {int(ids.max())}; this codec's go from 0 to {self.codes - 1}"
            )
        return self.decode(self.quantizer.lookup(ids.reshape(-1, rows, columns)))

    def forward(self, x: Tensor) -> tuple[Tensor, Quantized]:
        """(B, 3, H, W) in [-1, 1] -> its reconstruction, of the same shape, and what the quantiser made of it."""
        quantized = self.quantize(self.encode(x))
        return self.decode(quantized.latents), quantized

    def check(self, x: Tensor) -> None:
        """Raises UsageError unless x is (B, 3, H, W) with sides that are multiples of `downsampling`."""
        if x.dim() != 4 or x.shape[1] != 3:
            raise UsageError(f"pictures of shape {tuple(x.shape)}; a codec takes (batch, 3, height, width)")
        height, width = x.shape[2:]
        if not height or not width or height % self.downsampling or width % self.downsampling:
            raise UsageError(
                f"a picture of {width} x {height} pixels; this codec takes multiples of {self.downsampling}"
            )


# --- the paper's networks


@dataclass(frozen=True)
class VqganConfig:
    """The convolutional VQGAN, with taming-transformers' names. The defaults are its f16 model of 1024 codes."""

    kind: Literal["vqgan"] = "vqgan"
    ch: int = 128
    """Channels at full resolution."""
    ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    """Factor of `ch` at each level; from each to the next a picture is halved, so five are f16 and four are f8."""
    num_res_blocks: int = 2
    """Residual blocks a level; the decoder has one more."""
    attn_resolutions: tuple[int, ...] = (16,)
    """Attention follows the blocks where a picture of `resolution` has become this large."""
    resolution: int = 256
    """Side of the pictures in training, in pixels. Others work too: it only says which levels have attention."""
    z_channels: int = 256
    """Channels that the encoder ends and the decoder begins with."""
    embed_dim: int = 256
    """Channels of the latents."""
    quantizer: QuantizerConfig = field(default_factory=lambda: QuantizerConfig("vq", codes=1024))
    dropout: float = 0.0
    groups: int = 32
    """Of the group norms; channels must be multiples of it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ch_mult", tuple(self.ch_mult))  # JSON has lists
        object.__setattr__(self, "attn_resolutions", tuple(self.attn_resolutions))
        for name in ("ch", "num_res_blocks", "resolution", "z_channels", "embed_dim", "groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.ch_mult or min(self.ch_mult) < 1:
            raise ValueError(f"ch_mult is {list(self.ch_mult)}; it takes one or more whole numbers of at least 1")
        if self.ch % self.groups:
            raise ValueError(f"ch {self.ch} is not a multiple of groups {self.groups}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and below 1")

    @property
    def n_embed(self) -> int:
        """Size of the codebook, as taming calls it."""
        return self.quantizer.vocabulary

    def has_attention(self, level: int) -> bool:
        """Whether the blocks of a level, 0 the finest, are followed by attention."""
        return self.resolution // 2**level in self.attn_resolutions


class Vqgan(Codec):
    """The paper's codec."""

    config: VqganConfig

    def __init__(self, config: VqganConfig):
        super().__init__(
            Encoder(config),
            build_quantizer(config.quantizer, config.embed_dim),
            Decoder(config),
            downsampling=2 ** (len(config.ch_mult) - 1),
        )
        self.config = config

    @property
    def last_layer(self) -> nn.Parameter:
        """Weight of the convolution that makes the pixels."""
        return self.decoder.get_parameter("conv_out.weight")


class Encoder(nn.Module):
    """(B, 3, H, W) -> (B, embed_dim, h, w)."""

    def __init__(self, config: VqganConfig):
        super().__init__()
        widths = [config.ch * factor for factor in config.ch_mult]
        self.conv_in = nn.Conv2d(3, config.ch, 3, padding=1)
        self.down = nn.ModuleList()
        for level, (before, width) in enumerate(zip([config.ch, *widths], widths, strict=False)):
            last = level == len(widths) - 1
            self.down.append(
                _Level(config, level, before, width, config.num_res_blocks, downsample=None if last else _Down(width))
            )
        self.mid = _Middle(config, widths[-1])
        self.norm_out = _norm(config, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.z_channels, 3, padding=1)
        self.quant_conv = nn.Conv2d(config.z_channels, config.embed_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, embed_dim, h, w)."""
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.quant_conv(self.conv_out(F.silu(self.norm_out(self.mid(x)))))


class Decoder(nn.Module):
    """(B, embed_dim, h, w) -> (B, 3, H, W)."""

    def __init__(self, config: VqganConfig):
        super().__init__()
        widths = [config.ch * factor for factor in config.ch_mult]
        self.post_quant_conv = nn.Conv2d(config.embed_dim, config.z_channels, 1)
        self.conv_in = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.mid = _Middle(config, widths[-1])
        self.up = nn.ModuleList()  # from the finest level on, as in the encoder; run from the last one back
        for level, (width, before) in enumerate(zip(widths, [*widths[1:], widths[-1]], strict=True)):
            upsample = None if level == 0 else _Up(width)
            self.up.append(_Level(config, level, before, width, config.num_res_blocks + 1, upsample=upsample))
        self.norm_out = _norm(config, widths[0])
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, embed_dim, h, w) -> (B, 3, H, W)."""
        x = self.mid(self.conv_in(self.post_quant_conv(latents)))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class _Level(nn.Module):
    """Residual blocks at one resolution, attention after each where the config says so, then the way to the next."""

    def __init__(
        self,
        config: VqganConfig,
        level: int,
        before: int,
        width: int,
        blocks: int,
        downsample: nn.Module | None = None,
        upsample: nn.Module | None = None,
    ):
        super().__init__()
        self.block = nn.ModuleList(_Residual(config, before if i == 0 else width, width) for i in range(blocks))
        attentions = blocks if config.has_attention(level) else 0
        self.attn = nn.ModuleList(_Attention(config, width) for _ in range(attentions))
        self.downsample, self.upsample = downsample, upsample

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[i](x)
        for resample in (self.downsample, self.upsample):
            x = x if resample is None else resample(x)
        return x


class _Middle(nn.Module):
    """Two residual blocks with attention between them, at the lowest resolution."""

    def __init__(self, config: VqganConfig, width: int):
        super().__init__()
        self.block_1 = _Residual(config, width, width)
        self.attn_1 = _Attention(config, width)
        self.block_2 = _Residual(config, width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class _Residual(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x))))))."""

    def __init__(self, config: VqganConfig, before: int, width: int):
        super().__init__()
        self.norm1 = _norm(config, before)
        self.conv1 = nn.Conv2d(before, width, 3, padding=1)
        self.norm2 = _norm(config, width)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(before, width, 1) if before != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(self.dropout(F.silu(self.norm2(y))))
        return self.nin_shortcut(x) + y


class _Attention(nn.Module):
    """x + attention(norm(x)) between all places, with one head."""

    def __init__(self, config: VqganConfig, width: int):
        super().__init__()
        self.norm = _norm(config, width)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        q, k, v = (each(normed).flatten(2).transpose(1, 2) for each in (self.q, self.k, self.v))  # (B, h w, width)
        y = attend(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + self.proj_out(y.transpose(1, 2).reshape(x.shape))


class _Down(nn.Module):
    """Half the resolution; the padding is at right and bottom only, as TensorFlow has it, whence these networks are."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class _Up(nn.Module):
    """Twice the resolution, by repeating, then a convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def _norm(config: VqganConfig, width: int) -> nn.GroupNorm:
    return nn.GroupNorm(config.groups, width, eps=1e-6)


# --- from a configuration


def build_codec(config: VqganConfig | VitCodecConfig | DvaeConfig | Mapping[str, Any]) -> Codec:
    """An untrained codec of this configuration, or of its dictionary as `config.json` has it. Raises ModelError."""
    if isinstance(config, Mapping):
        config = codec_config(config)
    if isinstance(config, VqganConfig):
        return Vqgan(config)
    from bahumukha.models.dvae import Dvae, DvaeConfig  # which build on this module
    from bahumukha.models.vit_codec import VitCodec

    return Dvae(config) if isinstance(config, DvaeConfig) else VitCodec(config)


def codec_config(values: Mapping[str, Any]) -> VqganConfig | VitCodecConfig | DvaeConfig:
    """The inverse of `dataclasses.asdict`, lists taken for tuples; `kind` says which class. Raises ModelError."""
    kind = values.get("kind")
    if kind not in KINDS:
        raise ModelError(f"'architecture.kind' is {kind!r}; it must be one of {', '.join(KINDS)}")
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    try:
        if "quantizer" in values:
            arguments["quantizer"] = QuantizerConfig(**values["quantizer"])
        return _config_class(kind)(**arguments)
    except (TypeError, ValueError) as error:
        raise ModelError(f"'architecture': {error}") from error


def _config_class(kind: str) -> Any:
    if kind == "vqgan":
        return VqganConfig
    from bahumukha.models.dvae import DvaeConfig
    from bahumukha.models.vit_codec import VitCodecConfig

    return DvaeConfig if kind == "dvae" else VitCodecConfig
