"""Zero-shot scores of a CLIP model: on photographs whose truth is in their names, or in the names of their folders.

A photograph is named by the WordNet id of what it shows, as in `n02123045_tabby.JPEG`.

- top-1, top-5: the 1,000 ImageNet names compete for each photograph (or fewer: `classes`).
- coarse words: a word such as "a dog" ranks all photographs; the score is the hits among the first five divided by
  min(5, photographs that fit). What fits is read off WordNet's hypernyms (`coarse_words.json`).
- a folder a class: the names of the sub-folders compete.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bahumukha.data.folders import find_images
from bahumukha.data.imagenet import class_names
from bahumukha.errors import UsageError
from bahumukha.evaluate.answers import Answers
from bahumukha.evaluate.imagenet import coarse_words
from bahumukha.evaluate.pictures import Progress, embed, name_embeddings, quiet
from bahumukha.protocols import ImageTextEncoder

WNID = re.compile(r"(n\d{8})(?:\D|$)")
COARSE_DEPTH = 5


@dataclass(frozen=True)
class ClipScores:
    """Scores in [0, 1]; `names` is how many competed for each photograph."""

    photos: int
    names: int
    top1: float
    top5: float
    coarse: float | None = None
    coarse_words: dict[str, float] = field(default_factory=dict)
    failed: list[tuple[str, str]] = field(default_factory=list)
    answers: Answers | None = field(default=None, repr=False, compare=False)
    """Photograph by photograph, for the table of classes and the confusion picture."""


def evaluate_photos(
    encoder: ImageTextEncoder,
    folder: Path,
    *,
    classes: Iterable[str] | None = None,
    templates: Sequence[str] | None = None,
    size: int | None = None,
    progress: Progress = quiet,
) -> ClipScores:
    """Score an encoder on the photographs of a folder.

    `classes` restricts both names and photographs to these WordNet ids (all 1,000 names and every photograph
    otherwise; coarse words are scored only then). `templates` None takes the model's own; `size` shrinks each
    photograph to so many pixels first. Raises UsageError if no photograph's name starts with a known id.
    """
    names = dict(class_names())
    wanted = set(names if classes is None else classes)
    if unknown := wanted - set(names):
        raise UsageError(f"--classes: {sorted(unknown)[0]} is not one of the 1,000 ImageNet ids")
    photos = photos_by_id(folder, wanted)
    embedded = embed(encoder, photos, option=f"--photos {folder}", size=size, progress=progress)
    ids = [wnid for wnid in names if wnid in wanted]
    prototypes = name_embeddings(encoder, [names[i] for i in ids], templates, progress)
    truth = np.array([ids.index(wnid) for wnid in embedded.keys])
    words = coarse_scores(encoder, embedded.keys, embedded.rows) if classes is None else {}
    return _scores(embedded.rows @ prototypes.T, truth, [names[i] for i in ids], words, embedded.failed)


def evaluate_folders(
    encoder: ImageTextEncoder,
    folder: Path,
    *,
    templates: Sequence[str] | None = None,
    size: int | None = None,
    progress: Progress = quiet,
) -> ClipScores:
    """Score an encoder on a folder of folders: each sub-folder's name is the label of the pictures in it.

    All the names compete, also those of empty folders. Raises UsageError for fewer than two, or no pictures.
    """
    labelled = pictures_by_folder(folder, option="--classes-from-folders")
    labels = sorted(labelled)
    pictures = [(place, path) for place, label in enumerate(labels) for path in labelled[label]]
    option = f"--classes-from-folders {folder}"
    if not pictures:
        raise UsageError(f"{option}: none of its {len(labels)} sub-folders holds a picture")
    embedded = embed(encoder, pictures, option=option, size=size, progress=progress)
    prototypes = name_embeddings(encoder, labels, templates, progress)
    return _scores(embedded.rows @ prototypes.T, np.array(embedded.keys), labels, {}, embedded.failed)


def _scores(
    scores: np.ndarray, truth: np.ndarray, names: list[str], words: dict[str, float], failed: list[tuple[str, str]]
) -> ClipScores:
    """scores (photos, names), truth int (photos,)."""
    top1, top5 = top_k_accuracy(scores, truth, (1, 5))
    coarse = float(np.mean(list(words.values()))) if words else None
    answers = Answers(tuple(names), truth, scores.argmax(1))
    return ClipScores(len(truth), len(names), top1, top5, coarse, words, failed, answers)


def top_k_accuracy(scores: np.ndarray, truth: np.ndarray, ks: Sequence[int]) -> list[float]:
    """scores (N, names), truth int (N,) -> the part of rows whose truth is among the k best, for each k.

    The rank of a truth is 1 + the number of names that score above it, or as high and stand before it.
    """
    own = scores[np.arange(len(truth)), truth][:, None]
    ahead = (scores > own).sum(1)
    ties = ((scores == own) & (np.arange(scores.shape[1]) < truth[:, None])).sum(1)
    return [float((ahead + ties < k).mean()) for k in ks]


def coarse_scores(encoder: ImageTextEncoder, truths: Sequence[str], embeddings: np.ndarray) -> dict[str, float]:
    """Word -> hits among its first five photographs / min(5, photographs that fit); words that none fits left out.

    The word is asked as a person would ask a search: as it is, without a template.
    """
    scored = {}
    for entry in coarse_words():
        fits = np.array([t in entry.classes for t in truths])
        if fits.any():
            ranked = np.argsort(-(embeddings @ encoder.encode_texts([entry.word])[0]), kind="stable")
            scored[entry.word] = float(fits[ranked[:COARSE_DEPTH]].sum() / min(COARSE_DEPTH, fits.sum()))
    return scored


def coarse_groups(names: Sequence[str]) -> dict[int, str]:
    """Positions of class names -> the coarse word that fits (the first, should two), for `Answers.grouped`."""
    wnid_of = {name: wnid for wnid, name in class_names()}
    words = coarse_words()
    fitting = {i: [w.word for w in words if wnid_of.get(name) in w.classes] for i, name in enumerate(names)}
    return {i: found[0] for i, found in fitting.items() if found}


def photos_by_id(folder: Path, wanted: Iterable[str]) -> list[tuple[str, Path]]:
    """(WordNet id, photograph) of those whose name starts with a wanted id. Raises UsageError if there is none."""
    ids = set(wanted)
    photos = [(m[1], p) for p in find_images([folder]) if (m := WNID.match(p.name)) and m[1] in ids]
    if not photos:
        raise UsageError(
            f"--photos {folder}: no picture's name starts with the WordNet id of a class, as in n02123045_tabby.jpg"
        )
    return photos


def pictures_by_folder(folder: Path, *, option: str) -> dict[str, list[Path]]:
    """Label -> the pictures anywhere under the sub-folder of that name; hidden folders are skipped.

    `_` in a name stands for a blank; a folder named by an ImageNet id has the class's name. Raises UsageError
    for fewer than two sub-folders, or two with one label.
    """
    if not folder.is_dir():
        raise UsageError(f"{option} {folder}: there is no such folder")
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(inside) < 2:
        raise UsageError(f"{option} {folder}: has {len(inside)} sub-folders; it needs at least two, one for each class")
    known = dict(class_names())
    labelled: dict[str, list[Path]] = {}
    for path in inside:
        label = known.get(path.name) or " ".join(path.name.replace("_", " ").split()) or path.name
        if label in labelled:
            raise UsageError(f"{option} {folder}: two sub-folders mean {label!r}; give each class one")
        labelled[label] = list(find_images([path]))
    return labelled
