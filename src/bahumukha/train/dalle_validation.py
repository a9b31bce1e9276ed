"""How a DALL-E does on pictures it is not trained on, and a sheet to look at: pictures of fixed sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.data.code_batches import Tokenize, filled
from bahumukha.data.encoded import Encoded
from bahumukha.data.wording import plainly_said
from bahumukha.generate.dalle import sample_ids
from bahumukha.images import save_image, to_uint8
from bahumukha.models.dalle import Dalle
from bahumukha.models.vqgan import Codec
from bahumukha.sheets import contact_sheet
from bahumukha.train import processes
from bahumukha.train.dalle_config import SamplesConfig

SHEETS = "samples"
AT_ONCE = 64
SEED = 1
"""Of which pictures are judged: the same for every seed of a run."""


class DalleValidation:
    """`validate` of `train.loop`: bits a code, what captions tell, and a sheet a call.

    bits, told                of plain views with their names: bits a code costs, and how many more it costs without the
                              caption; "told" near 0 is a model that does not read
    bits_pairs, told_pairs    the same of things in styles in which training does not show them

    Without pictures of a kind there are no scores of it, without prompts no sheets.
    """

    def __init__(
        self,
        judged: Mapping[str, Sequence[tuple[str, Tensor]]],
        samples: SamplesConfig,
        codec: Codec,
        tokenize: Tokenize,
        folder: Path,
        steps: Callable[[], int],
    ):
        """judged: ending of a score's name -> captions and codes. steps: how many have been taken, for names."""
        self.judged, self.samples, self.codec = judged, samples, codec
        self.tokenize, self.folder, self.steps = tokenize, folder, steps

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Scores of the model, which is in eval mode."""
        assert isinstance(model, Dalle)
        if self.samples.prompts and processes.rank() == 0:
            with torch.autocast(model.head.weight.device.type, enabled=False):  # the cache is float32
                save_image(self.sheet(model), self.folder / SHEETS / f"{self.steps():07d}.png")
        found: dict[str, float] = {}
        for ending, pictures in self.judged.items():
            if pictures:
                bits, null = self.bits(model, pictures)
                found |= {f"bits{ending}": bits, f"told{ending}": null - bits}
        return found

    @torch.no_grad()
    def bits(self, model: Dalle, pictures: Sequence[tuple[str, Tensor]]) -> tuple[float, float]:
        """Bits a code with the captions and with null captions, means over the pictures."""
        device, pad = model.head.weight.device, model.config.pad
        totals = np.zeros(2)
        for start in range(0, len(pictures), AT_ONCE):
            part = pictures[start : start + AT_ONCE]
            texts = filled(self.tokenize([text for text, _ in part]), pad).to(device)
            ids = torch.stack([codes for _, codes in part]).to(device)
            for which, each in enumerate((texts, model.unconditional(texts[:, :1]))):
                logits = model(each, ids, with_text=False)[1].float()
                totals[which] += len(part) * float(F.cross_entropy(logits.flatten(0, 1), ids.flatten()))
        with_text, without = totals / len(pictures) / math.log(2)
        return float(with_text), float(without)

    @torch.no_grad()
    def sheet(self, model: Dalle) -> Image.Image:
        """A row for each sentence."""
        s, grid = self.samples, model.config.grid
        prompts = [prompt for prompt in s.prompts for _ in range(s.each)]
        texts = filled(self.tokenize(prompts), model.config.pad)
        *_, ids = sample_ids(model, texts, count=len(prompts), sampling=s.sampling, seed=s.seed)
        pictures = [self.codec.decode_ids(part.flatten(1), grid) for part in ids.split(AT_ONCE)]
        pixels = torch.cat(pictures).float().clamp(-1, 1).permute(0, 2, 3, 1).cpu().numpy()
        shown = [Image.fromarray(each) for each in to_uint8(pixels, low=-1.0)]
        return contact_sheet(list(zip(shown, prompts, strict=True)), columns=s.each, tile=max(96, shown[0].width))


def plain_pictures(
    encoded: Encoded, numbers: np.ndarray, mix: Mapping[str, float], most: int
) -> list[tuple[str, Tensor]]:
    """Captions and codes of the plain views of some of these pictures, at most `most`, always the same ones."""
    chosen = np.random.default_rng(SEED).permutation(numbers)[:most]
    return [
        (plainly_said(encoded.captions(i), encoded.about(i), mix), encoded.ids(i, 0)) for i in map(int, sorted(chosen))
    ]
