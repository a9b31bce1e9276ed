"""Transformers over codes on disk: a folder of `config.json` (kind `tokens`) and `model.safetensors`.

    {"format": 1, "kind": "tokens", "name": "mine", "codec": "starter/vqgan", "architecture": {...}, "steps": 20000}

`codec` names the codec whose codes these are: without it they are no pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from bahumukha.errors import ModelError
from bahumukha.models.tokens import TokenTransformer, TokenTransformerConfig
from bahumukha.nn.causal import laid_out_for_sampling
from bahumukha.zoo.checkpoints import read_tensors
from bahumukha.zoo.folder import CONFIG, FORMAT, WEIGHTS, find, read_json

KIND = "tokens"
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Tokens:
    """A transformer and what it belongs to."""

    model: TokenTransformer
    """float32, in eval mode, frozen; to train it on: `.train().requires_grad_()`."""
    codec: str
    """Name or folder of the codec, as `zoo.codecs.load_codec` takes it."""
    steps: int
    """Training steps the weights have seen."""


def load_tokens(name: str | Path) -> Tokens:
    """The transformer called `name`, under the data folder, or in a folder. Raises ModelError."""
    folder = find(name)
    data = read_kind(folder, KIND, "codes are drawn with")
    codec, steps = codec_and_steps(data, folder)
    model = rebuilt(lambda values: TokenTransformer(TokenTransformerConfig.from_dict(values)), data, folder)
    return Tokens(model, codec, steps)


def save_tokens(
    model: TokenTransformer,
    folder: Path,
    *,
    name: str,
    codec: str,
    steps: int,
    weights: Literal["float16", "float32"] = "float16",
) -> None:
    """Write `config.json` and `model.safetensors` into a folder, new or not; the model stays as it is."""
    config = {"kind": KIND, "name": name, "codec": codec, "architecture": model.config.to_dict(), "steps": steps}
    write_model(model, folder, config, weights)


# --- what folders of models that draw codes have in common


def read_kind(folder: Path, kind: str, purpose: str) -> dict[str, Any]:
    """`config.json` of a model of this kind. Raises ModelError: "… {purpose} a '{kind}' model"."""
    data = read_json(folder)
    if data["kind"] != kind:
        raise ModelError(f"{folder / CONFIG}: 'kind' is {data['kind']!r}; {purpose} a {kind!r} model")
    return data


def codec_and_steps(data: Mapping[str, Any], folder: Path) -> tuple[str, int]:
    """The codec that the codes are of, and the steps the weights have seen. Raises ModelError."""
    codec, steps, path = data.get("codec"), data.get("steps", 0), folder / CONFIG
    if not isinstance(codec, str) or not codec:
        raise ModelError(f"{path}: 'codec' is {codec!r}; it must name the codec, as starter/vqgan")
    if type(steps) is not int or steps < 0:
        raise ModelError(f"{path}: 'steps' is {steps!r}; it must be a whole number of at least 0")
    return codec, steps


def rebuilt(build: Callable[[Any], M], data: Mapping[str, Any], folder: Path) -> M:
    """The network of 'architecture' with the folder's weights: float32, in eval mode, frozen, laid out for sampling.

    Raises ModelError.
    """
    try:
        model = build(data.get("architecture"))
    except (TypeError, ValueError) as error:
        raise ModelError(f"{folder / CONFIG}: 'architecture' does not fit ({error})") from error
    state = {key: value.float() for key, value in read_tensors(folder / WEIGHTS).items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{folder / WEIGHTS}: the weights do not fit 'architecture' ({reason})") from error
    return laid_out_for_sampling(model).eval().requires_grad_(False)


def _halved(name: str, tensor: Tensor) -> Tensor:
    """A tensor as float16, where it holds numbers with a point. Raises ModelError for those that are too large."""
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    if not torch.equal(half.isfinite(), tensor.isfinite()):
        raise ModelError(f"{name} has numbers that float16 cannot hold; save the model with weights float32")
    return half


def write_model(
    model: nn.Module, folder: Path, config: Mapping[str, Any], weights: Literal["float16", "float32"]
) -> None:
    """Write `config.json`, this format's version added, and `model.safetensors` into a folder, new or not.

    The model stays as it is. Raises ModelError where float16 cannot hold a weight.
    """
    from safetensors.torch import save_file

    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    if weights == "float16":
        state = {key: _halved(key, value) for key, value in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / WEIGHTS)
    text = json.dumps({"format": FORMAT, **config}, indent=1, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
