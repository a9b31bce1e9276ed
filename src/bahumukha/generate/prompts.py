r"""What a picture is to show, and how far it is from that: prompts from a line of text, and their loss.

    a | b:0.5 | c:-0.3:0.2      several at once, each with a weight (1) and a stop; a weight below 0 pushes away
    a ^ b ^ c                   a story: one chapter after another, each of them prompts as above
    label=red panda             the mean over the model's templates ("a photo of a red panda.", …)
    picture=cats/*.jpg:0.3      what looks like these pictures; the files of a pattern share the weight
    noise=7:0.1                 a random direction from that seed
    vector=FILE.npy             embeddings of the same model: float (dim,) or (n, dim)
    inside=a red balloon        judged under the mask alone (`spot`); outside= the rest

Numbers at the end, after colons, are weight and stop; any other colon belongs to the text. A backslash takes the next
one of | ^ : = \ as it is: "a clock at 10\:30". A prompt with target v and weight w costs a picture whose N cutouts
embed as u (Crowson et al. 2022, "VQGAN-CLIP", with the squared angle of a great circle)

    |w| · mean_u( sign(w) · 2 · arcsin²(‖u - v‖ / 2) )

and a cutout that is nearer than `stop` (farther, for a weight below 0) moves the picture no more.
"""

from __future__ import annotations

import glob
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from bahumukha.classify import label_embeddings
from bahumukha.errors import UsageError
from bahumukha.images import EXTENSIONS, open_image, shown, to_float01
from bahumukha.protocols import ImageTextEncoder

Place = Literal["everywhere", "inside", "outside"]

KINDS = ("label", "picture", "noise", "vector")
"""Words before = that say what a prompt is; without one it is a text."""
NEVER = -math.inf
GREY = 0.5
"""Of a picture where a spot prompt does not look, in [0, 1]."""

_ESCAPED = re.compile(r"\\([\\|^:=])")
_PREFIX = re.compile(r"\s*(label|picture|noise|vector|inside|outside)=")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_ALMOST = re.compile(r"\s*|[+-]?[\d.,/%]+|[+-]?(nan|inf|infinity)", re.IGNORECASE)
"""What stands for a number after a colon but is none; other words there are text."""


@dataclass(frozen=True)
class Prompt:
    """One thing to show: a text, a label, pictures, a direction of noise or stored embeddings; exactly one is given."""

    text: str = ""
    label: str = ""
    """Embedded by the model's templates."""
    picture: str = ""
    """A file, or a pattern of files."""
    noise: int | None = None
    """A seed."""
    vector: str = ""
    """A .npy file."""
    weight: float = 1.0
    """Above 0 attracts, below 0 repels."""
    stop: float = NEVER
    """The loss of a cutout below which (for a weight below 0: above which) it has no gradient, from 0 to π²/2; its
    sign does not count for a weight below 0."""
    place: Place = "everywhere"

    def __post_init__(self) -> None:
        given = [kind for kind in ("text", *KINDS) if getattr(self, kind) not in ("", None)]
        if len(given) != 1:
            raise UsageError(f"a prompt is one of text, {', '.join(KINDS)}; given were {', '.join(given) or 'none'}")
        if not math.isfinite(self.weight) or not self.stop < math.inf:
            raise UsageError(f"prompt {self.subject!r}: weight {self.weight} and stop {self.stop} have to be numbers")
        if self.noise is not None and not 0 <= self.noise < 2**63:
            raise UsageError(f"noise={self.noise}: a seed is a whole number from 0 up, below 2^63")
        if self.place not in get_args(Place):
            raise UsageError(f"prompt {self.subject!r}: place {self.place!r} is none of {', '.join(get_args(Place))}")

    @property
    def subject(self) -> str:
        """As it is typed, without weight and stop: `a cat`, `label=cat`, `inside=noise=3`."""
        place = "" if self.place == "everywhere" else f"{self.place}="
        for kind in KINDS:
            if getattr(self, kind) not in ("", None):
                return f"{place}{kind}={getattr(self, kind)}"
        return place + self.text

    def __str__(self) -> str:
        """The text that `parse_prompts` reads back as the same prompt."""
        place = "" if self.place == "everywhere" else f"{self.place}="
        text = re.sub(r"[\\|^:]", r"\\\g<0>", self.subject.removeprefix(place))
        if match := _PREFIX.match(self.text):  # a text that looks like another kind
            text = text.replace(match[0], match[0][:-1] + r"\=", 1)
        text = place + text
        if self.stop != NEVER:
            return f"{text}:{self.weight!r}:{self.stop!r}"
        return text if self.weight == 1 else f"{text}:{self.weight!r}"


