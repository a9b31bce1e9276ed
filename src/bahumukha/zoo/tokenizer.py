"""`tokenizer.json` of a model folder: sentences to token ids, with Hugging Face's `tokenizers`.

A text tower that hides padding, or looks back only, gets its texts padded to the longest of a batch. One for which
padding counts (SigLIP) says so in the file, by a padding of fixed length.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bahumukha.errors import ModelError

if TYPE_CHECKING:
    import tokenizers


class TextTokenizer:
    """`tokenizer.json`, read on the first call. Texts -> lists of 1 to `context_length` token ids."""

    def __init__(self, path: Path, context_length: int) -> None:
        self.path, self.context_length = path, context_length
        self._lock = threading.Lock()
        self._tokenizer: tokenizers.Tokenizer | None = None
        self._pad_id = 0
        self._length: int | None = None

    @property
    def pad_id(self) -> int:
        """The token that fills up short texts."""
        self._open()
        return self._pad_id

    @property
    def vocabulary(self) -> int:
        """How many tokens there are, the special ones included."""
        return int(self._open().get_vocab_size())

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        # Bytes of a command line that are not text arrive as lone surrogates, which tokenizers refuses.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        encodings = self._open().encode_batch(clean)
        return [encoding.ids or [self._pad_id] for encoding in encodings]  # an empty text still needs one token

    def pad(self, tokens: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """B lists of ids -> ids and mask (1 = token), int64 (B, L): L as the file says, or that of the longest."""
        self._open()
        return pad(tokens, self._pad_id, self._length)

    def _open(self) -> tokenizers.Tokenizer:
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = self._read()
            return self._tokenizer

    def _read(self) -> tokenizers.Tokenizer:
        if not self.path.is_file():
            raise ModelError(f"{self.path}: missing; texts cannot be encoded without it")
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(self.path))
        except Exception as error:  # tokenizers raises bare Exception
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ModelError(f"{self.path}: not a tokenizer ({reason})") from error
        self._pad_id = _find_pad_id(tokenizer)
        if tokenizer.padding and tokenizer.padding.get("length"):
            self._length = self.context_length
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.context_length)
        return tokenizer


def _find_pad_id(tokenizer: tokenizers.Tokenizer) -> int:
    if tokenizer.padding:
        return int(tokenizer.padding["pad_id"])
    named = (tokenizer.token_to_id(token) for token in ("[PAD]", "<pad>", "<|endoftext|>"))
    return next((token for token in named if token is not None), 0)


def pad(tokens: Sequence[Sequence[int]], pad_id: int, length: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """B lists of ids -> ids, padded on the right, and mask (1 = token), both int64 (B, L).

    L is `length`, or that of the longest.
    """
    lengths = np.array([len(ids) for ids in tokens])
    mask = (np.arange(length or lengths.max())[None, :] < lengths[:, None]).astype(np.int64)
    padded = np.full(mask.shape, pad_id, np.int64)
    padded[mask == 1] = np.concatenate([np.asarray(ids, np.int64) for ids in tokens])
    return padded, mask
