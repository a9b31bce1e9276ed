"""Training DALL-E 1 from a config file: captioned pictures in, a model folder out.

    run = DalleRun(read_config(DalleTraining, Path("dalle.toml")), Path("runs/mine"))
    for report in run.reports(): print(report)
    run.export()                                # runs/mine/model, for `bahu generate --with dalle --set model=…`

The pictures become codes before the first step (`data.encoded`); a step then sees captions and codes alone. Things in
styles in which they are held out (`data.styles`) are left out of training and validated on.

The run's folder holds what `train.loop` writes, `run.json` (the settings and the network that came of them),
`tokenizer.json`, and `samples/`, a sheet for each validation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from bahumukha.data.code_batches import CodeBatch, CodeBatches, seen_and_held_out
from bahumukha.data.encoded import Encoded, Encoder, encoded_pictures
from bahumukha.data.pairs import SourceConfig
from bahumukha.errors import UsageError
from bahumukha.models.dalle import Dalle, DalleConfig, dalle_loss
from bahumukha.nn.draws import Draws
from bahumukha.runtime import thread_count
from bahumukha.train import processes
from bahumukha.train.dalle_config import DalleTraining, Start
from bahumukha.train.dalle_validation import DalleValidation, plain_pictures
from bahumukha.train.dalle_words import alike, bare, begin_with, words_of
from bahumukha.train.runs import FolderRun, listed, our_share
from bahumukha.zoo.codecs import load_codec
from bahumukha.zoo.dalle import load_dalle, save_dalle
from bahumukha.zoo.folder import TOKENIZER, find, lasting


class DalleRun(FolderRun):
    """One training run in its folder. Raises UsageError and ModelError, one line each, before the first step."""

    KIND = "dalle"
    model: Dalle
    tokenizer: Tokenizer

    def __init__(
        self,
        config: DalleTraining,
        out: Path,
        *,
        resume: bool = False,
        device: torch.device | None = None,
        advance: Callable[[int], None] = lambda pictures: None,
    ):
        """`resume`: go on with the run in `out`; without it `out` must hold none. Encodes all pictures, unless their
        codes are there; `advance` is called with how many more are done."""
        super().__init__(config, out, resume, device)
        self.config = config
        stored = self.resumed() if resume else self._started()  # what is wrong with it, before all is encoded
        self.codec = load_codec(config.codes.codec).to(self.device)
        self.encoder = Encoder(self.codec, config.codes.size, config.codes.views)
        self.sources = [self._encoded(source, advance) for source in config.data]
        judged = [self._encoded(source, advance) for source in config.validation.sources] if config.validation else []
        torch.manual_seed(config.optimisation.seed)
        self.model = self.trained(stored or self._fresh())  # type: ignore[assignment]
        _check_codes(self.model.config, self.encoder)
        if config.loss.text and not self.model.config.tells_text:
            raise UsageError("loss.text: the model has no head for words (tells_text is false); set it to 0")
        self.tokenizer = bare(self.tokenizer)
        self.batches = self._batches()
        self.validation = self._validation(judged)

    def losses(self, batch: CodeBatch) -> dict[str, Tensor]:
        """`step` of `train.loop`: see `models.dalle.dalle_loss`."""
        texts, ids = batch.texts.to(self.device), batch.ids.to(self.device)
        read = spoiled(ids, self.config.batch.drop_codes, self.model.config.codes, self.draws(batch))
        return dalle_loss(self.model, texts, ids, self.config.loss.text, processes.mean, read)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text's tokens, as many as the model takes at most."""
        self.tokenizer.enable_truncation(self.model.config.text_length)
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]

    def save(self, folder: Path, name: str, steps: int) -> None:
        """Of kind `dalle`."""
        save_dalle(
            self.model,
            bare(self.tokenizer),
            folder,
            name=name,
            codec=lasting(self.config.codes.codec),
            steps=steps,
            styles=self.styles(),
            weights=self.config.output.storage,
        )

    def told(self) -> tuple[str, str]:
        """For the card."""
        c, counts = self.config, list(map(len, self.batches.pictures))
        purpose = f"Pictures of {c.codes.size} px from sentences, trained on {sum(counts)} captioned pictures."
        never = "Never shown: things in styles in which they are held out (`data.styles`)."
        return purpose, f"{listed(c.data, counts)}\n\nEach picture in {c.codes.views.count} views. {never}"

    def made_of(self) -> str:
        """For the card."""
        model, codec = self.model.config, lasting(self.config.codes.codec)
        return f", {model.vocabulary} words, {model.grid[0]} x {model.grid[1]} codes of {codec}"

    def beside(self) -> dict[str, str]:
        """The tokenizer."""
        return {TOKENIZER: bare(self.tokenizer).to_str()}

    def built(self, architecture: dict[str, Any]) -> nn.Module:
        """See `FolderRun`; and the run's tokenizer."""
        try:
            self.tokenizer = Tokenizer.from_file(str(self.out / TOKENIZER))
        except Exception as error:  # the tokenizer's library raises bare ones
            raise ValueError(f"{TOKENIZER}: {error}") from error
        return Dalle(DalleConfig.from_dict(architecture))

    def styles(self) -> list[str]:
        """All that captions may have named."""
        things = (source.about(int(i)).things for source in self.sources for i in source.readable)
        return sorted({style for each in things for style, _ in each})

    # --- parts ------------------------------------------------------------------------------------------------

    def _encoded(self, source: SourceConfig, advance: Callable[[int], None]) -> Encoded:
        cache = self.config.codes.cache or self.out / "codes"
        return encoded_pictures(source, self.encoder, cache, threads=thread_count(), advance=advance, share=our_share())

    def _batches(self) -> CodeBatches:
        c, model = self.config, self.model.config
        return CodeBatches(
            self.sources,
            [source.weight for source in c.data],
            self.tokenize,
            c.batch.size,
            c.captions,
            drop=c.batch.drop_text,
            group=c.batch.group,
            pad=model.pad,
            padded_to=model.padded_to,
            seed=c.optimisation.seed,
            rank=processes.rank(),
            parts=processes.count(),
        )

    def _validation(self, judged: Sequence[Encoded]) -> DalleValidation:
        """On its own pictures, and on what training leaves out of its sources."""
        options, mix = self.config.validation, self.config.captions.languages
        pictures: dict[str, list[tuple[str, Tensor]]] = {}
        if options is not None:
            pictures[""] = [p for each in judged for p in plain_pictures(each, each.readable, mix, options.most)]
            held = [(each, seen_and_held_out(each)[1]) for each in self.sources]
            pictures["_pairs"] = [p for each, numbers in held for p in plain_pictures(each, numbers, mix, options.most)]
        return DalleValidation(pictures, self.config.samples, self.codec, self.tokenize, self.out, lambda: self.taken)

    def _started(self) -> nn.Module | None:
        """The network to go on from, if there is one, and its tokenizer."""
        config = self.config
        if not isinstance(config.model, Start):
            return None
        folder, loaded = find(config.model.init), load_dalle(config.model.init)
        if lasting(loaded.codec) != lasting(config.codes.codec):
            raise UsageError(f"codes.codec: {config.model.init} draws the codes of {loaded.codec}; set it to that")
        self.tokenizer, self.steps_before = Tokenizer.from_file(str(folder / TOKENIZER)), loaded.steps
        return loaded.model

    def _fresh(self) -> nn.Module:
        """A new network, and its tokenizer."""
        config, encoder = self.config, self.encoder
        assert not isinstance(config.model, Start)
        words = words_of(config.text, self.sources, config.captions.languages)
        sizes = config.model.sized(
            vocabulary=words.tokenizer.get_vocab_size(), codes=encoder.codec.codes, grid=encoder.grid, pad=words.pad
        )
        self.tokenizer, model = words.tokenizer, Dalle(sizes)
        if words.vectors is not None:
            begin_with(model.words.weight, words.vectors)
        near = alike(encoder.codec.quantizer.codebook(), sizes.width)
        for table in (model.embedding.weight, model.head.weight):
            begin_with(table, near.to(table.device))
        return model


def spoiled(ids: Tensor, most: float, codes: int, draws: Draws) -> Tensor:
    """Codes (B, n) of which a part, from 0 to `most` for each picture, is replaced by any of `codes`."""
    if not most:
        return ids
    b, n = ids.shape
    replaced = draws.uniform(b, ids, n) < most * draws.uniform(b, ids, 1)
    return torch.where(replaced, (draws.uniform(b, ids, n) * codes).long(), ids)


def _check_codes(model: DalleConfig, encoder: Encoder) -> None:
    have, want = (encoder.codec.codes, encoder.grid), (model.codes, model.grid)
    if have != want:
        raise UsageError(
            f"codes: pictures of {encoder.size} px are grids of {list(have[1])} of {have[0]} codes; the model draws"
            f" {list(want[1])} of {want[0]}; set codes.codec and codes.size as they were when it was trained"
        )
