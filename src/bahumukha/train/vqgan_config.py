"""What `bahu train vqgan CONFIG.toml` understands: one dataclass a section, one field an option."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bahumukha.data.crops import CropConfig
from bahumukha.data.pairs import SourceConfig
from bahumukha.models.critic import PatchCriticConfig
from bahumukha.models.vit_codec import VitCodecConfig
from bahumukha.models.vqgan import VqganConfig
from bahumukha.train.config import ModelName
from bahumukha.train.loop import LoopConfig, check_best


@dataclass(frozen=True)
class Start:
    """[model] with `init`: go on from a trained codec."""

    init: ModelName
    """Name or folder of a model, as `starter/vqgan`."""
    freeze_encoder: bool = False
    """Only the decoder learns: ids keep their meaning, and a DALL-E of the codec's need not learn again."""


@dataclass(frozen=True)
class PicturesConfig:
    """[pictures]: how they are kept ready."""

    stored_side: int = 0
    """Pixels that the shortest side of a stored picture has at most; 0 for a quarter more than the largest crop."""
    cache: Path | None = None
    """Folder of mapped files with the decoded pictures, kept for the next run; without it they are in memory."""

    def __post_init__(self) -> None:
        if self.stored_side < 0:
            raise ValueError(f"stored_side is {self.stored_side}; it must be at least 0")


@dataclass(frozen=True)
class BatchConfig:
    """[batch]: a batch is of one size; the three lists belong together."""

    sizes: tuple[int, ...] = (64, 128)
    """Sides of the crops, in pixels."""
    pictures: tuple[int, ...] = (64, 16)
    """In a batch of each size, over all processes."""
    shares: tuple[float, ...] = (3.0, 1.0)
    """How often a batch of each size comes, over the sum of all."""
    threads: int = 1
    """That cut crops; decoding is done before."""
    ahead: int = 2
    """Batches that are made before they are asked for."""

    def __post_init__(self) -> None:
        if not len(self.sizes) == len(self.pictures) == len(self.shares) > 0:
            raise ValueError(
                f"sizes, pictures and shares have {len(self.sizes)}, {len(self.pictures)} and {len(self.shares)}"
                " numbers; they must be as many, and at least one"
            )
        if min(self.sizes) < 8:
            raise ValueError(f"sizes is {list(self.sizes)}; each must be at least 8")
        if min(self.pictures) < 1:
            raise ValueError(f"pictures is {list(self.pictures)}; each must be at least 1")
        if not min(self.shares) > 0:
            raise ValueError(f"shares is {list(self.shares)}; each must be above 0")
        if self.threads < 1 or self.ahead < 0:
            raise ValueError("threads must be at least 1, ahead at least 0")


@dataclass(frozen=True)
class ReconstructionConfig:
    """[loss]: weights of what makes a reconstruction x̂ of x, both in [-1, 1]; 0 leaves a term out."""

    l1: float = 0.2
    """Mean of |x̂ - x|."""
    l2: float = 1.0
    """Mean of (x̂ - x)²: what PSNR is about."""
    log_l2: float = 0.0
    """Mean over pictures of the logarithm of that: what a mean of PSNRs is about. Plain pictures weigh more with it."""
    edges: float = 0.1
    """Of gradients at several scales (`models.perceptual.edge_loss`)."""
    perceptual: float = 0.0
    """Of features: LPIPS when both of its files are given, else those of the starter CLIP's trunk."""
    codebook: float = 1.0
    """Of the quantiser's own losses; FSQ has none."""
    lpips_vgg: Path | None = None
    """torchvision's weights of VGG16, as `vgg16-397923af.pth`."""
    lpips_heads: Path | None = None
    """LPIPS 0.1's linear layers for it, as `vgg.pth`."""

    def __post_init__(self) -> None:
        terms = ("l1", "l2", "log_l2", "edges", "perceptual")
        for name in (*terms, "codebook"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if not any(getattr(self, name) for name in terms):
            raise ValueError(f"{', '.join(terms)} are all 0; a codec has nothing to learn from")
        if (self.lpips_vgg is None) != (self.lpips_heads is None):
            raise ValueError("lpips_vgg and lpips_heads belong together; give both, or neither")


@dataclass(frozen=True)
class CriticConfig:
    """[critic]: leave the section out for none. Moments are shares of the run, in [0, 1]."""

    weight: float = 0.8
    """Of its gradient over that of the reconstruction, at the decoder's last layer."""
    start: float = 0.5
    """From when it counts."""
    warmup: float = 0.05
    """How long it learns alone before that: a critic that knows nothing ruins what has been learned."""
    ramp: float = 0.05
    """How long its weight rises from 0."""
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.9)
    network: PatchCriticConfig = field(default_factory=PatchCriticConfig)

    def __post_init__(self) -> None:
        for name in ("start", "warmup", "ramp"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a share of the run, from 0 to 1")
        for name in ("weight", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")


@dataclass(frozen=True)
class ValidationConfig:
    """[validation]: pictures that are not trained on. How often, and how often a sheet is drawn:
    `optimisation.validate_every`."""

    sources: tuple[SourceConfig, ...]
    most: int = 200
    """Pictures of each source at most, the first ones."""

    def __post_init__(self) -> None:
        if not self.sources or self.most < 1:
            raise ValueError("sources and most: at least one source and one picture are needed")


@dataclass(frozen=True)
class OutputConfig:
    """[output]: the model folder that is written at the end."""

    name: str = ""
    """In its config.json and card; the run's folder's name when empty."""
    weights: Literal["last", "best"] = "last"
    """`best`: those of `optimisation.best_score`."""
    storage: Literal["float16", "float32"] = "float16"
    licence: str = "not stated"
    sheet: int = 16
    """Pictures on the sheets of reconstructions that the run leaves in `reconstructions/`; 0 for none."""

    def __post_init__(self) -> None:
        if self.sheet < 0:
            raise ValueError(f"sheet is {self.sheet}; it must be at least 0")


@dataclass(frozen=True)
class VqganTraining:
    """A whole run: the file. `[[data]]` may stand several times, one source each."""

    data: tuple[SourceConfig, ...]
    model: VitCodecConfig | VqganConfig | Start = field(default_factory=VitCodecConfig)
    pictures: PicturesConfig = field(default_factory=PicturesConfig)
    transforms: CropConfig = field(default_factory=CropConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    loss: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    critic: CriticConfig | None = None
    optimisation: LoopConfig = field(default_factory=LoopConfig)
    validation: ValidationConfig | None = None
    output: OutputConfig = field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("data is empty; give at least one [[data]] with a path")
        check_best(self.optimisation, self.validation is not None, self.output.weights)
        if self.critic is not None and min(self.batch.sizes) < (least := self.critic.network.smallest_side):
            raise ValueError(
                f"batch.sizes: this critic takes {least} pixels or more; give [critic.network] fewer layers"
            )

    @property
    def stored_side(self) -> int:
        """Pixels of a stored picture's shortest side, at most."""
        return self.pictures.stored_side or -(-5 * max(self.batch.sizes) // 4)
