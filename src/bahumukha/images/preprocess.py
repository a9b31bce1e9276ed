"""From a picture to what a network was trained on: torchvision's transforms, in Pillow and NumPy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from bahumukha.errors import UsageError

_WHOLE = 1 << 22
"""Pixels after resizing up to which a picture is resized as a whole and then cropped, as torchvision does.

A strip of 1 x 50,000 would become 3 billion pixels, so of longer ones only the part to keep is resized. That
is the same arithmetic, but Pillow may do its two passes in the other order then, with other rounding between.
"""


@dataclass(frozen=True)
class Preprocess:
    """What stands between a picture and a network, and belongs to the network's weights.

    Agrees with torchvision's Resize (antialiased, on Pillow pictures), CenterCrop, ToTensor, Normalize to
    1/255 a pixel.
    """

    size: int
    """Side of the square the network takes, in pixels."""
    resize: int
    """Side before the centre crop, at least `size`."""
    mode: str = "shortest"
    """`shortest`: the shortest side becomes `resize`, the shape is kept. `squash`: both sides do."""
    interpolation: str = "bicubic"
    """`bicubic` or `bilinear`."""
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    """Of R, G, B in [0, 1]. The defaults are those of CLIP (Radford et al., 2021)."""

    def __post_init__(self) -> None:
        for name in ("size", "resize"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:  # bool is an int too
                raise UsageError(f"preprocess.{name}: {getattr(self, name)!r} is not a whole number above 0")
        if self.resize < self.size:
            raise UsageError(f"preprocess.resize: {self.resize} is less than size {self.size}; make it as large")
        for name, allowed in (("mode", ("shortest", "squash")), ("interpolation", ("bicubic", "bilinear"))):
            if getattr(self, name) not in allowed:
                raise UsageError(f"preprocess.{name}: {getattr(self, name)!r} is not one of {', '.join(allowed)}")
        for name in ("mean", "std"):
            try:
                values = tuple(float(value) for value in getattr(self, name))
            except (TypeError, ValueError):
                values = ()
            if len(values) != 3 or not all(map(math.isfinite, values)) or (name == "std" and min(values) <= 0):
                raise UsageError(f"preprocess.{name}: {getattr(self, name)!r} is not three numbers (std: above 0)")
            object.__setattr__(self, name, values)  # a list from JSON becomes a tuple, so that equals compare equal

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocess:
        """From the `preprocess` of a model's config.json. Raises UsageError naming the field."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise UsageError(f"preprocess.{unknown[0]}: no such field; there are {', '.join(sorted(known))}")
        for name in ("size", "resize"):
            if name not in values:
                raise UsageError(f"preprocess.{name}: missing; give it in pixels")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: `from_dict(to_dict())` is equal."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @property
    def shortest_side(self) -> int:
        """What `open_image` should get as `at_least`."""
        return self.resize

    def to_array(self, image: Image.Image) -> np.ndarray:
        """RGB picture -> uint8 (size, size, 3): resized and cropped, not normalised."""
        return np.asarray(self._resized(image))

    def __call__(self, image: Image.Image) -> np.ndarray:
        """RGB picture -> float32 (3, size, size), normalised: (x / 255 - mean) / std."""
        pixels = self.to_array(image)
        out = np.empty((3, self.size, self.size), np.float32)
        for channel, (scale, shift) in enumerate(self._scale_and_shift):
            np.multiply(pixels[..., channel], scale, out=out[channel])
            out[channel] += shift
        return out

    @cached_property
    def _scale_and_shift(self) -> list[tuple[np.float32, np.float32]]:
        pairs = zip(self.mean, self.std, strict=True)
        return [(np.float32(1 / (255 * std)), np.float32(-mean / std)) for mean, std in pairs]

    def _resized(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        if self.mode == "squash":
            new_width = new_height = self.resize
        else:
            short, long = min(image.size), max(image.size)
            new_long = int(self.resize * long / short)  # torchvision's rounding
            new_width, new_height = (self.resize, new_long) if width <= height else (new_long, self.resize)
        left, top = round((new_width - self.size) / 2), round((new_height - self.size) / 2)
        crop = (left, top, left + self.size, top + self.size)
        resampling = Image.Resampling[self.interpolation.upper()]
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        if new_width * new_height <= _WHOLE:
            return rgb.resize((new_width, new_height), resampling).crop(crop)
        across, down = width / new_width, height / new_height
        box = (crop[0] * across, crop[1] * down, min(crop[2] * across, width), min(crop[3] * down, height))
        return rgb.resize((self.size, self.size), resampling, box=box)
