"""How a codec does on pictures it is not trained on, and a sheet to look at: each picture beside its reconstruction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from bahumukha.data.crops import Crops, middle
from bahumukha.evaluate.fidelity import CodeCounts
from bahumukha.images import save_image, to_uint8
from bahumukha.models.vqgan import Codec
from bahumukha.sheets import contact_sheet
from bahumukha.train import processes
from bahumukha.train.reconstruction import decibels, pixels_of

SHEETS = "reconstructions"
COLUMNS = 4
PIXELS_AT_ONCE = 2**18
"""Of the pictures that are encoded together: sixty-four of 64 pixels."""


class CodecValidation:
    """`validate` of `train.loop`: {psnr_SIZE: mean over pictures, in dB; usage; perplexity}, and a sheet a call.

    Without pictures to judge by there are no scores, only sheets of `shown`.
    """

    def __init__(
        self,
        judged: Sequence[np.ndarray],
        shown: Sequence[np.ndarray],
        sizes: Sequence[int],
        folder: Path,
        steps: Callable[[], int],
    ):
        """`judged`, `shown`: pictures as `data.decoded` keeps them. `steps`: how many have been taken, for names."""
        self.judged, self.shown, self.sizes = judged, shown, sorted(sizes)
        self.folder, self.steps = folder, steps

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Scores of the model, which is in eval mode."""
        assert isinstance(model, Codec)
        if self.shown and processes.rank() == 0:
            save_image(self.sheet(model), self.folder / SHEETS / f"{self.steps():07d}.png")
        return self.scores(model) if self.judged else {}

    @torch.no_grad()
    def scores(self, codec: Codec) -> dict[str, float]:
        """Over all pictures; the codes of all sizes together."""
        counts, found = CodeCounts(codec.codes), {}
        for size in self.sizes:
            values = []
            for x in _batches(self.judged, size, next(codec.parameters()).device):
                made, quantized = codec(x)
                values.append(decibels(x, made))
                counts.add(quantized.ids)
            found[f"psnr_{size}"] = float(torch.cat(values).mean())
        return found | {"usage": counts.usage, "perplexity": counts.perplexity}

    @torch.no_grad()
    def sheet(self, codec: Codec) -> Image.Image:
        """Pairs, the original at the left, at every size, each with its decibels."""
        pairs = []
        for size in self.sizes:
            for x in _batches(self.shown, size, next(codec.parameters()).device):
                made = codec(x)[0].float().clamp(-1, 1)
                both = to_uint8(torch.cat([x, made], 3).permute(0, 2, 3, 1).cpu().numpy(), low=-1.0)
                captions = [f"{size} px: {value:.1f} dB" for value in decibels(x, made).tolist()]
                pairs += [(Image.fromarray(pair), text) for pair, text in zip(both, captions, strict=True)]
        return contact_sheet(pairs, columns=COLUMNS, tile=2 * max(self.sizes))


def _batches(pictures: Sequence[np.ndarray], size: int, device: torch.device) -> list[Tensor]:
    """The middle of each, (B, 3, size, size) in [-1, 1]."""
    at_once = max(1, PIXELS_AT_ONCE // size**2)
    parts = [pictures[i : i + at_once] for i in range(0, len(pictures), at_once)]
    return [pixels_of(Crops(i, np.stack([middle(p, size) for p in part])), device) for i, part in enumerate(parts)]
