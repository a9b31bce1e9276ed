"""Painted pictures before judges that took no part: a classifier for photographs, colours for pictograms.

*Nouns*: forty things, each asked as "a photo of …", each one class of ImageNet-1k. A classifier that neither guided the
painting nor is any part of what did ranks the 1,000 classes; only the class itself counts, no neighbour of it.

*Pictograms*: twenty-five prompts that name a colour. CLIP has to retrieve each picture's own prompt among them all, and
the colour named has to be the one that most of the picture shows, background left out (`evaluate.colours`).

Guidance overdoes colours, so how colourful pictures are is measured too, beside photographs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bahumukha.data.imagenet import class_names
from bahumukha.data.scene_colours import named_in
from bahumukha.errors import UsageError
from bahumukha.evaluate.colours import cielab, dominant_colour
from bahumukha.images import open_image
from bahumukha.protocols import ImageTextEncoder

Classifier = Callable[[Sequence[Image.Image]], np.ndarray]
"""Pictures -> probabilities, float (N, 1000), of ImageNet's classes in the order of `class_names`."""


@dataclass(frozen=True)
class Noun:
    """A thing and the one class that counts."""

    noun: str
    """With its article: "a tiger"."""
    wnid: str
    """WordNet id of the class."""

    @property
    def prompt(self) -> str:
        return f"a photo of {self.noun}"


@dataclass(frozen=True)
class Pictogram:
    """A prompt and the colour that it names, one of `colours.NAMES`; None where it names none, or several."""

    prompt: str
    colour: str | None


@dataclass(frozen=True)
class NounScore:
    """What the classifier says of one picture."""

    noun: str
    rank: int
    """Place of the noun's class among 1,000; 1 is the first."""
    probability: float
    """Of the noun's class."""
    first: str
    """Name of the class that came first."""
    first_probability: float


@dataclass(frozen=True)
class PictogramScore:
    """What CLIP and its pixels say of one picture."""

    prompt: str
    rank: int
    """Place of its own prompt among those of the whole list; 1 is retrieved."""
    retrieved: str
    colour: str
    """The colour that most of it shows."""
    colour_is_right: bool | None
    """None where the prompt names no colour."""
    share: float
    """Of that colour, in what is not background; in [0, 1]."""


@dataclass(frozen=True)
class Colourfulness:
    """How colourful pictures are, each figure a mean over all pixels of a picture."""

    chroma: float
    """CIELAB's C*ab = hypot(a*, b*): 0 is gray, a ripe tomato about 70."""
    saturation: float
    """HSV's S in [0, 1]."""


@cache
def _lists() -> dict[str, Any]:
    return json.loads(files("bahumukha.evaluate").joinpath("guided.json").read_text(encoding="utf-8"))


def nouns(count: int | None = None) -> list[Noun]:
    """The forty nouns, or the first `count`: any beginning of the list is spread over animals, food, things, places.

    Raises UsageError.
    """
    return [Noun(each["noun"], each["class"]) for each in _beginning("nouns", count)]


def pictograms(count: int | None = None) -> list[Pictogram]:
    """The twenty-five prompts, or the first `count`; any beginning is spread over the colours. Raises UsageError."""
    return [Pictogram(each["prompt"], each["colour"]) for each in _beginning("pictograms", count)]


def _beginning(name: str, count: int | None) -> list[dict[str, str]]:
    whole = _lists()[name]
    if count is not None and not 1 <= count <= len(whole):
        raise UsageError(f"{name}: {count} were asked for; the list has {len(whole)}, take from 1 to {len(whole)}")
    return whole[:count]


def judge_nouns(pictures: Sequence[Image.Image], asked: Sequence[Noun], classifier: Classifier) -> list[NounScore]:
    """One score a picture; `asked[i]` is what `pictures[i]` was painted for."""
    classes = class_names()
    place = {wnid: i for i, (wnid, _) in enumerate(classes)}
    scores = []
    for noun, row in zip(asked, classifier(pictures), strict=True):
        own, first = place[noun.wnid], int(row.argmax())
        rank = 1 + int((np.delete(row, own) >= row[own]).sum())  # who comes level has not won
        scores.append(NounScore(noun.noun, rank, float(row[own]), classes[first][1], float(row[first])))
    return scores


def judge_pictograms(
    pictures: Sequence[Image.Image],
    asked: Sequence[Pictogram],
    encoder: ImageTextEncoder,
    among: Sequence[str] | None = None,
) -> list[PictogramScore]:
    """One score a picture; its prompt competes with all of `among`, by default the whole list of `pictograms`."""
    prompts = [each.prompt for each in pictograms()] if among is None else list(among)
    cosines = encoder.encode_images(list(pictures)) @ encoder.encode_texts(prompts).T
    scores = []
    for picture, pictogram, row in zip(pictures, asked, cosines, strict=True):
        own = prompts.index(pictogram.prompt)
        rank = 1 + int((np.delete(row, own) >= row[own]).sum())
        colour, share = dominant_colour(np.asarray(picture.convert("RGB")))
        right = None if pictogram.colour is None else colour == pictogram.colour
        scores.append(PictogramScore(pictogram.prompt, rank, prompts[int(row.argmax())], colour, right, share))
    return scores


def as_pictogram(prompt: str) -> Pictogram:
    """Any prompt, with the colour that it names, if it is one: "a grey cat" -> gray, "a red and blue fish" -> None."""
    named = set(named_in(prompt))
    return Pictogram(prompt, named.pop() if len(named) == 1 else None)


def prompt_in(path: Path) -> str | None:
    """The prompt that a picture of `bahu generate` holds; None for pictures of another origin. Raises ImageError."""
    open_image(path)  # what cannot be read is named in the usual words
    with Image.open(path) as image:
        text = getattr(image, "text", {}).get("bahumukha", "")
    try:
        prompt = json.loads(text)["settings"]["prompt"]
    except (ValueError, TypeError, KeyError):
        return None
    return prompt if isinstance(prompt, str) else None


def colourfulness(picture: Image.Image) -> Colourfulness:
    """Of one picture, whole."""
    rgb = np.asarray(picture.convert("RGB"))
    lab = cielab(rgb)
    highest, lowest = rgb.max(-1).astype(float), rgb.min(-1).astype(float)
    saturation = np.divide(highest - lowest, highest, out=np.zeros_like(highest), where=highest > 0)
    return Colourfulness(float(np.hypot(lab[..., 1], lab[..., 2]).mean()), float(saturation.mean()))


def first_among(ranks: Sequence[int], at: int) -> float:
    """The part of the ranks that are `at` or better, in [0, 1]."""
    return float(np.mean([rank <= at for rank in ranks]))
