"""What a file's header says of its picture: EXIF date, camera, place and orientation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from PIL import Image, PngImagePlugin

TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what sets the picture upright."""


@dataclass(frozen=True)
class ImageInfo:
    """What a file says of its picture. Fields it does not say, or says wrongly, are None."""

    width: int
    height: int
    """Pixels, as seen when upright."""
    taken: datetime | None
    """When the shutter was released, on the camera's own clock."""
    camera: str | None
    """Maker and model."""
    latitude: float | None
    longitude: float | None
    """Degrees, north and east positive; both or neither."""
    format: str
    """By content, not by name: JPEG, PNG, HEIF, WEBP, GIF, TIFF…"""


def info_of(image: Image.Image) -> ImageInfo:
    """Of a picture whose header is read; its pixels are not touched."""
    width, height = image.size
    if image.format == "TIFF":  # Pillow versions differ on whether its size is the upright one
        width, height = int(image.tag_v2[256]), int(image.tag_v2[257])  # type: ignore[attr-defined]
    exif = _exif(image)
    if orientation(image) >= 5:
        width, height = height, width
    details, place = _ifd(exif, 0x8769), _ifd(exif, 0x8825)
    dates = (details.get(0x9003), details.get(0x9004), exif.get(0x0132))  # original, digitised, changed
    latitude, longitude = _degrees(place, 1, "S", 90), _degrees(place, 3, "W", 180)
    if latitude is None or longitude is None:
        latitude = longitude = None
    return ImageInfo(
        width=width,
        height=height,
        taken=next(filter(None, map(_date, dates)), None),
        camera=_camera(_text(exif.get(0x010F)), _text(exif.get(0x0110))),
        latitude=latitude,
        longitude=longitude,
        format="JPEG" if image.format == "MPO" else image.format or "",
    )


def _exif(image: Image.Image) -> Mapping[int, Any]:
    """EXIF tags, empty when broken. A PNG's own `getexif` would decode all of it to look for a late chunk."""
    try:
        if isinstance(image, PngImagePlugin.PngImageFile):
            return Image.Image.getexif(image)
        return image.getexif()
    except Exception:  # a broken block raises whatever its bytes lead to; the picture is still good
        return Image.Exif()


def orientation(image: Image.Image) -> int:
    value = _exif(image).get(0x0112)
    return value if isinstance(value, int) and value in TRANSPOSE else 1


def _ifd(exif: Mapping[int, Any], tag: int) -> Mapping[int, Any]:
    try:
        return exif.get_ifd(tag)  # type: ignore[attr-defined]
    except Exception:  # as in _exif
        return {}


def _text(value: object) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _date(value: object) -> datetime | None:
    try:
        return datetime.strptime(_text(value)[:19], "%Y:%m:%d %H:%M:%S")
    except ValueError:  # absent, all zeros, or a month 13
        return None


def _camera(maker: str, model: str) -> str | None:
    """Canon, Canon EOS R5 -> Canon EOS R5; Apple, iPhone 15 -> Apple iPhone 15."""
    repeated = bool(maker) and model.lower().startswith(maker.lower())
    return (model if repeated else f"{maker} {model}".strip()) or None


def _degrees(place: Mapping[int, Any], tag: int, negative: str, limit: float) -> float | None:
    """Degrees, minutes and seconds with a reference letter -> signed degrees."""
    try:
        parts = [float(part) for part in place[tag + 1]]
        value = sum(part / 60**power for power, part in enumerate(parts))
        sign = -1 if _text(place.get(tag)).upper().startswith(negative) else 1
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return round(sign * value, 7) if math.isfinite(value) and 0 <= value <= limit else None
