"""What is asked of a system that draws candidates of a sentence and keeps the best, whichever system it is.

Every picture has a seed of its own, so the settings of one picture of many are these with its seed, `pictures` = 1 and
`candidates` = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bahumukha.data.scene_captions import styled
from bahumukha.errors import UsageError
from bahumukha.generate.guided_config import seed_number

MOST_PICTURES, MOST_CANDIDATES = 1000, 10_000
LARGEST_SIDE = 1024


@dataclass(frozen=True)
class CandidatesConfig:
    """Pictures of one sentence, drawn and ranked. Raises ValueError or UsageError for values out of range."""

    prompt: str
    """The sentence, of any script."""
    style: str | None = None
    """Of those that the model knows; said behind the prompt. None leaves it to the model."""
    seed: int | str = 0
    """A whole number or any text; candidate k has the seed's number plus k."""
    size: tuple[int, int] | None = None
    """Width and height in pixels; None for those the model was trained on."""
    pictures: int = 9
    """Kept: the best by `ranking`."""
    candidates: int | None = None
    """Drawn; None for as many as `drawn` says."""
    model: str = ""
    """Name or folder."""
    ranking: str = "starter/clip"
    """CLIP that orders the candidates; "" keeps the first ones, unranked."""

    def __post_init__(self) -> None:
        if self.needs_prompt and not self.prompt.strip():
            raise ValueError("prompt is empty; say what to show")
        seed_number(self.seed, self.drawn)
        if not 1 <= self.pictures <= MOST_PICTURES:
            raise ValueError(f"pictures is {self.pictures}; it must be from 1 to {MOST_PICTURES}")
        if not self.pictures <= self.drawn <= MOST_CANDIDATES:
            raise ValueError(
                f"candidates is {self.drawn}; it must be from {self.pictures}, the pictures kept, to {MOST_CANDIDATES}"
            )
        if self.size is not None and not all(1 <= side <= LARGEST_SIDE for side in self.size):
            raise ValueError(f"size is {list(self.size)}; it takes width and height up to {LARGEST_SIDE} pixels")

    @property
    def needs_prompt(self) -> bool:
        """Whether there is nothing else to go by."""
        return True

    @property
    def drawn(self) -> int:
        """Candidates in number."""
        return self.pictures if self.candidates is None else self.candidates

    @property
    def caption(self) -> str:
        """What the model is told, and what the candidates are ranked by."""
        return self.prompt if self.style is None else styled(self.prompt, self.style)


def check_style(style: str | None, known: Sequence[str], model: str) -> None:
    """Raises UsageError for a style that the model's captions never named."""
    if style is None or style in known:
        return
    there = f"one of {', '.join(known)}" if known else "none, as this model knows no styles"
    raise UsageError(f"style: {style!r} was given; {model} takes {there}")
