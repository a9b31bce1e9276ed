"""Training a picture codec from a config file: pictures in, a model folder out.

    run = VqganRun(read_config(VqganTraining, Path("vqgan.toml")), Path("runs/mine"))
    for report in run.reports(): print(report)
    run.export()                                # runs/mine/model, for `zoo.codecs.load_codec`

The run's folder holds what `train.loop` writes, `run.json` (the settings and the network that came of them) and
`reconstructions/`, a sheet for each validation. The critic and its optimiser are in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bahumukha.data.crops import CropBatches
from bahumukha.data.decoded import decoded_pictures, some_of
from bahumukha.errors import ModelError, UsageError
from bahumukha.models.vqgan import Codec, build_codec
from bahumukha.runtime import thread_count
from bahumukha.train import processes
from bahumukha.train.checkpoints import BEST, LAST, RUN, read_checkpoint, read_run, write_run
from bahumukha.train.codec_validation import CodecValidation
from bahumukha.train.config import to_table
from bahumukha.train.loop import Report, train
from bahumukha.train.reconstruction import Reconstruction
from bahumukha.train.vqgan_config import ReconstructionConfig, Start, VqganTraining
from bahumukha.zoo.folder import CARD

MODEL, KIND = "model", "vqgan"
DATA_SEED = 1
"""Set apart from the weights', so that what is shown on the sheets is the same for every seed of a run."""


@dataclass(frozen=True)
class _Beginning:
    codec: Codec
    steps: int
    """That its weights had seen before this run."""


