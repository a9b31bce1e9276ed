"""Opening files: any source, by content, within limits, silently, in any thread."""

from __future__ import annotations

import io
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from bahumukha.errors import ImageError
from bahumukha.images.colour import eight_bit, in_srgb, on_white
from bahumukha.images.info import TRANSPOSE, ImageInfo, info_of, orientation

EXTENSIONS: frozenset[str] = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .gif .webp .heic .heif .heics .heifs .hif .avif .avifs "
    ".tif .tiff .bmp .dib .ico .cur .icns .jp2 .j2k .j2c .jpc .jpf .jpx .ppm .pgm .pbm .pnm .pfm "
    ".tga .qoi .psd .pcx .dds .sgi".split()
)
"""Endings, in lower case, of the files that count as pictures when a folder is searched."""

DEFAULT_MAX_PIXELS = 200_000_000
"""The largest pictures of phones (16320 x 12240); in RGB that is 600 MB."""

Source = str | Path | bytes | BinaryIO


def shown(source: Source) -> str:
    """A source as messages name it: on one line, line breaks and undecodable bytes written as escapes."""
    if isinstance(source, (str, Path)):
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(source))
    return "the picture given as bytes" if isinstance(source, bytes) else "the picture given as a stream"


def open_image(
    source: Source, *, at_least: int | None = None, max_pixels: int = DEFAULT_MAX_PIXELS, transparent: bool = False
) -> Image.Image:
    """Read a picture as 8-bit RGB, upright, transparency on white, first frame, colours in sRGB.

    16-bit grey is scaled to 8 bits, not clipped; floats by the smallest usual range that holds them ([0, 1],
    255, 65535), 32-bit integers by 65535; whatever fits none, from its own minimum to its own maximum. A
    broken colour profile is ignored.

    at_least: the shortest side that will be needed, in pixels. Large pictures may then come out smaller,
      by a whole factor, with a shortest side of at least twice that; JPEG does so while decoding, several
      times faster.
    max_pixels: refuse pictures that declare more (width x height), before any of them is decoded.
    transparent: keep what is transparent so, in RGBA, instead of on white; a picture without is RGB as ever.

    Raises ImageError, naming the file, for anything that cannot be read.
    """
    with _opened(source) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise ImageError(
                f"{shown(source)}: {width} x {height} pixels are more than the {max_pixels:,} allowed;"
                " make it smaller, or raise max_pixels"
            )
        if at_least is not None:
            image.draft(None, (2 * at_least, 2 * at_least))
        image.load()
        profile = image.info.get("icc_profile")
        transpose = TRANSPOSE.get(orientation(image))
        pixels = eight_bit(image)
        if at_least is not None and (factor := min(pixels.size) // (2 * at_least)) > 1:
            pixels = pixels.reduce(factor)  # before the costly steps: a phone's HEIC shrinks 16 times
        pixels = in_srgb(pixels, profile) if transparent else on_white(pixels, profile)
        if transpose is not None:
            pixels = pixels.transpose(transpose)
        pixels.info = {}  # an orientation or a profile left here would be applied twice by a careful caller
        return pixels


def read_info(source: Source) -> ImageInfo:
    """Read size, date, camera and place from a picture's header; no pixel is decoded. Raises ImageError."""
    with _opened(source) as image:
        return info_of(image)


@contextmanager
def _opened(source: Source) -> Iterator[Image.Image]:
    """The picture in `source`, its header read, its pixels not. Whatever fails inside becomes an ImageError.

    Pillow's plugins raise almost anything on a malformed file, so `except` has to be as broad, and the
    blocks under this must hold nothing but the reading of a picture.
    """
    name = shown(source)
    stream = _stream(source, name)
    try:
        with stream, _quietly():
            yield _identify(stream)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"{name}: {_reason(error)}") from error


def _stream(source: Source, name: str) -> BinaryIO:
    """The bytes of a source. Only regular files are opened: a pipe named `a.jpg` would block for ever."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not isinstance(source, (str, Path)):
        return io.BytesIO(source.read())
    try:
        status = os.stat(source)
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{name}: is a folder, not a picture")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{name}: is not a regular file (a pipe, socket or device), so it is not read")
        if status.st_size == 0:
            raise ImageError(f"{name}: the file is empty (0 bytes)")
        return open(source, "rb")
    except FileNotFoundError as error:
        missing = "is a link to a file that is missing" if os.path.islink(source) else "there is no such file"
        raise ImageError(f"{name}: {missing}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ImageError(f"{name}: {getattr(error, 'strerror', None) or error}") from error


def _identify(stream: BinaryIO) -> Image.Image:
    """Find the format by content, as `Image.open` does, without its limit on pixels, which is a global.

    EPS is left out on purpose: Pillow reads it by running Ghostscript on the file.
    """
    head = stream.read(16)
    tried = {"EPS"}
    failure: Exception = UnidentifiedImageError()
    for load_plugins in (Image.preinit, Image.init):  # the five commonest formats first, as the rest are slow
        load_plugins()
        for name in [name for name in Image.ID if name not in tried]:
            tried.add(name)
            factory, accepts = Image.OPEN[name]
            if accepts and accepts(head) is not True:
                continue
            stream.seek(0)
            try:
                return factory(stream, "")
            except Exception as error:
                if accepts and isinstance(failure, UnidentifiedImageError):
                    failure = error  # the first format whose signature fits says best what is wrong
    if head[4:8] == b"ftyp" and head[8:12] not in (b"avif", b"avis"):
        from pillow_heif import HeifImageFile  # late, as it is slow; registering it would be a global

        stream.seek(0)
        return HeifImageFile(stream)
    raise failure


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a picture, or of a format that cannot be read"
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    explained = isinstance(error, (OSError, SyntaxError, ValueError, RuntimeError)) and str(error).strip()
    return f"damaged or cut off ({' '.join(str(error).split())})" if explained else "damaged or cut off"


class _Silence(threading.local):
    """Drops the warnings of the thread that is inside `_quietly`, and of no other.

    `warnings.catch_warnings` swaps a list that all threads share (until Python 3.14), so it cannot be used in
    workers. A filter is consulted by the thread that warns, though, and may be any object with `match`.
    """

    active = False

    def match(self, module: str) -> bool:
        return self.active

    def filter(self, record: logging.LogRecord) -> bool:
        return not self.active


_silence = _Silence()
_FILTER: Any = ("ignore", None, Warning, _silence, 0)


@contextmanager
def _quietly() -> Iterator[None]:
    """No warning of Pillow's (bombs, broken EXIF) reaches the user from this thread, in this block."""
    filters: Any = warnings.filters
    if not filters or filters[0] is not _FILTER:
        filters.insert(0, _FILTER)
    logging.getLogger("PIL.TiffImagePlugin").addFilter(_silence)  # its one error is raised as well as logged
    before, _silence.active = _silence.active, True
    try:
        yield
    finally:
        _silence.active = before
