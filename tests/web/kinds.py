"""Jobs that take no time, for the worker of a server in a test: `bahumukha.web.worker tests.web.kinds`.

A prompt says what happens: "slow" steps, a "hang" in one of them, "fail", "boom" (a bug), "crash" (of the
process) and "leave" (of the process, once, with exit code 0).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bahumukha.errors import UsageError
from bahumukha.images import save_image, to_uint8
from bahumukha.protocols import Step
from bahumukha.search import IndexReport, PictureIndex
from bahumukha.web.kinds import Made, News
from bahumukha.zoo.fake import ColourEncoder

STEPS = 8


def draw(settings: Mapping[str, Any], folder: Path) -> Iterator[News]:
    """From black to the first colour that the prompt names."""
    prompt, total = settings["prompt"], settings.get("steps", STEPS)
    print("a library's noise on standard output")
    if "fail" in prompt:
        raise UsageError("--drawer chalk: there is none")
    if "boom" in prompt:
        raise RuntimeError(f"secret of {folder}")
    colour = np.array([0.1, 0.3, 0.9] if "blue" in prompt else [0.9, 0.2, 0.1], np.float32)
    images = np.zeros((1, 96, 128, 3), np.float32)
    for index in range(total):
        if "crash" in prompt and index == 2:
            os._exit(3)
        if "leave" in prompt and not (folder.parent / "left").exists():
            (folder.parent / "left").touch()
            os._exit(0)
        if "hang" in prompt and index == 2:
            (folder / "half.png.part").write_bytes(b"half")
            time.sleep(600)
        if "slow" in prompt:
            time.sleep(0.1)
        images = np.broadcast_to(colour * (index + 1) / total, (1, 96, 128, 3))
        yield Step(index, total, images, {"prompts": 1 - index / total})
    for k in range(settings.get("count", 1)):
        image = Image.fromarray(to_uint8(images[0]))
        save_image(image, folder / f"{k + 1}.png", {"bahumukha": prompt})
        yield Made(f"{k + 1}.png", {"seed": k, "score": 0.5, "width": image.width, "height": image.height})


def index(settings: Mapping[str, Any], folder: Path) -> Iterator[News]:
    """As the real one, with an encoder that knows colours."""
    for step in PictureIndex(settings["index"], ColourEncoder()).index_steps(settings["folders"]):
        if isinstance(step, IndexReport):
            yield {"report": step.to_json(), "notices": step.notices}
        else:
            yield {"done": step.done, "total": step.total}


KINDS = dict.fromkeys(("vqgan-clip", "dalle", "unclip", "vary", "blend", "edit"), draw) | {"index": index}
