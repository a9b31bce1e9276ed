"""Transformers over codes on disk: a folder of `config.json` (kind `tokens`) and `model.safetensors`.

    {"format": 1, "kind": "tokens", "name": "mine", "codec": "starter/vqgan", "architecture": {...}, "steps": 20000}

`codec` names the codec whose codes these are: without it they are no pictures.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bahumukha.errors import ModelError
from bahumukha.models.tokens import TokenTransformer, TokenTransformerConfig
from bahumukha.zoo.checkpoints import read_tensors
from bahumukha.zoo.folder import CONFIG, FORMAT, WEIGHTS, find, read_json

KIND = "tokens"


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
    data, path = read_json(folder), folder / CONFIG
    if data["kind"] != KIND:
        raise ModelError(f"{path}: 'kind' is {data['kind']!r}; codes are drawn with a {KIND!r} model")
    codec, steps = data.get("codec"), data.get("steps", 0)
    if not isinstance(codec, str) or not codec:
        raise ModelError(f"{path}: 'codec' is {codec!r}; it must name the codec, as starter/vqgan")
    if type(steps) is not int or steps < 0:
        raise ModelError(f"{path}: 'steps' is {steps!r}; it must be a whole number of at least 0")
    try:
        model = TokenTransformer(TokenTransformerConfig.from_dict(data.get("architecture")))  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path}: 'architecture' does not fit ({error})") from error
    state = {key: value.float() for key, value in read_tensors(folder / WEIGHTS).items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{folder / WEIGHTS}: the weights do not fit 'architecture' ({reason})") from error
    return Tokens(model.eval().requires_grad_(False), codec, steps)


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
    from safetensors.torch import save_file

    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    if weights == "float16":
        state = {key: value.half() for key, value in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / WEIGHTS)
    config = {"format": FORMAT, "kind": KIND, "name": name, "codec": codec}
    config |= {"architecture": model.config.to_dict(), "steps": steps}
    (folder / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
