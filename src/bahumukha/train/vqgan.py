"""Training a picture codec from a config file: pictures in, a model folder out.

    run = VqganRun(read_config(VqganTraining, Path("vqgan.toml")), Path("runs/mine"))
    for report in run.reports(): print(report)
    run.export()                                # runs/mine/model, for `zoo.codecs.load_codec`

The run's folder holds what `train.loop` writes, `run.json` (the settings and the network that came of them) and
`reconstructions/`, a sheet for each validation. The critic and its optimiser are in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bahumukha.data.crops import CropBatches, Crops
from bahumukha.data.decoded import decoded_pictures, some_of
from bahumukha.errors import UsageError
from bahumukha.models.vqgan import Codec, build_codec
from bahumukha.runtime import thread_count
from bahumukha.train import processes
from bahumukha.train.codec_validation import CodecValidation
from bahumukha.train.reconstruction import Reconstruction
from bahumukha.train.runs import FolderRun, listed
from bahumukha.train.vqgan_config import ReconstructionConfig, Start, VqganTraining


class VqganRun(FolderRun):
    """One training run in its folder. Raises UsageError and ModelError, one line each, before the first step."""

    KIND = "vqgan"
    model: Codec

    def __init__(self, config: VqganTraining, out: Path, *, resume: bool = False, device: torch.device | None = None):
        """`resume`: go on with the run in `out`; without it `out` must hold none. Decodes all pictures."""
        super().__init__(config, out, resume, device)
        self.config = config
        torch.manual_seed(config.optimisation.seed)
        self.model = self.trained(self.resumed() if resume else self._fresh())  # type: ignore[assignment]
        if isinstance(config.model, Start) and config.model.freeze_encoder:
            self.model.freeze_encoder()
        _check_sizes(config.batch.sizes, self.model)
        perceptual = _perceptual(config.loss, self.device)
        self.objective = self.trained_beside = Reconstruction(self.model, config.loss, perceptual, config.critic)
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

    def losses(self, batch: Crops) -> dict[str, Tensor]:
        """See `train.reconstruction`."""
        return self.objective(batch)

    def before_step(self, step: int, progress: float) -> None:
        """See `train.loop.train`."""
        super().before_step(step, progress)
        self.objective.before_step(step, progress)

    def save(self, folder: Path, name: str, steps: int) -> None:
        """Of kind `vqgan`."""
        from bahumukha.zoo.codecs import save_codec

        save_codec(self.model, folder, name, steps, self.config.output.storage)

    def told(self) -> tuple[str, str]:
        """For the card."""
        counts = list(map(len, self.pictures))
        purpose = f"A picture codec of {self.model.codes} codes, trained on {sum(counts)} pictures."
        return purpose, listed(self.config.data, counts)

    def seen(self) -> str:
        """For the card."""
        sizes = " and ".join(f"{size} px" for size in self.config.batch.sizes)
        return f"at {sizes}, {'with' if self.config.critic else 'without'} a critic"

    def made_of(self) -> str:
        """For the card."""
        return f", a code for each {self.model.downsampling} x {self.model.downsampling} pixels"

    def architecture(self) -> dict[str, Any]:
        """See `FolderRun`."""
        return asdict(self.model.config)

    def built(self, architecture: dict[str, Any]) -> nn.Module:
        """See `FolderRun`."""
        return build_codec(architecture)

    # --- parts ------------------------------------------------------------------------------------------------

    def _fresh(self) -> Codec:
        start = self.config.model
        if not isinstance(start, Start):
            return build_codec(start)
        from bahumukha.zoo.codecs import load_codec, read_codec_config
        from bahumukha.zoo.folder import find

        self.steps_before = read_codec_config(find(start.init)).steps
        return load_codec(start.init)

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
