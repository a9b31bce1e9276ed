"""Public checkpoints: where they lie on this machine, and tensors out of them without running anything they hold."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bahumukha.errors import ModelError

HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
"""What OpenCLIP calls its weights on the Hugging Face hub; the first that is there is taken."""
TENSOR_FILES = (".safetensors", ".pt", ".pth", ".bin")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict in a `.safetensors` file, or in a `.pt`, `.pth` or `.bin` of PyTorch that holds only tensors.

    Raises ModelError, for a TorchScript archive with the line that makes it readable.
    """
    if path.suffix not in TENSOR_FILES:
        raise ModelError(f"{path}: weights are files of {', '.join(TENSOR_FILES)}")
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        return _state(_read_safetensors(path), path)
    if _is_torchscript(path):
        raise ModelError(
            f"{path}: a TorchScript archive, which is a program and not only weights, so it is not opened; where you "
            "trust it, convert it once: python -c \"import torch; torch.save(torch.jit.load('"
            f"{path.name}', map_location='cpu').state_dict(), '{path.stem}-weights.pt')\""
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: holds more than tensors, and nothing else is read from it; save its state dict alone, best as "
            ".safetensors"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise ModelError(f"{path}: not weights of PyTorch ({_first_line(error)})") from error
    return _state(checkpoint, path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not safetensors ({_first_line(error)})") from error


def _state(checkpoint: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, out of the `state_dict` of a training run and from under DataParallel's `module.`"""
    if isinstance(checkpoint, Mapping):
        checkpoint = checkpoint.get("state_dict", checkpoint)
    if not isinstance(checkpoint, Mapping) or not checkpoint:
        raise ModelError(f"{path}: holds no state dict")
    state = {str(name).removeprefix("module."): value for name, value in checkpoint.items()}
    if others := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise ModelError(f"{path}: {others[0]!r} is not a tensor; save the state dict alone")
    return state


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(Path(name).name == "constants.pkl" for name in archive.namelist())


def find_open_clip(name: str, source: Mapping[str, Any]) -> Path:
    """The file of a pretrained tag of OpenCLIP: in the hub's cache, or where openai/CLIP keeps its downloads.

    `source`: `open_clip.get_pretrained_cfg(...)`. Nothing is downloaded. Raises ModelError saying what to get.
    """
    from huggingface_hub import try_to_load_from_cache

    repository, _, file = source.get("hf_hub", "").rpartition("/")
    for each in (file,) if file else HUB_FILES:
        found = try_to_load_from_cache(repository, each) if repository else None
        if isinstance(found, str):
            return Path(found)
    downloaded = Path("~/.cache/clip").expanduser() / Path(source.get("url", "")).name
    if source.get("url") and downloaded.is_file():
        return downloaded
    wanted = f"{file or HUB_FILES[0]} of {repository} on huggingface.co" if repository else source.get("url", "")
    raise ModelError(
        f"{name}: its weights are not on this machine, and nothing is downloaded; get {wanted}, then give it as "
        f"bahu models import {name} --weights FILE"
    )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
