"""Training DALL-E 1 from a config file: captioned pictures in, a model folder out.

    run = DalleRun(read_config(DalleTraining, Path("dalle.toml")), Path("runs/mine"))
    for report in run.reports(): print(report)
    run.export()                                # runs/mine/model, for `bahu generate --with dalle --model …`

The pictures become codes before the first step (`data.encoded`); a step then sees captions and codes alone. Things in
styles in which they are held out (`data.styles`) are left out of training and validated on.

The run's folder holds what `train.loop` writes, `run.json` (the settings and the network that came of them),
`tokenizer.json`, and `samples/`, a sheet for each validation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from bahumukha.data.code_batches import CodeBatch, CodeBatches, seen_and_held_out
from bahumukha.data.encoded import Encoded, Encoder, encoded_pictures
from bahumukha.data.pairs import SourceConfig
from bahumukha.errors import ModelError, UsageError
from bahumukha.models.dalle import Dalle, DalleConfig, dalle_loss
from bahumukha.runtime import thread_count
from bahumukha.train import processes
from bahumukha.train.checkpoints import BEST, LAST, RUN, read_checkpoint, read_run, write_run, write_whole
from bahumukha.train.config import to_table
from bahumukha.train.dalle_config import DalleTraining, Start
from bahumukha.train.dalle_validation import DalleValidation, plain_pictures
from bahumukha.train.dalle_words import bare, begin_with, words_of
from bahumukha.train.loop import Report, train
from bahumukha.zoo.codecs import load_codec
from bahumukha.zoo.dalle import load_dalle, save_dalle
from bahumukha.zoo.folder import CARD, TOKENIZER, available, find

MODEL, KIND = "model", "dalle"


@dataclass(frozen=True)
class _Beginning:
    model: Dalle
    tokenizer: Tokenizer
    steps: int
    """That its weights had seen before this run."""


class DalleRun:
    """One training run in its folder. Raises UsageError and ModelError, one line each, before the first step."""

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
        self.config, self.out, self.resume = config, out, resume
        self.device = device or torch.device("cpu")
        if (out / LAST).exists() and not resume:
            raise UsageError(f"{out}: holds a run already; go on with --resume {out}, or choose another --out")
        stored = _of_run(out) if resume else None
        self.codec = load_codec(config.codes.codec).to(self.device)
        self.encoder = Encoder(self.codec, config.codes.size, config.codes.views)
        self.sources = [self._encoded(source, advance) for source in config.data]
        judged = [self._encoded(source, advance) for source in config.validation.sources] if config.validation else []
        torch.manual_seed(config.optimisation.seed)
        self.beginning = stored or _fresh(config, self.encoder, self.sources)
        self.model = self.beginning.model.train().requires_grad_(True).to(self.device)
        _check_codes(self.model.config, self.encoder)
        self.tokenizer = bare(self.beginning.tokenizer)
        self.taken = 0
        """Steps, for the names of sheets."""
        self.batches = self._batches()
        self.validation = self._validation(judged)

    def reports(self) -> Iterator[Report]:
        """Train; see `train.loop.train`."""
        self._write_down()
        return train(
            self.model,
            self.batches,
            self.losses,
            self.config.optimisation,
            self.out,
            self.resume,
            validate=self.validation,
            before_step=self._before_step,
        )

    def losses(self, batch: CodeBatch) -> dict[str, Tensor]:
        """`step` of `train.loop`: see `models.dalle.dalle_loss`."""
        return dalle_loss(
            self.model, batch.texts.to(self.device), batch.ids.to(self.device), text_weight=self.config.loss.text
        )

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text's tokens, as many as the model takes at most."""
        self.tokenizer.enable_truncation(self.model.config.text_length)
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]

    def export(self) -> Path:
        """Write `out/model` (and its card) after the last report; returns it. Only the first process writes."""
        output, folder = self.config.output, self.out / MODEL
        if processes.rank() != 0:
            return folder
        steps, score = read_checkpoint(self.out)["step"], None
        if output.weights == "best":
            best = read_checkpoint(self.out, BEST)
            self.model.load_state_dict(best["model"])
            steps, score = best["step"], best["score"]
        name = output.name or self.out.resolve().name
        save_dalle(
            self.model,
            bare(self.tokenizer),
            folder,
            name=name,
            codec=_lasting(self.config.codes.codec),
            steps=self.beginning.steps + steps,
            styles=self.styles(),
            weights=output.storage,
        )
        (folder / CARD).write_text(self._card(name, steps, score), encoding="utf-8")
        return folder

    def styles(self) -> list[str]:
        """All that captions may have named."""
        things = (source.about(int(i)).things for source in self.sources for i in source.readable)
        return sorted({style for each in things for style, _ in each})

    # --- parts ------------------------------------------------------------------------------------------------

    def _encoded(self, source: SourceConfig, advance: Callable[[int], None]) -> Encoded:
        cache = self.config.codes.cache or self.out / "codes"
        return encoded_pictures(source, self.encoder, cache, threads=thread_count(), advance=advance)

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

    def _before_step(self, step: int, progress: float) -> None:
        self.taken = step + 1

    def _write_down(self) -> None:
        if processes.rank() != 0:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        settings = {
            "kind": KIND,
            "config": to_table(self.config),
            "architecture": self.model.config.to_dict(),
            "steps_before": self.beginning.steps,
        }
        write_whole(self.out / TOKENIZER, bare(self.tokenizer).to_str())
        write_run(self.out, settings)

    def _card(self, name: str, steps: int, score: float | None) -> str:
        c, model = self.config, self.model.config
        begun = f"from {c.model.init}" if isinstance(c.model, Start) else "from random weights"
        data = "\n".join(
            f"- {len(pictures)} pictures of `{_shown(source.path)}`, weight {source.weight:g}"
            for source, pictures in zip(c.data, self.batches.pictures, strict=True)
        )
        best = f"; {c.optimisation.best_score} {score:.4f}" if score is not None else ""
        weights = sum(p.numel() for p in self.model.parameters()) / 1e6
        count = sum(map(len, self.batches.pictures))
        return (
            f"---\nlicence: {c.output.licence}\nsummary: Pictures of {c.codes.size} px from sentences, trained on "
            f"{count} captioned pictures.\n---\n# {name}\n\nTrained with `bahu train dalle` {begun}: {steps} steps of "
            f"{c.batch.size} pictures, {weights:.1f} M weights, {model.vocabulary} words, {model.grid[0]} x "
            f"{model.grid[1]} codes of {_lasting(c.codes.codec)}{best}.\n\n## Data\n\n{data}\n\nEach picture in "
            f"{c.codes.views.count} views. Never shown: things in styles in which they are held out (`data.styles`).\n"
        )


