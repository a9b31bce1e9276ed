"""What `bahu train prior`, `decoder` and `upsampler` understand: one dataclass a section, one field an option."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from bahumukha.data.crops import CropConfig
from bahumukha.data.pairs import SourceConfig
from bahumukha.data.views import ViewConfig
from bahumukha.data.wording import WordingConfig
from bahumukha.generate.diffusion import SAMPLER_NAMES, SamplerName
from bahumukha.generate.priors import PriorSampling
from bahumukha.models.degradation import DegradationConfig
from bahumukha.models.denoiser import DenoiserConfig, Predicts, TimesConfig
from bahumukha.models.embedding_tokens import TokenPriorConfig, TokenPriorSizes
from bahumukha.models.prior import PriorConfig, PriorSizes
from bahumukha.train import dalle_config
from bahumukha.train.config import ModelName
from bahumukha.train.dalle_config import OutputConfig, ValidationConfig
from bahumukha.train.loop import LoopConfig, check_best

__all__ = ["DecoderTraining", "PriorTraining", "Start", "UpsamplerTraining"]


# --- sections ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Start(dalle_config.Start):
    """[model] with `init`: go on from a trained part."""

    another_clip: bool = False
    """Take it up though it was trained with another CLIP than `pictures.clip`, as an earlier edition of it: the part
    then learns to read this one's embeddings and words, from where it stands."""


@dataclass(frozen=True)
class PicturesConfig:
    """[pictures]: what is kept of them. They are embedded once, before the first step."""

    clip: ModelName = "starter/clip"
    """Name or folder of the CLIP whose embeddings are learned; it must have PyTorch weights, for its text tower."""
    size: int = 64
    """Side of the pictures that are kept, in pixels."""
    sharp: int = 4
    """So many times as large is a view that CLIP sees."""
    views: ViewConfig = field(default_factory=ViewConfig)
    cache: Path | None = None
    """Folder where they are kept for other runs too; `views` in the run's folder when not given."""


@dataclass(frozen=True)
class BatchConfig:
    """[batch]"""

    size: int = 64
    """Pictures a step, over all processes."""
    drop_text: float = 0.1
    """Probability that a caption is left out, in [0, 1], which guidance needs."""
    drop_embedding: float = 0.1
    """The same of the picture's embedding; of no meaning for a prior."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}; at least 1 is needed")
        for name in ("drop_text", "drop_embedding"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")


@dataclass(frozen=True)
class ImaginedConfig:
    """[imagined]: embeddings that a prior makes of captions, in place of the pictures' own. A decoder that has seen
    none believes each number of them, right or wrong, more than the caption."""

    prior: ModelName = ""
    """Name or folder of a prior, or of an unCLIP, whose prior is then taken; empty for none."""
    share: float = 0.5
    """Of the pictures whose caption is seen."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share}; it must be from 0 to 1")


@dataclass(frozen=True)
class SketchesConfig:
    """[sketches]: pictures as they are on the way from a sketch (`generate.sketch`), of which a codec's copy stands
    for the sketch. So the decoder learns to mend what a codec gets wrong. Validation shows none of them."""

    codec: ModelName = ""
    """Name or folder of the codec that the sketching DALL-E draws with; empty for none."""
    share: float = 0.5
    """Of the pictures that are on such a way; those with more noise than where it begins are seen as they are."""
    noise: tuple[float, float] = (0.3, 0.7)
    """Least and most t at which the way from a sketch begins, any between as likely."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share}; it must be from 0 to 1")
        if not 0 < self.noise[0] <= self.noise[1] < 1:
            raise ValueError(f"noise is {list(self.noise)}; it takes two numbers above 0 and below 1, the lesser first")


@dataclass(frozen=True)
class SheetConfig:
    """[sheet]: pictures beside what is made of them, drawn at every validation into `samples/`."""

    pictures: int = 16
    """0 for no sheets."""
    steps: int = 20
    sampler: SamplerName = "dpm++"
    guidance: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pictures < 0 or self.steps < 1 or self.seed < 0 or self.guidance < 0:
            raise ValueError("steps must be at least 1; pictures, seed and guidance at least 0")
        if self.sampler not in SAMPLER_NAMES:
            raise ValueError(f"sampler is {self.sampler!r}; it must be one of {', '.join(SAMPLER_NAMES)}")


@dataclass(frozen=True)
class DiffusionSizes(PriorSizes):
    """[model] of a diffusion prior."""

    kind: Literal["diffusion"] = "diffusion"

    def sized(self, *, dim: int, text_width: int) -> PriorConfig:
        """All that the transformer needs to know. Raises ValueError."""
        own = {name: value for name, value in asdict(self).items() if name != "kind"}
        return PriorConfig(dim=dim, text_width=text_width, **own)


@dataclass(frozen=True)
class TokenSizes(TokenPriorSizes):
    """[model] of a prior that draws number by number."""

    kind: Literal["tokens"] = "tokens"

    def sized(self, *, dim: int, text_width: int) -> TokenPriorConfig:
        """All that the transformer needs to know. Raises ValueError."""
        own = {name: value for name, value in asdict(self).items() if name != "kind"}
        return TokenPriorConfig(dim=dim, text_width=text_width, **own)


@dataclass(frozen=True)
class DecoderSizes:
    """[model] of a decoder, as `models.denoiser.DenoiserConfig` explains it."""

    codec: ModelName = ""
    """Name or folder of the codec whose latents are drawn; empty for pixels."""
    patch: int = 4
    """Side of a token's square, in pixels or latents; with a codec 1 is usual."""
    stages: tuple[int, ...] = ()
    text: bool = True
    """Whether captions are seen, beside the embedding."""
    text_length: int = 64
    image_tokens: int = 4
    width: int = 320
    layers: int = 11
    heads: int = 5
    mlp_ratio: float = 4.0
    predicts: Predicts = "clean"

    def __post_init__(self) -> None:
        self.sized(channels=3, grid=self.patch, dim=1, text_width=1)

    def sized(self, *, channels: int, grid: int, dim: int, text_width: int) -> DenoiserConfig:
        """All that the network needs to know. Raises ValueError."""
        own = {name: value for name, value in asdict(self).items() if name not in ("codec", "text")}
        return DenoiserConfig(channels=channels, grid=grid, dim=dim, text_width=text_width if self.text else 0, **own)


