"""What `bahu vary`, `blend`, `edit`, `inpaint` and `explore` understand in a TOML file: one dataclass a command, one
field an option.

    bahu vary cat.png --set far=0.6 --set decoder.steps=50

Where every picture has a seed of its own, the settings of one of many are these with its seed and `pictures` = 1; a
strip, whose pictures belong together, is made again as a whole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from bahumukha.errors import UsageError
from bahumukha.generate import variations
from bahumukha.generate.guided_config import seed_number
from bahumukha.generate.unclip import Unclip
from bahumukha.generate.unclip_config import NetworksConfig
from bahumukha.images import open_image, shown
from bahumukha.protocols import Step

MOST_AT_ONCE = 64
"""Pictures of one strip, or variations of one picture: they are drawn side by side."""
MOST_TRIES = 64
"""Noises among which the best is looked for."""
STRIP_AT_ONCE = 4
"""Pictures of a strip that are drawn side by side where it may be left off."""
MOST_OPEN_PIXELS = 32_000_000
"""Of all the pictures that are inpainted at once: floats of them are held three times."""

Open = Callable[[Path], Image.Image]
"""A file -> the picture, of at least the size that the networks look at."""


@dataclass(frozen=True)
class Made:
    """What is said of one of the pictures that a command makes."""

    label: str
    """On the sheet."""
    facts: dict[str, Any]
    """For a script."""


@dataclass(frozen=True, kw_only=True)
class ChangeConfig(NetworksConfig, ABC):
    """What the commands that begin with a picture share."""

    seed: int | str = 0
    """A whole number or any text."""
    is_strip: ClassVar[bool] = False
    """Whether its pictures belong together: one seed, one row."""

    fewest: ClassVar[int] = 1
    """Pictures that it makes."""

    def __post_init__(self) -> None:
        seed_number(self.seed, MOST_AT_ONCE)
        if not self.fewest <= self.count <= MOST_AT_ONCE:
            raise ValueError(f"pictures is {self.count}; it must be from {self.fewest} to {MOST_AT_ONCE}")

    @property
    @abstractmethod
    def count(self) -> int:
        """Pictures in number."""

    @property
    @abstractmethod
    def sources(self) -> tuple[Path, ...]:
        """The pictures it begins with."""

    @property
    def caption(self) -> str:
        """What CLIP scores the results by; "" for the likeness to the first source."""
        return ""

    def made(self, place: int) -> Made:
        """Of the picture at a place, from 0."""
        seed = seed_number(self.seed, place) if place else self.seed
        return Made(f"seed {seed}", {})

    def alone(self, place: int) -> ChangeConfig:
        """The settings that the picture at a place holds."""
        if self.is_strip:
            return self
        return replace(self, seed=seed_number(self.seed, place) if place else self.seed, pictures=1)  # type: ignore[call-arg]

    @abstractmethod
    def steps(self, unclip: Unclip, read: Open, every: int = 1) -> Iterator[Step]:
        """Begin. Raises UsageError, ImageError before the first step."""

    def parts(self, unclip: Unclip, read: Open, every: int = 1) -> list[Iterator[Step]]:
        """The same in parts, which are drawn one after the other: between them the work can be left off. Here one."""
        return [self.steps(unclip, read, every)]

    @property
    def _common(self) -> dict[str, Any]:
        return {"sampling": self.sampling, "seed": seed_number(self.seed)}


@dataclass(frozen=True, kw_only=True)
class _OfOnePicture(ChangeConfig):
    picture: Path

    @property
    def sources(self) -> tuple[Path, ...]:
        """See `ChangeConfig`."""
        return (self.picture,)


@dataclass(frozen=True, kw_only=True)
class _Several(ChangeConfig):
    pictures: int = 4

    @property
    def count(self) -> int:
        """See `ChangeConfig`."""
        return self.pictures


@dataclass(frozen=True, kw_only=True)
class _OfStrip(ChangeConfig):
    is_strip = True

    @abstractmethod
    def strip(self, unclip: Unclip, read: Open) -> variations.Strip:
        """All pictures, ready to be drawn. Raises UsageError, ImageError."""

    def steps(self, unclip: Unclip, read: Open, every: int = 1) -> Iterator[Step]:
        """See `ChangeConfig`."""
        return self.strip(unclip, read).steps(every)

    def parts(self, unclip: Unclip, read: Open, every: int = 1) -> list[Iterator[Step]]:
        """See `ChangeConfig`."""
        strip = self.strip(unclip, read)
        return [strip.steps(every, first, STRIP_AT_ONCE) for first in range(0, len(strip), STRIP_AT_ONCE)]


@dataclass(frozen=True, kw_only=True)
class VaryConfig(_OfOnePicture, _Several):
    """`bahu vary`: other pictures of what a picture shows."""

    far: float = 1.0
    """From 0, the picture itself as well as the decoder can draw it, to 1, which has nothing but its embedding."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.far <= 1:
            raise ValueError(f"far is {self.far}; it takes a number from 0, the same picture, to 1")

    def steps(self, unclip: Unclip, read: Open, every: int = 1) -> Iterator[Step]:
        """See `variations.vary`."""
        return variations.vary(unclip, read(self.picture), far=self.far, count=self.count, every=every, **self._common)


