"""Training unCLIP's prior from a config file: captioned pictures in, a model folder out.

    run = PriorRun(read_config(PriorTraining, Path("prior.toml")), Path("runs/mine"))
    for report in run.reports(): print(report)
    run.export()                                # runs/mine/model, for `zoo.unclip.load_prior`

A step sees embeddings of pictures, which are made once (`data.embedded`), and captions, which the CLIP's own text tower
reads anew each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bahumukha.data.code_batches import seen_and_held_out
from bahumukha.data.embedded import Embedded, PictureBatch, PictureBatches
from bahumukha.data.wording import plainly_said
from bahumukha.evaluate.unclip import prior_cosines
from bahumukha.generate.priors import PriorSampling
from bahumukha.models.embedding_tokens import TokenPrior, TokenPriorConfig, token_prior_loss
from bahumukha.models.prior import DiffusionPrior, PriorConfig, prior_loss
from bahumukha.models.text import TextFeatures
from bahumukha.train import processes
from bahumukha.train.runs import FolderRun, listed
from bahumukha.train.unclip import EmbeddedPart, check_sight, to_fit
from bahumukha.train.unclip_config import DiffusionSizes, PriorTraining, Start
from bahumukha.zoo.pytorch import TextReader
from bahumukha.zoo.unclip import load_prior, save_prior

AT_ONCE = 64
SEED = 1
"""Of which pictures are judged: the same for every seed of a run."""


class PriorRun(FolderRun):
    """See above."""

    KIND = "prior"
    model: DiffusionPrior | TokenPrior

    def __init__(
        self,
        config: PriorTraining,
        out: Path,
        *,
        resume: bool = False,
        device: torch.device | None = None,
        advance: Callable[[int], None] = lambda pictures: None,
    ):
        """`resume`: go on with the run in `out`; without it `out` must hold none. Embeds all pictures, unless that has
        been done; `advance` is called with how many more are."""
        super().__init__(config, out, resume, device)
        self.config = config
        part = EmbeddedPart(config.pictures, out, advance)
        self.sight, self.read = part.sight, TextReader.load(config.pictures.clip, device=str(self.device))
        stored = self.resumed() if resume else self._started()  # what is wrong with it, before all is embedded
        self.sources = part.of(config.data)
        judged = part.of(config.validation.sources) if config.validation else []
        torch.manual_seed(config.optimisation.seed)
        self.model = self.trained(stored or self._fresh())  # type: ignore[assignment]
        self.batches = PictureBatches(
            self.sources,
            [source.weight for source in config.data],
            config.batch.size,
            config.captions,
            drop_text=config.batch.drop_text,
            with_pixels=False,
            seed=config.optimisation.seed,
            rank=processes.rank(),
            parts=processes.count(),
        )
        if config.validation is not None:
            mix, most = config.captions.languages, config.validation.most
            pictures = {"": [plain_embeddings(each, each.readable, mix, most) for each in judged]}
            held = [(each, seen_and_held_out(each)[1]) for each in self.sources]
            pictures["_pairs"] = [plain_embeddings(each, numbers, mix, most) for each, numbers in held]
            self.validation = PriorValidation(pictures, self.read, config.sampling)

    def losses(self, batch: PictureBatch) -> dict[str, Tensor]:
        """See `models.prior.prior_loss`, `models.embedding_tokens.token_prior_loss`."""
        text, embeddings = self.read(batch.texts), batch.embeddings.to(self.device)
        dropped = batch.without_text.to(self.device)
        if isinstance(self.model, DiffusionPrior):
            return prior_loss(self.model, embeddings, text, dropped, self.draws(batch))
        return token_prior_loss(self.model, embeddings, text, dropped)

    def save(self, folder: Path, name: str, steps: int) -> None:
        """Of kind `prior`."""
        things = (source.about(int(i)).things for source in self.sources for i in source.readable)
        styles = sorted({style for each in things for style, _ in each})
        save_prior(
            self.model,
            folder,
            name=name,
            sight=self.sight,
            steps=steps,
            styles=styles,
            weights=self.config.output.storage,
        )

    def told(self) -> tuple[str, str]:
        """For the card."""
        counts = list(map(len, self.batches.pictures))
        purpose = f"Embeddings of pictures from captions, trained on {sum(counts)} captioned pictures."
        return purpose, listed(self.config.data, counts)

    def more(self) -> dict[str, Any]:
        """Which of the two kinds it is."""
        return {"network": "diffusion" if isinstance(self.model, DiffusionPrior) else "tokens"}

    def _started(self) -> nn.Module | None:
        """The network to go on from, if there is one."""
        start = self.config.model
        if not isinstance(start, Start):
            return None
        loaded = load_prior(start.init)
        check_sight(start, loaded.sight, self.sight)
        self.steps_before = loaded.steps
        return loaded.model

    def _fresh(self) -> nn.Module:
        sizes = self.config.model
        assert not isinstance(sizes, Start)
        width, dim = self.read.tower.config.width, self.sources[0].dim
        embeddings = torch.cat([source.embeddings(numbers) for source, numbers in to_fit(self.sources)])
        if isinstance(sizes, DiffusionSizes):
            model = DiffusionPrior(sizes.sized(dim=dim, text_width=width))
            model.standard.fit(embeddings)
            return model
        tokens = TokenPrior(sizes.sized(dim=dim, text_width=width))
        mix = self.config.captions.languages
        texts = [
            plainly_said(source.captions(int(i)), source.about(int(i)), mix)
            for source, numbers in to_fit(self.sources)
            for i in numbers
        ]
        captions = [self.read(texts[at : at + AT_ONCE]).embedding.cpu() for at in range(0, len(texts), AT_ONCE)]
        tokens.code.fit(embeddings, torch.cat(captions))
        return tokens

    def built(self, architecture: dict[str, Any]) -> nn.Module:
        """See `FolderRun`."""
        if self.stored["network"] == "tokens":
            return TokenPrior(TokenPriorConfig.from_dict(architecture))
        return DiffusionPrior(PriorConfig.from_dict(architecture))


class PriorValidation:
    """`validate` of `train.loop`: cosines of the true embedding and

    near      what is drawn for its caption
    caption   the caption's own: what a prior has to beat
    middle    the mean of all pictures trained on: the same for every caption

    and the same with `_pairs` for things in styles in which training does not show them.
    """

    def __init__(
        self,
        judged: Mapping[str, Sequence[tuple[list[str], Tensor]]],
        read: Callable[[Sequence[str]], TextFeatures],
        sampling: PriorSampling,
    ):
        """judged: ending of a score's name -> captions and embeddings (n, dim)."""
        self.judged, self.read, self.sampling = judged, read, sampling

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Scores of the model, which is in eval mode."""
        assert isinstance(model, (DiffusionPrior, TokenPrior))
        found: dict[str, float] = {}
        device = (model.standard if isinstance(model, DiffusionPrior) else model.code).mean.device
        for ending, parts in self.judged.items():
            texts = [text for each, _ in parts for text in each]
            if not texts:
                continue
            true = torch.cat([embeddings for _, embeddings in parts]).to(device)
            with torch.autocast(device.type, enabled=False):  # caches are float32
                cosines = prior_cosines(model, self.read(texts), true, self.sampling)
            found |= {name + ending: float(each.mean()) for name, each in cosines.items()}
        return found


def plain_embeddings(
    embedded: Embedded, numbers: np.ndarray, mix: Mapping[str, float], most: int
) -> tuple[list[str], Tensor]:
    """Captions and embeddings of the plain views of some of these pictures, at most `most`, always the same ones."""
    chosen = np.sort(np.random.default_rng(SEED).permutation(numbers)[:most])
    texts = [plainly_said(embedded.captions(int(i)), embedded.about(int(i)), mix) for i in chosen]
    return texts, embedded.embeddings(chosen)
