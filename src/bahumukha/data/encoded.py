"""Pictures as codes, encoded once in several views and kept in a mapped file: a transformer over codes needs no pixels.

    encoded = encoded_pictures(source, Encoder(codec, 64, ViewConfig(count=4)), Path("codes"))
    encoded.ids(12, view=0)         # int64 (64,), the plain view of picture 12

The file is a row of uint16 for each view of each picture: which colour it is laid on, and its codes. It is written in
parts, each of them aside and renamed, so that encoding that was stopped goes on at the part it stood at, and two
processes that encode the same do not disturb each other; whole, it has one name.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bahumukha.data.decoded import small_array, source_fingerprint
from bahumukha.data.pairs import About, Captions, Listed, Source, SourceConfig, open_source
from bahumukha.data.views import GROUNDS, ViewConfig, plain_view, random_view
from bahumukha.errors import ImageError, UsageError
from bahumukha.images import open_image
from bahumukha.models.vqgan import Codec

logger = logging.getLogger(__name__)

LAYOUT = 1
"""Of the files; another number makes them anew."""
PART = 256
"""Pictures that are encoded between two looks at the disk."""
AT_ONCE = 64
"""Views a batch through the codec."""
SEED = 5
"""Of the views: they belong to the pictures, and are the same for every seed of a run."""
BROKEN = 65_535
"""In place of the colour, of a picture that cannot be read."""
NO_GROUND = 0
"""In place of the colour, of a view on white or on the picture's own ground; n + 1 is `GROUNDS[n]`."""


