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
from typing import Any

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
    is_strip = False
    """Whether its pictures belong together: one seed, one row."""

    def __post_init__(self) -> None:
        seed_number(self.seed, MOST_AT_ONCE)

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

    def _common(self, every: int) -> dict[str, Any]:
        return {"sampling": self.sampling, "seed": seed_number(self.seed), "every": every}


@dataclass(frozen=True, kw_only=True)
class VaryConfig(ChangeConfig):
    """`bahu vary`: other pictures of what a picture shows."""

    picture: Path
    far: float = 1.0
    """From 0, the picture itself as well as the decoder can draw it, to 1, which has nothing but its embedding."""
    pictures: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.far <= 1:
            raise ValueError(f"far is {self.far}; it takes a number from 0, the same picture, to 1")
        check_pictures(self.pictures)

    @property
    def count(self) -> int:
        """See `ChangeConfig`."""
        return self.pictures

    @property
    def sources(self) -> tuple[Path, ...]:
        """See `ChangeConfig`."""
        return (self.picture,)

    def steps(self, unclip: Unclip, read: Open, every: int = 1) -> Iterator[Step]:
        """See `variations.vary`."""
        return variations.vary(unclip, read(self.picture), far=self.far, count=self.pictures, **self._common(every))


@dataclass(frozen=True, kw_only=True)
class BlendConfig(ChangeConfig):
    """`bahu blend`: a strip from one picture to another."""

    first: Path
    second: Path
    pictures: int = 7
    """Of the strip, both ends among them."""
    own_noise: bool = False
    """With the noises of the two, so that the ends look like them; else with one noise, so that it changes evenly."""
    is_strip = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pictures(self.pictures, 2)

    @property
    def count(self) -> int:
        """See `ChangeConfig`."""
        return self.pictures

    @property
    def sources(self) -> tuple[Path, ...]:
        """See `ChangeConfig`."""
        return self.first, self.second

    def made(self, place: int) -> Made:
        """See `ChangeConfig`."""
        share = round(place / (self.pictures - 1), 4)
        return Made(f"{share:.0%}", {"share": share})

    def steps(self, unclip: Unclip, read: Open, every: int = 1) -> Iterator[Step]:
        """See `variations.blend`."""
        ends = read(self.first), read(self.second)
        return variations.blend(unclip, *ends, count=self.pictures, own_noise=self.own_noise, **self._common(every))


@dataclass(frozen=True, kw_only=True)
class EditConfig(ChangeConfig):
    """`bahu edit`: what one caption says of a picture becomes what another says."""

    picture: Path
    source: str
    """What it shows."""
    target: str
    """What it is to show."""
    strengths: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5)
    """A picture for each: the part of the way, in [0, 1], that its embedding is turned."""
    is_strip = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pictures(len(self.strengths))
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
    def sources(self) -> tuple[Path, ...]:
        """See `ChangeConfig`."""
        return (self.picture,)

    @property
    def caption(self) -> str:
        """See `ChangeConfig`."""
        return self.target

    def made(self, place: int) -> Made:
        """See `ChangeConfig`."""
        strength = self.strengths[place]
        return Made(f"strength {strength:g}", {"strength": strength})

    def steps(self, unclip: Unclip, read: Open, every: int = 1) -> Iterator[Step]:
        """See `variations.edit`."""
        return variations.edit(
            unclip, read(self.picture), self.source, self.target, strengths=self.strengths, **self._common(every)
        )


@dataclass(frozen=True, kw_only=True)
class InpaintConfig(ChangeConfig):
    """`bahu inpaint`: what a mask shows is drawn anew."""

    picture: Path
    mask: Path
    """Of the picture's size; white, or transparent, is drawn anew."""
    prompt: str
    """What the whole is to show."""
    pictures: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pictures(self.pictures)
        if not self.prompt.strip():
            raise ValueError("prompt is empty; say what the whole is to show")

    @property
    def count(self) -> int:
        """See `ChangeConfig`."""
        return self.pictures

    @property
    def sources(self) -> tuple[Path, ...]:
        """See `ChangeConfig`."""
        return (self.picture,)

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
        return variations.inpaint(unclip, picture, mask, self.prompt, count=self.pictures, **self._common(every))


@dataclass(frozen=True, kw_only=True)
class ExploreConfig(ChangeConfig):
    """`bahu explore`: what the principal axes of a picture's embedding say."""

    picture: Path
    keep: tuple[int, ...] = (4, 8, 16, 32, 64)
    """A picture with so many of the first axes each, the rest at the mean; without `axis`."""
    axis: int | None = None
    """One to move along, from 0."""
    amounts: tuple[float, ...] = (-3.0, -1.5, 0.0, 1.5, 3.0)
    """A picture each: how far along `axis`, in standard deviations."""
    is_strip = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pictures(self.count)

    @property
    def count(self) -> int:
        """See `ChangeConfig`."""
        return len(self.keep if self.axis is None else self.amounts)

    @property
    def sources(self) -> tuple[Path, ...]:
        """See `ChangeConfig`."""
        return (self.picture,)

    def made(self, place: int) -> Made:
        """See `ChangeConfig`."""
        if self.axis is None:
            axes = self.keep[place]
            return Made(f"{axes} axes" if axes > 1 else "1 axis", {"axes": axes})
        amount = self.amounts[place]
        return Made(f"axis {self.axis}: {amount:+g}", {"axis": self.axis, "amount": amount})

    def steps(self, unclip: Unclip, read: Open, every: int = 1) -> Iterator[Step]:
        """See `variations.explore`."""
        chosen: dict[str, Any] = {"keep": self.keep, "axis": self.axis, "amounts": self.amounts}
        return variations.explore(unclip, read(self.picture), **chosen, **self._common(every))


def check_pictures(count: int, least: int = 1) -> None:
    """Raises ValueError."""
    if not least <= count <= MOST_AT_ONCE:
        raise ValueError(f"pictures is {count}; it must be from {least} to {MOST_AT_ONCE}")


CHANGES: dict[str, type[ChangeConfig]] = {
    "vary": VaryConfig,
    "blend": BlendConfig,
    "edit": EditConfig,
    "inpaint": InpaintConfig,
    "explore": ExploreConfig,
}
"""Command -> its settings."""
