"""Where a DALL-E's words come from: a tokenizer that fits the captions; and vectors that words and codes begin with."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from bahumukha.data.encoded import Encoded
from bahumukha.data.tokens import learn_tokenizer
from bahumukha.data.vocabulary import pruned, token_counts
from bahumukha.data.wording import plainly_said
from bahumukha.train.dalle_config import TextConfig
from bahumukha.zoo.folder import TOKENIZER, find
from bahumukha.zoo.tokenizer import TextTokenizer

SPREAD = 0.02
"""Standard deviation that the vectors of words and codes start with, as all random weights do (`nn.attention`)."""


LEARNED_PAD = 0
"""Of a tokenizer that is learned (`data.tokens`)."""
COUNTED = 3000
"""Pictures of each source, evenly spread, whose captions decide which words are kept."""


@dataclass(frozen=True)
class Words:
    """A tokenizer without padding or truncation, and what belongs to it."""

    tokenizer: Tokenizer
    pad: int
    """Token that stands for no word."""
    vectors: Tensor | None = None
    """(tokens, any width) to begin with."""


def words_of(config: TextConfig, sources: Sequence[Encoded], mix: Mapping[str, float]) -> Words:
    """Those of the CLIP that `config` names, cut down to the captions, or learned from these.

    mix: languages whose captions count; all when it is empty. Raises ModelError.
    """
    if not config.model:
        texts = (text for _, text in captions_of(sources, mix))
        return Words(learn_tokenizer(texts, config.vocabulary), LEARNED_PAD)
    folder = find(config.model)
    known = TextTokenizer(folder / TOKENIZER, 1)
    pad = known.pad_id  # which also says what is wrong with the file
    whole = bare(Tokenizer.from_file(str(known.path)))
    tokenizer, old = pruned(whole, token_shares(whole, sources, mix), config.vocabulary)
    vectors = _vectors(config.model)[torch.from_numpy(old)] if config.vectors else None
    return Words(tokenizer, old.tolist().index(pad), vectors)


def bare(tokenizer: Tokenizer) -> Tokenizer:
    """The same one, which neither pads nor cuts."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def token_shares(tokenizer: Tokenizer, sources: Iterable[Encoded], mix: Mapping[str, float]) -> dict[int, float]:
    """How often a token comes, where each language comes as often as `mix` says, or all alike when it is empty."""
    texts: dict[str, list[str]] = {}
    for language, text in captions_of(sources, mix):
        texts.setdefault(language, []).append(text)
    shares: dict[int, float] = defaultdict(float)
    for language, own in texts.items():
        counts = token_counts(tokenizer, own)
        for token, count in counts.items():
            shares[token] += mix.get(language, 1.0) * count / counts.total()
    return shares


def captions_of(sources: Iterable[Encoded], mix: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """(language, caption) of some pictures in these languages; as English, the name of each with its style."""
    for source in sources:
        for index in map(int, source.readable[:: -(-len(source.readable) // COUNTED)]):
            captions, about = source.captions(index), source.about(index)
            for language, texts in captions.items():
                if not mix or language in mix:
                    yield from ((language, text) for text in texts)
            if about.style:
                yield "en", plainly_said(captions, about, mix)


@torch.no_grad()
def alike(codebook: Tensor, width: int, reach: float = 0.5) -> Tensor:
    """Vectors (n, width) for the codes of a codebook (n, dim): the nearer two codes are, the more alike.

    Random Fourier features (Rahimi and Recht 2007) of a Gaussian kernel that falls by exp(-1/2) over `reach` times the
    codes' root mean square distance from their mean. Codes that look alike then need not be learned one by one.
    """
    generator = torch.Generator().manual_seed(0)
    codebook = codebook.float().cpu()
    centred = codebook - codebook.mean(0)
    scaled = centred / (reach * centred.square().sum(1).mean().sqrt().clamp(min=1e-6))
    waves = torch.randn(codebook.shape[1], width, generator=generator)
    phases = 2 * math.pi * torch.rand(width, generator=generator)
    return (scaled @ waves + phases).cos()


@torch.no_grad()
def begin_with(words: Tensor, vectors: Tensor) -> None:
    """Put vectors (n, w) in the place of the random start of an embedding's weights (n, width).

    Wider ones are projected on their `width` principal axes, which keeps as much of their inner products as can be
    kept; beside narrower ones the random numbers stay. All are scaled by one factor, to the spread of the random start.
    """
    width = words.shape[1]
    if vectors.shape[1] > width:
        axes = torch.linalg.eigh(vectors.T.double() @ vectors.double()).eigenvectors[:, -width:]
        vectors = vectors @ axes.to(vectors.dtype)
    words[:, : vectors.shape[1]] = vectors * (SPREAD / vectors.std())


def _vectors(name: str) -> Tensor:
    """(tokens, width) of a CLIP's text tower. Raises ModelError."""
    from bahumukha.zoo.pytorch import load_clip

    return load_clip(find(name)).text.token.weight.detach()
