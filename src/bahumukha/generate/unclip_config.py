"""What `bahu generate --with unclip` understands in a TOML file: one field an option.

    prompt = "a red fish above a blue car"       --set decoder.guidance=3 overrides an option
    style = "noto"
    pictures = 9

What every system that draws candidates is asked for is in `generate.candidates`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bahumukha.generate.candidates import CandidatesConfig
from bahumukha.generate.priors import PriorSampling
from bahumukha.generate.sketch import SketchSampling
from bahumukha.generate.unclip import DecoderSampling, UnclipSampling
from bahumukha.generate.upsample import UpsamplerSampling


@dataclass(frozen=True, kw_only=True)
class NetworksConfig:
    """Which networks take part, and how they are asked."""

    prior: PriorSampling = field(default_factory=PriorSampling)
    decoder: DecoderSampling = field(default_factory=DecoderSampling)
    upsampler: UpsamplerSampling = field(default_factory=UpsamplerSampling)
    upsample: bool = True
    """Whether pictures are made larger, where the model can."""
    model: str = "starter/unclip"
    prior_model: str = ""
    """Another prior than the model's own, name or folder, as one that draws number by number; "" for its own."""

    @property
    def sampling(self) -> UnclipSampling:
        """Of all networks."""
        return UnclipSampling(self.prior, self.decoder, self.upsampler if self.upsample else None, sketch=None)


@dataclass(frozen=True, kw_only=True)
class SentenceConfig(NetworksConfig):
    """Pictures of sentences, which may be sketched first."""

    sketch: SketchSampling = field(default_factory=SketchSampling)
    sketched: bool = True
    """Whether the decoder begins with a sketch of the sentence, where the model names a DALL-E."""

    @property
    def sampling(self) -> UnclipSampling:
        """Of all networks."""
        return replace(super().sampling, sketch=self.sketch if self.sketched else None)


@dataclass(frozen=True)
class UnclipConfig(SentenceConfig, CandidatesConfig):
    """Pictures of one sentence, drawn from embeddings of it and ranked. `size` is that of what is saved; where nothing
    is said of candidates, there are as many as are kept."""

    model: str = "starter/unclip"
