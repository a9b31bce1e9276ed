"""Training a CLIP from a config file: pictures with captions in, a model folder out.

    run = ClipRun(read_config(ClipTraining, Path("clip.toml")), Path("runs/mine"))
    for report in run.reports(): print(report)
    run.export()                                # runs/mine/model, for `bahu classify --model runs/mine/model`

The run's folder holds what `train.loop` writes, and `run.json` (the settings, the architecture that came of them) and
`tokenizer.json`: with these it is taken up without the model it may have begun from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from bahumukha.data.augment import Augment
from bahumukha.data.batches import Batch, PairBatches
from bahumukha.data.lanes import LaneBatches, open_lanes, own_lanes
from bahumukha.data.pairs import Source, open_source
from bahumukha.errors import ModelError, UsageError
from bahumukha.images import Preprocess
from bahumukha.models.clip import Clip, ClipConfig
from bahumukha.runtime import thread_count
from bahumukha.train import processes
from bahumukha.train.checkpoints import RUN
from bahumukha.train.clip_config import ClipTraining, Start
from bahumukha.train.objective import ClipObjective
from bahumukha.train.runs import FolderRun, listed
from bahumukha.train.towers import Locks, rates_of, with_patch_dropout
from bahumukha.zoo.folder import TOKENIZER

if TYPE_CHECKING:
    from bahumukha.train.retrieval import RetrievalValidation

TEMPLATES = ("{}", "a photo of a {}.")
SIGMOID_SCALE = 10.0
"""exp of the temperature that SigLIP starts from (with a bias of -10)."""


@dataclass
class Beginning:
    """What a run starts from: the network's sizes and all that belongs to its weights."""

    architecture: ClipConfig
    preprocess: Preprocess
    templates: tuple[str, ...]
    tokenizer: Tokenizer
    steps: int
    """Steps that the weights had seen before this run."""
    weights: dict[str, Tensor] | None


