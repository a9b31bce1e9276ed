"""Codecs on disk: a folder of `config.json` (kind `vqgan`, whatever its networks) and `model.safetensors`.

    {"format": 1, "kind": "vqgan", "name": "starter/vqgan", "architecture": {"kind": "vit", ...}, "steps": 20000}

`architecture` rebuilds the network (`models.vqgan.build_codec`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from bahumukha.errors import ModelError
from bahumukha.models.vqgan import Codec, build_codec
from bahumukha.zoo.checkpoints import read_tensors
from bahumukha.zoo.folder import CONFIG, WEIGHTS, find, read_json
from bahumukha.zoo.small_tensors import restored
from bahumukha.zoo.tokens import write_model

KIND = "vqgan"


@dataclass(frozen=True)
class CodecConfig:
    """`config.json` of a codec."""

    name: str
    steps: int
    """Training steps the weights have seen."""
    architecture: Mapping[str, Any]


def load_codec(name: str | Path) -> Codec:
    """The codec called `name` (`starter/vqgan`, one under the data folder) or in a folder: float32, eval mode, frozen.

    To train it on: `.train().requires_grad_()`. Raises ModelError.
    """
    folder = find(name)
    config = read_codec_config(folder)
    path = folder / WEIGHTS
    state = restored(read_tensors(path))
    try:
        codec = build_codec(config.architecture)
    except ModelError as error:
        raise ModelError(f"{folder / CONFIG}: {error}") from error
    fill(codec, state, str(path))
    return codec.eval().requires_grad_(False)


def save_codec(
    codec: Codec, folder: Path, name: str, steps: int, weights: Literal["float16", "float32"] = "float16"
) -> None:
    """Write `config.json` and `model.safetensors` into a folder, new or not; the codec stays as it is.

    Raises ModelError where float16 cannot hold a weight.
    """
    config = {"kind": KIND, "name": name, "architecture": asdict(codec.config), "steps": steps}
    write_model(codec, folder, config, weights)


def read_codec_config(folder: Path) -> CodecConfig:
    """The checked `config.json` of a codec. Raises ModelError naming the file and the key at fault."""
    data, path = read_json(folder), folder / CONFIG
    if data["kind"] != KIND:
        raise ModelError(f"{path}: 'kind' is {data['kind']!r}; pictures become codes with a {KIND!r} model")
    name, steps, architecture = data.get("name"), data.get("steps", 0), data.get("architecture")
    if not isinstance(name, str) or not name:
        raise ModelError(f"{path}: 'name' is {name!r}; it must be a text that is not empty")
    if type(steps) is not int or steps < 0:
        raise ModelError(f"{path}: 'steps' is {steps!r}; it must be a whole number of at least 0")
    if not isinstance(architecture, dict):
        raise ModelError(f"{path}: 'architecture' is {architecture!r}; it must be a JSON object")
    return CodecConfig(name, steps, architecture)


def fill(codec: Codec, state: Mapping[str, Tensor], source: str) -> None:
    """Give a codec its weights; every name and shape must fit. Raises ModelError, which begins with `source`."""
    try:
        codec.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{source}: the weights do not fit this architecture ({reason})") from error
