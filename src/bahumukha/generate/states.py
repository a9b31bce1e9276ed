"""What a painting that was stopped leaves behind: one file, written whole or not at all, read without unpickling."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bahumukha.errors import BahumukhaError, ModelError
from bahumukha.generate.guided_config import GuidedConfig


def write_state(path: Path, config: GuidedConfig, fingerprints: Sequence[str], state: dict[str, Any]) -> None:
    """Tensors and plain values, with the settings and the encoders that they belong to.

    Raises BahumukhaError where it cannot be written.
    """
    state = {"settings": config.to_dict(), "encoders": list(fingerprints)} | state
    aside = path.with_name(path.name + ".new")
    try:
        with aside.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())  # else a power cut could leave the new name on old blocks
        os.replace(aside, path)
    except OSError as error:
        raise BahumukhaError(f"{path}: cannot be written ({error.strerror or error})") from error


def read_state(path: Path, config: GuidedConfig, fingerprints: Sequence[str], free: Sequence[str] = ()) -> Any:
    """Inverse of `write_state`; settings named in `free` may differ.

    Raises ModelError for a file that is none, for other settings and other encoders.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: there is no such file, so there is no painting to go on with") from error
    except Exception as error:  # torch.load raises several kinds on a damaged file
        raise ModelError(f"{path}: not a painting of this program ({' '.join(str(error).split())[:120]})") from error
    if not isinstance(state, dict) or not {"settings", "encoders", "done"} <= state.keys():
        raise ModelError(f"{path}: not a painting of this program")
    before = GuidedConfig.from_dict(state["settings"]).to_dict()  # with the defaults of settings that are newer
    for name, value in config.to_dict().items():
        if name not in free and before.get(name) != value:
            raise ModelError(f"{path}: was painted with another {name}; go on with the same, or start anew")
    if state["encoders"] != list(fingerprints):
        raise ModelError(f"{path}: was painted with other CLIP models than {', '.join(config.models)}")
    return state