@dataclass(frozen=True)
class UpsamplerSizes:
    """[model] of an upsampler, which sees the small picture and nothing else."""

    patch: int = 8
    stages: tuple[int, ...] = ()
    width: int = 256
    layers: int = 7
    heads: int = 4
    mlp_ratio: float = 3.0
    predicts: Predicts = "clean"

    def __post_init__(self) -> None:
        self.sized(grid=self.patch)

    def sized(self, *, grid: int) -> DenoiserConfig:
        """All that the network needs to know. Raises ValueError."""
        return DenoiserConfig(channels=3, given=3, grid=grid, **asdict(self))


@dataclass(frozen=True)
class LargeConfig:
    """[pictures] of an upsampler: crops of large pictures, which need no captions."""

    size: int = 128
    """Side of the crops, in pixels."""
    factor: int = 2
    """Times as large as what is given."""
    stored_side: int = 0
    """Pixels that the shortest side of a stored picture has at most; 0 for a quarter more than a crop."""
    cache: Path | None = None
    """Folder of mapped files with the decoded pictures; without it they are in memory."""

    def __post_init__(self) -> None:
        if self.factor < 2 or self.size % self.factor:
            raise ValueError(f"factor is {self.factor}; it must be at least 2 and divide size, {self.size}")
        if self.stored_side < 0:
            raise ValueError(f"stored_side is {self.stored_side}; it must be at least 0")


@dataclass(frozen=True)
class CropBatchConfig:
    """[batch] of an upsampler."""

    size: int = 16
    """Pictures a step, over all processes."""
    threads: int = 1
    """That cut crops; decoding is done before."""
    ahead: int = 2
    """Batches that are made before they are asked for."""

    def __post_init__(self) -> None:
        if self.size < 1 or self.threads < 1 or self.ahead < 0:
            raise ValueError("size and threads must be at least 1, ahead at least 0")


# --- whole runs -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PartTraining:
    """What all three runs have. `[[data]]` may stand several times, one source each."""

    data: tuple[SourceConfig, ...]
    optimisation: LoopConfig = field(default_factory=LoopConfig)
    validation: ValidationConfig | None = None
    output: OutputConfig = field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("data is empty; give at least one [[data]] with a path")
        check_best(self.optimisation, self.validation is not None, self.output.weights)


@dataclass(frozen=True)
class PriorTraining(PartTraining):
    """The file of `bahu train prior`."""

    pictures: PicturesConfig = field(default_factory=PicturesConfig)
    model: DiffusionSizes | TokenSizes | Start = field(default_factory=DiffusionSizes)
    captions: WordingConfig = field(default_factory=WordingConfig)
    batch: BatchConfig = field(default_factory=lambda: BatchConfig(size=256))
    sampling: PriorSampling = field(default_factory=PriorSampling)
    """Of what is validated."""


@dataclass(frozen=True)
class DecoderTraining(PartTraining):
    """The file of `bahu train decoder`."""

    pictures: PicturesConfig = field(default_factory=PicturesConfig)
    model: DecoderSizes | Start = field(default_factory=DecoderSizes)
    captions: WordingConfig = field(default_factory=WordingConfig)
    batch: BatchConfig = field(default_factory=lambda: BatchConfig(drop_text=0.5))
    imagined: ImaginedConfig = field(default_factory=ImaginedConfig)
    sketches: SketchesConfig = field(default_factory=SketchesConfig)
    times: TimesConfig = field(default_factory=TimesConfig)
    sheet: SheetConfig = field(default_factory=SheetConfig)


@dataclass(frozen=True)
class UpsamplerTraining(PartTraining):
    """The file of `bahu train upsampler`."""

    pictures: LargeConfig = field(default_factory=LargeConfig)
    model: UpsamplerSizes | dalle_config.Start = field(default_factory=UpsamplerSizes)
    transforms: CropConfig = field(default_factory=CropConfig)
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    batch: CropBatchConfig = field(default_factory=CropBatchConfig)
    times: TimesConfig = field(default_factory=TimesConfig)
    sheet: SheetConfig = field(default_factory=lambda: SheetConfig(guidance=1.0, steps=8))

    @property
    def stored_side(self) -> int:
        """Pixels of a stored picture's shortest side, at most."""
        return self.pictures.stored_side or -(-5 * self.pictures.size // 4)
