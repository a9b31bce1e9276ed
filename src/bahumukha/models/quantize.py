"""Quantisers: latents -> codes of a finite codebook and back, so that a picture becomes a short row of whole numbers.

With z an encoder's vector at one place and e_k the codes:

    VQ       k = argmin_k |z - e_k|,   loss |sg(z) - e_k|² + β |z - sg(e_k)|²      (van den Oord et al. 2017, "Neural
             Discrete Representation Learning"; unit vectors and a low dimension: Yu et al. 2022, "Vector-quantized
             Image Modeling with Improved VQGAN")
    FSQ      e_i = round(bound(z_i)), L_i values a number, no loss                     (Mentzer et al. 2023, "Finite
             Scalar Quantization: VQ-VAE Made Simple")
    Gumbel   k ~ softmax(W z),   loss KL(softmax(W z) | uniform)     (Jang et al. 2016; the dVAE of Ramesh et al. 2021)

sg stops the gradient. Rounding has none, so all go straight through: forward the code, backward as if z itself had
been passed on. `prepare` brings an encoder's output to the space the codes live in (FSQ: bounded; cosine: norm 1);
from there on a latent and a code can be compared, mixed and clamped, and `forward(lookup(ids))` gives `ids` again.
Gumbel's codes, and those of a quantiser between projections, live in a space of their own, and there it does not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Kind = Literal["vq", "fsq", "gumbel"]
LARGEST_TABLE = 2**24
"""Numbers of a table of similarities that is held at once: 64 MB."""


class Quantized(NamedTuple):
    """What a quantiser makes of latents (B, dim, h, w)."""

    latents: Tensor
    """(B, dim, h, w), the codes' own values; their gradient goes straight through to what was quantised."""
    ids: Tensor
    """int64 (B, h, w), in [0, codes)."""
    losses: dict[str, Tensor]
    """Scalars by name, weights included: their sum belongs to the training loss. Empty where none is needed."""


@dataclass(frozen=True)
class QuantizerConfig:
    """Which quantiser, and how large; fields of the other kinds are ignored."""

    kind: Kind = "fsq"
    codes: int = 1024
    """Of `vq` and `gumbel`; `fsq` has as many as the product of its levels."""
    levels: tuple[int, ...] = (8, 5, 5, 5)
    """`fsq`: values that each number of a code can take."""
    code_dim: int | None = None
    """`vq`: numbers of a code, projected to from the latents and back; None: as many as the latents have channels."""
    cosine: bool = False
    """`vq`: latents and codes have norm 1."""
    commitment: float = 0.25
    """`vq`: β, how strongly latents are held to their codes. It is on the paper's side: taming-transformers has it on
    the codebook's term unless told otherwise."""
    dead_below: float = 0.1
    """`vq`: a code used less often than this part of an even share is replaced by a latent of the batch; 0: never."""
    usage_decay: float = 0.99
    """`vq`: of the running average of how often each code is used, a step."""
    temperature: float = 1.0
    """`gumbel`: of the softmax in training; DALL-E's dVAE goes from 1 to 1/16."""
    kl_weight: float = 5e-4
    """`gumbel`: of the divergence from even use, in nats a place."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))  # JSON has lists
        if self.kind not in get_args(Kind):
            raise ValueError(f"quantizer.kind {self.kind!r} is not one of {', '.join(get_args(Kind))}")
        if self.codes < 2:
            raise ValueError(f"quantizer.codes is {self.codes}; at least 2 are needed")
        if not self.levels or min(self.levels) < 2:
            raise ValueError(f"quantizer.levels is {list(self.levels)}; it takes one or more numbers of at least 2")
        if self.code_dim is not None and self.code_dim < 1:
            raise ValueError(f"quantizer.code_dim is {self.code_dim}; it must be at least 1")
        if not 0 <= self.usage_decay < 1:
            raise ValueError(f"quantizer.usage_decay is {self.usage_decay}; it must be at least 0 and below 1")
        if not 0 <= self.dead_below < 1:
            raise ValueError(f"quantizer.dead_below is {self.dead_below}; it must be at least 0 and below 1")
        if not self.temperature > 0:
            raise ValueError(f"quantizer.temperature is {self.temperature}; it must be above 0")
        for name in ("commitment", "kl_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"quantizer.{name} is {getattr(self, name)}; it must be at least 0")

    @property
    def vocabulary(self) -> int:
        """How many codes there are, whichever the kind."""
        return math.prod(self.levels) if self.kind == "fsq" else self.codes

    @property
    def own_dim(self) -> int | None:
        """Channels of latents that need no projection; None where any number is as good."""
        return {"fsq": len(self.levels), "vq": self.code_dim, "gumbel": None}[self.kind]


class Quantizer(nn.Module, ABC):
    """Latents (B, dim, h, w) <-> ids (B, h, w)."""

    codes: int
    """Size of the codebook; ids are in [0, codes)."""
    dim: int
    """Channels of the latents."""

    def prepare(self, features: Tensor) -> Tensor:
        """An encoder's output (B, dim, h, w) -> latents in the space of the codes, differentiable."""
        return features

    @abstractmethod
    def forward(self, latents: Tensor) -> Quantized:
        """Latents (B, dim, h, w), as `prepare` gives them -> codes, straight through; ids; losses. In float32."""

    @abstractmethod
    def lookup(self, ids: Tensor) -> Tensor:
        """Ids int64 (B, h, w) in [0, codes) -> latents (B, dim, h, w)."""

    def codebook(self) -> Tensor:
        """All codes as latents, (codes, dim)."""
        device = next((tensor.device for tensor in (*self.parameters(), *self.buffers())), None)
        return self.lookup(torch.arange(self.codes, device=device)[None, None])[0, :, 0].T

    @property
    def latent_range(self) -> tuple[float, float]:
        """Smallest and largest number in any code: where latents may be clamped."""
        with torch.no_grad():
            least, greatest = self.codebook().aminmax()
        return float(least), float(greatest)