@dataclass(frozen=True)
class Encoder:
    """What makes codes of pictures. Raises UsageError for a size that the codec does not take."""

    codec: Codec
    """In eval mode, frozen."""
    size: int
    """Side of the squares that are encoded, in pixels."""
    views: ViewConfig = field(default_factory=ViewConfig)

    def __post_init__(self) -> None:
        step = self.codec.downsampling
        if self.size < 2 * step or self.size % step:
            raise UsageError(f"size: {self.size} pixels were given; this codec takes multiples of {step}, from two up")
        if self.codec.codes > 2**16:
            raise UsageError(f"a codec of {self.codec.codes} codes was given; up to {2**16} can be kept")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of codes of a picture."""
        return self.size // self.codec.downsampling, self.size // self.codec.downsampling

    def fingerprint(self) -> str:
        """Of all that decides the codes of pixels: the codec's sizes and weights, and the settings here."""
        settings = [LAYOUT, SEED, self.size, asdict(self.views), asdict(self.codec.config)]
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for name, tensor in sorted(self.codec.state_dict().items()):
            digest.update(name.encode() + np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (n, size, size, 3) -> uint16 (n, rows x columns)."""
        device = next(self.codec.parameters()).device
        rows = []
        for start in range(0, len(pixels), AT_ONCE):
            part = torch.from_numpy(pixels[start : start + AT_ONCE]).to(device)
            x = part.permute(0, 3, 1, 2).float().mul_(2 / 255).sub_(1)
            rows.append(self.codec.quantize(self.codec.encode(x))[1].flatten(1).cpu().numpy())
        return np.concatenate(rows).astype(np.uint16)


@dataclass(frozen=True)
class Share:
    """One of the processes that make the rows together, on a disk that all of them see."""

    part: int = 0
    parts: int = 1
    wait: Callable[[], None] = lambda: None
    """Until all processes have come here."""


class ViewEncoder(Protocol):
    """What makes rows of numbers of views: an `Encoder`, or another (`data.embedded`)."""

    @property
    def size(self) -> int:
        """Side of the views, in pixels."""
        ...

    @property
    def views(self) -> ViewConfig:
        """How many there are, and how they differ."""
        ...

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of numbers of a view."""
        ...

    def fingerprint(self) -> str:
        """Of all that decides the numbers of pixels."""
        ...

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (n, size, size, 3) -> uint16 (n, rows x columns)."""
        ...


class Encoded:
    """The codes of a source's pictures, beside their captions."""

    def __init__(self, source: Source, rows: np.ndarray, grid: tuple[int, int]):
        """rows: uint16 (pictures, views, 1 + codes)."""
        self.source, self.rows, self.grid = source, rows, grid
        self.readable = np.flatnonzero(rows[:, 0, 0] != BROKEN)
        """int64: numbers of the pictures that there are codes of."""

    @property
    def name(self) -> str:
        """Of the source."""
        return self.source.name

    @property
    def views(self) -> int:
        """Of each picture."""
        return self.rows.shape[1]

    def ids(self, index: int, view: int) -> Tensor:
        """int64 (rows x columns): the codes of a view of picture `index`."""
        return torch.from_numpy(self.rows[index, view, 1:].astype(np.int64))

    def ground(self, index: int, view: int) -> str | None:
        """The colour that the view was laid on; None for white and for a ground of its own."""
        code = int(self.rows[index, view, 0])
        return None if code == NO_GROUND else GROUNDS[code - 1]

    def captions(self, index: int) -> Captions:
        """Of picture `index`."""
        return self.source.captions(index)

    def about(self, index: int) -> About:
        """What else the listing tells of picture `index`."""
        told = self.source.about if isinstance(self.source, Listed) else ()
        return told[index] if told else About()


def encoded_pictures(
    config: SourceConfig,
    encoder: ViewEncoder,
    cache: Path,
    *,
    threads: int = 2,
    advance: Callable[[int], None] = lambda pictures: None,
    share: Share = Share(),
) -> Encoded:
    """The codes of a source's pictures, from the folder `cache` if they are there, else made and left there.

    threads: that decode. advance: called with how many more pictures are encoded. share: of several processes, which
    encode different parts and wait for each other. Broken pictures are named and have no
    codes. Raises UsageError when none can be read.
    """
    source = open_source(config)
    count, views, tokens = len(source), encoder.views.count, encoder.grid[0] * encoder.grid[1]
    # Twice the view's side: what is scaled down once more loses nothing that a view could show.
    made_of = encoder.fingerprint() + source_fingerprint(source, config, count, 2 * encoder.size)
    file = cache / f"{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.u16"
    if not file.is_file():
        _Writing(source, encoder, file, threads, share).whole(advance)
    rows = np.memmap(file, np.uint16, "r").reshape(count, views, 1 + tokens)
    encoded = Encoded(source, rows, encoder.grid)
    if not len(encoded.readable):
        raise UsageError(f"{source.name}: none of its {count} pictures can be read")
    return encoded


class _Writing:
    """A file that is being made, and its parts in a folder beside it."""

    def __init__(self, source: Source, encoder: ViewEncoder, file: Path, threads: int, share: Share):
        self.share, self.source, self.encoder, self.file, self.threads = share, source, encoder, file, threads
        self.parts = file.with_suffix(".parts")

    def whole(self, advance: Callable[[int], None]) -> None:
        """Make the parts that are missing, our share of them, then the file of all."""
        self.parts.mkdir(parents=True, exist_ok=True)
        names = []
        with ThreadPoolExecutor(self.threads, "decode") as pool:
            for number, first in enumerate(range(0, len(self.source), PART)):
                part = self.parts / f"{first:09d}"
                numbers = range(first, min(first + PART, len(self.source)))
                if number % self.share.parts == self.share.part and not part.is_file():
                    _renamed(part, [self._rows(list(pool.map(self._views, numbers)))])
                advance(len(numbers))
                names.append(part)
        self.share.wait()
        if self.share.part == 0:
            self._join(names)
        self.share.wait()

    def _join(self, names: list[Path]) -> None:
        """The file of its parts, which are then cleared away."""
        try:
            _renamed(self.file, (part.read_bytes() for part in names))
        except FileNotFoundError:
            if not self.file.is_file():  # else another process was quicker, and has cleared up
                raise
        for part in names:
            part.unlink(missing_ok=True)
        if not any(self.parts.iterdir()):
            self.parts.rmdir()

    def _views(self, index: int) -> tuple[np.ndarray, list[int]] | None:
        """Pixels uint8 (views, size, size, 3) and codes of the grounds; None when the picture cannot be read."""
        size, config = self.encoder.size, self.encoder.views
        try:
            picture = self._decoded(index, 2 * size)
        except ImageError as error:
            logger.warning("%s; it is left out", error)
            return None
        pixels, grounds = [plain_view(picture, size)], [NO_GROUND]
        for view in range(1, config.count):
            seen, ground = random_view(picture, size, config, np.random.default_rng([SEED, index, view]))
            pixels.append(seen)
            grounds.append(NO_GROUND if ground is None else 1 + GROUNDS.index(ground))
        return np.stack(pixels), grounds

    def _decoded(self, index: int, side: int) -> np.ndarray:
        if isinstance(self.source, Listed):
            return small_array(open_image(self.source.pictures[index], at_least=side, transparent=True), side)
        return small_array(self.source.open(index, side), side)

    def _rows(self, pictures: list[tuple[np.ndarray, list[int]] | None]) -> bytes:
        """Of the file, for some pictures."""
        grid, count = self.encoder.grid, self.encoder.views.count
        rows = np.full((len(pictures), count, 1 + grid[0] * grid[1]), BROKEN, np.uint16)
        readable = [i for i, picture in enumerate(pictures) if picture is not None]
        if readable:
            codes = self.encoder.encode(np.concatenate([p[0] for p in pictures if p is not None]))
            rows[readable, :, 0] = [p[1] for p in pictures if p is not None]
            rows[readable, :, 1:] = codes.reshape(len(readable), count, -1)
        return rows.tobytes()


def _renamed(path: Path, content: Iterable[bytes]) -> None:
    """Written aside, by each process for itself, and renamed."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with aside.open("wb") as stream:
            stream.writelines(content)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
