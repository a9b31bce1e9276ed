"""Writing pictures: aside and renamed, with text inside a PNG."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from bahumukha.errors import UsageError
from bahumukha.images.reading import shown


def save_image(image: Image.Image, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a picture in the format its ending names; beside the target first, so no half file is ever seen.

    metadata: text for a PNG's own chunks (any language; keys of 1 to 79 Latin letters). Other formats have
      no place for it, and losing it in silence would be worse, so they raise UsageError, as an unknown
      ending does.
    Folders that are missing are made. The file takes the place of an older one.
    """
    path = Path(path)
    Image.init()
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise UsageError(f"{shown(path)}: {path.suffix or 'no ending'} cannot be written; try .png, .jpg or .webp")
    if metadata and kind != "PNG":
        raise UsageError(f"{shown(path)}: only .png can hold how the picture was made; name it .png")
    options: dict[str, Any] = {"quality": 92} if kind in ("JPEG", "WEBP") else {}
    if kind == "PNG":
        options["pnginfo"] = _text_chunks(metadata or {})
    aside = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(aside, "xb") as file:
                image.save(file, kind, **options)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{shown(path)}: cannot be written ({error.strerror or error})") from error


def _text_chunks(metadata: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    for key, value in metadata.items():
        if not (key.isascii() and key.isprintable() and 1 <= len(key) <= 79):
            raise UsageError(f"metadata {key!r}: a PNG's keys are 1 to 79 plain Latin characters")
        chunks.add_itxt(key, value) if not value.isascii() else chunks.add_text(key, value)
    return chunks
