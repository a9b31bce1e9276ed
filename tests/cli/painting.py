"""What the tests of commands that make pictures share: small paintings, and what is in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SMALL = ("--size", "32x24", "--steps", "6", "--set", "cutouts.sizes=[16]", "--set", "cutouts.count=4")


def pixels(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def made(path: Path | str) -> dict[str, Any]:
    with Image.open(path) as image:
        return json.loads(image.text["bahumukha"])  # type: ignore[attr-defined]
