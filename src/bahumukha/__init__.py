"""Bahumukha: words into pictures, pictures into words. Public names load lazily; importing does nothing else."""

from __future__ import annotations

from typing import Any

from bahumukha.classify import classify  # at once: the module of this name would hide a lazy one after its first use
from bahumukha.explain import explain  # likewise

__version__ = "0.1.0"

_LAZY = {
    "load": "bahumukha.zoo",
    "open_image": "bahumukha.images",
    "PictureIndex": "bahumukha.search",
    "BahumukhaError": "bahumukha.errors",
}
__all__ = ["__version__", "classify", "explain", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'bahumukha' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
