"""Batches of crops for models that see pictures and no words: of several sizes, transparent pictures on many grounds.

As in `data.batches`, each batch is a function of (seed, number), so that a run can be taken up anywhere. A batch is of
one size; how often each size comes follows its share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from bahumukha.data.augment import AugmentConfig, crop_box
from bahumukha.data.batches import Order, pattern
from bahumukha.errors import UsageError


@dataclass(frozen=True)
class CropConfig(AugmentConfig):
    """How a picture is cut and changed; every probability and strength in [0, 1].

    A codec has no captions to keep true, so pictures may be mirrored and their colours changed places.
    """

    scale: tuple[float, float] = (0.3, 1.0)
    ratio: tuple[float, float] = (4 / 5, 5 / 4)
    flip: float = 0.5
    room: float = 0.3
    """Most empty ground around a transparent picture, as a part of its side."""
    white: float = 0.5
    """Probability that the ground of a transparent picture is white; else it has a colour."""
    gradient: float = 0.3
    """Probability that a ground with a colour goes over into another one."""
    swap: float = 0.2
    """Probability that red, green and blue change places."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("room", "white", "gradient", "swap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")


class Crops(NamedTuple):
    """`pixels` uint8 (n, size, size, 3); of several processes, this one's part."""

    number: int
    pixels: np.ndarray


def crop(picture: np.ndarray, size: int, config: CropConfig, random: np.random.Generator) -> np.ndarray:
    """A picture as `data.decoded` keeps it -> uint8 (size, size, 3). The same generator state gives the same pixels."""
    if picture.shape[2] == 4 and config.room:
        picture = _with_room(picture, random.uniform(0, config.room), random)
    height, width = picture.shape[:2]
    out = _resized(picture, size, config.interpolation, crop_box((width, height), config, random))
    if out.shape[2] == 4:
        out = on_ground(out, _ground(size, config, random))
    if random.random() < config.flip:
        out = out[:, ::-1]
    if random.random() < config.swap:
        out = out[..., random.permutation(3)]
    if random.random() < config.grey:
        out = np.repeat(np.rint(out @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[..., None], 3, 2)
    if config.colour:
        gain, lift = random.uniform(1 - config.colour, 1 + config.colour), random.uniform(-0.5, 0.5) * config.colour
        out = _to_bytes((out.astype(np.float32) - 127.5) * gain + 127.5 + 255 * lift)
    return out


def middle(picture: np.ndarray, size: int) -> np.ndarray:
    """The picture to be judged by, its middle square, on white -> uint8 (size, size, 3)."""
    height, width = picture.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    out = _resized(picture, size, "bicubic", (left, top, left + side, top + side))
    return on_ground(out, np.full(3, 255, np.uint8)) if out.shape[2] == 4 else out


def on_ground(picture: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """(h, w, 4), colours multiplied by alpha, on a ground (h, w, 3) or (3,) of uint8 -> uint8 (h, w, 3)."""
    clear = 255 - picture[..., 3:].astype(np.float32)
    return _to_bytes(picture[..., :3] + ground * (clear / 255))


def _with_room(picture: np.ndarray, part: float, random: np.random.Generator) -> np.ndarray:
    """More empty ground around it, `part` of each side in all, divided at random."""
    spare = [round(part * length) for length in picture.shape[:2]]
    before = [int(random.integers(length + 1)) for length in spare]
    return np.pad(picture, (*((b, s - b) for b, s in zip(before, spare, strict=True)), (0, 0)))


def _ground(size: int, config: CropConfig, random: np.random.Generator) -> np.ndarray:
    """uint8 (3,), or a gradient in some direction (size, size, 3)."""
    if random.random() < config.white:
        return np.full(3, 255, np.uint8)
    colour = random.integers(0, 256, 3)
    if random.random() >= config.gradient:
        return colour.astype(np.uint8)
    other = random.integers(0, 256, 3)
    angle = random.uniform(0, 2 * np.pi)
    at = np.linspace(-1, 1, size)
    along = at[:, None] * np.sin(angle) + at * np.cos(angle)
    share = (along - along.min()) / max(np.ptp(along), 1e-6)
    return _to_bytes(colour + share[..., None] * (other - colour))


def _resized(picture: np.ndarray, size: int, interpolation: str, box: tuple[float, float, float, float]) -> np.ndarray:
    height, width, channels = picture.shape
    mode = "RGBa" if channels == 4 else "RGB"
    image = Image.frombuffer(mode, (width, height), np.ascontiguousarray(picture), "raw", mode, 0, 1)
    return np.asarray(image.resize((size, size), Image.Resampling[interpolation.upper()], box=box))


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


class CropBatches:
    """Batches without end, an `Addressable` of `train.loop`; part `rank` of `parts` when processes share them.

    `sizes[i]` pixels a side, `counts[i]` pictures a batch, `shares[i]` of the batches.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[np.ndarray]],
        weights: Sequence[float],
        config: CropConfig,
        sizes: Sequence[int],
        counts: Sequence[int],
        shares: Sequence[float],
        *,
        seed: int = 0,
        threads: int = 2,
        ahead: int = 2,
        rank: int = 0,
        parts: int = 1,
    ):
        """`ahead`: batches made before they are asked for. Raises UsageError if `parts` does not divide a batch."""
        for count in counts:
            if count % parts:
                raise UsageError(f"a batch of {count} cannot be shared by {parts} processes; make it a multiple")
        self.sources, self.config, self.seed = sources, config, seed
        self.sizes, self.counts = list(sizes), list(counts)
        self.threads, self.ahead, self.rank, self.parts = threads, ahead, rank, parts
        self.order = Order([len(source) for source in sources], weights, seed)
        self._turns = pattern(shares)
        self._seen = np.concatenate([[0], np.cumsum(np.array(self.counts)[self._turns])])

    def place(self, number: int) -> tuple[int, int, int]:
        """Batch `number` -> its size in pixels, its count of pictures, and the number of its first sample."""
        rounds, at = divmod(number, len(self._turns))
        turn = int(self._turns[at])
        return self.sizes[turn], self.counts[turn], rounds * int(self._seen[-1]) + int(self._seen[at])

    def starting_at(self, number: int) -> Iterator[Crops]:
        """Batch `number` and those after it, for ever."""
        pool = ThreadPoolExecutor(self.threads, "crop")
        pending: deque[Future[Crops]] = deque()
        try:
            while True:
                while len(pending) <= self.ahead:
                    pending.append(pool.submit(self.batch, number))
                    number += 1
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def batch(self, number: int) -> Crops:
        """Batch `number`, this process's part of it."""
        size, count, first = self.place(number)
        part = count // self.parts
        pixels = np.empty((part, size, size, 3), np.uint8)
        for row in range(part):
            t = first + self.rank * part + row
            source, index = self.order[t]
            pixels[row] = crop(self.sources[source][index], size, self.config, np.random.default_rng([self.seed, t]))
        return Crops(number, pixels)
