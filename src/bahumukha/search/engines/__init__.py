"""Where pictures are read and encoded: in this process, or on many machines (`ray`). One process alone writes."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from bahumukha.classify import shortest_side
from bahumukha.errors import BahumukhaError
from bahumukha.search.packed import End, Pack, unpacked
from bahumukha.search.reading import Work, load_picture

if TYPE_CHECKING:
    from PIL import Image

    from bahumukha.protocols import ImageTextEncoder

Outcome = tuple[Work | End, np.ndarray | BahumukhaError]
"""A picture with its embedding float32 (dim,), or with what went wrong; or the end of a pack, with `Passed`."""


class Passed(BahumukhaError):
    """Stands for an embedding where there is nothing to embed."""


class Engine(Protocol):
    """What embeds a list of pictures and packs."""

    def __call__(
        self, encoder: ImageTextEncoder, todo: Sequence[Work | Pack], known: Mapping[bytes, int]
    ) -> Generator[Outcome, None, None]:
        """Yield each picture once, in any order, in bounded memory, and each pack's End somewhere among them.

        known: content hash -> id of a row of the ledger that has it; such pictures come with `SameContent`.
        Closing the generator ends the work.
        """
        ...


def embed_here(
    encoder: ImageTextEncoder, todo: Sequence[Work | Pack], known: Mapping[bytes, int]
) -> Generator[Outcome, None, None]:
    """The `Engine` of one machine: the encoder's own threads."""
    plain = all(isinstance(each, Work) for each in todo)
    items: Iterable[Work | End] = todo if plain else unpacked(todo)  # type: ignore[assignment]
    yield from embed(encoder, items, known)


def embed(
    encoder: ImageTextEncoder, items: Iterable[Work | End], known: Mapping[bytes, int]
) -> Generator[Outcome, None, None]:
    """Load and encode pictures, in order; the rest passes."""
    at_least = shortest_side(encoder)

    def load(item: Work | End) -> Image.Image:
        if isinstance(item, End):
            raise Passed("no picture")
        return load_picture(item, known, at_least)

    yield from encoder.encode_each(items, load)
