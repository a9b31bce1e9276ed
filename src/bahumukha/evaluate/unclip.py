"""What unCLIP alone can do, measured: variations, blends, edits, inpainting, and how near its prior comes.

    variation_scores(unclip, pictures, config)        does CLIP find the source again, among all of them?

Each is done as the command of that name does it (`generate.variations`). CLIP is the model's own: what it was made to
follow it follows more easily than what another CLIP would see, so that these figures say how well the networks obey,
and the sheets beside them how well that looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bahumukha.errors import UsageError
from bahumukha.evaluate.captions import concept
from bahumukha.evaluate.drawn import Draw, embedded
from bahumukha.evaluate.pictures import Progress, quiet
from bahumukha.generate.priors import PriorSampling, sample_embeddings
from bahumukha.generate.unclip import Unclip, UnclipSampling, generate, last
from bahumukha.generate.unclip_config import SentenceConfig
from bahumukha.generate.variations import blend, edit, evenness, inpaint, vary
from bahumukha.images import to_uint8
from bahumukha.models.embedding_tokens import TokenPrior
from bahumukha.models.prior import DiffusionPrior
from bahumukha.models.text import TextFeatures

SOURCES_DRAWN = 4
"""Pictures drawn of what an edit begins with, of which CLIP's best is edited."""