@dataclass(frozen=True, kw_only=True)
class BlendConfig(_OfStrip, _Several):
    """`bahu blend`: a strip from one picture to another."""

    first: Path
    second: Path
    pictures: int = 7
    """Of the strip, both ends among them."""
    own_noise: bool = False
    """With the noises of the two, so that the ends look like them; else with one noise, so that it changes evenly."""
    tries: int = 4
    """Noises that are tried without `own_noise`; that is taken whose strip CLIP finds to change most evenly."""
    fewest = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.tries <= MOST_TRIES:
            raise ValueError(f"tries is {self.tries}; it must be from 1 to {MOST_TRIES}")

    @property
    def sources(self) -> tuple[Path, ...]:
        """See `ChangeConfig`."""
        return self.first, self.second

    def made(self, place: int) -> Made:
        """See `ChangeConfig`."""
        share = round(place / (self.pictures - 1), 4)
        return Made(f"{share:.0%}", {"share": share})

    def strip(self, unclip: Unclip, read: Open) -> variations.Strip:
        """See `variations.blended`."""
        ends = read(self.first), read(self.second)
        options = {"count": self.count, "own_noise": self.own_noise, "tries": self.tries} | self._common
        return variations.blended(unclip, *ends, **options)


@dataclass(frozen=True, kw_only=True)
class EditConfig(_OfOnePicture, _OfStrip):
    """`bahu edit`: what one caption says of a picture becomes what another says."""

    source: str
    """What it shows."""
    target: str
    """What it is to show."""
    strengths: tuple[float, ...] = (0.25, 0.4, 0.55, 0.7)
    """A picture for each: the part of the way, in [0, 1], that its embedding is turned."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 <= each <= 1 for each in self.strengths):
            raise ValueError(f"strengths is {list(self.strengths)}; it takes numbers from 0, no change, to 1")
        for name in ("source", "target"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} is empty; say what the picture shows, and what it is to show")

    @property
    def count(self) -> int:
        """See `ChangeConfig`."""
        return len(self.strengths)

    @property
    def caption(self) -> str:
        """See `ChangeConfig`."""
        return self.target

    def made(self, place: int) -> Made:
        """See `ChangeConfig`."""
        strength = self.strengths[place]
        return Made(f"strength {strength:g}", {"strength": strength})

    def strip(self, unclip: Unclip, read: Open) -> variations.Strip:
        """See `variations.edited`."""
        said = (self.source, self.target)
        return variations.edited(unclip, read(self.picture), *said, strengths=self.strengths, **self._common)


@dataclass(frozen=True, kw_only=True)
class InpaintConfig(_OfOnePicture, _Several):
    """`bahu inpaint`: what a mask shows is drawn anew."""

    mask: Path
    """Of the picture's size; white, or transparent, is drawn anew."""
    prompt: str
    """What the whole is to show."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prompt.strip():
            raise ValueError("prompt is empty; say what the whole is to show")

    @property
    def caption(self) -> str:
        """See `ChangeConfig`."""
        return self.prompt

    def steps(self, unclip: Unclip, read: Open, every: int = 1) -> Iterator[Step]:
        """See `variations.inpaint`; the picture is read at its own size. Raises UsageError for a mask of another."""
        picture, mask = open_image(self.picture), open_image(self.mask)
        if mask.size != picture.size:
            sizes = f"{mask.width}x{mask.height} pixels, and {shown(self.picture)} {picture.width}x{picture.height}"
            raise UsageError(f"mask: {shown(self.mask)} has {sizes}; make them alike")
        if self.pictures * picture.width * picture.height > MOST_OPEN_PIXELS:
            raise UsageError(
                f"pictures: {self.pictures} of {picture.width}x{picture.height} pixels are too many at once; at most "
                f"{MOST_OPEN_PIXELS // 10**6} million pixels in all: ask for fewer, or make the picture smaller"
            )
        return variations.inpaint(unclip, picture, mask, self.prompt, count=self.count, every=every, **self._common)


@dataclass(frozen=True, kw_only=True)
class ExploreConfig(_OfOnePicture, _OfStrip):
    """`bahu explore`: what the principal axes of a picture's embedding say."""

    keep: tuple[int, ...] = (4, 8, 16, 32, 64)
    """A picture with so many of the first axes each, the rest at the mean; without `axis`."""
    axis: int | None = None
    """One to move along, from 0."""
    amounts: tuple[float, ...] = (-3.0, -1.5, 0.0, 1.5, 3.0)
    """A picture each: how far along `axis`, in standard deviations."""

    @property
    def count(self) -> int:
        """See `ChangeConfig`."""
        return len(self.keep if self.axis is None else self.amounts)

    def made(self, place: int) -> Made:
        """See `ChangeConfig`."""
        if self.axis is None:
            axes = self.keep[place]
            return Made(f"{axes} axes" if axes > 1 else "1 axis", {"axes": axes})
        amount = self.amounts[place]
        return Made(f"axis {self.axis}: {amount:+g}", {"axis": self.axis, "amount": amount})

    def strip(self, unclip: Unclip, read: Open) -> variations.Strip:
        """See `variations.explored`."""
        chosen: dict[str, Any] = {"keep": self.keep, "axis": self.axis, "amounts": self.amounts}
        return variations.explored(unclip, read(self.picture), **chosen, **self._common)


CHANGES: dict[str, type[ChangeConfig]] = {
    "vary": VaryConfig,
    "blend": BlendConfig,
    "edit": EditConfig,
    "inpaint": InpaintConfig,
    "explore": ExploreConfig,
}
"""Command -> its settings."""
