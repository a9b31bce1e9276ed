"""What `bahu generate --with dalle` and `bahu complete` understand in a TOML file: one field an option.

    prompt = "a red fish above a blue car"       --set guidance=4 overrides an option
    style = "noto"
    pictures = 9
    candidates = 36

What every system that draws candidates is asked for is in `generate.candidates`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bahumukha.errors import UsageError
from bahumukha.generate.candidates import CandidatesConfig
from bahumukha.generate.dalle import TRIES, USUAL, Side
from bahumukha.nn.sampling import Sampling

DRAWN_EACH, FEWEST_DRAWN = 4, 8
"""Candidates for each picture kept, and at least, where nothing is said."""


@dataclass(frozen=True)
class CompletionConfig:
    """[completion]: a picture of which one side stays and the rest is drawn."""

    picture: Path
    side: Side = "top"
    """Which side stays."""
    keep: float = 0.5
    """Part of the height or width that does, to a whole row of tokens."""
    tries: int = TRIES
    """For sides other than the top (`generate.tries`): of so many, each candidate is the one that fits."""

    def __post_init__(self) -> None:
        if not 0 < self.keep < 1:
            raise ValueError(f"keep is {self.keep}; it takes the part of the picture that stays, between 0 and 1")
        if self.tries < 1:
            raise ValueError(f"tries is {self.tries}; it must be at least 1")


@dataclass(frozen=True)
class DrawingConfig(CandidatesConfig):
    """Pictures of one sentence, drawn token by token and ranked; "" is no sentence, where a picture is completed. Where
    nothing is said of candidates, there are four for each picture kept, and at least eight."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = USUAL.top_p
    guidance: float = USUAL.guidance
    """As `nn.sampling.Sampling` has them; `top_p` 1 leaves no token out, guidance 1 is none."""
    model: str = "starter/dalle"
    completion: CompletionConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prompt.strip() and self.style is not None:
            raise ValueError(f"style is {self.style!r}, and there is no prompt to say it with; give one")
        _ = self.sampling  # checks its own

    @property
    def needs_prompt(self) -> bool:
        """See `CandidatesConfig`."""
        return self.completion is None

    @property
    def drawn(self) -> int:
        """Candidates in number."""
        if self.candidates is not None:
            return self.candidates
        return max(DRAWN_EACH * self.pictures, FEWEST_DRAWN)

    @property
    def sampling(self) -> Sampling:
        """How boldly tokens are drawn. Guidance strengthens a prompt; without one there is none."""
        guidance = self.guidance if self.prompt.strip() else 1.0
        return Sampling(self.temperature, self.top_k, self.top_p, guidance)


def grid_of(size: tuple[int, int] | None, trained: tuple[int, int], downsampling: int) -> tuple[int, int]:
    """Width and height in pixels -> rows and columns of tokens; None for the trained ones. Raises UsageError."""
    if size is None:
        return trained
    rows, columns = (side // downsampling for side in reversed(size))
    fits = not any(side % downsampling for side in size)
    if not fits or rows < trained[0] or columns < trained[1]:
        height, width = (side * downsampling for side in trained)
        least = f"{width}x{height}"
        raise UsageError(f"size: {size[0]}x{size[1]} was given; it takes multiples of {downsampling} from {least} up")
    return rows, columns
