"""What `bahu generate --with dalle` and `bahu complete` understand in a TOML file: one field an option.

    prompt = "a red fish above a blue car"       --set guidance=4 overrides an option
    style = "noto"
    pictures = 9
    candidates = 36

Every picture has a seed of its own (`generate.dalle`), so the settings of one picture of many are these with its seed,
`pictures` = 1 and `candidates` = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bahumukha.errors import UsageError
from bahumukha.generate.dalle import TRIES, Side
from bahumukha.generate.guided_config import seed_number
from bahumukha.nn.sampling import Sampling

DRAWN_EACH, FEWEST_DRAWN = 4, 8
"""Candidates for each picture kept, and at least, where nothing is said."""
MOST_PICTURES, MOST_CANDIDATES = 1000, 10_000
LARGEST_SIDE = 1024


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
class DrawingConfig:
    """Pictures of one sentence, drawn token by token and ranked."""

    prompt: str
    """The sentence, of any script; "" for none, where a picture is completed."""
    style: str | None = None
    """Of those that the model knows; said behind the prompt. None leaves it to the model."""
    seed: int | str = 0
    """A whole number or any text; candidate k has the seed's number plus k."""
    size: tuple[int, int] | None = None
    """Width and height in pixels; None for those the model was trained on."""
    pictures: int = 9
    """Kept: the best by `ranking`."""
    candidates: int | None = None
    """Drawn; None for four for each picture kept, and at least eight."""
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    guidance: float = 3.0
    """As `nn.sampling.Sampling` has them; 1 is no guidance."""
    model: str = "starter/dalle"
    ranking: str = "starter/clip"
    """CLIP that orders the candidates; "" keeps the first ones, unranked."""
    completion: CompletionConfig | None = None

    def __post_init__(self) -> None:
        if not self.prompt.strip() and self.completion is None:
            raise ValueError("prompt is empty; say what to show")
        if not self.prompt.strip() and self.style is not None:
            raise ValueError(f"style is {self.style!r}, and there is no prompt to say it with; give one")
        seed_number(self.seed, self.drawn)
        if not 1 <= self.pictures <= MOST_PICTURES:
            raise ValueError(f"pictures is {self.pictures}; it must be from 1 to {MOST_PICTURES}")
        if not self.pictures <= self.drawn <= MOST_CANDIDATES:
            raise ValueError(
                f"candidates is {self.drawn}; it must be from {self.pictures}, the pictures kept, to {MOST_CANDIDATES}"
            )
        if self.size is not None and not all(1 <= side <= LARGEST_SIDE for side in self.size):
            raise ValueError(f"size is {list(self.size)}; it takes width and height up to {LARGEST_SIDE} pixels")
        _ = self.sampling  # checks its own

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


def check_style(style: str | None, known: Sequence[str], model: str) -> None:
    """Raises UsageError for a style that the model's captions never named."""
    if style is None or style in known:
        return
    there = f"one of {', '.join(known)}" if known else "none, as this model knows no styles"
    raise UsageError(f"style: {style!r} was given; {model} takes {there}")
