"""Any mode and colour space of Pillow's -> 8-bit RGB in sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image


def eight_bit(image: Image.Image) -> Image.Image:
    """Any mode of Pillow's -> L, RGB, RGBA, CMYK or LAB, 8 bits a channel."""
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_scaled(np.asarray(image)))
    if image.mode == "CMYK":
        if image.format in ("JPEG", "MPO") and "adobe" not in image.info:
            # Pillow inverts every CMYK JPEG; only those with Adobe's marker are stored inverted.
            return Image.fromarray(255 - np.asarray(image), mode="CMYK")
        return image.copy()
    if image.has_transparency_data or image.mode in ("LA", "PA", "La", "RGBa"):
        return image.convert("RGBA")
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image.copy() if image.mode == "LAB" else image.convert("RGB")


def _scaled(values: np.ndarray) -> np.ndarray:
    """Grey of more than 8 bits -> uint8 by the rule `open_image` documents; not-a-number counts as 0."""
    if values.dtype.kind == "u":  # 65535 / 255 = 257
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    tops = (65535.0,) if values.dtype.kind == "i" else (1.0, 255.0, 65535.0)
    values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    top = next((top for top in tops if low >= 0 and high <= top), None)
    if top is None:
        values -= low
        top = high - low or 1.0
    return np.rint(values * (255 / top)).astype(np.uint8)


def on_white(image: Image.Image, profile: bytes | None) -> Image.Image:
    """L, RGB, RGBA, CMYK or LAB, in the colours of an ICC profile -> RGB in sRGB, transparency on white."""
    converted = in_srgb(image, profile)
    if converted.mode != "RGBA":
        return converted
    page = Image.new("RGB", image.size, "white")
    page.paste(converted.convert("RGB"), mask=converted.getchannel("A"))
    return page


def in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """L, RGB, RGBA, CMYK or LAB, in the colours of an ICC profile -> RGB in sRGB, or RGBA where it is transparent."""
    if image.mode != "RGBA":
        return _to_srgb(image, profile)
    alpha = image.getchannel("A")
    colours = _to_srgb(image.convert("RGB"), profile)
    if alpha.getextrema() == (255, 255):
        return colours
    colours.putalpha(alpha)
    return colours


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    transform, space = _transform(profile, image.mode) if profile else (None, "")
    if transform is not None:
        source = image if image.mode == space else image.convert(space)
        converted = transform.apply(source)
        if converted is not None:
            return converted
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=32)  # a folder of one phone's photographs has one profile
def _transform(profile: bytes, mode: str) -> tuple[Any, str]:
    """(transform to sRGB, mode it takes), or (None, "") when it is not needed, broken, or does not fit."""
    from PIL import ImageCms

    modes = {"RGB": ("RGB", "L"), "L": ("L",), "CMYK": ("CMYK",), "LAB": ("LAB",)}
    spaces = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}
    try:
        parsed = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = spaces.get(parsed.profile.xcolor_space, "")
        is_srgb = "srgb" in ImageCms.getProfileDescription(parsed).lower()
        if mode not in modes.get(space, ()) or is_srgb:
            return None, ""
        return ImageCms.buildTransform(parsed, ImageCms.createProfile("sRGB"), space, "RGB"), space
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None, ""
