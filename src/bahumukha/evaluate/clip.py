"""Zero-shot scores of a CLIP model on photographs whose truth is in their names.

A photograph is named by the WordNet id of what it shows, as in `n02123045_tabby.JPEG`.

- top-1, top-5: the 1,000 ImageNet names compete for each photograph (or fewer: `classes`).
- coarse words: a word such as "a dog" ranks all photographs; the score is the hits among the first five divided by
  min(5, photographs that fit). What fits is read off WordNet's hypernyms (`coarse_words.json`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bahumukha.classify import label_embeddings, shortest_side
from bahumukha.data.folders import find_images
from bahumukha.errors import BahumukhaError, UsageError
from bahumukha.evaluate.imagenet import class_names, coarse_words
from bahumukha.images import open_image
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


def evaluate_photos(
    encoder: ImageTextEncoder,
    folder: Path,
    *,
    classes: Iterable[str] | None = None,
    templates: Sequence[str] | None = None,
) -> ClipScores:
    """Score an encoder on the photographs of a folder.

    `classes` restricts both names and photographs to these WordNet ids (all 1,000 names and every photograph
    otherwise; coarse words are scored only then). Raises UsageError if no photograph's name starts with a known id.
    """
    names = dict(class_names())
    wanted = set(names if classes is None else classes)
    if unknown := wanted - set(names):
        raise UsageError(f"--classes: {sorted(unknown)[0]} is not one of the 1,000 ImageNet ids")
    truths, embeddings, failed = _encode_photos(encoder, folder, wanted)
    ids = [wnid for wnid in names if wnid in wanted]
    prototypes = label_embeddings(encoder, [names[i] for i in ids], templates)
    scores = embeddings @ prototypes.T  # (photos, names)
    top1, top5 = top_k_accuracy(scores, np.array([ids.index(t) for t in truths]), (1, 5))
    words: dict[str, float] = {}
    if classes is None:
        words = coarse_scores(encoder, truths, embeddings)
    mean = float(np.mean(list(words.values()))) if words else None
    return ClipScores(len(truths), len(ids), top1, top5, mean, words, failed)


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


def _encode_photos(
    encoder: ImageTextEncoder, folder: Path, wanted: set[str]
) -> tuple[list[str], np.ndarray, list[tuple[str, str]]]:
    photos = [(m[1], p) for p in find_images([folder]) if (m := WNID.match(p.name)) and m[1] in wanted]
    if not photos:
        raise UsageError(
            f"--photos {folder}: no picture's name starts with the WordNet id of a class, as in n02123045_tabby.jpg"
        )
    truths, rows, failed = [], [], []
    at_least = shortest_side(encoder)  # decoded as `index` and `classify` do
    for (wnid, path), result in encoder.encode_each(photos, lambda item: open_image(item[1], at_least=at_least)):
        if isinstance(result, BahumukhaError):
            failed.append((str(path), str(result)))
        else:
            truths.append(wnid)
            rows.append(result)
    if not rows:
        raise UsageError(f"--photos {folder}: none of the {len(photos)} pictures could be read: {failed[0][1]}")
    return truths, np.stack(rows), failed