@dataclass(frozen=True, kw_only=True)
class UnclipEvaluation(SentenceConfig):
    """How it is asked. Raises ValueError for values out of range."""

    upsample: bool = False
    """The figures are about what the decoder draws, so that other models of that size can be compared."""
    far: float = 1.0
    """Of variations."""
    strip: int = 5
    """Pictures of a blend."""
    strength: float = 0.55
    """Of edits."""
    many: int = 50
    """Steps that few ones are compared with."""

    def __post_init__(self) -> None:
        for name in ("far", "strength"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it takes a number from 0 to 1")
        if self.strip < 3:
            raise ValueError(f"strip is {self.strip}; a blend has a middle between its ends: at least 3")
        if self.many < 1:
            raise ValueError(f"many is {self.many}; at least 1 step is needed")


def by_unclip(unclip: Unclip, sampling: UnclipSampling) -> Draw:
    """unCLIP as what `evaluate.drawn` judges."""
    every = sampling.decoder.steps + (0 if sampling.upsampler is None else sampling.upsampler.steps)

    def draw(sentences: Sequence[str], seed: int) -> np.ndarray:
        steps = generate(unclip, sentences, count=len(sentences), sampling=sampling, seed=seed, every=every)
        return to_uint8(last(steps))

    return draw


def in_steps(sampling: UnclipSampling, steps: int) -> UnclipSampling:
    """The same with so many of the decoder's steps. Raises UsageError."""
    return replace(sampling, decoder=replace(sampling.decoder, steps=steps))


# --- variations -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VariationScores:
    """Of one variation of each picture."""

    pictures: int
    own: float
    """Mean cosine of a variation and its source."""
    other: float
    """Of a variation and any other source: random pairs."""
    first: float
    """Part of the variations whose source comes first among all."""


def variation_scores(
    unclip: Unclip, pictures: Sequence[Image.Image], config: UnclipEvaluation, seed: int = 0, progress: Progress = quiet
) -> tuple[VariationScores, np.ndarray]:
    """Of at least two different pictures; and the variations, uint8 (N, H, W, 3)."""
    if len(pictures) < 2:
        raise UsageError("--pictures: fewer than two pictures; one alone is always found first")
    drawn = []
    with progress(len(pictures), "varying") as advance:
        for k, picture in enumerate(pictures):
            steps = vary(unclip, picture, far=config.far, sampling=config.sampling, seed=seed + k)
            drawn.append(to_uint8(last(steps))[0])
            advance()
    made = np.stack(drawn)
    return likenesses(embedded(unclip.encoder, made) @ unclip.encoder.encode_images(pictures).T), made


def likenesses(cosines: np.ndarray) -> VariationScores:
    """Cosines (N, N) of variations, a row each, and sources. A source that comes level with the own one has won."""
    count = len(cosines)
    own = np.diag(cosines)
    others = cosines[~np.eye(count, dtype=bool)].reshape(count, count - 1)
    first = own > others.max(1)
    return VariationScores(count, float(own.mean()), float(others.mean()), float(first.mean()))


# --- blends -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BlendScores:
    """Of a strip for each pair of pictures; parts of the pairs."""

    pairs: int
    strip: int
    monotone: float
    """From each picture to the next it is more like the second than like the first."""
    both: float
    """From each to the next it is less like the first, and more like the second."""


def blend_scores(
    unclip: Unclip,
    pairs: Sequence[tuple[Image.Image, Image.Image]],
    config: UnclipEvaluation,
    seed: int = 0,
    progress: Progress = quiet,
) -> tuple[BlendScores, np.ndarray]:
    """And the strips, uint8 (pairs, strip, H, W, 3)."""
    strips, cosines = [], []
    with progress(len(pairs), "blending") as advance:
        for k, pair in enumerate(pairs):
            steps = blend(unclip, *pair, count=config.strip, sampling=config.sampling, seed=seed + k)
            strips.append(to_uint8(last(steps)))
            cosines.append(embedded(unclip.encoder, strips[-1]) @ unclip.encoder.encode_images(pair).T)
            advance()
    return monotone(np.stack(cosines)), np.stack(strips)


def monotone(cosines: np.ndarray) -> BlendScores:
    """Cosines (pairs, strip, 2) with the first and the second end."""
    change = np.diff(cosines, axis=1)
    by_difference = evenness(cosines) > 0
    both = (change[..., 0] < 0).all(1) & (change[..., 1] > 0).all(1)
    pairs, strip = cosines.shape[:2]
    return BlendScores(pairs, strip, float(by_difference.mean()), float(both.mean()))


# --- edits ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Edit:
    """What is to become what: of a picture, or of one that is drawn of `source`."""

    source: str
    target: str
    picture: Path | None = None


@dataclass(frozen=True)
class EditScores:
    """Parts of the edits."""

    edits: int
    preferred: float
    """CLIP prefers the target's caption to the source's."""
    kept: float
    """The rest is kept: in pixels it is nearer to what it was than a new picture of the target is."""
    succeeded: float
    """Both."""
    change: float
    """Mean absolute difference of pixels in [0, 1] from what was edited."""
    fresh: float
    """The same of a new picture of the target."""


@dataclass(frozen=True)
class Edited:
    """Pictures uint8 (N, H, W, 3) of one size, and what is said of each."""

    before: np.ndarray
    after: np.ndarray
    preferred: np.ndarray
    """bool (N,)"""
    kept: np.ndarray


def read_edits(file: Path) -> list[Edit]:
    """A line each: source, tab, target, and after another tab a picture, relative to the file. Raises UsageError."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--edits {file}: cannot be read as text ({error})") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("\t")]
        if not 2 <= len(parts) <= 3 or not all(parts):
            raise UsageError(
                f"--edits {file}: line {number} is no 'a red car<TAB>a blue car', with a picture or without"
            )
        found.append(Edit(parts[0], parts[1], file.parent / parts[2] if len(parts) > 2 else None))
    if not found:
        raise UsageError(f"--edits {file}: holds no edits; a line each, as 'a red car<TAB>a blue car'")
    return found


def edit_scores(
    unclip: Unclip,
    edits: Sequence[Edit],
    pictures: Mapping[Path, Image.Image],
    config: UnclipEvaluation,
    seed: int = 0,
    progress: Progress = quiet,
) -> tuple[EditScores, Edited]:
    """`pictures`: those that the edits name."""
    before, after, fresh = [], [], []
    draw = by_unclip(unclip, config.sampling)
    with progress(len(edits), "editing") as advance:
        for k, each in enumerate(edits):
            own = seed + (SOURCES_DRAWN + 1) * k
            source = pictures[each.picture] if each.picture else _best_of(unclip, draw, each.source, own)
            options = {"strengths": (config.strength,), "sampling": config.sampling, "seed": own}
            after.append(to_uint8(last(edit(unclip, source, each.source, each.target, **options)))[0])  # type: ignore[arg-type]
            fresh.append(draw([each.target], own + SOURCES_DRAWN)[0])
            size = (after[-1].shape[1], after[-1].shape[0])
            before.append(np.asarray(source.convert("RGB").resize(size, Image.Resampling.BICUBIC)))
            advance()
    rows = embedded(unclip.encoder, np.stack(after))
    sources, targets = (unclip.encoder.encode_texts([getattr(e, side) for e in edits]) for side in ("source", "target"))
    preferred = (rows * targets).sum(1) > (rows * sources).sum(1)
    edited = np.stack(before), np.stack(after)
    change, anew = away(*edited), away(edited[0], np.stack(fresh))
    kept = change < anew
    rates = [float(each.mean()) for each in (preferred, kept, preferred & kept, change, anew)]
    return EditScores(len(edits), *rates), Edited(*edited, preferred, kept)


def away(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pictures uint8 (N, H, W, 3), twice -> mean absolute differences in [0, 1], (N,)."""
    return np.abs(x.astype(np.float32) - y).mean((1, 2, 3)) / 255


def _best_of(unclip: Unclip, draw: Draw, sentence: str, seed: int) -> Image.Image:
    drawn = draw([sentence] * SOURCES_DRAWN, seed)
    scores = embedded(unclip.encoder, drawn) @ unclip.encoder.encode_texts([sentence])[0]
    return Image.fromarray(drawn[scores.argmax()])


# --- inpainting -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InpaintScores:
    """Of one box in each picture, drawn anew."""

    pictures: int
    exact: float
    """Part of the pictures whose other pixels are bit for bit what they were."""
    changed: float
    """Part in whose box any pixel has changed: what draws nothing is exact too."""


def inpaint_scores(
    unclip: Unclip,
    pictures: Sequence[Image.Image],
    prompts: Sequence[str],
    config: UnclipEvaluation,
    seed: int = 0,
    progress: Progress = quiet,
) -> tuple[InpaintScores, list[tuple[Image.Image, Image.Image]]]:
    """A prompt a picture; and each picture with its box in grey, and inpainted."""
    random = np.random.default_rng(seed)
    exact, changed, shown = [], [], []
    with progress(len(pictures), "inpainting") as advance:
        for k, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True)):
            mask, given = box(picture.size, random), np.asarray(picture)
            steps = inpaint(
                unclip, picture, Image.fromarray(mask), prompt, sampling=config.sampling, seed=seed + k, every=_ALL
            )
            drawn = to_uint8(last(steps))[0]
            exact.append(bool((drawn[mask == 0] == given[mask == 0]).all()))
            changed.append(bool((drawn[mask > 0] != given[mask > 0]).any()))
            grey = np.where(mask[..., None] > 0, np.uint8(128), given)
            shown.append((Image.fromarray(grey), Image.fromarray(drawn)))
            advance()
    return InpaintScores(len(exact), float(np.mean(exact)), float(np.mean(changed))), shown


