"""Zero-shot classification: which of these labels is in the picture? Nothing is trained.

Each label becomes a sentence or several (by *templates*), whose embeddings are averaged and brought back to
norm 1: t_j. A picture with embedding v holds label j with probability

    p_j = exp(s v.t_j) / sum_k exp(s v.t_k),    s = the model's logit scale

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021), section 3.1.
The probabilities compare the given labels with each other only; a label such as "something else" leaves a
way out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bahumukha.errors import BahumukhaError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from bahumukha.protocols import ImageTextEncoder

T = TypeVar("T")

FALLBACK_TEMPLATES = ("a photo of a {}.",)
"""For an encoder that brings no `templates` of its own."""

ARTICLES = ("a ", "an ", "the ")


@dataclass(frozen=True)
class Label:
    """A label and the probability, in [0, 1], that the picture shows it rather than the other labels."""

    label: str
    probability: float


def classify(
    images: Sequence[Image.Image | str | Path],
    labels: Sequence[str],
    *,
    model: ImageTextEncoder | str | Path | None = None,
    templates: Sequence[str] | None = None,
    top: int | None = None,
) -> list[list[Label]]:
    """For each picture (or path of one), its labels with probabilities, best first, at most `top` of them.

    `model` is an encoder, or what `zoo.load` takes; None is the starter CLIP. Without `top`, a picture's
    probabilities sum to 1. Repeated labels count once. Raises ImageError for the first picture that cannot be
    read, UsageError for unusable labels, templates or `top`, ModelError.
    """
    from bahumukha.images import open_image

    encoder = _encoder(model)

    def load(image: Image.Image | str | Path) -> Image.Image:
        if isinstance(image, (str, Path)):
            return open_image(image, at_least=shortest_side(encoder))
        return image

    results = []
    for _, result in classify_each(images, load, labels, encoder, templates=templates, top=top):
        if isinstance(result, BahumukhaError):
            raise result
        results.append(result)
    return results


def classify_each(
    items: Iterable[T],
    load: Callable[[T], Image.Image],
    labels: Sequence[str],
    encoder: ImageTextEncoder,
    *,
    templates: Sequence[str] | None = None,
    top: int | None = None,
) -> Generator[tuple[T, list[Label] | BahumukhaError], None, None]:
    """Stream of `(item, labels best first)`, in order; an item whose `load` fails gives its error instead.

    `load` and the bounds on memory are those of `ImageTextEncoder.encode_each`.
    """
    if top is not None and top < 1:
        raise UsageError(f"top is {top}; it must be at least 1")
    labels = unique_labels(labels)
    targets = label_embeddings(encoder, labels, templates)
    for item, embedding in encoder.encode_each(items, load):
        if isinstance(embedding, BahumukhaError):
            yield item, embedding
        else:
            yield item, best_labels(labels, probabilities(embedding, targets, encoder.logit_scale), top)


def unique_labels(labels: Iterable[str]) -> list[str]:
    """Labels without surrounding space, each once, in order. Raises UsageError for an empty one or none.

    A repeated label would share its probability with its twin, which nobody means.
    """
    if isinstance(labels, str):
        raise TypeError("labels is a list of texts, not one text")
    stripped = [label.strip() for label in labels]
    if not stripped:
        raise UsageError("no labels; give at least one, better two or more to compare")
    if not all(stripped):
        raise UsageError("a label is empty; each must hold some text")
    return list(dict.fromkeys(stripped))


def label_embeddings(
    encoder: ImageTextEncoder, labels: Sequence[str], templates: Sequence[str] | None = None
) -> np.ndarray:
    """L labels -> float32 (L, dim), rows of norm 1: each the mean over the templates, renormalised.

    Every template holds `{}` where the label goes; None takes those of the model. Raises UsageError.
    """
    import numpy as np

    templates = _checked_templates(encoder, templates)
    sentences = [sentence(template, label) for label in labels for template in templates]
    rows = encoder.encode_texts(sentences).reshape(len(labels), len(templates), encoder.dim).mean(axis=1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def sentence(template: str, label: str) -> str:
    """The label in the template's place under one article: "a photo of a {}", "the owl" -> "a photo of the owl"."""
    if label.lower().startswith(ARTICLES):
        template = re.sub(r"\b(a|an|the) \{\}", "{}", template, flags=re.IGNORECASE)
    return template.replace("{}", label)


def probabilities(embeddings: np.ndarray, targets: np.ndarray, logit_scale: float) -> np.ndarray:
    """Unit rows (..., dim) of pictures and (L, dim) of labels -> float64 (..., L) in [0, 1], sums of 1."""
    import numpy as np

    logits = logit_scale * (embeddings.astype(np.float64) @ targets.astype(np.float64).T)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))  # the largest is exp(0): no overflow
    return weights / weights.sum(axis=-1, keepdims=True)


def best_labels(labels: Sequence[str], probabilities: np.ndarray, top: int | None = None) -> list[Label]:
    """L labels, their probabilities (L,) -> the `top` best (None: all), best first, ties in given order."""
    import numpy as np

    order = np.argsort(-probabilities, kind="stable")[:top]
    return [Label(labels[row], float(probabilities[row])) for row in order]


def shortest_side(encoder: ImageTextEncoder) -> int | None:
    """Pixels of the shortest side that the encoder looks at, for `images.open_image(at_least=...)`."""
    preprocess = getattr(encoder, "preprocess", None)
    return None if preprocess is None else preprocess.shortest_side


def _encoder(model: ImageTextEncoder | str | Path | None) -> ImageTextEncoder:
    if model is None or isinstance(model, (str, Path)):
        from bahumukha.zoo import load

        return load(model)
    return model


def _checked_templates(encoder: ImageTextEncoder, templates: Sequence[str] | None) -> Sequence[str]:
    if templates is None:
        return getattr(encoder, "templates", None) or FALLBACK_TEMPLATES
    if not templates:
        raise UsageError("no templates; give at least one, such as 'a photo of a {}.'")
    for template in templates:
        if "{}" not in template:
            raise UsageError(f"template {template!r} has no {{}}, the place of the label; try 'a photo of a {{}}.'")
    return templates
