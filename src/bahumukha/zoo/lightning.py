"""Checkpoints of PyTorch Lightning: the tensors of their state dict, without running anything else they hold.

Such a file is a zip archive: `data.pkl`, a pickle of the whole training state, and under `data/` the bytes of each
storage. The pickle names callbacks, schedulers and settings by their classes, and a pickle's way to name a class is to
import it and call it. Here no name is ever looked up: the functions that put tensors together and the storages have
stand-ins of ours, OrderedDict is itself, and every other name becomes an `_Unknown` that swallows what it is given.
Tensors are read when they are asked for, so an optimiser's state or a critic costs nothing.

`torch.load(weights_only=True)` can be told names to allow, but builds no dictionaries of an unknown class, such as
Lightning keeps its settings in.
"""

from __future__ import annotations

import math
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from bahumukha.errors import ModelError
from bahumukha.zoo.checkpoints import read_tensors

STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def read_state(path: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """Those tensors of a checkpoint's state dict whose names are `wanted`; also of files that hold nothing else.

    `.ckpt`, `.pt`, `.pth`, `.bin` of PyTorch 1.6 or later, or anything `read_tensors` takes. Raises ModelError.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        return {name: tensor for name, tensor in read_tensors(path).items() if wanted(name)}
    if not zipfile.is_zipfile(path):
        raise ModelError(
            f"{path}: not a checkpoint of PyTorch 1.6 or later; open an older one with the program that wrote it and "
            "save its state dict, best as .safetensors"
        )
    with zipfile.ZipFile(path) as archive:
        names = {PurePosixPath(name).name: name for name in archive.namelist()}
        if "constants.pkl" in names:
            raise ModelError(f"{path}: a TorchScript archive, which is a program and not only weights")
        if "data.pkl" not in names:
            raise ModelError(f"{path}: a zip archive, but not a checkpoint of PyTorch (no data.pkl in it)")
        if "byteorder" in names and archive.read(names["byteorder"]).decode() != sys.byteorder:
            raise ModelError(f"{path}: written on a machine of the other byte order; save it again on one like this")
        root = PurePosixPath(names["data.pkl"]).parent
        found = _state_dict(_unpickled(archive, names["data.pkl"], path), path)
        return {name: _read(archive, root, stored, name, path) for name, stored in found.items() if wanted(name)}


# --- the pickle


@dataclass(frozen=True)
class _Storage:
    """Numbers of one kind, at a key of the archive."""

    dtype: torch.dtype
    key: str


@dataclass(frozen=True)
class _Stored:
    """A tensor that is not read yet: a view of a storage."""

    storage: Any
    offset: Any
    size: Any
    stride: Any


class _Unknown:
    """Whatever a pickle builds of a name that is not a tensor's. It takes everything and keeps nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Unknown:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> _Unknown:
        return self

    def append(self, value: Any) -> None:
        """Of lists."""

    def extend(self, values: Any) -> None:
        """Of lists."""

    def add(self, value: Any) -> None:
        """Of sets."""

    def update(self, values: Any) -> None:
        """Of sets."""


class _Unpickler(pickle.Unpickler):
    """Knows tensors and dictionaries. `find_class` is the only way by which a pickle comes to anything callable."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for `module.name`; nothing is imported.

        Functions and classes are made anew each time, since a pickle can also write into what it was given.
        """
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *_: _Stored(storage, offset, size, stride)
        if module == "torch._utils" and name == "_rebuild_parameter":
            return lambda data, *_: data
        return type("Unknown", (_Unknown,), {})

    def persistent_load(self, pid: Any) -> Any:
        """("storage", kind, key, device, count) -> where those numbers are."""
        word, dtype, key = pid[:3]
        if word != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError(f"unknown persistent id {pid!r}")
        return _Storage(dtype, key)


def _unpickled(archive: zipfile.ZipFile, name: str, path: Path) -> Any:
    try:
        with archive.open(name) as file:
            return _Unpickler(file).load()
    except Exception as error:  # a malformed pickle can raise anything
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{path}: not a checkpoint of PyTorch ({reason})") from error


def _state_dict(checkpoint: Any, path: Path) -> dict[str, _Stored]:
    if isinstance(checkpoint, Mapping):
        checkpoint = checkpoint.get("state_dict", checkpoint)
    if not isinstance(checkpoint, Mapping) or not checkpoint:
        raise ModelError(f"{path}: holds no state dict")
    found = {str(name): value for name, value in checkpoint.items() if isinstance(value, _Stored)}
    if not found:
        raise ModelError(f"{path}: its state dict holds no tensors")
    return found


# --- the tensors


def _read(archive: zipfile.ZipFile, root: PurePosixPath, stored: _Stored, name: str, path: Path) -> Tensor:
    """Read one tensor. The pickle is not to be trusted: a view beyond its storage is refused by `as_strided`."""
    storage = stored.storage
    if not isinstance(storage, _Storage) or not _are_counts([stored.offset], stored.size, stored.stride):
        raise ModelError(f"{path}: {name!r} is not a tensor")
    try:
        data = bytearray(archive.read(str(root / "data" / storage.key)))
        numbers = torch.frombuffer(data, dtype=storage.dtype) if data else torch.empty(0, dtype=storage.dtype)
        if math.prod(stored.size) > len(numbers):
            raise ValueError(f"{math.prod(stored.size)} numbers of a storage of {len(numbers)}")
        return numbers.as_strided(tuple(stored.size), tuple(stored.stride), stored.offset).clone()
    except (KeyError, zipfile.BadZipFile, OSError, RuntimeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{path}: the tensor {name!r} cannot be read ({reason})") from error


def _are_counts(*groups: Sequence[Any]) -> bool:
    """Whether all are lists or tuples of whole numbers of at least 0."""
    return all(
        isinstance(group, (list, tuple)) and all(type(number) is int and number >= 0 for number in group)
        for group in groups
    )
