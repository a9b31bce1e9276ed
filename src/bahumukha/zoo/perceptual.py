"""Perceptual distances with the weights that are on this machine: the starter CLIP's trunk, or LPIPS's two files."""

from __future__ import annotations

from pathlib import Path

from bahumukha.errors import ModelError
from bahumukha.models.perceptual import Lpips, TrunkDistance
from bahumukha.zoo.checkpoints import read_tensors
from bahumukha.zoo.folder import find
from bahumukha.zoo.pytorch import load_clip


def trunk_distance(name: str | Path = "starter/clip") -> TrunkDistance:
    """On the first stages of a CLIP's convolutional trunk. Raises ModelError for one that has none."""
    tower = load_clip(find(name)).image
    trunk = getattr(tower, "trunk", None)
    if trunk is None or not hasattr(trunk, "blocks") or not hasattr(trunk, "conv_stem"):
        raise ModelError(f"{name}: its image tower is no EfficientNet; a perceptual distance is taken from one")
    return TrunkDistance(trunk)


def lpips(vgg: Path, heads: Path) -> Lpips:
    """Of torchvision's VGG16 (`vgg16-….pth`) and LPIPS 0.1's `vgg.pth`. Raises ModelError."""
    try:
        return Lpips.from_weights(read_tensors(vgg), read_tensors(heads))
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).strip("'\"").split())[:160]
        raise ModelError(f"{vgg} and {heads}: not the weights of VGG16 and LPIPS ({reason})") from error
