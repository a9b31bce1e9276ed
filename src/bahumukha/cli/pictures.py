"""What the commands that make pictures share: where these go, how large they are, and the settings inside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from bahumukha import __version__
from bahumukha.errors import UsageError
from bahumukha.generate.guided_config import ASPECTS
from bahumukha.images import open_image, shown
from bahumukha.train.config import read_table

METADATA = "bahumukha"
"""Key of a PNG's text that holds how it was made."""


# --- settings ---------------------------------------------------------------------------------------------


def made_by(command: str, settings: Mapping[str, Any], **facts: Any) -> dict[str, str]:
    """The text that goes into a PNG, as `save_image` takes it; `facts` are what else is worth knowing of it."""
    made = {"command": command, "version": __version__, **facts, "settings": settings}
    return {METADATA: json.dumps(made, ensure_ascii=False)}


def read_made(picture: Path) -> dict[str, Any]:
    """All that a PNG of a command that makes pictures holds, with its `settings`. Raises UsageError, ImageError."""
    open_image(picture)  # what cannot be read is named in the usual words
    with Image.open(picture) as image:
        text = getattr(image, "text", {}).get(METADATA, "")
    try:
        made = json.loads(text)
    except ValueError:
        made = None
    if not isinstance(made, dict) or not isinstance(made.get("settings"), dict):
        raise UsageError(f"{shown(picture)}: holds no settings of bahu generate; give a picture that it made, or TOML")
    return made


def read_settings(file: Path, system: str, command: str | None = None) -> dict[str, Any]:
    """The settings in a TOML file, or in a PNG that `--with SYSTEM` made, by this command if one is named.

    Raises UsageError, ImageError.
    """
    if not is_png(file):
        return read_table(file)
    made = read_made(file)
    if made.get("with") != system:
        raise UsageError(f"--config {shown(file)}: was made {_origin(made)}; these are settings of {system}")
    if command is not None and made.get("command") != command:
        raise UsageError(f"--config {shown(file)}: was made by bahu {made.get('command')}; take that command")
    return made["settings"]


def system_of(file: Path) -> str | None:
    """What made a PNG, as `--with` has it; None for a TOML file, which does not say. Raises UsageError, ImageError."""
    system = read_made(file).get("with") if is_png(file) else None
    return system if isinstance(system, str) else None


def is_png(file: Path) -> bool:
    """Whether a file's name says that it is one."""
    return file.suffix.lower() == ".png"


def _origin(made: Mapping[str, Any]) -> str:
    system = made.get("with")
    return f"--with {system}" if system else f"by bahu {made.get('command', 'generate')}"


# --- sizes ------------------------------------------------------------------------------------------------


def picture_size(text: str, usual: tuple[int, int]) -> list[int]:
    """`256x192`, `256`, or the name of a shape, of the usual size's area -> width and height. Raises UsageError."""
    if text not in ASPECTS:
        return sides_of(text, f", or one of {', '.join(ASPECTS)}")
    across, down = ASPECTS[text]
    ideal = (usual[0] * usual[1] * across / down) ** 0.5
    width = max(16, round(ideal / 16) * 16)  # whole codes of any codec
    return [width, max(16, round(width * down / across / 16) * 16)]


def sides_of(text: str, or_else: str = "") -> list[int]:
    """`256x192` or `256` -> width and height. Raises UsageError, which says what is allowed besides."""
    sides = text.lower().replace("×", "x").split("x")
    if not all(side.strip().isdecimal() for side in sides) or len(sides) > 2:
        raise UsageError(f"--size {text}: it is WxH in pixels, as 256x192{or_else}")
    numbers = [int(side) for side in sides]
    return numbers * 2 if len(numbers) == 1 else numbers


# --- places -----------------------------------------------------------------------------------------------


def check_out(out: Path) -> None:
    """Raises UsageError unless `--out` is a folder, or a file that holds its settings."""
    if out.suffix and not out.is_dir() and not is_png(out):
        raise UsageError(f"--out {out}: a folder, or a file that ends in .png, as only a PNG holds its settings")


def numbered(path: Path, k: int) -> Path:
    """The k-th of several files, from 0: `fox.png`, `fox-2.png`, `fox-3.png`."""
    return path if k == 0 else path.with_stem(f"{path.stem}-{k + 1}")


def free(path: Path, *besides: str) -> Path:
    """The path, with a number if there is one of that name, or of that name and one of the endings `besides`."""
    number, tried = 1, path
    while any(each.exists() for each in (tried, *(tried.with_suffix(ending) for ending in besides))):
        number += 1
        tried = path.with_stem(f"{path.stem}-{number}")
    return tried
