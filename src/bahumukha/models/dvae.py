"""The discrete VAE of DALL-E 1: pictures <-> a grid of codes, trained by a relaxation (Ramesh et al. 2021, "Zero-Shot
Text-to-Image Generation", section 2.1 and appendix A).

    q(k | x) = softmax(E(x))                          each place's choice among the codes
    z        = softmax((E(x) + g) / tau)              g: Gumbel noise; tau falls from 1 to 1/16 (Jang et al. 2016)
    (mu, ln b) = G(z)
    loss     = -ln f(x' | mu, b) + beta / (3 f^2) KL(q | uniform)        f: pixels a place has on a side

x' are pixels squeezed into (eps, 1 - eps), eps = 0.1, and f(x' | mu, b) the logit-Laplace density, a Laplace density of
logit(x'): it lives where pixels do, and its middle, sigmoid(mu), is the picture shown. The first term is a mean over
pixels and channels, the KL one over places; beta rises from 0 to 6.6.

The networks are those of OpenAI's package `dall_e`, module for module, so that its weights fit (`zoo.dvae`).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.models.quantize import Quantized, Quantizer, straight_through
from bahumukha.models.vqgan import Codec
from bahumukha.nn.sizes import check_least

EPSILON = 0.1
"""How far pixels stay from 0 and 1, where their logits would be infinite."""
SMALLEST_SPREAD = -8.0
"""Of ln b: flat areas are told exactly, and the density there must not grow for ever."""


@dataclass(frozen=True)
class DvaeConfig:
    """Sizes, with the names of `dall_e`; the defaults are those of OpenAI's published model."""

    kind: Literal["dvae"] = "dvae"
    codes: int = 8192
    n_hid: int = 256
    """Channels at full resolution; twice as many with each halving."""
    n_init: int = 128
    """Channels that a code has when the decoder begins."""
    n_blk_per_group: int = 2
    """Residual blocks at each resolution."""
    groups: int = 4
    """Resolutions; from each to the next a picture is halved, so four are f8."""

    def __post_init__(self) -> None:
        check_least(self, codes=2, n_init=1, n_blk_per_group=1, groups=1)
        if self.n_hid < 4 or self.n_hid % 4:
            raise ValueError(f"n_hid is {self.n_hid}; it must be a multiple of 4, as blocks narrow to a quarter")

    @property
    def gain(self) -> float:
        """Of what a block adds: a deep network begins near the identity."""
        return 1 / (self.groups * self.n_blk_per_group) ** 2


class OneHotQuantizer(Quantizer):
    """Latents are shares of the codes: (B, codes, h, w) in [0, 1], summing to 1 over the codes. A code is all of one.

    So what the encoder says, what is drawn and what the decoder takes are one space, without a table of codes: that is
    the decoder's first layer.
    """

    def __init__(self, codes: int):
        super().__init__()
        self.codes = self.dim = codes

    def prepare(self, features: Tensor) -> Tensor:
        """Logits -> shares."""
        return features.float().softmax(1)

    def forward(self, latents: Tensor) -> Quantized:
        """The likeliest code of each place, straight through; no losses (`dvae_losses` has those of training)."""
        ids = latents.argmax(1)
        return Quantized(straight_through(self.lookup(ids), latents.float()), ids, {})

    def lookup(self, ids: Tensor) -> Tensor:
        """Ids (B, h, w) -> (B, codes, h, w), 1 at the code and 0 elsewhere."""
        shares = torch.zeros(len(ids), self.codes, *ids.shape[1:], device=ids.device)
        return shares.scatter_(1, ids[:, None], 1.0)

    @property
    def latent_range(self) -> tuple[float, float]:
        """Of shares."""
        return 0.0, 1.0


class Dvae(Codec):
    """The codec: satisfies `protocols.ImageCodec`, with pictures in [-1, 1] and latents that are shares of the codes.

    In eval a code is the likeliest one; the relaxation and its losses are those of `dvae_losses`.
    """

    config: DvaeConfig
    decoder: DvaeDecoder

    def __init__(self, config: DvaeConfig):
        quantizer = OneHotQuantizer(config.codes)
        super().__init__(DvaeEncoder(config), quantizer, DvaeDecoder(config), downsampling=2 ** (config.groups - 1))
        self.config = config

    @property
    def last_layer(self) -> nn.Parameter:
        """Weight of the convolution that makes mu and ln b."""
        return self.decoder.get_parameter("blocks.output.conv.weight")