class ClipRun(FolderRun):
    """One training run in its folder. Raises UsageError and ModelError, one line each, before the first step."""

    KIND = "clip"
    model: Clip

    def __init__(self, config: ClipTraining, out: Path, *, resume: bool = False, device: torch.device | None = None):
        """`resume`: go on with the run in `out`; without it `out` must hold none."""
        super().__init__(config, out, resume, device)
        self.config = config
        self.lanes = own_lanes(config.batch.lanes, config.batch.size, *self._place())
        opened = [open_lanes(source, self.lanes, config.batch.lanes) for source in config.data]
        self.sources: list[list[Source]] = [list(lane) for lane in zip(*opened, strict=True)]
        """Those of each of our lanes."""
        self.beginning = self._of_run() if resume else _fresh(config, self.sources[0])
        self.steps_before = self.beginning.steps
        self.model = self._model()
        self.locks = Locks(self.model, config.towers)
        self.later = self.locks.later
        self.objective = ClipObjective(
            self.model, self.beginning.tokenizer, self.beginning.preprocess, config.loss, config.batch.micro_batches
        )
        self.batches = self._batches()
        self.counts = self._counts()
        self.validation = self._validation()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `train.objective`."""
        return self.objective(batch)

    def before_step(self, step: int, progress: float) -> None:
        """See `train.loop.train`."""
        super().before_step(step, progress)
        self.locks(step, progress)

    def rates(self) -> Mapping[str, float]:
        """See `FolderRun`."""
        return rates_of(self.model, self.config.optimisation.layer_decay)

    def save(self, folder: Path, name: str, steps: int) -> None:
        """Of kind `clip`, its graphs beside it."""
        from bahumukha.zoo.export import export_clip

        output = self.config.output
        tokenizer = Tokenizer.from_str(self.beginning.tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        export_clip(
            self.model.cpu().requires_grad_(False),
            folder,
            name=name,
            tokenizer=tokenizer.to_str(),
            preprocess=self.beginning.preprocess,
            templates=output.templates or self.beginning.templates,
            steps=steps,
            image_storage=output.image_storage,
            text_storage=output.text_storage,
        )

    def told(self) -> tuple[str, str]:
        """For the card."""
        return f"A CLIP trained on {sum(self.counts)} captioned pictures.", listed(self.config.data, self.counts)

    def seen(self) -> str:
        """For the card."""
        return f"{super().seen()}, loss {self.config.loss.kind}"

    def made_of(self) -> str:
        """For the card."""
        sizes = self.beginning.architecture
        return f", {sizes.dim} dimensions, pictures of {sizes.image.size} px"

    def more(self) -> dict[str, Any]:
        """How pictures are given to it, and labels."""
        return {"preprocess": self.beginning.preprocess.to_dict(), "templates": list(self.beginning.templates)}

    def beside(self) -> dict[str, str]:
        """The tokenizer."""
        return {TOKENIZER: self.beginning.tokenizer.to_str()}

    def built(self, architecture: dict[str, Any]) -> Clip:
        """See `FolderRun`."""
        return Clip(ClipConfig.from_dict(architecture))

    # --- parts ------------------------------------------------------------------------------------------------

    def _place(self) -> tuple[int, int]:
        """This process among those that have lanes of their own; with one lane all of them know all pictures."""
        return (processes.rank(), processes.count()) if self.config.batch.lanes > 1 else (0, 1)

    def _batches(self) -> PairBatches | LaneBatches:
        c, lanes = self.config, self.config.batch.lanes
        threads = max(1, (c.batch.threads or thread_count()) // len(self.lanes))

        def batches(sources: list[Source], seed: int, rank: int, parts: int) -> PairBatches:
            return PairBatches(
                sources,
                [source.weight for source in c.data],
                Augment(self.beginning.preprocess.size, c.transforms),
                c.batch.size // lanes,
                seed=seed,
                mix=c.languages,
                threads=threads,
                ahead=c.batch.ahead,
                rank=rank,
                parts=parts,
            )

        seed = c.optimisation.seed
        if lanes == 1:
            return batches(self.sources[0], seed, processes.rank(), processes.count())
        own = [batches(each, seed + lane, 0, 1) for lane, each in zip(self.lanes, self.sources, strict=True)]
        return LaneBatches(own, self.lanes[0], lanes)

    def _counts(self) -> list[int]:
        """Pictures of each source, over all lanes."""
        own = [sum(map(len, parts)) for parts in zip(*self.sources, strict=True)]
        if self.config.batch.lanes == 1:
            return own
        return [sum(counts) for counts in zip(*processes.everyones(own), strict=True)]

    def _model(self) -> Clip:
        """The network with its first weights: those of `model.init`, or random ones from the seed."""
        torch.manual_seed(self.config.optimisation.seed)
        model = self.built(self.beginning.architecture.to_dict())
        if self.beginning.weights is not None:
            absent = model.load_state_dict(self.beginning.weights, strict=False).missing_keys
            assert set(absent) <= {"logit_bias"}, absent  # a CLIP that goes on as a SigLIP gets one
        elif self.config.loss.kind == "siglip":
            torch.nn.init.constant_(model.log_scale, math.log(SIGMOID_SCALE))
        with_patch_dropout(model, self.config.towers.image.patch_dropout)
        return model.to(self.device)

    def _validation(self) -> RetrievalValidation | None:
        options = self.config.validation
        if options is None:
            return None
        from bahumukha.train.retrieval import RetrievalValidation

        source = open_source(options.source)
        return RetrievalValidation(
            source, self.objective, self.beginning.preprocess, options.most, self.config.batch.size
        )

    def _of_run(self) -> Beginning:
        """Everything but the weights, which the checkpoint holds."""
        stored = self.stored
        try:
            return Beginning(
                ClipConfig.from_dict(stored["architecture"]),
                Preprocess.from_dict(stored["preprocess"]),
                tuple(stored["templates"]),
                Tokenizer.from_file(str(self.out / TOKENIZER)),
                int(stored["steps_before"]),
                None,
            )
        except Exception as error:  # whatever a file that was edited by hand brings
            raise ModelError(f"{self.out / RUN}: damaged ({error})") from error


# --- where a run begins -----------------------------------------------------------------------------------


def _fresh(config: ClipTraining, sources: list[Source]) -> Beginning:
    if isinstance(config.model, Start):
        beginning = _from_model(config.model.init)
        if config.tokenizer.path:
            raise UsageError("tokenizer.path: a model that is gone on with keeps its tokenizer; leave this out")
    else:
        tokenizer = _tokenizer(config, sources)
        size = config.model.image.size
        text = replace(config.model.text, vocabulary=tokenizer.get_vocab_size())
        architecture = replace(config.model, text=text)
        preprocess = Preprocess(size, size, interpolation=config.transforms.interpolation)
        beginning = Beginning(architecture, preprocess, TEMPLATES, tokenizer, 0, None)
    if config.loss.kind == "siglip":
        beginning.architecture = replace(beginning.architecture, logit_bias=True)
    return beginning


def _from_model(name: str) -> Beginning:
    from bahumukha.zoo.folder import find, read_config
    from bahumukha.zoo.pytorch import load_clip

    folder = find(name)
    about = read_config(folder)
    model = load_clip(folder)
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    return Beginning(model.config, about.preprocess, about.templates, tokenizer, about.steps, model.state_dict())


def _tokenizer(config: ClipTraining, sources: list[Source]) -> Tokenizer:
    """Of the file given, or learned by the first process, for all, from every caption of its first lane."""
    from bahumukha.data.tokens import learn_tokenizer

    path = config.tokenizer.path
    if path is None:
        if processes.rank() != 0:
            return Tokenizer.from_str(processes.everyones(None)[0])
        captions = (source.captions(i) for source in sources for i in range(len(source)))
        texts = (text for each in captions for texts in each.values() for text in texts)
        learned = learn_tokenizer(texts, config.tokenizer.vocabulary)
        processes.everyones(learned.to_str())
        return learned
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exceptions
        raise UsageError(f"tokenizer.path: {path} is not a tokenizer.json ({error})") from error
