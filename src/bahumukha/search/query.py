"""From what the user typed to one vector that pictures are ranked by.

A query is a weighted sum of terms, sentences and pictures alike, each a unit vector u in the encoder's space:

    q = sum_i w_i u_i / || sum_i w_i u_i ||        score(x) = q . x = sum_i w_i (u_i . x) / const

with w_i > 0 for what is wanted and w_i < 0 for `--minus`. Since the score of a picture x is linear in q, this
ranks by the weighted sum of the terms' own cosines: a picture scores high that suits all that was asked for,
and adding a term is the same as adding its scores. Normalising q changes no rank, and keeps scores cosines.

Sentences and pictures lie in two separate cones of the space (Liang et al., "Mind the Gap", 2022): a fitting
sentence has a cosine of about 0.3 with a picture, a similar picture 0.8. Within one query the gap adds a
constant and does no harm to the ranking, but scores of a sentence and of a picture cannot be compared with
each other (so a fixed cut-off suits one of the two), and pictures' cosines vary more over a collection, so
that in a mixed query a picture outweighs a sentence of equal weight: `0.5:photo.jpg` brings them nearer.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bahumukha.classify import shortest_side
from bahumukha.errors import UsageError

if TYPE_CHECKING:
    from bahumukha.protocols import ImageTextEncoder

_WEIGHTED = re.compile(r"\s*([0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+):(.*)", re.DOTALL | re.ASCII)
_WEAKEST = 1e-3  # length of a sum, relative to its weights, below which its direction is rounding error


@dataclass(frozen=True)
class Term:
    """One part of a query: a sentence, or a picture's file. Weights are negative for what is not wanted."""

    weight: float
    sentence: str | None = None
    picture: Path | None = None


def parse_term(text: str, *, option: str = "--plus", sign: int = 1) -> Term:
    """`snow`, `0.5:snow`, `photo.jpg` or `2:photo.jpg` -> a term whose weight has the given sign.

    A number before the first colon is a weight; a sentence that begins like that is written `1:10:30 train`.
    An existing file is a picture, everything else a sentence; a name that looks like a picture's, without
    spaces, must exist. Raises UsageError.
    """
    match = _WEIGHTED.match(text)
    weight, rest = (float(match[1]), match[2]) if match else (1.0, text)
    if not rest.strip():
        raise UsageError(f"{option} {_shown(text)}: a sentence or a picture file is expected")
    if not 0 < weight < math.inf:
        raise UsageError(f"{option} {_shown(text)}: a weight is a number above 0, such as 0.5; use --minus to subtract")
    if is_file(rest):
        return Term(sign * weight, picture=Path(rest))
    if _looks_like_picture(rest):
        raise UsageError(f"{option} {_shown(rest)}: no such picture file")
    return Term(sign * weight, sentence=sentence(rest))


def parse_query(
    query: str | None,
    *,
    image: str | Path | None = None,
    plus: Sequence[str] = (),
    minus: Sequence[str] = (),
) -> list[Term]:
    """The terms of a whole query; `query` and `image` weigh 1. Raises UsageError when none is positive."""
    terms = []
    if query is not None and query.strip():
        terms.append(Term(1.0, sentence=sentence(query)))
    if image is not None:
        if not is_file(os.fspath(image)):
            raise UsageError(f"--image {_shown(os.fspath(image))}: no such picture file")
        terms.append(Term(1.0, picture=Path(image)))
    terms += [parse_term(text, option="--plus") for text in plus]
    if not terms:
        raise UsageError("nothing to search for: give a sentence, --image FILE or --plus X")
    return terms + [parse_term(text, option="--minus", sign=-1) for text in minus]


def embed_query(encoder: ImageTextEncoder, terms: Sequence[Term]) -> np.ndarray:
    """The query vector of the module's equation, float32 (dim,), of norm 1.

    Raises ImageError for a picture that cannot be read, UsageError when the terms cancel each other out.
    """
    rows: list[np.ndarray] = []
    weights: list[float] = []
    for terms_of_kind, embed in (
        ([t for t in terms if t.sentence is not None], _embed_sentences),
        ([t for t in terms if t.picture is not None], _embed_pictures),
    ):
        if terms_of_kind:
            rows.append(embed(encoder, terms_of_kind))
            weights += [term.weight for term in terms_of_kind]
    return combined(np.concatenate(rows), np.array(weights))


def combined(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Unit vectors (N, dim) of terms, their weights (N,) -> the module's q, float32 (dim,), of norm 1.

    Raises UsageError when the terms cancel each other out.
    """
    total = weights @ rows.astype(np.float64)
    length = float(np.linalg.norm(total))
    if length <= _WEAKEST * float(np.abs(weights).sum()):
        raise UsageError("--plus and --minus cancel each other out; leave one of them away, or weigh them apart")
    return (total / length).astype(np.float32)


def embed_picture(encoder: ImageTextEncoder, path: str | Path) -> np.ndarray:
    """One picture, at a path as the ledger has them -> its unit vector, float32 (dim,). Raises ImageError."""
    from bahumukha.images import open_image
    from bahumukha.search.reading import source_of

    return encoder.encode_images([open_image(source_of(os.fspath(path)), at_least=shortest_side(encoder))])[0]


def _embed_sentences(encoder: ImageTextEncoder, terms: Sequence[Term]) -> np.ndarray:
    return encoder.encode_texts([term.sentence or "" for term in terms])


def _embed_pictures(encoder: ImageTextEncoder, terms: Sequence[Term]) -> np.ndarray:
    from bahumukha.images import open_image

    at_least = shortest_side(encoder)
    return encoder.encode_images([open_image(term.picture, at_least=at_least) for term in terms if term.picture])


def is_file(text: str) -> bool:
    """Whether there is a file of that name; a sentence may be no possible name at all."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def sentence(text: str) -> str:
    """Text that any tokenizer takes: bytes of the command line that are not UTF-8 become U+FFFD."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text).strip()


def _looks_like_picture(text: str) -> bool:
    from bahumukha.images import EXTENSIONS

    name = text.strip()
    return not re.search(r"\s", name) and os.path.splitext(name)[1].lower() in EXTENSIONS


def _shown(text: str) -> str:
    return repr(sentence(text))
