"""Which models of this machine pictures are drawn with, and what makes them where there are none; without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bahumukha.errors import ModelError
from bahumukha.zoo.folder import CONFIG, STARTER, available, find, read_json

MADE_BY = {
    "dalle": "bahu train dalle makes them; its RUN/model goes to models/dalle in the data folder",
    "unclip": "bahu train prior, decoder and upsampler make them; bahu models unclip puts them together",
}
"""Kind of model that need not be there -> what to do about it."""


@dataclass(frozen=True)
class Weights:
    """A model that is there."""

    name: str
    """As `zoo.folder.find` takes it."""
    styles: tuple[str, ...]
    """Of which it knows the names."""


def weights_of(kind: str) -> Weights | None:
    """The first of the user's own of a kind (`dalle`, `unclip`), else the starter; None where there is none."""
    models = available()
    for name in sorted(models, key=lambda name: name.startswith(STARTER)):
        data = _config(models[name])
        if data.get("kind") == kind:
            return Weights(name, _styles(models[name], data))
    return None


def without_weights(kind: str) -> str | None:
    """What to do before a generator can be used that has no weights yet; None where it has, or needs none."""
    if kind not in MADE_BY or weights_of(kind) is not None:
        return None
    return f"{kind} has no weights on this machine: {MADE_BY[kind]}"


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        return read_json(folder)
    except ModelError:
        return {}


def _styles(folder: Path, data: Mapping[str, Any]) -> tuple[str, ...]:
    """An unCLIP's are those of its prior, a folder in it or a model of its own."""
    prior = data.get("prior")
    if isinstance(prior, str) and prior:
        try:
            data = _config(folder / prior if (folder / prior / CONFIG).is_file() else find(prior))
        except ModelError:
            return ()
    named = data.get("styles", [])
    return tuple(each for each in named if isinstance(each, str)) if isinstance(named, list) else ()