def _shown(path: Path) -> str:
    """noto, scenes/scenes.jsonl: a source, without where it stands on this machine."""
    return f"{path.parent.name}/{path.name}" if path.suffix else path.name


def _lasting(codec: str) -> str:
    """A name that is good from everywhere: of a model, or of a folder from the root."""
    return codec if codec in available() else str(find(codec).resolve())


def _check_codes(model: DalleConfig, encoder: Encoder) -> None:
    have, want = (encoder.codec.codes, encoder.grid), (model.codes, model.grid)
    if have != want:
        raise UsageError(
            f"codes: pictures of {encoder.size} px are grids of {list(have[1])} of {have[0]} codes; the model draws"
            f" {list(want[1])} of {want[0]}; set codes.codec and codes.size as they were when it was trained"
        )


# --- where a run begins -----------------------------------------------------------------------------------


def _fresh(config: DalleTraining, encoder: Encoder, sources: Sequence[Encoded]) -> _Beginning:
    if isinstance(config.model, Start):
        folder, loaded = find(config.model.init), load_dalle(config.model.init)
        if _lasting(loaded.codec) != _lasting(config.codes.codec):
            raise UsageError(f"codes.codec: {config.model.init} draws the codes of {loaded.codec}; set it to that")
        for weight in loaded.model.parameters():  # laid out for sampling; a run resumed has them plain, bit for bit
            weight.data = weight.data.contiguous()
        return _Beginning(loaded.model, Tokenizer.from_file(str(folder / TOKENIZER)), loaded.steps)
    words = words_of(config.text, sources, config.captions.languages)
    sizes = config.model.sized(
        vocabulary=words.tokenizer.get_vocab_size(), codes=encoder.codec.codes, grid=encoder.grid, pad=words.pad
    )
    model = Dalle(sizes)
    if words.vectors is not None:
        begin_with(model.words.weight, words.vectors)
    return _Beginning(model, words.tokenizer, 0)


def _of_run(out: Path) -> _Beginning:
    """The network without its weights, which the checkpoint holds."""
    stored = read_run(out, KIND)
    try:
        model = Dalle(DalleConfig.from_dict(stored["architecture"]))
        return _Beginning(model, Tokenizer.from_file(str(out / TOKENIZER)), int(stored["steps_before"]))
    except Exception as error:  # a file that was edited by hand; the tokenizer's library raises bare ones
        raise ModelError(f"{out / RUN}: damaged ({error})") from error
