"""Pictures drawn of sentences that training never showed: found again by CLIP, composed as asked, varied, not copied.

    drawn = draw_all(by_dalle(dalle, codec, Sampling(guidance=3)), encoder, prompts, each=8)
    retrieval(encoder, drawn, captions)

Whatever draws comes as a `Draw` (`evaluate.dalle`, `evaluate.unclip`). Of each prompt several pictures are drawn. What
is said of "single" ones is the mean over all of them, as if one had been drawn; of the "best", over those that CLIP
ranks first for their own caption.

Where CLIP both ranks the candidates and finds their captions, "best" leans its way and "single" does not. The judge of
composition has nothing to do with CLIP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bahumukha.data.pairs import Listed, SourceConfig, open_source
from bahumukha.data.scene_captions import styled
from bahumukha.data.scene_colours import BASIC
from bahumukha.data.styles import is_held_out
from bahumukha.errors import UsageError
from bahumukha.evaluate.captions import concept, read_captioned
from bahumukha.evaluate.composed import (
    Composed,
    CompositionRates,
    Judge,
    JudgeAccuracy,
    accuracy,
    composed_scenes,
    rates,
    wanted,
)
from bahumukha.evaluate.fidelity import frechet_distance
from bahumukha.evaluate.pictures import Embedded, Progress, embed, quiet
from bahumukha.evaluate.retrieval import best_ranks
from bahumukha.evaluate.vqgan import Features, pixels_of, reconstruct
from bahumukha.images import open_image, to_uint8
from bahumukha.protocols import ImageCodec, ImageTextEncoder

AT_ONCE = 32
"""Pictures drawn, or looked at, in a batch."""

Draw = Callable[[Sequence[str], int], np.ndarray]
"""(a sentence for each picture, the first one's seed) -> uint8 (N, H, W, 3); the next one has the next seed."""


@dataclass(frozen=True)
class Asked:
    """What the model is told, and what CLIP has to find its picture by: the same, but where the languages differ."""

    prompt: str
    caption: str


@dataclass(frozen=True)
class Drawn:
    """`each` pictures of every prompt, and what CLIP says of them."""

    pictures: np.ndarray
    """uint8 (P, each, H, W, 3)."""
    rows: np.ndarray
    """float32 (P, each, dim), of norm 1: their embeddings."""
    scores: np.ndarray
    """float32 (P, each): cosine with the own caption."""

    @property
    def best(self) -> np.ndarray:
        """int64 (P,): which one CLIP ranks first."""
        return self.scores.argmax(1)

    @property
    def best_pictures(self) -> np.ndarray:
        """uint8 (P, H, W, 3)."""
        return self.pictures[np.arange(len(self.pictures)), self.best]

    @property
    def best_rows(self) -> np.ndarray:
        """float32 (P, dim)."""
        return self.rows[np.arange(len(self.rows)), self.best]


@dataclass(frozen=True)
class RetrievalScores:
    """Parts of the pictures whose own caption comes first among all; one that comes level has not won."""

    prompts: int
    """Different captions, among which each is to be found."""
    each: int
    single: float
    best: float
    by_prompt: list[int]
    """Place of each prompt's own caption, by its best picture; 1 is found."""


@dataclass(frozen=True)
class SceneScores:
    """Composition as asked, and how far this judge can be trusted."""

    each: int
    single: CompositionRates
    best: CompositionRates
    codec: CompositionRates | None
    """Of real scenes, through the codec and back: no model that draws its codes can be expected to do better. None of a
    model that draws pixels."""
    judge: JudgeAccuracy


@dataclass(frozen=True)
class Nearest:
    """A drawn picture and the training picture that CLIP finds most like it."""

    prompt: str
    path: Path
    cosine: float


# --- drawing ----------------------------------------------------------------------------------------------


def read_prompts(file: Path) -> list[Asked]:
    """One a line; after a tab, the caption that CLIP is to find the picture by, where it is another. No repetitions.

    Raises UsageError.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--prompts {file}: cannot be read as text ({error})") from error
    parts = [[part.strip() for part in line.split("\t")] for line in lines if line.strip() and line[0] != "#"]
    return checked([Asked(each[0], each[-1]) for each in parts], f"--prompts {file}")


def prompts_of(source: Path, *, language: str | None = None, split: str | None = None) -> list[Asked]:
    """The first caption of each captioned picture in a language; CLIP finds by the English one, where there is one.

    Raises UsageError.
    """
    told = read_captioned(source, language=language, split=split, most=1)
    found = {each.path: each.captions[0] for each in told}
    if language not in (None, "en"):
        english = {each.path: each.captions[0] for each in read_captioned(source, split=split, most=1)}
        pairs = [Asked(prompt, english[path]) for path, prompt in found.items() if path in english]
    else:
        pairs = [Asked(prompt, prompt) for prompt in found.values()]
    return checked(pairs, f"--captions {source}")


def kept_prompts(folders: Sequence[Path], language: str | None = None) -> list[Asked]:
    """Single things as training never shows them, from what it otherwise draws on.

    Of folders with `captions.jsonl`: the name and the style, of the pairs of style and thing that are kept from
    training (`data.styles`); CLIP finds by the English name alone. Of folders with `scenes.jsonl`: things alone in a
    colour that is kept from them, "a blue apple"; these are English. Raises UsageError.
    """
    found: list[Asked] = []
    for folder in folders:
        if (folder / "scenes.jsonl").is_file():
            if language not in (None, "en"):
                raise UsageError(
                    f"--language {language}: the scenes of {folder} are asked for in English; leave it out"
                )
            alone = [each for each in composed_scenes(folder, "--held-out") if _is_new_colour(each)]
            found += [Asked(each.caption, each.caption) for each in alone]
            continue
        source = open_source(SourceConfig(folder, split="train"))
        if not isinstance(source, Listed):
            raise UsageError(f"--held-out {folder}: a folder with captions.jsonl or scenes.jsonl is needed")
        for captions, about in zip(source.texts, source.about, strict=True):
            if about.style and any(is_held_out(*thing) for thing in about.things):
                told = captions.get(language or "en")
                if told and "en" in captions:
                    found.append(Asked(styled(told[0], about.style), captions["en"][0]))
    return checked(found, f"--held-out {', '.join(map(str, folders))}")


def _is_new_colour(each: Composed) -> bool:
    if each.scene.arrangement != "alone":
        return False
    (thing,) = each.scene.objects
    return thing.count == 1 and thing.colour in BASIC and (thing.key, thing.colour) in each.scene.held_out()


def checked(asked: Sequence[Asked], option: str) -> list[Asked]:
    """Those whose captions differ, the first of each. Raises UsageError for fewer than two."""
    different: dict[str, Asked] = {}
    for each in asked:
        different.setdefault(concept(each.caption), each)
    if len(different) < 2:
        raise UsageError(f"{option}: holds fewer than two different prompts; one alone is always found first")
    return list(different.values())


def draw_all(
    draw: Draw,
    encoder: ImageTextEncoder,
    asked: Sequence[Asked],
    *,
    each: int = 8,
    seed: int = 0,
    progress: Progress = quiet,
) -> Drawn:
    """`each` pictures of every prompt; picture k of all has the random numbers of seed + k. Raises UsageError."""
    prompts = [one.prompt for one in asked for _ in range(each)]
    parts: list[np.ndarray] = []
    with progress(len(prompts), "drawing") as advance:
        for first in range(0, len(prompts), AT_ONCE):
            some = prompts[first : first + AT_ONCE]
            parts.append(draw(some, seed + first))
            advance(len(some))
    pictures = np.concatenate(parts)
    rows = embedded(encoder, pictures, progress).reshape(len(asked), each, -1)
    texts = encoder.encode_texts([one.caption for one in asked])
    return Drawn(pictures.reshape(len(asked), each, *pictures.shape[1:]), rows, np.einsum("ped,pd->pe", rows, texts))


def embedded(encoder: ImageTextEncoder, pictures: np.ndarray, progress: Progress = quiet) -> np.ndarray:
    """uint8 (N, H, W, 3) -> float32 (N, dim), rows of norm 1."""
    parts = []
    with progress(len(pictures), "looking") as advance:
        for first in range(0, len(pictures), AT_ONCE):
            some = pictures[first : first + AT_ONCE]
            parts.append(encoder.encode_images([Image.fromarray(rgb) for rgb in some]))
            advance(len(some))
    return np.concatenate(parts)


# --- what is said of them ---------------------------------------------------------------------------------


def retrieval(encoder: ImageTextEncoder, drawn: Drawn, captions: Sequence[str]) -> RetrievalScores:
    """CLIP's R@1 of each picture's own caption among all. Captions differ; `captions[p]` is of prompt p."""
    texts = encoder.encode_texts(list(captions))
    count, each = drawn.scores.shape
    own = [[prompt] for prompt in range(count)]
    best = best_ranks(drawn.best_rows, texts, own)
    single = best_ranks(drawn.rows.reshape(count * each, -1), texts, [right for right in own for _ in range(each)])
    return RetrievalScores(
        count, each, float((single == 1).mean()), float((best == 1).mean()), [int(rank) for rank in best]
    )


def scene_scores(
    drawn: Drawn, codec: ImageCodec | None, judge: Judge, scenes: Sequence[Composed], size: int
) -> SceneScores:
    """Composition of the pictures drawn of the scenes' captions, and of the scenes themselves through the codec, if the
    model draws that one's codes."""
    asked = [wanted(each.scene) for each in scenes]
    count, each = drawn.scores.shape
    pictures = list(drawn.pictures.reshape(count * each, *drawn.pictures.shape[2:]))
    verdicts = judge(pictures, [one for one in asked for _ in range(each)])
    best = [verdicts[prompt * each + int(place)] for prompt, place in enumerate(drawn.best)]
    return SceneScores(
        each,
        rates(verdicts),
        rates(best),
        None if codec is None else rates(judge(_through(codec, [each.path for each in scenes], size), asked)),
        accuracy(judge, scenes, size),
    )


def _through(codec: ImageCodec, paths: Sequence[Path], size: int) -> list[np.ndarray]:
    """Pictures through the codec and back, uint8 (size, size, 3)."""
    back: list[np.ndarray] = []
    for first in range(0, len(paths), AT_ONCE):
        x = _tensors(paths[first : first + AT_ONCE], size)
        back += list(to_uint8(reconstruct(codec, x).pixels.permute(0, 2, 3, 1).numpy()))
    return back


def frechet(features: Features, drawn: Drawn, validation: Sequence[Path], size: int) -> tuple[float, int]:
    """Squared Fréchet distance of drawn pictures to as many real ones, and how many those are of either.

    Of each prompt the first pictures, unranked; of more real ones, or more prompts, an even choice.
    """
    pictures = drawn.pictures.swapaxes(0, 1).reshape(-1, *drawn.pictures.shape[2:])
    count = min(len(pictures), len(validation))
    pictures = pictures[: max(count, len(drawn.pictures))]
    pictures = pictures[[i * len(pictures) // count for i in range(count)]]
    with torch.inference_mode():
        ours = [
            features(torch.from_numpy(pictures[first : min(first + AT_ONCE, count)]).permute(0, 3, 1, 2).float() / 255)
            for first in range(0, count, AT_ONCE)
        ]
        some = [validation[i * len(validation) // count] for i in range(count)]
        real = [features(_tensors(some[first : first + AT_ONCE], size)) for first in range(0, count, AT_ONCE)]
    return frechet_distance(torch.cat(ours).numpy(), torch.cat(real).numpy()), count


def _tensors(paths: Sequence[Path], size: int) -> torch.Tensor:
    return torch.stack([pixels_of(open_image(path, at_least=size), size) for path in paths])


def diversity(rows: np.ndarray) -> float:
    """Unit rows (P, each, dim) -> mean of 1 - cosine over the pairs of pictures of one prompt; 0 for all alike.

    The means over the prompts are averaged; `each` is at least 2.
    """
    each = rows.shape[1]
    if each < 2:
        raise ValueError("one picture a prompt has no other to differ from; draw at least 2")
    whole = np.square(rows.sum(1, dtype=np.float64)).sum(-1)
    return float(1 - ((whole - each) / (each * (each - 1))).mean())


def nearest(rows: np.ndarray, names: Sequence[str], training: Embedded[Path]) -> list[Nearest]:
    """Unit rows (P, dim) and what they are called -> the training picture most like each of them."""
    cosines = rows @ training.rows.T
    places = cosines.argmax(1)
    return [
        Nearest(name, training.keys[place], float(row[place]))
        for name, row, place in zip(names, cosines, places, strict=True)
    ]


def embedded_files(
    encoder: ImageTextEncoder, paths: Sequence[Path], option: str, size: int, progress: Progress = quiet
) -> Embedded[Path]:
    """Files as CLIP sees them at the size of drawn pictures. Raises UsageError when none can be read."""
    return embed(encoder, [(path, path) for path in paths], option=option, size=size, progress=progress)
