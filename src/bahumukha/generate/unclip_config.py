"""What `bahu generate --with unclip` understands in a TOML file: one field an option.

    prompt = "a red fish above a blue car"       --set decoder.guidance=3 overrides an option
    style = "noto"
    pictures = 9

Every picture has a seed of its own (`generate.unclip`), so the settings of one picture of many are these with its seed,
`pictures` = 1 and `candidates` = 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bahumukha.generate.dalle_config import LARGEST_SIDE, MOST_CANDIDATES, MOST_PICTURES
from bahumukha.generate.guided_config import seed_number
from bahumukha.generate.priors import PriorSampling
from bahumukha.generate.unclip import DecoderSampling, UnclipSampling
from bahumukha.generate.upsample import UpsamplerSampling


@dataclass(frozen=True)
class UnclipConfig:
    """Pictures of one sentence, drawn from embeddings of it and ranked."""

    prompt: str
    """The sentence, of any script."""
    style: str | None = None
    """Of those that the model knows; said behind the prompt. None leaves it to the model."""
    seed: int | str = 0
    """A whole number or any text; candidate k has the seed's number plus k."""
    size: tuple[int, int] | None = None
    """Width and height in pixels before the upsampler; None for those the model was trained on."""
    pictures: int = 9
    """Kept: the best by `ranking`."""
    candidates: int | None = None
    """Drawn; None for as many as are kept."""
    prior: PriorSampling = field(default_factory=PriorSampling)
    decoder: DecoderSampling = field(default_factory=DecoderSampling)
    upsampler: UpsamplerSampling = field(default_factory=UpsamplerSampling)
    upsample: bool = True
    """Whether pictures are made larger, where the model can."""
    model: str = "starter/unclip"
    ranking: str = ""
    """CLIP that orders the candidates, as "starter/clip"; "" keeps the first ones, unranked."""

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ValueError("prompt is empty; say what to show")
        seed_number(self.seed, self.drawn)
        if not 1 <= self.pictures <= MOST_PICTURES:
            raise ValueError(f"pictures is {self.pictures}; it must be from 1 to {MOST_PICTURES}")
        if not self.pictures <= self.drawn <= MOST_CANDIDATES:
            raise ValueError(
                f"candidates is {self.drawn}; it must be from {self.pictures}, the pictures kept, to {MOST_CANDIDATES}"
            )
        if self.size is not None and not all(1 <= side <= LARGEST_SIDE for side in self.size):
            raise ValueError(f"size is {list(self.size)}; it takes width and height up to {LARGEST_SIDE} pixels")

    @property
    def drawn(self) -> int:
        """Candidates in number."""
        return self.pictures if self.candidates is None else self.candidates

    @property
    def sampling(self) -> UnclipSampling:
        """Of all networks."""
        return UnclipSampling(self.prior, self.decoder, self.upsampler if self.upsample else None)