@dataclass(frozen=True)
class Story:
    """Chapters of equal length, each the prompts that hold in it. Made by `parse_story`."""

    chapters: tuple[tuple[Prompt, ...], ...]
    fade: float = 0.0
    """Share of a chapter, in [0, 1], over which it passes into the next one; centred on the change."""

    def __post_init__(self) -> None:
        if not 0 <= self.fade <= 1:
            raise UsageError(f"fade: {self.fade} was given; it takes a share of a chapter from 0 to 1")

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Those of all chapters in order, to be embedded once."""
        return tuple(prompt for chapter in self.chapters for prompt in chapter)

    def weights(self, progress: float) -> list[float]:
        """Of each of `prompts` at `progress`, 0 at the first step and 1 at the last; 0 outside its chapter."""
        shares = self._shares(progress)
        pairs = zip(self.chapters, shares, strict=True)
        return [prompt.weight * share for chapter, share in pairs for prompt in chapter]

    def at(self, progress: float) -> list[Prompt]:
        """The prompts in force at `progress`, with the weights that they have there."""
        pairs = zip(self.chapters, self._shares(progress), strict=True)
        return [replace(p, weight=p.weight * share) for chapter, share in pairs if share > 0 for p in chapter]

    def _shares(self, progress: float) -> list[float]:
        """How much of each chapter is in force; they sum to 1."""
        place, last = min(max(progress, 0.0), 1.0) * len(self.chapters), len(self.chapters) - 1

        def begun(chapter: int) -> float:
            if chapter == 0 or self.fade == 0:
                return float(place >= chapter)
            return min(max((place - chapter) / self.fade + 0.5, 0.0), 1.0)

        return [begun(i) - (begun(i + 1) if i < last else 0.0) for i in range(len(self.chapters))]

    def __str__(self) -> str:
        return " ^ ".join(" | ".join(map(str, chapter)) for chapter in self.chapters)


class Targets(NamedTuple):
    """Prompts as one model embeds them: T rows, one or more a prompt."""

    embeddings: Tensor
    """(T, dim), rows of norm 1."""
    owner: Tensor
    """int64 (T,): the number of the prompt whose row it is."""
    share: Tensor
    """(T,): one over the number of rows of that prompt."""
    stops: Tensor
    """(T,)."""

    def weights(self, of_prompts: Sequence[float]) -> Tensor:
        """A weight a prompt -> a weight a row (T,); 0 for one that is out of force."""
        return torch.tensor(of_prompts, dtype=torch.float32, device=self.share.device)[self.owner] * self.share


# --- reading ----------------------------------------------------------------------------------------------


def parse_story(text: str, fade: float = 0.0) -> Story:
    """`a | b:0.5 ^ c` -> its chapters; a line without ^ is a story of one. Raises UsageError."""
    return Story(tuple(tuple(parse_prompts(chapter)) for chapter in _split(text, "^")), fade)


def parse_prompts(text: str) -> list[Prompt]:
    """`a | b:0.5 | c:-0.3:0.2` -> prompts, in order. Raises UsageError naming the part at fault."""
    if len(_split(text, "^")) > 1:
        raise UsageError(rf"prompt '{shown(text)}': ^ parts the chapters of a story; write \^ for the sign itself")
    return [_parse_prompt(part, text) for part in _split(text, "|")]


def _split(text: str, mark: str) -> list[str]:
    """At each `mark` that no backslash takes as it is; what stays is not unescaped yet."""
    parts = [""]
    for each in re.findall(r"\\[\\|^:=]|.", text, re.DOTALL):
        if each == mark:
            parts.append("")
        else:
            parts[-1] += each
    return parts


def _parse_prompt(part: str, whole: str) -> Prompt:
    subject, numbers = _numbers(part)
    place, kind, match = "everywhere", "text", _PREFIX.match(subject)
    if match and match[1] in ("inside", "outside"):
        place, subject = match[1], subject[match.end() :]
        match = _PREFIX.match(subject)
    if match and match[1] in KINDS:
        kind, subject = match[1], subject[match.end() :]
    content: str | int = _ESCAPED.sub(r"\1", subject).strip()
    if not content:
        raise UsageError(f"prompt '{shown(whole)}': the part '{shown(part.strip())}' says nothing; write what to show")
    if kind == "noise":
        if not str(content).isdecimal():
            raise UsageError(f"prompt '{shown(part.strip())}': noise= takes a seed, a whole number, as noise=7:0.1")
        content = int(content)
    weight, stop = [*numbers, 1.0][0], [*numbers, NEVER, NEVER][1] if numbers else NEVER
    return Prompt(weight=weight, stop=stop, place=place, **{kind: content})  # type: ignore[arg-type]


def _numbers(part: str) -> tuple[str, list[float]]:
    """A prompt's text and the numbers at its end."""
    fields = _split(part, ":")
    numbers: list[float] = []
    while len(fields) > 1 and _NUMBER.fullmatch(fields[-1].strip()):
        numbers.insert(0, float(fields.pop()))
    if len(fields) > 1 and _ALMOST.fullmatch(fields[-1].strip()):
        raise UsageError(
            f"prompt '{shown(part.strip())}': '{fields[-1]}' is no weight; write TEXT:WEIGHT:STOP with numbers as 0.5,"
            r" or \: for a colon of the text"
        )
    if len(numbers) > 2 or not all(map(math.isfinite, numbers)):
        raise UsageError(
            f"prompt '{shown(part.strip())}': at most two numbers, weight and stop, may end it, and finite ones;"
            r" write \: for a colon of the text"
        )
    return ":".join(fields), numbers