class DvaeEncoder(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> logits (B, codes, h, w)."""

    def __init__(self, config: DvaeConfig):
        super().__init__()
        widths = [config.n_hid * 2**level for level in range(config.groups)]
        self.blocks = nn.Sequential(OrderedDict(input=_conv(3, widths[0], 7)))
        for level, (before, width) in enumerate(zip([widths[0], *widths], widths, strict=False), 1):
            pool = nn.MaxPool2d(2) if level < config.groups else None
            group = _group(config, before, width, (3, 3, 3, 1), "pool", pool)
            self.blocks.add_module(f"group_{level}", group)
        self.blocks.add_module("output", _output(widths[-1], config.codes))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, codes, h, w)."""
        return self.blocks(squeezed(x))


class DvaeDecoder(nn.Module):
    """Shares of the codes (B, codes, h, w) -> (B, 3, H, W) in about [-1, 1]."""

    def __init__(self, config: DvaeConfig):
        super().__init__()
        widths = [config.n_hid * 2**level for level in reversed(range(config.groups))]
        self.blocks = nn.Sequential(OrderedDict(input=_conv(config.codes, config.n_init, 1)))
        for level, (before, width) in enumerate(zip([config.n_init, *widths], widths, strict=False), 1):
            upsample = nn.Upsample(scale_factor=2, mode="nearest") if level < config.groups else None
            group = _group(config, before, width, (1, 3, 3, 3), "upsample", upsample)
            self.blocks.add_module(f"group_{level}", group)
        self.blocks.add_module("output", _output(widths[-1], 6))

    def forward(self, shares: Tensor) -> Tensor:
        """The middle of the density, beyond [-1, 1] where it is beyond the pixels' range."""
        middle, _ = self.density(shares)
        return (middle.sigmoid() - 0.5) * 2 / (1 - 2 * EPSILON)

    def density(self, shares: Tensor) -> tuple[Tensor, Tensor]:
        """(B, codes, h, w) -> mu and ln b of the logit-Laplace density, (B, 3, H, W) each."""
        middle, spread = self.blocks(shares).float().chunk(2, dim=1)
        return middle, spread


def squeezed(x: Tensor) -> Tensor:
    """Pixels in [-1, 1] -> [eps, 1 - eps]: OpenAI's `map_pixels` of (x + 1) / 2."""
    return (1 - 2 * EPSILON) * (x + 1) / 2 + EPSILON


class _Block(nn.Module):
    """id(x) + gain * convolutions(x), four of them, through a quarter of the channels."""

    def __init__(self, before: int, width: int, kernels: Sequence[int], gain: float):
        super().__init__()
        self.gain = gain
        self.id_path = _conv(before, width, 1) if before != width else nn.Identity()
        narrow = width // 4
        widths = [before, narrow, narrow, narrow, width]
        self.res_path = nn.Sequential()
        for i, kernel in enumerate(kernels):
            self.res_path.add_module(f"relu_{i + 1}", nn.ReLU())
            self.res_path.add_module(f"conv_{i + 1}", _conv(widths[i], widths[i + 1], kernel))

    def forward(self, x: Tensor) -> Tensor:
        return self.id_path(x) + self.gain * self.res_path(x)


def _group(
    config: DvaeConfig, before: int, width: int, kernels: Sequence[int], name: str, resample: nn.Module | None
) -> nn.Sequential:
    """The blocks of one resolution, and the way to the next."""
    group = nn.Sequential()
    for i in range(config.n_blk_per_group):
        group.add_module(f"block_{i + 1}", _Block(before if i == 0 else width, width, kernels, config.gain))
    if resample is not None:
        group.add_module(name, resample)
    return group


def _output(before: int, width: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(relu=nn.ReLU(), conv=_conv(before, width, 1)))


def _conv(before: int, width: int, kernel: int) -> nn.Conv2d:
    """With the paper's beginning: variance 1 / inputs, biases 0."""
    made = nn.Conv2d(before, width, kernel, padding=kernel // 2)
    nn.init.normal_(made.weight, std=(before * kernel**2) ** -0.5)
    assert made.bias is not None
    nn.init.zeros_(made.bias)
    return made


# --- training


@dataclass(frozen=True)
class DvaeSchedule:
    """How tau and beta change with the steps, each along half a cosine; the defaults are the paper's."""

    temperature: float = 1 / 16
    """tau in the end; it begins at 1. At 1/16 the relaxed loss is nearly that of the likeliest codes."""
    temperature_steps: int = 150_000
    kl_weight: float = 6.6
    """beta in the end; it begins at 0. A large one spreads the codes' use."""
    kl_steps: int = 5_000

    def __post_init__(self) -> None:
        if not 0 < self.temperature <= 1:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0 and at most 1, where it begins")
        if not self.kl_weight >= 0:
            raise ValueError(f"kl_weight is {self.kl_weight}; it must be at least 0")
        for name in ("temperature_steps", "kl_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")

    def temperature_at(self, step: int) -> float:
        """tau of a step, the first being 0."""
        return _eased(1.0, self.temperature, step / self.temperature_steps)

    def kl_weight_at(self, step: int) -> float:
        """beta of a step."""
        return _eased(0.0, self.kl_weight, step / self.kl_steps)


def _eased(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def dvae_losses(model: Dvae, x: Tensor, temperature: float, kl_weight: float) -> dict[str, Tensor]:
    """x (B, 3, H, W) in [-1, 1] -> `loss`; `reconstruction`, nats a pixel and channel; `kl`, nats a place.

    Gumbel noise comes from PyTorch's global generator. Raises UsageError for sides that do not fit (`Codec.check`).
    """
    model.check(x)
    logits = model.encoder(x).float()
    middle, spread = model.decoder.density(F.gumbel_softmax(logits, tau=temperature, dim=1))
    reconstruction = logit_laplace(squeezed(x), middle, spread).mean()
    log_share = logits.log_softmax(1)
    divergence = (log_share.exp() * (log_share + math.log(model.codes))).sum(1).mean()
    loss = reconstruction + kl_weight / (3 * model.downsampling**2) * divergence
    return {"loss": loss, "reconstruction": reconstruction, "kl": divergence}


def logit_laplace(x: Tensor, middle: Tensor, spread: Tensor) -> Tensor:
    """-ln f(x | mu, b) elementwise, x in (0, 1), `middle` mu, `spread` ln b, held above `SMALLEST_SPREAD`.

    f(x | mu, b) = exp(-|logit(x) - mu| / b) / (2 b x (1 - x))
    """
    spread = spread.clamp(min=SMALLEST_SPREAD)
    return math.log(2) + spread + x.log() + (-x).log1p() + (x.logit() - middle).abs() * (-spread).exp()
