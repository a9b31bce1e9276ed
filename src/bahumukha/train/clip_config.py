"""What `bahu train clip CONFIG.toml` understands: one dataclass a section, one field an option."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bahumukha.data.augment import AugmentConfig
from bahumukha.data.pairs import SourceConfig
from bahumukha.models.clip import ClipConfig
from bahumukha.train.config import ModelName
from bahumukha.train.loop import LoopConfig, check_best

Storage = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class Start:
    """[model] with `init`: go on from a trained model, its tokenizer and preprocessing included."""

    init: ModelName
    """Name or folder of a model, as `starter/clip`."""


@dataclass(frozen=True)
class TokenizerConfig:
    """[tokenizer]: by default the one of `model.init`, or else one that is learned from the captions."""

    path: Path | None = None
    """A `tokenizer.json` of Hugging Face tokenizers, with padding 0."""
    vocabulary: int = 8000
    """Most tokens of one that is learned."""

    def __post_init__(self) -> None:
        if self.vocabulary < 259:
            raise ValueError(f"vocabulary is {self.vocabulary}; at least 259 is needed (all bytes and three more)")


@dataclass(frozen=True)
class BatchConfig:
    """[batch]: how many pictures a step, over all processes, and how they are made ready."""

    size: int = 64
    micro_batches: int = 1
    """Parts that the towers see one after another: the memory of one part, the gradient of the whole batch, one more
    forward pass (GradCache, Gao et al. 2021; open_clip's --accum-freq)."""
    threads: int = 0
    """Threads that decode; 0 for as many as there are cores."""
    ahead: int = 2
    """Batches that are decoded before they are asked for."""
    lanes: int = 1
    """Parts of a batch that read shards of their own (`data.lanes`), a multiple of the processes: each then opens
    its own shards alone. With 1 every process knows all pictures."""

    def __post_init__(self) -> None:
        if self.lanes < 1:
            raise ValueError(f"lanes is {self.lanes}; at least 1 is needed")
        if self.size < 2:
            raise ValueError(f"size is {self.size}; a contrast takes at least 2")
        if not 1 <= self.micro_batches <= self.size:
            raise ValueError(f"micro_batches is {self.micro_batches}; it must be from 1 to size {self.size}")
        if self.threads < 0 or self.ahead < 0:
            raise ValueError("threads and ahead must be at least 0")


@dataclass(frozen=True)
class LossConfig:
    """[loss]"""

    kind: Literal["clip", "siglip"] = "clip"
    """`clip`: softmax over the batch, both ways. `siglip`: each pair by itself, with a learned bias."""
    same_match: bool = True
    """Pictures or captions that are twice in a batch belong to each other, instead of being pushed apart. To the
    softmax it makes hardly a difference: equal captions share its probability in any case."""
    local: bool = True
    """Of several processes, each computes its own rows only; the gradient is the same as when all compute all."""


@dataclass(frozen=True)
class TowerConfig:
    """[towers.image], [towers.text]: what is trained, and when.

    Groups of layers are counted from the head down: 1 is the projection with the last norm, 2 the last block too, …
    """

    lock: bool = False
    """Train nothing of this tower at first but `open_groups` (LiT, Zhai et al. 2022)."""
    open_groups: int = 0
    """Groups that a locked tower trains all the same."""
    unlock_at_step: int | None = None
    """From this step on `unlock_groups` are trained."""
    unlock_at_share: float | None = None
    """The same as a share of the run, in [0, 1]."""
    unlock_groups: int | None = None
    """Groups that are unlocked then; all when not given."""
    patch_dropout: float | None = None
    """Share of the patches left out in training, for a Vision Transformer."""
    grad_checkpointing: bool = False
    """Compute each block again in the backward pass: less memory, more time."""

    def __post_init__(self) -> None:
        if self.unlock_at_step is not None and self.unlock_at_share is not None:
            raise ValueError("unlock_at_step and unlock_at_share are both given; give one")
        if self.open_groups < 0 or (self.unlock_groups is not None and self.unlock_groups < 1):
            raise ValueError("open_groups must be at least 0, unlock_groups at least 1")
        if self.unlock_at_share is not None and not 0 <= self.unlock_at_share <= 1:
            raise ValueError(f"unlock_at_share is {self.unlock_at_share}; it must be from 0 to 1")
        if not self.lock and (self.open_groups or self.unlocks_later):
            raise ValueError("open_groups and unlock_… are about a locked tower; set lock = true")

    @property
    def unlocks_later(self) -> bool:
        """Whether there is a moment at which more of the tower is trained."""
        return self.unlock_at_step is not None or self.unlock_at_share is not None


@dataclass(frozen=True)
class TowersConfig:
    """[towers]"""

    image: TowerConfig = field(default_factory=TowerConfig)
    text: TowerConfig = field(default_factory=TowerConfig)

    def __post_init__(self) -> None:
        if self.text.patch_dropout is not None:
            raise ValueError("text.patch_dropout: a sentence has no patches; it is an option of [towers.image]")


@dataclass(frozen=True)
class ValidationConfig:
    """[validation]: pictures that are not trained on, held in memory. How often: `optimisation.validate_every`."""

    source: SourceConfig
    most: int = 1000
    """Pictures at most, the first ones of the source."""

    def __post_init__(self) -> None:
        if self.most < 2:
            raise ValueError(f"most is {self.most}; at least 2 are needed")


@dataclass(frozen=True)
class OutputConfig:
    """[output]: the model folder that is written at the end."""

    name: str = ""
    """In its config.json and card; the run's folder's name when empty."""
    templates: tuple[str, ...] = ()
    """Sentences around a label, with {}; those of `model.init`, or else "{}" and "a photo of a {}."."""
    weights: Literal["last", "best"] = "last"
    """`best`: those of `optimisation.best_score`."""
    licence: str = "not stated"
    image_storage: Storage = "float16"
    text_storage: Storage = "int8"
    """Of the weights in the ONNX graphs; what they compute is float32."""

    def __post_init__(self) -> None:
        for text in self.templates:
            if "{}" not in text:
                raise ValueError(f"templates: {text!r} has no {{}} for the label")


@dataclass(frozen=True)
class ClipTraining:
    """A whole run: the file. `[[data]]` may stand several times, one source each."""

    data: tuple[SourceConfig, ...]
    model: ClipConfig | Start = field(default_factory=ClipConfig)
    languages: dict[str, float] = field(default_factory=dict)
    """Share of each language in the captions drawn, of those a picture has; empty for all alike."""
    transforms: AugmentConfig = field(default_factory=AugmentConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimisation: LoopConfig = field(default_factory=LoopConfig)
    towers: TowersConfig = field(default_factory=TowersConfig)
    validation: ValidationConfig | None = None
    output: OutputConfig = field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("data is empty; give at least one [[data]] with a path")
        if any(share < 0 for share in self.languages.values()):
            raise ValueError("languages: a share is below 0")
        check_best(self.optimisation, self.validation is not None, self.output.weights)
        if self.optimisation.accumulate > 1:
            raise ValueError(
                "optimisation.accumulate is for losses that are means over pictures; a contrastive batch is divided"
                " with batch.micro_batches"
            )