# --- embedding --------------------------------------------------------------------------------------------


def encode_prompts(
    prompts: Sequence[Prompt], encoder: ImageTextEncoder, templates: Sequence[str] | None = None
) -> Targets:
    """Prompts as `encoder` sees them; `templates` of labels, None for the model's own.

    Raises UsageError for a pattern without pictures, a vector of another model and a bad template; ImageError.
    """
    rows = [_embedded(prompt, encoder, templates) for prompt in prompts]
    if not rows:
        raise UsageError("no prompts; give at least one, as 'a red fox in the snow'")
    counts = torch.tensor([len(each) for each in rows])
    owner = torch.arange(len(rows)).repeat_interleave(counts)
    stops = torch.tensor([prompt.stop for prompt in prompts])[owner]
    return Targets(F.normalize(torch.cat(rows), dim=-1), owner, (1 / counts)[owner], stops)


def _embedded(prompt: Prompt, encoder: ImageTextEncoder, templates: Sequence[str] | None) -> Tensor:
    """One prompt -> float32 (n, dim)."""
    if prompt.noise is not None:
        generator = torch.Generator().manual_seed(prompt.noise)
        return torch.randn(1, encoder.dim, generator=generator)
    if prompt.vector:
        return _read_vector(prompt.vector, encoder)
    if prompt.picture:
        images = [open_image(path) for path in picture_files(prompt.picture)]
        return torch.from_numpy(encoder.encode_images(images))
    if prompt.label:
        return torch.from_numpy(label_embeddings(encoder, [prompt.label], templates)).float()
    return torch.from_numpy(encoder.encode_texts([prompt.text]))


