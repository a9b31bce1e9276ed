"""What `bahu train dalle CONFIG.toml` understands: one dataclass a section, one field an option."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from bahumukha.data.pairs import SourceConfig
from bahumukha.data.views import ViewConfig
from bahumukha.data.wording import WordingConfig
from bahumukha.models.dalle import TEXT_WEIGHT, DalleConfig, Positions
from bahumukha.nn.masks import Pattern
from bahumukha.nn.sampling import Sampling
from bahumukha.train import vqgan_config
from bahumukha.train.config import ModelName
from bahumukha.train.loop import LoopConfig, check_best


@dataclass(frozen=True)
class Start:
    """[model] with `init`: go on from a trained model, its tokenizer included."""

    init: ModelName
    """Name or folder of a model, as `starter/dalle`."""


@dataclass(frozen=True)
class NetworkConfig:
    """[model]: sizes of the transformer, as `models.dalle.DalleConfig` explains them; its vocabulary, codes and grid
    follow from the tokenizer, the codec and the size of the pictures."""

    text_length: int = 32
    padded_to: int = 8
    width: int = 320
    layers: int = 8
    heads: int = 5
    mlp_ratio: float = 4.0
    attention: tuple[Pattern, ...] = ("full",)
    kernel: int = 11
    positions: Positions = "rotary2d"
    qk_norm: bool = True
    dropout: float = 0.0
    tells_text: bool = True

    def __post_init__(self) -> None:
        self.sized(vocabulary=2, codes=2, grid=(2, 2), pad=0)  # whose rules these are

    def sized(self, *, vocabulary: int, codes: int, grid: tuple[int, int], pad: int) -> DalleConfig:
        """All that a transformer needs to know. Raises ValueError."""
        return DalleConfig(vocabulary=vocabulary, codes=codes, grid=grid, pad=pad, **asdict(self))


@dataclass(frozen=True)
class CodesConfig:
    """[codes]: what the pictures become. They are encoded once, before the first step."""

    codec: ModelName = "starter/vqgan"
    """Name or folder of the codec."""
    size: int = 64
    """Side of the pictures in pixels, a multiple of what a code of the codec stands for."""
    views: ViewConfig = field(default_factory=ViewConfig)
    cache: Path | None = None
    """Folder where the codes are kept for other runs too; `codes` in the run's folder when not given."""


@dataclass(frozen=True)
class TextConfig:
    """[text]: the tokenizer. A model that is gone on with keeps its own."""

    model: ModelName = "starter/clip"
    """Name or folder of the CLIP whose tokenizer is taken, cut down to the captions; empty for one that is learned from
    them."""
    vocabulary: int = 8000
    """Most tokens: the commonest in the captions, each language weighed by its share."""
    vectors: bool = True
    """Words begin with their vectors in that CLIP: what its text tower has learned about languages, a short run on few
    pictures cannot."""

    def __post_init__(self) -> None:
        if self.vocabulary < 259:
            raise ValueError(f"vocabulary is {self.vocabulary}; at least 259 is needed (all bytes and three more)")


@dataclass(frozen=True)
class BatchConfig:
    """[batch]"""

    size: int = 64
    """Pictures a step, over all processes."""
    drop_text: float = 0.1
    """Probability of the null caption instead of the picture's, which guidance needs; in [0, 1]."""
    drop_codes: float = 0.0
    """Largest part of a picture's codes that are read as others, at random; each picture's is anywhere from 0 up. A few
    thousand pictures are soon known by heart from their first codes, and what the caption says is never needed."""
    group: int = 16
    """Batches whose captions are sorted by length before they are divided (`data.code_batches`); 1 for none."""

    def __post_init__(self) -> None:
        for name in ("size", "group"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1 is needed")
        for name in ("drop_text", "drop_codes"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")


@dataclass(frozen=True)
class LossConfig:
    """[loss]"""

    text: float = TEXT_WEIGHT
    """Weight of the text's cross-entropy; the picture's has the rest. 0 spares the text's head all work."""

    def __post_init__(self) -> None:
        if not 0 <= self.text < 1:
            raise ValueError(f"text is {self.text}; it must be at least 0 and below 1")


@dataclass(frozen=True)
class ValidationConfig(vqgan_config.ValidationConfig):
    """[validation], as a codec's; samples are drawn as often."""

    most: int = 256
    """Pictures of each source at most."""


@dataclass(frozen=True)
class SamplesConfig:
    """[samples]: a sheet of pictures of fixed sentences, drawn at every validation into `samples/`."""

    prompts: tuple[str, ...] = ()
    each: int = 4
    """Pictures a sentence, of the seeds from `seed` on."""
    sampling: Sampling = field(default_factory=lambda: Sampling(guidance=3.0))
    seed: int = 0

    def __post_init__(self) -> None:
        if self.each < 1 or self.seed < 0:
            raise ValueError("each must be at least 1, seed at least 0")


@dataclass(frozen=True)
class OutputConfig:
    """[output]: the model folder that is written at the end."""

    name: str = ""
    """In its config.json and card; the run's folder's name when empty."""
    weights: Literal["last", "best"] = "last"
    """`best`: those of `optimisation.best_score`."""
    storage: Literal["float16", "float32"] = "float16"
    licence: str = "not stated"


@dataclass(frozen=True)
class DalleTraining:
    """A whole run: the file. `[[data]]` may stand several times, one source each."""

    data: tuple[SourceConfig, ...]
    codes: CodesConfig = field(default_factory=CodesConfig)
    text: TextConfig = field(default_factory=TextConfig)
    model: NetworkConfig | Start = field(default_factory=NetworkConfig)
    captions: WordingConfig = field(default_factory=WordingConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimisation: LoopConfig = field(default_factory=LoopConfig)
    validation: ValidationConfig | None = None
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    output: OutputConfig = field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("data is empty; give at least one [[data]] with a path")
        check_best(self.optimisation, self.validation is not None, self.output.weights)
