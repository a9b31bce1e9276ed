"""The contracts between layers: what an encoder, a codec and a generator promise to whoever calls them.

Nothing here imports PyTorch; arrays in annotations are NumPy's, tensors are named in the docstrings.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from bahumukha.errors import BahumukhaError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


T = TypeVar("T")


@runtime_checkable
class ImageTextEncoder(Protocol):
    """Two towers, one space: pictures and sentences become unit vectors that can be compared by dot product.

    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021).
    """

    name: str
    """As the user typed it: `starter/clip`, `ViT-B-32/openai`, or a folder."""
    fingerprint: str
    """Hash of weights and preprocessing. Embeddings may be compared only when fingerprints are equal."""
    dim: int
    """Length of an embedding."""
    logit_scale: float
    """Factor of the cosine before a softmax: exp of the learned temperature, at most 100."""

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Pictures as `images.open_image` gives them (RGB) -> float32 (N, dim), rows of norm 1."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Sentences -> float32 (N, dim), rows of norm 1. Too long ones are cut at the context length."""
        ...

    def encode_each(
        self, items: Iterable[T], load: Callable[[T], Image.Image]
    ) -> Generator[tuple[T, np.ndarray | BahumukhaError], None, None]:
        """Load and encode many pictures with decoding and encoding side by side, in bounded memory.

        Yields `(item, embedding)` in the order of `items`, embedding float32 (dim,) of norm 1; an item whose
        `load` raises a `BahumukhaError` yields that error in the embedding's place. Other exceptions are bugs
        and propagate. `load` may run in worker threads, one call an item. This body is the plain way, for whoever
        inherits it: one item after another.
        """
        for item in items:
            try:
                image = load(item)
            except BahumukhaError as error:
                yield item, error
            else:
                yield item, self.encode_images([image])[0]


@dataclass(frozen=True)
class Step:
    """One step of a generation; `images` is float32 (B, H, W, 3) in [0, 1], `losses` maps names to values."""

    index: int
    total: int
    images: np.ndarray
    losses: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class ImageCodec(Protocol):
    """Pictures <-> discrete codes (VQGAN, dVAE). Tensors: x is (B, 3, H, W) in [-1, 1]."""

    downsampling: int
    codes: int
    latent_channels: int

    @property
    def latent_range(self) -> tuple[float, float]:
        """Where latents may be clamped: the smallest and the largest number in any code."""
        ...

    def encode(self, x: Any) -> Any:
        """(B, 3, H, W) -> latents (B, C, H / downsampling, W / downsampling)."""
        ...

    def quantize(self, latents: Any) -> tuple[Any, Any, dict[str, Any]]:
        """Latents -> (nearest latents, straight through; ids (B, h, w); losses by name)."""
        ...

    def decode(self, latents: Any) -> Any:
        """Latents -> (B, 3, H, W) in [-1, 1]."""
        ...

    def decode_ids(self, ids: Any, grid: tuple[int, int]) -> Any:
        """Ids (B, h * w) and grid (h, w) -> (B, 3, H, W) in [-1, 1]."""
        ...