def picture_files(pattern: str) -> list[str]:
    """A file, as it is; or the pictures that match a pattern with * ? [ ], sorted. Raises UsageError for none."""
    if Path(pattern).exists() or not glob.has_magic(pattern):
        return [pattern]
    found = sorted(each for each in glob.glob(pattern, recursive=True) if Path(each).suffix.lower() in EXTENSIONS)
    if not found:
        raise UsageError(f"picture={shown(pattern)}: no picture matches; give a file, or a pattern as 'cats/*.jpg'")
    return found


def _read_vector(path: str, encoder: ImageTextEncoder) -> Tensor:
    try:
        rows = np.atleast_2d(np.load(path, allow_pickle=False)).astype(np.float32)
    except (OSError, ValueError, EOFError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "not an array of numbers in NumPy's .npy"
        raise UsageError(f"vector={shown(path)}: cannot be read ({reason})") from error
    if rows.ndim != 2 or rows.shape[1] != encoder.dim or not len(rows):
        shape = " x ".join(map(str, rows.shape))
        raise UsageError(f"vector={shown(path)}: has shape {shape}; {encoder.name} needs (n, {encoder.dim})")
    if not np.isfinite(rows).all() or not rows.any(axis=1).all():
        raise UsageError(f"vector={shown(path)}: holds rows of zeros or numbers that are not finite")
    return torch.from_numpy(rows)


# --- spots ------------------------------------------------------------------------------------------------


def read_mask(path: str | Path, size: tuple[int, int]) -> Tensor:
    """A picture whose white is inside and black outside -> float32 (1, 1, height, width) in [0, 1]; `size` (width,
    height). Cut to that shape around its middle. Raises ImageError, and UsageError for a mask of one side alone."""
    fitted = ImageOps.fit(open_image(path), size, Image.Resampling.LANCZOS)
    mask = torch.from_numpy(to_float01(fitted)).mean(-1)[None, None]
    if float(mask.amax()) < 0.5 or float(mask.amin()) > 0.5:
        raise UsageError(
            f"{shown(path)}: the mask is all {'black' if mask.amax() < 0.5 else 'white'}; paint white the"
            " spot where 'inside=' holds, and black the rest"
        )
    return mask


def spot(render: Tensor, mask: Tensor, place: Place) -> Tensor:
    """A render (B, 3, H, W) in [0, 1] as prompts of `place` see it: grey, and without gradient, where they do not look.

    `mask` (1, 1, H, W): 1 inside. Only "inside" and "outside" differ from the render itself.
    """
    if place == "everywhere":
        return render
    return torch.lerp(torch.full_like(render, GREY), render, mask if place == "inside" else 1 - mask)


# --- the loss ---------------------------------------------------------------------------------------------


def prompt_loss(embeddings: Tensor, targets: Tensor, weights: Tensor, stops: Tensor) -> Tensor:
    """The formula at the module's head, summed over the targets -> a scalar, differentiable in `embeddings`.

    embeddings (N, dim) of cutouts, targets (T, dim), any norms above 0; weights (T,); stops (T,), -inf for never.
    """
    u, v = F.normalize(embeddings, dim=-1)[:, None], F.normalize(targets, dim=-1)[None]
    # 2 arcsin(‖u - v‖ / 2) is the angle; this form keeps its gradient finite for opposite u and v as well.
    angle = 2 * torch.atan2((u - v).norm(dim=-1), (u + v).norm(dim=-1))
    cost = weights.sign() * angle.square() / 2  # (N, T)
    floor = torch.where(weights < 0, -stops.abs(), stops)
    cost = torch.where(cost < floor, cost.detach(), cost)
    return (weights.abs() * cost.mean(0)).sum()
