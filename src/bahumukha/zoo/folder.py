"""Models on disk: where a model's folder is, what its `config.json` says, and a fingerprint of its weights.

    FOLDER/
      config.json         what the model is and how to feed it (`ClipConfig`)
      model.safetensors   weights for PyTorch
      onnx/image.onnx     the image tower for ONNX Runtime
      onnx/text.onnx      the text tower
      tokenizer.json      Hugging Face tokenizers
      card.md             data, licence, scores, limits (`bahumukha.zoo.cards`)

A model is named `starter/NAME` (ships inside the package), NAME or ARCHITECTURE/TAG (stands under
`runtime.data_home()/models`), or by the path of its folder.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from bahumukha import runtime
from bahumukha.errors import ModelError, UsageError
from bahumukha.images import Preprocess

FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
IMAGE_TOWER = "onnx/image.onnx"
TEXT_TOWER = "onnx/text.onnx"
TOKENIZER = "tokenizer.json"
CARD = "card.md"
STARTER = "starter/"
OPEN_CLIP_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
"""ARCHITECTURE/TAG, such as `ViT-B-32-quickgelu/openai`."""


@dataclass(frozen=True)
class ClipConfig:
    """`config.json` of a CLIP: two towers whose embeddings have `dim` numbers."""

    name: str
    dim: int
    logit_scale: float
    """Factor of the cosine before a softmax, in (0, 1000]."""
    preprocess: Preprocess
    context_length: int
    """Most tokens of a text, the special ones included."""
    templates: tuple[str, ...]
    """Sentences around a label, each with one or more `{}`."""
    fingerprint: str | None
    """As written at export; None when the folder does not say."""
    steps: int
    """Training steps the weights have seen."""
    architecture: Mapping[str, Any]
    """Sizes of the PyTorch model; opaque here."""


# --- finding ----------------------------------------------------------------------------------------------


def starter_home() -> Path:
    """The folder of the models that ship inside the package."""
    from importlib.resources import files

    return Path(str(files("bahumukha"))) / "starter"


def available() -> dict[str, Path]:
    """Name -> folder of every model on this machine: the starters first, then the user's own, by name."""
    found = {STARTER + folder.name: folder for folder in _model_folders(starter_home(), depth=1)}
    home = runtime.data_home() / "models"
    found |= {folder.relative_to(home).as_posix(): folder for folder in _model_folders(home, depth=3)}
    return found


def find(name: str | Path) -> Path:
    """The folder of the model called `name`.

    Raises ModelError, which lists the models there are, when there is none of that name.
    """
    models = available()
    if isinstance(name, str) and name in models:
        return models[name]
    try:
        folder = Path(name).expanduser()
    except RuntimeError as error:  # ~nobody
        raise ModelError(f"{name}: {error}") from error
    if (folder / CONFIG).is_file():
        return folder
    if folder.is_dir():
        raise ModelError(f"{folder}: not a model folder, it has no {CONFIG}")
    listed = ", ".join(models) or "none"
    if isinstance(name, str) and OPEN_CLIP_NAME.fullmatch(name) and not name.startswith(STARTER):
        raise ModelError(
            f"no model {name!r}; available: {listed}; a public one is brought in once with: bahu models import {name} "
            "(needs pip install 'bahumukha[create]')"
        )
    raise ModelError(f"no model {str(name)!r}; available: {listed}; or give the path of a model folder")


def lasting(name: str) -> str:
    """A name that is good from everywhere: of a model, or of a folder from the root. Raises ModelError."""
    return name if name in available() else str(find(name).resolve())


def _model_folders(home: Path, depth: int) -> Iterator[Path]:
    """Folders with a config.json at most `depth` levels below `home`, sorted; models hold no models."""
    if not home.is_dir():
        return
    for folder in sorted(child for child in home.iterdir() if child.is_dir()):
        if (folder / CONFIG).is_file():
            yield folder
        elif depth > 1:
            yield from _model_folders(folder, depth - 1)


# --- config.json ------------------------------------------------------------------------------------------


