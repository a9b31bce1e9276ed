"""What the trainings of unCLIP's networks share: pictures as a CLIP sees them, and that it is one CLIP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bahumukha.data.embedded import Embedded, Embedder, embedded_pictures
from bahumukha.data.pairs import SourceConfig
from bahumukha.errors import UsageError
from bahumukha.protocols import ImageTextEncoder
from bahumukha.runtime import thread_count
from bahumukha.train.runs import our_share
from bahumukha.train.unclip_config import PicturesConfig, Start
from bahumukha.zoo import load
from bahumukha.zoo.folder import lasting
from bahumukha.zoo.unclip import Sight

FITTED_ON = 20_000
"""Pictures of each source at most whose embeddings tell where the space's middle and axes are."""


class EmbeddedPart:
    """The pictures of a run, as CLIP sees them."""

    def __init__(self, config: PicturesConfig, out: Path, advance: Callable[[int], None]):
        """Raises ModelError where there is no such CLIP."""
        self.clip: ImageTextEncoder = load(config.clip)
        self.sight = Sight(lasting(config.clip), self.clip.fingerprint)
        self.embedder = Embedder(self.clip, config.size, config.views, config.sharp)
        self._cache, self._advance = config.cache or out / "views", advance

    def of(self, sources: Sequence[SourceConfig]) -> list[Embedded]:
        """Embedded, unless they are there already."""
        return [
            embedded_pictures(
                each, self.embedder, self._cache, threads=thread_count(), advance=self._advance, share=our_share()
            )
            for each in sources
        ]


def check_sight(start: Start, theirs: Sight, ours: Sight) -> None:
    """Raises UsageError where the model that a run starts from was trained with another CLIP than this run's, unless
    that is wanted."""
    if theirs.fingerprint != ours.fingerprint and not start.another_clip:
        raise UsageError(
            f"pictures.clip: {start.init} was trained with {theirs.clip}; set it to that, or model.another_clip to true"
        )


def to_fit(sources: Sequence[Embedded]) -> list[tuple[Embedded, Any]]:
    """Some pictures of each source, evenly spread: numbers that a space is fitted on."""
    return [(each, each.readable[:: -(-len(each.readable) // FITTED_ON)]) for each in sources]
