"""Training unCLIP's upsampler from a config file: pictures, which need no captions, in, a model folder out.

    run = UpsamplerRun(read_config(UpsamplerTraining, Path("upsampler.toml")), Path("runs/mine"))
    for report in run.reports(): print(report)
    run.export()                                # runs/mine/model, for `zoo.unclip.load_upsampler`

A step sees crops, and small ones of them made worse (`models.degradation`), as the paper's are trained on crops: what
is learned is what edges look like, not what things are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.data.crops import CropBatches, Crops, middle
from bahumukha.data.decoded import decoded_pictures, some_of
from bahumukha.data.pairs import SourceConfig
from bahumukha.errors import UsageError
from bahumukha.images import save_image, to_uint8
from bahumukha.models.degradation import degraded
from bahumukha.models.denoiser import Condition, Denoiser, DenoiserConfig, enlarged, flow_loss
from bahumukha.models.spaces import as_pictures
from bahumukha.runtime import thread_count
from bahumukha.sheets import contact_sheet
from bahumukha.train import processes
from bahumukha.train.dalle_config import Start
from bahumukha.train.decoder import drawn_with
from bahumukha.train.reconstruction import decibels
from bahumukha.train.runs import SHEETS, FolderRun, listed
from bahumukha.train.unclip_config import SheetConfig, UpsamplerTraining
from bahumukha.zoo.unclip import load_upsampler, save_upsampler

AT_ONCE = 16


class UpsamplerRun(FolderRun):
    """See above."""

    KIND = "upsampler"
    model: Denoiser

    def __init__(
        self, config: UpsamplerTraining, out: Path, *, resume: bool = False, device: torch.device | None = None
    ):
        """`resume`: go on with the run in `out`; without it `out` must hold none. Decodes all pictures."""
        super().__init__(config, out, resume, device)
        self.config = config
        torch.manual_seed(config.optimisation.seed)
        model = self.resumed() if resume else self._fresh()
        self.model = self.trained(model)  # type: ignore[assignment]
        self.pictures = [self._decoded(source, None) for source in config.data]
        self.batches = CropBatches(
            self.pictures,
            [source.weight for source in config.data],
            config.transforms,
            [config.pictures.size],
            [config.batch.size],
            [1.0],
            seed=config.optimisation.seed,
            threads=config.batch.threads,
            ahead=config.batch.ahead,
            rank=processes.rank(),
            parts=processes.count(),
        )
        options = config.validation
        judged = [p for source in options.sources for p in self._decoded(source, options.most)] if options else []
        shown = judged or [picture for pictures in self.pictures for picture in pictures[: config.sheet.pictures]]
        self.validation = UpsamplerValidation(self, judged, some_of(shown, config.sheet.pictures), config.sheet)

    def losses(self, batch: Crops) -> dict[str, Tensor]:
        """See `models.denoiser.flow_loss`."""
        x, draws = as_pictures(torch.from_numpy(batch.pixels)).to(self.device), self.draws(batch)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            worse, noise = degraded(shrunk(x, self.config.pictures.factor), self.config.degradation, draws)
            condition = Condition(given=enlarged(worse, self.config.pictures.factor), given_noise=noise)
        return flow_loss(self.model, x, condition, self.config.times, draws)

    def save(self, folder: Path, name: str, steps: int) -> None:
        """Of kind `upsampler`."""
        factor, storage = self.config.pictures.factor, self.config.output.storage
        save_upsampler(self.model, folder, name=name, factor=factor, steps=steps, weights=storage)

    def told(self) -> tuple[str, str]:
        """For the card."""
        p, counts = self.config.pictures, list(map(len, self.pictures))
        return f"Pictures {p.factor} times as large, trained on crops of {p.size} px.", listed(self.config.data, counts)

    def _decoded(self, source: SourceConfig, most: int | None) -> Sequence[np.ndarray]:
        cache = self.config.pictures.cache
        with processes.first_before_others(cache is not None):
            return decoded_pictures(source, self.config.stored_side, cache=cache, threads=thread_count(), most=most)

    def _fresh(self) -> nn.Module:
        sizes, p = self.config.model, self.config.pictures
        if isinstance(sizes, Start):
            loaded = load_upsampler(sizes.init)
            if loaded.factor != p.factor:
                raise UsageError(f"pictures.factor: {sizes.init} makes pictures {loaded.factor} times as large")
            self.steps_before = loaded.steps
            patch, model = loaded.model.config.patch, loaded.model
            model.config = replace(model.config, grid=p.size)  # what it draws from now on
        else:
            patch = sizes.patch
            model = Denoiser(sizes.sized(grid=p.size)) if p.size % patch == 0 else None  # type: ignore[assignment]
        if p.size % patch:
            raise UsageError(f"pictures.size: {p.size} is not a multiple of {patch}, the pixels of a token")
        return model

    def built(self, architecture: dict[str, Any]) -> nn.Module:
        """See `FolderRun`."""
        return Denoiser(DenoiserConfig.from_dict(architecture))


class UpsamplerValidation:
    """`validate` of `train.loop`, and a sheet a call: small pictures, what is made of them, and the true ones.

    psnr, bicubic      decibels of what is drawn of small pictures that are not degraded, and of plain enlarging
    """

    def __init__(
        self, run: UpsamplerRun, judged: Sequence[np.ndarray], shown: Sequence[np.ndarray], sheet: SheetConfig
    ):
        """Pictures as `data.decoded` keeps them; without `judged` there are no scores."""
        self.run, self.judged, self.shown, self.sheet_config = run, judged, shown, sheet

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Scores of the model, which is in eval mode."""
        assert isinstance(model, Denoiser)
        if self.shown and processes.rank() == 0:
            save_image(self.sheet(model), self.run.out / SHEETS / f"{self.run.taken:07d}.png")
        found: dict[str, list[Tensor]] = {"psnr": [], "bicubic": []}
        for start in range(0, len(self.judged), AT_ONCE):
            x, given, drawn = self.drawn(model, self.judged[start : start + AT_ONCE])
            found["psnr"].append(decibels(x, drawn))
            found["bicubic"].append(decibels(x, given))
        return {name: float(torch.cat(values).mean()) for name, values in found.items() if values}

    @torch.no_grad()
    def drawn(self, model: Denoiser, pictures: Sequence[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
        """Of the middle of each: it, what the network is given, and what it draws, (B, 3, size, size)."""
        p = self.run.config.pictures
        pixels = torch.from_numpy(np.stack([middle(picture, p.size) for picture in pictures]))
        x = as_pictures(pixels).to(self.run.device)
        given = enlarged(shrunk(x, p.factor), p.factor)
        drawn = drawn_with(model, Condition(given=given), len(x), (p.size, p.size), self.sheet_config, self.run.device)
        return x, given, drawn.clamp(-1, 1)

    def sheet(self, model: Denoiser) -> Image.Image:
        """Three in a row: given, drawn, true."""
        tiles = []
        for start in range(0, len(self.shown), AT_ONCE):
            x, given, drawn = self.drawn(model, self.shown[start : start + AT_ONCE])
            rows = torch.cat([given, drawn, x], dim=3).float().permute(0, 2, 3, 1).cpu().numpy()
            tiles += [(Image.fromarray(row), "") for row in to_uint8(rows, low=-1.0)]
        return contact_sheet(tiles, columns=2, tile=max(192, tiles[0][0].width))


def shrunk(x: Tensor, factor: int) -> Tensor:
    """(B, 3, H, W) -> (B, 3, H / factor, W / factor): means of squares."""
    return F.avg_pool2d(x, factor)
