"""Sentences -> token ids for the text tower; and a tokenizer learned from one's own captions.

Byte-level BPE in lower case (Sennrich et al. 2016), split at blanks and punctuation only: GPT-2's pattern takes letters
for words, and so cuts Telugu or Hindi at every vowel sign, which is a mark and not a letter. No character is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PAD, START, END = "<pad>", "<start>", "<end>"
"""Ids 0, 1 and 2 of a tokenizer that `learn_tokenizer` makes."""
WORDS = r" ?[^\s\p{P}\p{S}]+| ?[\p{P}\p{S}]|\s+"


def blank_tokenizer() -> Tokenizer:
    """An untrained tokenizer: its normalisation and splitting."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
            normalizers.Prepend(" "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def learn_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A tokenizer of at most `vocabulary` tokens, at least 259: three special ones and all bytes."""
    tokenizer = blank_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 1), (END, 2)]
    )
    return tokenizer


def encode_texts(
    tokenizer: Tokenizer, texts: Sequence[str], context_length: int, *, full: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """ids and mask, int64 (N, L): L is the longest text's length, or `context_length` when `full`.

    Longer texts are cut, their last token kept at the end; padding is 0 in both. The tokenizer's own truncation and
    padding are switched off.
    """
    tokenizer.no_padding()
    tokenizer.enable_truncation(context_length)
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    length = context_length if full else max(map(len, rows))
    ids, mask = np.zeros((len(rows), length), np.int64), np.zeros((len(rows), length), np.int64)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
    return ids, mask
