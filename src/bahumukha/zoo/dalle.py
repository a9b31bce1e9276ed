"""DALL-E 1 on disk: a folder of `config.json` (kind `dalle`), `model.safetensors` and `tokenizer.json`.

    {"format": 1, "kind": "dalle", "name": "starter/dalle", "codec": "starter/vqgan", "styles": ["noto", "openmoji"],
     "architecture": {...}, "steps": 1}

`codec` names the codec whose codes it draws: without it they are no pictures. `styles` are those its captions named in
training; where it is left out there are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor

from bahumukha.errors import ModelError
from bahumukha.models.dalle import Dalle, DalleConfig
from bahumukha.zoo.folder import CONFIG, TOKENIZER, find
from bahumukha.zoo.tokenizer import TextTokenizer, pad
from bahumukha.zoo.tokens import codec_and_steps, read_kind, rebuilt, write_model

KIND = "dalle"


@dataclass(frozen=True)
class LoadedDalle:
    """A transformer, and what it needs to read and to show."""

    model: Dalle
    """float32, in eval mode, frozen; to train it on: `.train().requires_grad_()`."""
    tokenizer: TextTokenizer
    codec: str
    """Name or folder of the codec, as `zoo.codecs.load_codec` takes it."""
    steps: int
    """Training steps the weights have seen."""
    styles: tuple[str, ...] = ()
    """Names of the styles that its captions said, as `bahu generate --style` takes them."""

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Sentences -> int64 (N, T), T the longest one's tokens, as the model takes them; too long ones are cut."""
        ids, _ = pad(self.tokenizer(texts), self.model.config.pad)
        return torch.from_numpy(ids)


def load_dalle(name: str | Path) -> LoadedDalle:
    """The model called `name` (`starter/dalle`, one under the data folder) or in a folder. Raises ModelError."""
    folder = find(name)
    data = read_kind(folder, KIND, "sentences become pictures with")
    codec, steps = codec_and_steps(data, folder)
    model = rebuilt(lambda values: Dalle(DalleConfig.from_dict(values)), data, folder)
    tokenizer = TextTokenizer(folder / TOKENIZER, model.config.text_length)
    words, known = tokenizer.vocabulary, model.config.vocabulary
    if words > known:
        raise ModelError(f"{folder / TOKENIZER}: has {words} tokens; the model of {folder / CONFIG} knows {known}")
    return LoadedDalle(model, tokenizer, codec, steps, _styles(data.get("styles", []), folder))


def _styles(named: Any, folder: Path) -> tuple[str, ...]:
    if not isinstance(named, list) or not all(isinstance(each, str) and each for each in named):
        raise ModelError(f"{folder / CONFIG}: 'styles' is {named!r}; it must be a list of names, as [\"noto\"]")
    return tuple(named)


def save_dalle(
    model: Dalle,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    name: str,
    codec: str,
    steps: int,
    styles: Sequence[str] = (),
    weights: Literal["float16", "float32"] = "float16",
) -> None:
    """Write the three files into a folder, new or not; the model stays as it is."""
    config: dict[str, Any] = {"kind": KIND, "name": name, "codec": codec, "styles": list(styles)}
    config |= {"architecture": model.config.to_dict(), "steps": steps}
    write_model(model, folder, config, weights)
    tokenizer.save(str(folder / TOKENIZER))
