"""The zoo: models on disk, by name. `load()` gives the starter CLIP; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bahumukha.protocols import ImageTextEncoder

DEFAULT_MODEL = "starter/clip"


def load(name: str | Path | None = None, *, threads: int | None = None) -> ImageTextEncoder:
    """The CLIP called `name`: `starter/clip` (the default), one under the data folder, or a model folder.

    `threads` is the number of worker threads; None takes as many as there are cores, or BAHUMUKHA_THREADS.
    Reads the configuration only: each tower is loaded when first used. Raises ModelError.
    """
    from bahumukha.zoo.folder import find
    from bahumukha.zoo.onnx import OnnxClip

    name = DEFAULT_MODEL if name is None else name
    return OnnxClip(find(name), name=str(name), threads=threads)
