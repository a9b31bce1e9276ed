"""WebDataset shards: tar files in which `KEY.jpg` and `KEY.txt` (or `KEY.json`) stand beside each other.

A tar file has no list of what it holds, so each is walked once when it is opened (headers only); after that a picture
is one read at a known place, in any order and from any thread. WebDataset itself reads from front to back and shuffles
in a buffer, which no run can take up again at step 12,345.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from bahumukha.data.pairs import CAPTION_NAMES, Captions, SourceConfig, normal_captions
from bahumukha.errors import ImageError, UsageError
from bahumukha.images import EXTENSIONS, open_image, shown

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
CAPTION_ENDINGS = ("txt", "json", "caption", "text")


@dataclass(frozen=True)
class Place:
    """Where a picture's bytes are, and its key for messages."""

    shard: Path
    key: str
    offset: int
    size: int


def shard_paths(pattern: Path) -> list[Path]:
    """`a-{000..012}.tar`, `a-*.tar` or one file -> files in order. Raises UsageError when one is missing."""
    names = expand_ranges(str(pattern))
    if "*" in pattern.name:
        names = sorted(str(path) for path in pattern.parent.glob(pattern.name))
        if not names:
            raise UsageError(f"{shown(pattern)}: no file fits")
    for name in names:
        if not os.path.isfile(name):
            raise UsageError(f"{shown(Path(name))}: there is no such shard")
    if not names:
        raise UsageError(f"{shown(pattern)}: the range is empty; the smaller number goes first")
    return [Path(name) for name in names]


def expand_ranges(pattern: str) -> list[str]:
    """`a-{000..012}.tar` -> thirteen names; one without a range -> itself."""
    names = [pattern]
    while found := [(name, match) for name in names if (match := RANGE.search(name))]:
        expanded = []
        for name, match in found:
            first, last = match[1], match[2]
            numbers = range(int(first), int(last) + 1)
            expanded += [name[: match.start()] + str(n).zfill(len(first)) + name[match.end() :] for n in numbers]
        names = expanded
    return names


class Shards:
    """A `data.pairs.Source` of local tar files."""

    def __init__(self, config: SourceConfig, lane: int = 0, lanes: int = 1):
        """Walk all shards, or those of one of several lanes (`data.lanes`), a few at once.

        Raises UsageError when they hold no captioned picture, or there are fewer shards than lanes.
        """
        paths = shard_paths(config.path)
        if len(paths) < lanes:
            raise UsageError(f"{shown(config.path)}: {len(paths)} shards are too few for batch.lanes = {lanes}")
        self.name = str(config.path)
        self._places: list[Place] = []
        self._captions: list[Captions] = []
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(lambda path: list(_samples(path, config)), paths[lane::lanes]):
                for place, captions in found:
                    self._places.append(place)
                    self._captions.append(captions)
        if not self._places:
            raise UsageError(
                f"{shown(config.path)}: no picture with a caption beside it; a sample is KEY.jpg and KEY.txt"
            )

    def __len__(self) -> int:
        return len(self._places)

    def captions(self, index: int) -> Captions:
        """Of picture `index`."""
        return self._captions[index]

    def open(self, index: int, at_least: int) -> Image.Image:
        """Read and decode picture `index`. Raises ImageError, which names shard and key."""
        place = self._places[index]
        try:
            with place.shard.open("rb", buffering=0) as file:
                file.seek(place.offset)
                data = file.read(place.size)
            return open_image(data, at_least=at_least)
        except OSError as error:
            raise ImageError(f"{shown(place.shard)}: cannot be read ({error.strerror or error})") from error
        except ImageError as error:
            reason = str(error).removeprefix("the picture given as bytes: ")
            raise ImageError(f"{shown(place.shard)}: {place.key}: {reason}") from error


def _samples(path: Path, config: SourceConfig) -> Iterator[tuple[Place, Captions]]:
    """Members that follow each other with one key are a sample, as in WebDataset: `a/b.seg.png` has key `a/b`."""
    key, parts = "", dict[str, tuple[int, int]]()
    try:
        with tarfile.open(path, "r:") as tar, path.open("rb") as file:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                stem, dot, ending = name.partition(".")
                if not (member.isfile() and stem and dot):
                    continue
                this = f"{folder}/{stem}" if folder else stem
                if this != key:
                    yield from _sample(path, file, key, parts, config)
                    key, parts = this, {}
                parts[ending.lower()] = (member.offset_data, member.size)
            yield from _sample(path, file, key, parts, config)
    except (tarfile.TarError, OSError, RecursionError) as error:
        raise UsageError(f"{shown(path)}: not a tar file that can be read ({error})") from error


def _sample(path, file, key, parts, config: SourceConfig) -> Iterator[tuple[Place, Captions]]:  # noqa: ANN001
    image = next((e for e in parts if (e == config.image if config.image else f".{e}" in EXTENSIONS)), None)
    caption = next((e for e in ((config.caption,) if config.caption else CAPTION_ENDINGS) if e in parts), None)
    if image is None or caption is None:
        return
    offset, size = parts[caption]
    file.seek(offset)
    try:
        text = file.read(size).decode("utf-8-sig")
        value = json.loads(text) if caption == "json" else text
        if isinstance(value, dict):
            value = next((value[name] for name in CAPTION_NAMES if name in value), None)
        captions = normal_captions(value, config.language) if value is not None else {}
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{shown(path)}: {key}.{caption} is not a caption ({error})") from error
    if captions:
        yield Place(path, key, *parts[image]), captions