_ALL = 1_000_000
"""More steps than there can be: only the last one is shown."""


def box(size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """A mask, uint8 (H, W): 255 in a box of a quarter to a half of each side, and of one pixel at least, 0 around."""
    mask = np.zeros((size[1], size[0]), np.uint8)
    high, wide = (max(1, round(side * random.uniform(0.25, 0.5))) for side in mask.shape)
    top, left = (int(random.integers(side - part + 1)) for side, part in zip(mask.shape, (high, wide), strict=True))
    mask[top : top + high, left : left + wide] = 255
    return mask


# --- the prior --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PriorScores:
    """Mean cosines with the true embedding of the picture."""

    pictures: int
    near: float
    """Of what is drawn for its caption."""
    caption: float
    """Of the caption's own: what a prior has to beat."""
    middle: float
    """Of the mean of all pictures trained on, the same for every caption."""
    alike: int
    """Pictures that share their caption with others."""
    alike_near: float | None
    """As `near`, of these."""
    same_caption: float | None
    """Of the mean of the others that have the same caption: as well as a caption can be learned by heart."""


def prior_scores(
    prior: DiffusionPrior | TokenPrior,
    captions: Sequence[str],
    text: TextFeatures,
    true: Tensor,
    sampling: PriorSampling,
    seed: int = 0,
) -> PriorScores:
    """captions, what the text tower makes of them, and the true embeddings (N, dim), of norm 1."""
    found = prior_cosines(prior, text, true, sampling, seed)
    by_heart, has_others = same_caption(captions, true)
    alike = int(has_others.sum())
    own = (true * by_heart).sum(1)
    near, caption, middle = (float(found[name].mean()) for name in ("near", "caption", "middle"))
    return PriorScores(
        len(true),
        near,
        caption,
        middle,
        alike,
        float(found["near"][has_others].mean()) if alike else None,
        float(own[has_others].mean()) if alike else None,
    )


def prior_cosines(
    prior: DiffusionPrior | TokenPrior, text: TextFeatures, true: Tensor, sampling: PriorSampling, seed: int = 0
) -> dict[str, Tensor]:
    """`near`, `caption` and `middle` of `PriorScores`, each (N,)."""
    mean = prior.standard.mean if isinstance(prior, DiffusionPrior) else prior.code.mean
    drawn = sample_embeddings(prior, text, count=len(true), sampling=sampling, seed=seed)
    others = {"near": drawn, "caption": text.embedding, "middle": mean / mean.norm()}
    return {name: (true * other).sum(1) for name, other in others.items()}


def same_caption(captions: Sequence[str], true: Tensor) -> tuple[Tensor, Tensor]:
    """Of each picture the mean of the others with its caption, (N, dim) of norm 1, and whether there are any."""
    places: dict[str, int] = {}
    of = torch.tensor([places.setdefault(concept(caption), len(places)) for caption in captions])
    sums = torch.zeros(len(places), true.shape[1], dtype=true.dtype).index_add_(0, of, true.cpu())
    counts = torch.bincount(of)
    others = sums[of] - true.cpu()
    return torch.nn.functional.normalize(others, dim=1).to(true.device), (counts[of] > 1).to(true.device)