class VqganRun:
    """One training run in its folder. Raises UsageError and ModelError, one line each, before the first step."""

    def __init__(self, config: VqganTraining, out: Path, *, resume: bool = False, device: torch.device | None = None):
        """`resume`: go on with the run in `out`; without it `out` must hold none. Decodes all pictures."""
        self.config, self.out, self.resume = config, out, resume
        self.device = device or torch.device("cpu")
        if (out / LAST).exists() and not resume:
            raise UsageError(f"{out}: holds a run already; go on with --resume {out}, or choose another --out")
        torch.manual_seed(config.optimisation.seed)
        self.beginning = _of_run(out) if resume else _fresh(config)
        self.codec = self.beginning.codec.train().requires_grad_(True).to(self.device)
        if isinstance(config.model, Start) and config.model.freeze_encoder:
            self.codec.freeze_encoder()
        _check_sizes(config.batch.sizes, self.codec)
        self.objective = Reconstruction(self.codec, config.loss, _perceptual(config.loss, self.device), config.critic)
        self.pictures = [self._decoded(source, None) for source in config.data]
        self.batches = CropBatches(
            self.pictures,
            [source.weight for source in config.data],
            config.transforms,
            config.batch.sizes,
            config.batch.pictures,
            config.batch.shares,
            seed=config.optimisation.seed,
            threads=config.batch.threads,
            ahead=config.batch.ahead,
            rank=processes.rank(),
            parts=processes.count(),
        )
        self.validation = self._validation()

    def reports(self) -> Iterator[Report]:
        """Train; see `train.loop.train`."""
        self._write_down()
        return train(
            self.codec,
            self.batches,
            self.objective,
            self.config.optimisation,
            self.out,
            self.resume,
            validate=self.validation,
            before_step=self.objective.before_step,
            beside=self.objective,
        )

    def export(self) -> Path:
        """Write `out/model` (and its card) after the last report; returns it. Only the first process writes."""
        from bahumukha.zoo.codecs import save_codec

        output, folder = self.config.output, self.out / MODEL
        if processes.rank() != 0:
            return folder
        steps, score = read_checkpoint(self.out)["step"], None
        if output.weights == "best":
            best = read_checkpoint(self.out, BEST)
            self.codec.load_state_dict(best["model"])
            steps, score = best["step"], best["score"]
        name = output.name or self.out.resolve().name
        save_codec(self.codec, folder, name, self.beginning.steps + steps, output.storage)
        (folder / CARD).write_text(self._card(name, steps, score), encoding="utf-8")
        return folder

    # --- parts ------------------------------------------------------------------------------------------------

    def _decoded(self, source: Any, most: int | None) -> Sequence[np.ndarray]:
        cache = self.config.pictures.cache
        with processes.first_before_others(cache is not None):
            return decoded_pictures(source, self.config.stored_side, cache=cache, threads=thread_count(), most=most)

    def _validation(self) -> CodecValidation:
        """On its own pictures; else sheets of some that are trained on."""
        options, sheet = self.config.validation, self.config.output.sheet
        judged: list[np.ndarray] = []
        if options is not None:
            judged = [picture for source in options.sources for picture in self._decoded(source, options.most)]
        seen = [picture for pictures in self.pictures for picture in some_of(pictures, sheet)]
        shown = some_of(judged or seen, sheet)
        return CodecValidation(judged, shown, self.config.batch.sizes, self.out, lambda: self.objective.steps)

    def _write_down(self) -> None:
        if processes.rank() != 0:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        settings = {
            "kind": KIND,
            "config": to_table(self.config),
            "architecture": asdict(self.codec.config),
            "steps_before": self.beginning.steps,
        }
        write_run(self.out, settings)

    def _card(self, name: str, steps: int, score: float | None) -> str:
        c, codec = self.config, self.codec
        begun = f"from {c.model.init}" if isinstance(c.model, Start) else "from random weights"
        sizes = " and ".join(f"{size} px" for size in c.batch.sizes)
        data = "\n".join(
            f"- {len(pictures)} pictures of `{Path(source.path).name}`, weight {source.weight:g}"
            for source, pictures in zip(c.data, self.pictures, strict=True)
        )
        best = f"; {c.optimisation.best_score} {score:.4f}" if score is not None else ""
        weights = sum(p.numel() for p in codec.parameters()) / 1e6
        return (
            f"---\nlicence: {c.output.licence}\n"
            f"summary: A picture codec of {codec.codes} codes, trained on {sum(map(len, self.pictures))} pictures.\n"
            f"---\n# {name}\n\nTrained with `bahu train vqgan` {begun}: {steps} steps at {sizes}, "
            f"{'with' if c.critic else 'without'} a critic, {weights:.1f} M weights, a code for each "
            f"{codec.downsampling} x {codec.downsampling} pixels{best}.\n\n## Data\n\n{data}\n"
        )


def _check_sizes(sizes: Sequence[int], codec: Codec) -> None:
    for size in sizes:
        if size % codec.downsampling:
            raise UsageError(
                f"batch.sizes: {size} is not a multiple of {codec.downsampling}, the pixels that a code stands for"
            )


def _perceptual(loss: ReconstructionConfig, device: torch.device) -> nn.Module | None:
    if not loss.perceptual:
        return None
    from bahumukha.zoo.perceptual import lpips, trunk_distance

    if loss.lpips_vgg is not None and loss.lpips_heads is not None:
        return lpips(loss.lpips_vgg, loss.lpips_heads).to(device)
    return trunk_distance().to(device)


# --- where a run begins -----------------------------------------------------------------------------------


def _fresh(config: VqganTraining) -> _Beginning:
    if not isinstance(config.model, Start):
        return _Beginning(build_codec(config.model), 0)
    from bahumukha.zoo.codecs import load_codec, read_codec_config
    from bahumukha.zoo.folder import find

    return _Beginning(load_codec(config.model.init), read_codec_config(find(config.model.init)).steps)


def _of_run(out: Path) -> _Beginning:
    """The network without its weights, which the checkpoint holds."""
    stored = read_run(out, KIND)
    try:
        return _Beginning(build_codec(stored["architecture"]), int(stored["steps_before"]))
    except (KeyError, TypeError, ValueError, ModelError) as error:  # a file that was edited by hand
        raise ModelError(f"{out / RUN}: damaged ({error})") from error
