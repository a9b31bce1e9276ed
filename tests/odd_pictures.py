"""Makes a folder of malformed and odd pictures, and says of each what must come of it.

`make_odd_pictures(folder)` writes them all; every part of Bahumukha that reads users' folders is tested on
it. The good ones show four quarters (red, green / blue, yellow), so that a rotation, an inversion, a wrong
frame or a swapped channel cannot go unseen.
"""

from __future__ import annotations

import io
import os
import random
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image, ImageCms, PngImagePlugin

WIDTH, HEIGHT = 96, 64
RED, GREEN, BLUE, YELLOW = (200, 30, 30), (30, 160, 60), (40, 60, 200), (230, 210, 40)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
QUARTERS = (RED, GREEN, BLUE, YELLOW)
TRANSPOSE_TO_STORE = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,  # stored turned left: the flag tells to turn it right
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}

Quarters = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class OddPicture:
    """A file, and what must come of opening it: a picture of this size, or an ImageError with these words."""

    path: Path
    error: str | None = None
    """A part of the message; None for a picture that can be read."""
    size: tuple[int, int] | None = (WIDTH, HEIGHT)
    quarters: Quarters | None = QUARTERS
    """Colours in the middle of the quarters (top left, top right, bottom left, bottom right), within 24."""
    found: bool = True
    """Whether it shows up when its folder is searched for pictures."""


def make_odd_pictures(folder: Path) -> list[OddPicture]:
    """Write every odd picture into `folder`, which must exist and be empty."""
    groups = (
        _cut_off,
        _not_pictures,
        _misnamed,
        _bombs,
        _shapes,
        _animated,
        _modes,
        _deep,
        _turned,
        _formats,
    )
    pictures = [odd for group in (*groups, _metadata, _profiles, _names, _not_files) for odd in group(folder)]
    assert len({odd.path for odd in pictures}) == len(pictures)
    return pictures