def build_quantizer(config: QuantizerConfig, channels: int) -> Quantizer:
    """The quantiser for latents of `channels` channels; one whose codes have another dimension gets projections."""
    dim = config.own_dim or channels
    quantizer: Quantizer
    if config.kind == "fsq":
        quantizer = FiniteScalarQuantizer(config.levels)
    elif config.kind == "gumbel":
        quantizer = GumbelQuantizer(config.codes, dim, temperature=config.temperature, kl_weight=config.kl_weight)
    else:
        quantizer = VectorQuantizer(
            config.codes,
            dim,
            cosine=config.cosine,
            commitment=config.commitment,
            dead_below=config.dead_below,
            usage_decay=config.usage_decay,
        )
    return quantizer if dim == channels else ProjectedQuantizer(quantizer, channels)


def straight_through(codes: Tensor, latents: Tensor) -> Tensor:
    """The value of `codes` to the last bit, with the gradient going to `latents` (Bengio et al. 2013)."""
    return codes.detach() + (latents - latents.detach())


class VectorQuantizer(Quantizer):
    """The nearest of learned codes; in training, codes that nobody uses come back as latents of the batch.

    `usage` (codes,) is a running average of each code's share of all places. It begins at 0, so that the first batch
    of a training fills the codebook; one that was loaded with its weights starts from even shares (`mark_used`).
    """

    usage: Tensor

    def __init__(
        self,
        codes: int,
        dim: int,
        *,
        cosine: bool = False,
        commitment: float = 0.25,
        dead_below: float = 0.1,
        usage_decay: float = 0.99,
    ):
        super().__init__()
        self.codes, self.dim = codes, dim
        self.cosine, self.commitment, self.dead_below, self.usage_decay = cosine, commitment, dead_below, usage_decay
        self.embedding = nn.Embedding(codes, dim)
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)
        self.register_buffer("usage", torch.zeros(codes))

    def prepare(self, features: Tensor) -> Tensor:
        """With cosine to norm 1, else unchanged."""
        return F.normalize(features.float(), dim=1) if self.cosine else features

    def forward(self, latents: Tensor) -> Quantized:
        """Latents (B, dim, h, w) -> nearest codes; losses `codebook` and `commitment`."""
        latents = latents.float()
        flat = latents.detach().permute(0, 2, 3, 1).flatten(0, 2)  # (B h w, dim)
        if self.training and self.dead_below > 0:
            self._revive(flat)
        ids = self._nearest(flat).view(latents.shape[0], *latents.shape[2:])
        if self.training:
            self._count(ids)
        codes = self.lookup(ids)
        losses = {
            "codebook": F.mse_loss(codes, latents.detach()),
            "commitment": self.commitment * F.mse_loss(latents, codes.detach()),
        }
        return Quantized(straight_through(codes, latents), ids, losses)

    def lookup(self, ids: Tensor) -> Tensor:
        """Ids (B, h, w) -> codes (B, dim, h, w)."""
        codes = self.embedding(ids).permute(0, 3, 1, 2)
        return F.normalize(codes, dim=1) if self.cosine else codes

    @torch.no_grad()
    def mark_used(self) -> None:
        """Take every code to be in use, so that none is replaced before it had its chance."""
        self.usage.fill_(1 / self.codes)

    @torch.no_grad()
    def _nearest(self, flat: Tensor) -> Tensor:
        """(N, dim) -> ids (N,). |z - e|² is least where z·e - |e|²/2 is greatest; |z|² would cost digits."""
        codes = self.codebook().float()
        offset = -0.5 * codes.square().sum(1)
        parts = flat.split(max(1, LARGEST_TABLE // self.codes))
        with torch.autocast(flat.device.type, enabled=False):  # three digits of bfloat16 would not tell codes apart
            return torch.cat([torch.addmm(offset, part, codes.T).argmax(1) for part in parts])

    @torch.no_grad()
    def _count(self, ids: Tensor) -> None:
        counts = code_counts(ids, self.codes).to(self.usage)
        if _several_processes():
            torch.distributed.all_reduce(counts)
        self.usage.lerp_(counts / counts.sum(), 1 - self.usage_decay)

    @torch.no_grad()
    def _revive(self, flat: Tensor) -> None:
        """Dead codes become latents of the batch; where there are more dead codes, the rest waits for the next.

        A latent is drawn by its squared distance from its code (as in k-means++, Arthur and Vassilvitskii 2007):
        drawn evenly, most would be of a plain background, which has its code already.
        """
        dead = (self.usage < self.dead_below / self.codes).nonzero()[:, 0]
        if not len(dead):
            return
        dead = dead[torch.randperm(len(dead), device=dead.device)[: len(flat)]]
        distances = (flat - self.codebook()[self._nearest(flat)]).square().sum(1)
        weights = distances + 1e-3 * distances.mean() + torch.finfo(torch.float32).tiny  # none is impossible
        chosen = flat[weights[:LARGEST_TABLE].multinomial(len(dead))]
        if _several_processes():  # the first one's choice: codebooks must stay equal
            torch.distributed.broadcast(dead, 0)
            torch.distributed.broadcast(chosen, 0)
        self.embedding.weight[dead] = chosen.to(self.embedding.weight.dtype)
        self.usage[dead] = 1 / self.codes


class FiniteScalarQuantizer(Quantizer):
    """Each of a few bounded numbers is rounded to one of its levels; there is no codebook to learn or to collapse.

    Codes are in [-1, 1]; number i takes the values (j - L_i // 2) / (L_i // 2), j in [0, L_i). The first number counts
    fastest in an id.
    """

    levels: Tensor
    bases: Tensor

    def __init__(self, levels: Sequence[int]):
        super().__init__()
        self.codes, self.dim = math.prod(levels), len(levels)
        bases = [math.prod(levels[:i]) for i in range(len(levels))]
        # Not among the weights: the config tells them.
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("bases", torch.tensor(bases), persistent=False)

    def prepare(self, features: Tensor) -> Tensor:
        """Any numbers -> bounded by a tanh so that every level is reached and 0 stays 0 (the paper's `bound`)."""
        levels = self._over_channels(self.levels)
        half_width = levels // 2
        reach = (levels - 1) * (1 + 1e-3) / 2  # just beyond the outermost levels, which a tanh never quite reaches
        offset = 0.5 * (levels % 2 == 0)  # an even number of levels has no middle one
        shift = torch.atanh(offset / reach)
        return (torch.tanh(features.float() + shift) * reach - offset) / half_width

    def forward(self, latents: Tensor) -> Quantized:
        """Latents (B, dim, h, w) in about [-1, 1], what is beyond counts as the end -> nearest levels; no losses."""
        digits = self._digits(latents.detach().float())
        ids = (digits * self._over_channels(self.bases)).sum(1)
        return Quantized(straight_through(self._values(digits), latents.float()), ids, {})

    def lookup(self, ids: Tensor) -> Tensor:
        """Ids (B, h, w) -> codes (B, dim, h, w)."""
        return self._values(ids[:, None] // self._over_channels(self.bases) % self._over_channels(self.levels))

    def _digits(self, latents: Tensor) -> Tensor:
        levels = self._over_channels(self.levels)
        digits = torch.round(latents * (levels // 2)).long() + levels // 2
        return digits.clamp(min=torch.zeros_like(levels), max=levels - 1)

    def _values(self, digits: Tensor) -> Tensor:
        half_width = self._over_channels(self.levels // 2)
        return (digits - half_width).float() / half_width

    @staticmethod
    def _over_channels(numbers: Tensor) -> Tensor:
        return numbers.view(1, -1, 1, 1)


class GumbelQuantizer(Quantizer):
    """A categorical choice a place, relaxed in training; the codes are a table of their own.

    `temperature` may be lowered while training. In eval the likeliest code is taken, without noise.
    """

    def __init__(self, codes: int, dim: int, *, temperature: float = 1.0, kl_weight: float = 5e-4):
        super().__init__()
        self.codes, self.dim = codes, dim
        self.temperature, self.kl_weight = temperature, kl_weight
        self.proj = nn.Conv2d(dim, codes, 1)
        self.embed = nn.Embedding(codes, dim)

    def forward(self, latents: Tensor) -> Quantized:
        """Latents (B, dim, h, w) -> codes, their gradient that of the relaxed choice; loss `kl`."""
        logits = self.proj(latents).float()  # (B, codes, h, w)
        noisy = logits - torch.empty_like(logits).exponential_().log() if self.training else logits
        ids = noisy.argmax(1)
        # The table learns from the code that was chosen, the logits from all of them.
        soft = torch.einsum("bnhw,nd->bdhw", (noisy / self.temperature).softmax(1), self.embed.weight.detach())
        values = self.lookup(ids) + (soft - soft.detach())
        log_share = logits.log_softmax(1)
        divergence = (log_share.exp() * (log_share + math.log(self.codes))).sum(1).mean()
        return Quantized(values, ids, {"kl": self.kl_weight * divergence})

    def lookup(self, ids: Tensor) -> Tensor:
        """Ids (B, h, w) -> codes (B, dim, h, w)."""
        return self.embed(ids).permute(0, 3, 1, 2)


class ProjectedQuantizer(Quantizer):
    """A quantiser of few numbers for latents of many channels: a linear map into its space, another one back."""

    def __init__(self, inner: Quantizer, channels: int):
        super().__init__()
        self.codes, self.dim = inner.codes, channels
        self.project_in = nn.Conv2d(channels, inner.dim, 1)
        self.inner = inner
        self.project_out = nn.Conv2d(inner.dim, channels, 1)

    def forward(self, latents: Tensor) -> Quantized:
        """Latents (B, dim, h, w) -> the inner quantiser's codes, projected back."""
        latents, ids, losses = self.inner(self.inner.prepare(self.project_in(latents)))
        return Quantized(self.project_out(latents), ids, losses)

    def lookup(self, ids: Tensor) -> Tensor:
        """Ids (B, h, w) -> (B, dim, h, w)."""
        return self.project_out(self.inner.lookup(ids))


# --- how well a codebook is used


def code_counts(ids: Tensor, codes: int) -> Tensor:
    """How often each code occurs in ids of any shape: int64 (codes,)."""
    return torch.bincount(ids.flatten(), minlength=codes)


def usage(counts: Tensor) -> float:
    """Part of the codes that occur at all, in [0, 1]."""
    return float((counts > 0).float().mean())


def perplexity(counts: Tensor) -> float:
    """exp of the entropy of the codes' shares: as many equally frequent codes would say as much. 0 when none occurs."""
    total = counts.sum()
    if total == 0:
        return 0.0
    share = counts.double() / total
    return float(torch.special.entr(share).sum().exp())


def _several_processes() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
