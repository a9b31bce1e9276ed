"""Validation of a CLIP in training: does a caption find its picture, and a picture its caption, among a thousand?"""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import nn

from bahumukha.data.pairs import Source
from bahumukha.errors import ImageError, UsageError
from bahumukha.evaluate.retrieval import both_ways
from bahumukha.images import Preprocess
from bahumukha.train.objective import ClipObjective

logger = logging.getLogger(__name__)


class RetrievalValidation:
    """`validate` of `train.loop`: the pictures are decoded once and held as uint8 (most * size^2 * 3 bytes).

    Scores: `validation_loss` in batches of `batch`, `text_to_image_r1` and `image_to_text_r1` in [0, 1]. Of captions in
    several languages each language is asked by itself; the scores are their means, and each has its own beside,
    as `text_to_image_r1_te`.
    """

    def __init__(self, source: Source, objective: ClipObjective, preprocess: Preprocess, most: int, batch: int):
        """Raises UsageError when fewer than two pictures can be read."""
        self.objective, self.batch = objective, batch
        pixels, captions = [], []
        for index in range(min(most, len(source))):
            try:
                image = source.open(index, preprocess.shortest_side)
            except ImageError as error:
                logger.warning("%s; validation goes without it", error)
                continue
            pixels.append(preprocess.to_array(image))
            captions.append(source.captions(index))
        if len(pixels) < 2:
            raise UsageError(f"[validation] {source.name}: {len(pixels)} pictures can be read; at least 2 are needed")
        self.pixels = torch.from_numpy(np.stack(pixels))
        languages = sorted({language for each in captions for language in each})
        self.texts = {  # rows of the pictures that have a caption in the language, and its first one
            code: [(row, each[code][0]) for row, each in enumerate(captions) if code in each] for code in languages
        }

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """The model is the objective's, in eval mode."""
        images = self._images()
        found: dict[str, list[float]] = {}
        for code, rows in self.texts.items():
            for name, value in self._scores(images[[row for row, _ in rows]], [text for _, text in rows]).items():
                found.setdefault(name, []).append(value)
                if len(self.texts) > 1 and name.endswith("_r1"):
                    found[f"{name}_{code or 'unnamed'}"] = [value]
        return {name: float(np.mean(values)) for name, values in found.items()}

    def _images(self) -> torch.Tensor:
        encode, pixels = self.objective.model.encode_image, self.objective.pixels
        return torch.cat([encode(pixels(part), normalize=True).float() for part in self.pixels.split(self.batch)])

    def _scores(self, images: torch.Tensor, texts: list[str]) -> dict[str, float]:
        parts = [texts[i : i + self.batch] for i in range(0, len(texts), self.batch)]
        encode, tokens = self.objective.model.encode_text, self.objective.tokens
        words = torch.cat([encode(*tokens(part), normalize=True).float() for part in parts])
        losses, start = [], 0
        for part in parts:
            rows = slice(start, start + len(part))
            start += len(part)
            unlike = np.array(part)
            same = torch.from_numpy(unlike[:, None] == unlike).to(images.device)
            losses.append(float(self.objective.contrast_alone(images[rows], words[rows], same)) * len(part))
        distinct, row_of = np.unique(np.array(texts), return_inverse=True)
        first = [int(np.flatnonzero(row_of == row)[0]) for row in range(len(distinct))]
        to_image, to_text = both_ways(images.cpu().numpy(), words[first].cpu().numpy(), [[int(r)] for r in row_of])
        return {
            "validation_loss": sum(losses) / len(texts),
            "text_to_image_r1": to_image.at[1],
            "image_to_text_r1": to_text.at[1],
        }
