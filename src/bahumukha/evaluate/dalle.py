"""DALL-E as what `evaluate.drawn` judges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bahumukha.evaluate.drawn import Draw
from bahumukha.generate.dalle import USUAL, generate
from bahumukha.images import to_uint8
from bahumukha.nn.sampling import Sampling
from bahumukha.protocols import ImageCodec
from bahumukha.zoo.dalle import LoadedDalle


def by_dalle(dalle: LoadedDalle, codec: ImageCodec, sampling: Sampling = USUAL) -> Draw:
    """Pictures of the size that it was trained on. Raises UsageError for a codec that does not fit."""

    def draw(sentences: Sequence[str], seed: int) -> np.ndarray:
        every = dalle.model.config.grid[0]
        *_, last = generate(dalle, codec, sentences, count=len(sentences), sampling=sampling, seed=seed, every=every)
        return to_uint8(last.images)

    return draw