def quartered(mode: str = "RGB", colours: Quarters = QUARTERS) -> Image.Image:
    """The picture most files hold."""
    array = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    for index, colour in enumerate(colours):
        y, x = index // 2 * HEIGHT // 2, index % 2 * WIDTH // 2
        array[y : y + HEIGHT // 2, x : x + WIDTH // 2] = colour
    return Image.fromarray(array).convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _heic(image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    pillow_heif.encode(image.mode, image.size, image.tobytes(), stream, quality=90, **options)
    return stream.getvalue()


def _write(path: Path, data: bytes, **expected: Any) -> OddPicture:
    path.write_bytes(data)
    return OddPicture(path, **expected)


def _grey(colours: Quarters = QUARTERS) -> Quarters:
    return tuple((round(0.299 * r + 0.587 * g + 0.114 * b),) * 3 for r, g, b in colours)  # type: ignore[misc]


# -- What cannot be read -------------------------------------------------------------------------------------


def _cut_off(folder: Path) -> Iterator[OddPicture]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    files = {
        "jpg": encoded(noise, "JPEG"),
        "progressive.jpg": encoded(noise, "JPEG", progressive=True),
        "png": encoded(noise, "PNG"),
        "webp": encoded(noise, "WEBP"),
        "gif": encoded(noise, "GIF"),
        "tiff": encoded(noise, "TIFF"),
        "bmp": encoded(noise, "BMP"),
        "heic": _heic(noise),
        "avif": encoded(noise, "AVIF"),
    }
    for ending, data in files.items():
        for percent in (5, 50, 90):
            name = f"cut_at_{percent}_percent.{ending}"
            yield _write(folder / name, data[: len(data) * percent // 100], error="")
    yield _write(folder / "only_the_signature.png", files["png"][:8], error="")
    yield _write(folder / "only_the_signature.jpg", files["jpg"][:3], error="")
    damaged = bytearray(files["png"])
    damaged[len(damaged) // 2] ^= 0xFF
    yield _write(folder / "one_bit_wrong.png", bytes(damaged), error="damaged")


def _not_pictures(folder: Path) -> Iterator[OddPicture]:
    yield _write(folder / "empty.jpg", b"", error="empty (0 bytes)")
    yield _write(folder / "text.jpg", b"This is not a picture.\n" * 20, error="not a picture")
    yield _write(folder / "page.png", b"<!doctype html><title>404</title>", error="not a picture")
    yield _write(folder / "random.webp", random.Random(0).randbytes(5000), error="not a picture")
    yield _write(folder / "zeros.gif", bytes(4096), error="")
    yield _write(folder / "film.jpg", b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(2000), error="")
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    yield _write(folder / "a_program_in_postscript.jpg", program, error="not a picture")


def _bombs(folder: Path) -> Iterator[OddPicture]:
    many = "pixels are more than"
    yield _write(folder / "bomb.png", bare_png(60000, 60000, 8, 2, b""), error=many)
    screen = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x4c\x01\x00;"
    yield _write(folder / "bomb.gif", screen + frame, error=many)
    header = struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
    yield _write(folder / "bomb.bmp", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header, error=many)
    jpeg = bytearray(encoded(quartered(), "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65000, 65000)
    yield _write(folder / "bomb.jpg", bytes(jpeg), error=many)
    text = zlib.compress(bytes(80_000_000), 9)
    chunks = _chunk(b"zTXt", b"comment\0\0" + text)
    yield _write(folder / "text_bomb.png", bare_png(1, 1, 8, 2, bytes(4), chunks), error="damaged")


# -- What can be read ----------------------------------------------------------------------------------------


def _misnamed(folder: Path) -> Iterator[OddPicture]:
    image = quartered()
    yield _write(folder / "a_png_named.jpg", encoded(image, "PNG"))
    yield _write(folder / "a_jpeg_named.png", encoded(image, "JPEG"))
    yield _write(folder / "a_heic_named.jpg", _heic(image))
    yield _write(folder / "a_webp_named.gif", encoded(image, "WEBP"))
    yield _write(folder / "LOUD.JPEG", encoded(image, "JPEG"))
    yield _write(folder / "no_ending", encoded(image, "PNG"), found=False)


def _shapes(folder: Path) -> Iterator[OddPicture]:
    for name, size in (("dot", (1, 1)), ("tall", (1, 5000)), ("wide", (5000, 1)), ("two_by_three", (2, 3))):
        image = Image.new("RGB", size, RED)
        yield _write(folder / f"{name}.png", encoded(image, "PNG"), size=size, quarters=(RED,) * 4)
    # Above the size at which Pillow itself begins to warn of a bomb.
    large = (10000, 9100)
    data = encoded(Image.new("1", large, 1), "PNG")
    yield _write(folder / "large_but_allowed.png", data, size=large, quarters=(WHITE,) * 4)


def _animated(folder: Path) -> Iterator[OddPicture]:
    later = [Image.new("RGB", (WIDTH, HEIGHT), WHITE), Image.new("RGB", (WIDTH, HEIGHT), BLACK)]
    for kind, ending in (
        ("GIF", "gif"),
        ("WEBP", "webp"),
        ("PNG", "apng"),
        ("TIFF", "pages.tiff"),
        ("AVIF", "avif"),
    ):
        data = encoded(quartered(), kind, save_all=True, append_images=later)
        yield _write(folder / f"animated.{ending}", data)
    mpo = encoded(quartered(), "MPO", save_all=True, append_images=later, quality=90)
    yield _write(folder / "two_lenses.mpo", mpo)


def _modes(folder: Path) -> Iterator[OddPicture]:
    image = quartered()
    cmyk = image.convert("CMYK")
    adobe = encoded(cmyk, "JPEG", quality=95)
    yield _write(folder / "cmyk_adobe.jpg", adobe)
    # Without Adobe's marker values are stored as they are. Pillow stores them inverted, so invert them here.
    inverted = encoded(Image.fromarray(255 - np.asarray(cmyk), mode="CMYK"), "JPEG", quality=95)
    yield _write(folder / "cmyk_plain.jpg", _without_adobe(inverted))
    yield _write(folder / "cmyk.tiff", encoded(cmyk, "TIFF"))
    yield _write(folder / "lab.tiff", encoded(_lab(image), "TIFF"))
    yield _write(folder / "ycbcr.tiff", encoded(image.convert("YCbCr"), "TIFF"))
    yield _write(folder / "grey.jpg", encoded(image.convert("L"), "JPEG"), quarters=_grey())
    bilevel = quartered(colours=(WHITE, BLACK, BLACK, WHITE)).convert("1")
    yield _write(folder / "one_bit.png", encoded(bilevel, "PNG"), quarters=(WHITE, BLACK, BLACK, WHITE))

    seen = (RED, WHITE, BLUE, YELLOW)  # the second quarter is transparent
    palette = image.quantize(4)
    index = palette.getpixel((WIDTH - 1, 0))
    assert isinstance(index, int)
    yield _write(folder / "palette.png", encoded(palette, "PNG"))
    yield _write(folder / "palette_clear.png", encoded(palette, "PNG", transparency=index), quarters=seen)
    yield _write(folder / "palette_clear.gif", encoded(palette, "GIF", transparency=index), quarters=seen)
    alphas = bytes(0 if i == index else 255 for i in range(4))
    yield _write(folder / "palette_alpha.png", encoded(palette, "PNG", transparency=alphas), quarters=seen)
    rgba = image.copy()
    rgba.putalpha(quartered(colours=(WHITE, BLACK, WHITE, WHITE)).convert("L"))
    for kind, options in (("png", {}), ("webp", {"lossless": True}), ("tiff", {}), ("avif", {"quality": 95})):
        yield _write(folder / f"rgba.{kind}", encoded(rgba, kind.upper(), **options), quarters=seen)
    yield _write(folder / "rgba.heic", _heic(rgba), quarters=seen)
    grey_seen = (_grey()[0], WHITE, *_grey()[2:])
    yield _write(folder / "grey_alpha.png", encoded(rgba.convert("LA"), "PNG"), quarters=grey_seen)
    yield _write(folder / "rgb_key.png", encoded(image, "PNG", transparency=GREEN), quarters=seen)
    level = image.convert("L").getpixel((WIDTH - 1, 0))
    grey_key = encoded(image.convert("L"), "PNG", transparency=level)
    yield _write(folder / "grey_key.png", grey_key, quarters=grey_seen)
    half = Image.new("RGBA", (WIDTH, HEIGHT), (*RED, 128))
    pink = tuple(round((colour + 255) / 2) for colour in RED)
    yield _write(folder / "half_clear.png", encoded(half, "PNG"), quarters=(pink,) * 4)


def _deep(folder: Path) -> Iterator[OddPicture]:
    levels = np.repeat(np.repeat([[0.0, 0.25], [0.5, 1.0]], HEIGHT // 2, 0), WIDTH // 2, 1)
    grey = tuple((round(255 * level),) * 3 for level in (0.0, 0.25, 0.5, 1.0))
    deep = Image.fromarray(np.rint(levels * 65535).astype(np.uint16))
    yield _write(folder / "grey16.png", encoded(deep, "PNG"), quarters=grey)
    yield _write(folder / "grey16.tiff", encoded(deep, "TIFF"), quarters=grey)
    big_endian = Image.frombytes("I;16B", deep.size, np.rint(levels * 65535).astype(">u2").tobytes())
    yield _write(folder / "grey16_big_endian.tiff", encoded(big_endian, "TIFF"), quarters=grey)
    yield _write(folder / "grey16.jp2", encoded(deep, "JPEG2000"), quarters=grey)
    samples = np.rint(levels * 65535).astype(">u2").tobytes()
    yield _write(folder / "grey16.pgm", b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + samples, quarters=grey)
    rows = np.repeat(np.rint(levels * 65535).astype(">u2")[:, :, None], 3, 2)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    yield _write(folder / "rgb16.png", bare_png(WIDTH, HEIGHT, 16, 2, raw), quarters=grey)
    whole = Image.fromarray((levels * 1_000_000).astype(np.int32) - 500_000)
    yield _write(folder / "grey32.tiff", encoded(whole, "TIFF"), quarters=grey)
    for name, values in (("unit", levels), ("bytes", levels * 255), ("any", levels * 9e6 - 3e6)):
        image = Image.fromarray(values.astype(np.float32))
        yield _write(folder / f"float_{name}.tiff", encoded(image, "TIFF"), quarters=grey)
    holes = levels.astype(np.float32)
    holes[: HEIGHT // 2, : WIDTH // 2] = np.nan
    holes[0, -1] = np.inf
    yield _write(folder / "float_holes.tiff", encoded(Image.fromarray(holes), "TIFF"), quarters=grey)


def _turned(folder: Path) -> Iterator[OddPicture]:
    for orientation, transpose in TRANSPOSE_TO_STORE.items():
        stored = quartered() if transpose is None else quartered().transpose(transpose)
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield _write(folder / f"orientation_{orientation}.jpg", encoded(stored, "JPEG", exif=exif))
        yield _write(folder / f"orientation_{orientation}.tiff", encoded(stored, "TIFF", exif=exif))
        if orientation in (5, 6):
            yield _write(folder / f"orientation_{orientation}.png", encoded(stored, "PNG", exif=exif))
            yield _write(folder / f"orientation_{orientation}.webp", encoded(stored, "WEBP", exif=exif))
            yield _write(folder / f"orientation_{orientation}.heic", _heic(stored, exif=exif.tobytes()))
            # Last, as writing AVIF takes the orientation out of `exif`.
            yield _write(folder / f"orientation_{orientation}.avif", encoded(stored, "AVIF", exif=exif))
    exif = Image.Exif()
    exif[0x0112] = 9
    yield _write(folder / "orientation_9.jpg", encoded(quartered(), "JPEG", exif=exif))


def _formats(folder: Path) -> Iterator[OddPicture]:
    image = quartered()
    yield _write(folder / "plain.heic", _heic(image))
    for kind, ending in (
        ("AVIF", "avif"), ("BMP", "bmp"), ("PPM", "ppm"), ("TGA", "tga"), ("JPEG2000", "jp2"), ("QOI", "qoi"),
        ("PCX", "pcx"), ("SGI", "sgi"), ("DDS", "dds"), ("TIFF", "tif"),
    ):  # fmt: skip
        yield _write(folder / f"plain.{ending}", encoded(image, kind))
    yield _write(folder / "lzw.tiff", encoded(image, "TIFF", compression="tiff_lzw"))
    yield _write(folder / "in_jpeg.tiff", encoded(image, "TIFF", compression="jpeg"))
    square = image.resize((64, 64))
    icon = encoded(square, "ICO", sizes=[(16, 16), (64, 64)])
    yield _write(folder / "plain.ico", icon, size=(64, 64))
    yield _write(folder / "plain.icns", encoded(square, "ICNS"), size=None)


def _metadata(folder: Path) -> Iterator[OddPicture]:
    image = quartered()
    for name, payload in (
        ("random", random.Random(1).randbytes(300)),
        ("cut", b"II*\0\x08\0\0\0\x09\0\x0f\x01\x02\0\xff\xff\0\0"),
        ("loop", b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0"),
        ("huge_count", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\xff\x1a\0\0\0\0\0\0\0"),
        ("empty", b""),
    ):
        yield _write(folder / f"exif_{name}.jpg", encoded(image, "JPEG", exif=b"Exif\0\0" + payload))
        yield _write(folder / f"exif_{name}.webp", encoded(image, "WEBP", exif=b"Exif\0\0" + payload))
    exif = Image.Exif()
    exif[0x0132] = "2023:13:45 99:00:00"
    exif[0x010F] = "Cam\0era\n"
    yield _write(folder / "exif_month_13.jpg", encoded(image, "JPEG", exif=exif))
    tiff = bytearray(encoded(image, "TIFF"))
    tiff += bytes(10)
    count_at = tiff.index(struct.pack("<HH", 258, 3)) + 4  # BitsPerSample
    tiff[count_at : count_at + 4] = struct.pack("<I", 4)
    yield _write(folder / "one_sample_too_many.tiff", bytes(tiff), error=None)
    text = PngImagePlugin.PngInfo()
    text.add_itxt("Comment", "బహుముఖ " * 1000)
    yield _write(folder / "much_text.png", encoded(image, "PNG", pnginfo=text))


def _profiles(folder: Path) -> Iterator[OddPicture]:
    image = quartered()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    xyz = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profiles = {
        "lab": lab,
        "xyz": xyz,
        "srgb": srgb,
        "random": b"\x01" * 500,
        "cut": srgb[:200],
        "one_byte": b"x",
    }
    for name, profile in profiles.items():
        yield _write(folder / f"profile_{name}.jpg", encoded(image, "JPEG", icc_profile=profile))
    swapped = tuple((g, r, b) for r, g, b in QUARTERS)
    profile = swapped_profile()
    for kind, ending in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")):
        data = encoded(image, kind, icc_profile=profile, quality=95)
        yield _write(folder / f"profile_swapped.{ending}", data, quarters=swapped)
    yield _write(folder / "profile_swapped.heic", _heic(image, icc_profile=profile), quarters=None)
    palette = encoded(image.quantize(4), "PNG", icc_profile=profile)
    yield _write(folder / "profile_swapped_palette.png", palette, quarters=swapped)
    grey = encoded(image.convert("L"), "JPEG", icc_profile=profile)
    yield _write(folder / "profile_of_rgb_on_grey.jpg", grey, quarters=None)
    yield _write(folder / "profile_of_rgb_on_cmyk.jpg", encoded(image.convert("CMYK"), "JPEG", icc_profile=srgb))


def swapped_profile() -> bytes:
    """sRGB with the primaries red and green changed for each other: whoever applies it swaps the channels."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", data, 128)
    tags = {bytes(data[132 + 12 * i : 136 + 12 * i]): 136 + 12 * i for i in range(count)}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    data[red : red + 8], data[green : green + 8] = data[green : green + 8], data[red : red + 8]
    return bytes(data).replace("sRGB".encode("utf-16-be"), "Swap".encode("utf-16-be"))


# -- Names, and things that are not files --------------------------------------------------------------------


def _names(folder: Path) -> Iterator[OddPicture]:
    data = encoded(quartered(), "PNG")
    for name in (
        "పిల్లి 猫 🐈.png",
        " two  spaces .png",
        "-dash.png",
        'it\'s "quoted" & $HOME.png',
        "per%20cent#?.png",
    ):
        if sys.platform != "win32" or not set(name) & set('"?'):
            yield _write(folder / name, data)
    yield _write(folder / ("long" * 60 + ".png"), data)
    yield _write(folder / ".hidden.png", data, found=False)
    if sys.platform != "win32":
        yield _write(folder / "two\nlines.png", data)
        yield _write(folder / "two\nlines_empty.png", b"", error="two\\nlines_empty.png: the file is empty")
    if sys.platform == "linux":
        yield _write(Path(os.fsdecode(os.fsencode(folder) + b"/not_utf8_\xff\xfe.png")), data)
    (folder / "folder.jpg").mkdir()
    yield OddPicture(folder / "folder.jpg", error="is a folder", found=False)
    yield _write(folder / "folder.jpg" / "inside.png", data)


def _not_files(folder: Path) -> Iterator[OddPicture]:
    if sys.platform == "win32":
        return
    data = encoded(quartered(), "PNG")
    os.symlink("there_is_no_such.jpg", folder / "dangling.jpg")
    yield OddPicture(folder / "dangling.jpg", error="a link to a file that is missing")
    os.symlink("to_itself.jpg", folder / "to_itself.jpg")
    yield OddPicture(folder / "to_itself.jpg", error="to_itself.jpg: ")
    os.symlink(".", folder / "round_and_round")
    yield OddPicture(folder / "round_and_round", error="is a folder", found=False)
    (folder / "linked.png").symlink_to("a_png_named.jpg")
    yield OddPicture(folder / "linked.png")
    os.mkfifo(folder / "pipe.jpg")
    yield OddPicture(folder / "pipe.jpg", error="not a regular file")
    locked = _write(folder / "locked.png", data)
    locked.path.chmod(0)
    if os.access(locked.path, os.R_OK):  # the superuser reads everything
        yield locked
    else:
        yield OddPicture(locked.path, error="Permission denied")


# -- Bytes ---------------------------------------------------------------------------------------------------


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bare_png(width: int, height: int, bits: int, colour: int, rows: bytes, chunks: bytes = b"") -> bytes:
    """A PNG from rows that each begin with their filter byte."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = (_chunk(b"IHDR", header), chunks, _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _without_adobe(jpeg: bytes) -> bytes:
    at = jpeg.index(b"\xff\xee")
    return jpeg[:at] + jpeg[at + 2 + struct.unpack_from(">H", jpeg, at + 2)[0] :]


def _lab(image: Image.Image) -> Image.Image:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
    assert converted is not None
    return converted