def read_json(folder: Path) -> dict[str, Any]:
    """`config.json` of `folder`, its format and kind checked but nothing else. Raises ModelError."""
    path = folder / CONFIG
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error})") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path}: must hold one JSON object")
    fields = _Fields(path, data)
    if fields.integer("format") != FORMAT:
        raise ModelError(f"{path}: 'format' is {data['format']}; this version of bahumukha reads format {FORMAT}")
    fields.text("kind")
    return data


def read_config(folder: str | Path) -> ClipConfig:
    """The checked `config.json` of a CLIP. Raises ModelError naming the file and the key at fault."""
    path = Path(folder) / CONFIG
    data = read_json(Path(folder))
    if data["kind"] != "clip":
        raise ModelError(f"{path}: 'kind' is {data['kind']!r}; comparing pictures and words takes a 'clip' model")
    fields = _Fields(path, data)
    return ClipConfig(
        name=fields.text("name"),
        dim=fields.integer("dim", at_least=1),
        logit_scale=fields.number("logit_scale", above=0.0, at_most=1000.0),
        preprocess=_preprocess(path, fields.table("preprocess")),
        context_length=fields.integer("context_length", at_least=1),
        templates=_templates(path, fields.required("templates")),
        fingerprint=fields.text("fingerprint") if data.get("fingerprint") is not None else None,
        steps=fields.integer("steps", at_least=0) if "steps" in data else 0,
        architecture=fields.table("architecture") if "architecture" in data else {},
    )


@dataclass(frozen=True)
class _Fields:
    """Typed reading of a JSON object, with errors that name the file, the key, and what is allowed."""

    path: Path
    data: Mapping[str, Any]

    def required(self, key: str) -> Any:
        if key not in self.data:
            raise ModelError(f"{self.path}: {key!r} is missing")
        return self.data[key]

    def text(self, key: str) -> str:
        return self._checked(key, lambda v: isinstance(v, str) and bool(v.strip()), "a text that is not empty")

    def integer(self, key: str, at_least: int | None = None) -> int:
        allowed = "a whole number" if at_least is None else f"a whole number of at least {at_least}"
        return self._checked(key, lambda v: type(v) is int and (at_least is None or v >= at_least), allowed)

    def number(self, key: str, above: float, at_most: float) -> float:
        def fits(value: Any) -> bool:
            return type(value) in (int, float) and math.isfinite(value) and above < value <= at_most

        return float(self._checked(key, fits, f"a number above {above:g}, at most {at_most:g}"))

    def table(self, key: str) -> dict[str, Any]:
        return self._checked(key, lambda v: isinstance(v, dict), "a JSON object")

    def _checked(self, key: str, fits: Callable[[Any], bool], allowed: str) -> Any:
        value = self.required(key)
        if not fits(value):
            raise ModelError(f"{self.path}: {key!r} is {value!r}; it must be {allowed}")
        return value


def _preprocess(path: Path, table: dict[str, Any]) -> Preprocess:
    try:
        return Preprocess.from_dict(table)
    except UsageError as error:  # it names the field
        raise ModelError(f"{path}: {error}") from error


def _templates(path: Path, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(t, str) and "{}" in t for t in value):
        raise ModelError(f"{path}: 'templates' is {value!r}; it must be a list of texts that each contain {{}}")
    return tuple(value)


# --- fingerprint ------------------------------------------------------------------------------------------


def fingerprint(folder: str | Path) -> str:
    """Hash of all that decides an embedding: weights, preprocessing, tokenizer, context length.

    32 hexadecimal digits of SHA-256. Name, card, templates and logit scale may change without a new one,
    since embeddings stay comparable. Raises ModelError when there are no weights.
    """
    folder = Path(folder)
    config = read_config(folder)
    weights = [path for path in (folder / WEIGHTS, *sorted((folder / "onnx").glob("*"))) if path.is_file()]
    if not weights:
        raise ModelError(f"{folder}: no weights; expected {WEIGHTS}, or {IMAGE_TOWER} and {TEXT_TOWER}")
    settings = {"preprocess": config.preprocess.to_dict(), "context_length": config.context_length}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in (*weights, folder / TOKENIZER):
        if path.is_file():
            digest.update(PurePath(path.relative_to(folder)).as_posix().encode() + b"\0")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]
