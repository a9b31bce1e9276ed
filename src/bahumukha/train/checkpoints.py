"""Files of a run that must be whole whenever someone looks, and the state of the random generators."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bahumukha.errors import ModelError

LAST, BEST, RUN = "checkpoint.pt", "best.pt", "run.json"
OLDEST = "clip"
"""Kind of a run whose `run.json` tells none."""


def write_whole(path: Path, data: str | Mapping[str, Any]) -> None:
    """Text, or what `torch.save` takes: written aside and renamed, so that a kill at any moment leaves the last one."""
    aside = path.with_name(path.name + ".new")
    with aside.open("wb") as file:
        if isinstance(data, str):
            file.write(data.encode())
        else:
            torch.save(data, file)
        file.flush()
        os.fsync(file.fileno())  # else a power cut could leave the new name on old blocks
    os.replace(aside, path)


def write_run(out: Path, settings: Mapping[str, Any]) -> None:
    """`run.json` of a run's folder: its settings and what came of them."""
    write_whole(out / RUN, json.dumps(settings, indent=1, ensure_ascii=False))


def read_run(out: Path, kind: str) -> dict[str, Any]:
    """`run.json` of the run in a folder. Raises ModelError when there is no run, or it is of another kind of model."""
    path = out / RUN
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{out}: holds no run to go on with (no {RUN})") from error
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error})") from error
    if not isinstance(stored, dict) or stored.get("kind", OLDEST) != kind or "config" not in stored:
        raise ModelError(f"{out}: its run is not one of bahu train {kind}; go on with the command that began it")
    return stored


def read_checkpoint(folder: Path, name: str = LAST) -> dict[str, Any]:
    """A checkpoint of a run's folder, on the CPU, nothing of it unpickled but tensors and plain values.

    Raises ModelError when there is none, or it is not one.
    """
    path = folder / name
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"{folder}: holds no {name}, so there is no run to go on with; start one") from error
    except Exception as error:  # torch.load raises several kinds on a damaged file
        raise ModelError(f"{path}: not a checkpoint of this program ({' '.join(str(error).split())[:120]})") from error


def random_state() -> dict[str, Any]:
    """Of Python's, NumPy's and PyTorch's global generators, in plain values and tensors."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # type: ignore[misc]
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), cached],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Inverse of `random_state`."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
