"""What `bahu generate --with unclip` understands in a TOML file when its model is a Karlo.

    bahu generate "a red fox in the snow" --with unclip -n 1 --set model=karlo --set decoder.guidance=6

The names are those of `generate.unclip_config`, as far as Karlo has such a thing; the defaults are its makers'.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bahumukha.generate.candidates import CandidatesConfig
from bahumukha.generate.diffusion import SamplerName
from bahumukha.generate.karlo import KarloSampling


@dataclass(frozen=True)
class PriorConfig:
    """[prior]"""

    steps: int = 25
    guidance: float = 4.0


@dataclass(frozen=True)
class DecoderConfig:
    """[decoder]"""

    steps: int = 25
    guidance: float = 8.0
    sampler: SamplerName = "ddpm"
    """Of all its networks."""


@dataclass(frozen=True)
class UpsamplerConfig:
    """[upsampler]"""

    steps: int = 7


@dataclass(frozen=True)
class KarloConfig(CandidatesConfig):
    """Pictures of one sentence, 256 pixels wide, ranked. Raises ValueError or UsageError for values out of range."""

    pictures: int = 1
    """Kept. One takes minutes on a processor, so it is the default."""
    prior: PriorConfig = field(default_factory=PriorConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    upsampler: UpsamplerConfig = field(default_factory=UpsamplerConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.sampling  # checks its own
        if self.size is not None:
            raise ValueError("size: Karlo draws pictures of the size it was trained on; leave this out")

    @property
    def sampling(self) -> KarloSampling:
        """Of all networks."""
        p, d = self.prior, self.decoder
        return KarloSampling(p.steps, p.guidance, d.steps, d.guidance, self.upsampler.steps, d.sampler)
