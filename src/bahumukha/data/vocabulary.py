"""A tokenizer cut down to the words of one's own captions.

A byte-pair tokenizer of many languages knows tens of thousands of tokens, and a small model would have most of its
weights in their vectors. Captions use few of them. What is kept is the commonest tokens, and with each the shorter ones
that it is merged from. A text whose tokens were kept is cut as before: of the merges that can be made next, the first
in the list is made; the merges on the way to kept tokens are all there, and no new ones come in between. Other words
fall into shorter pieces, at worst into bytes, which are always kept.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from bahumukha.errors import UsageError

AT_ONCE = 4096
"""Texts that are counted together."""


def token_counts(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[int]:
    """How often each token occurs."""
    counts: Counter[int] = Counter()
    waiting = iter(texts)
    while part := list(islice(waiting, AT_ONCE)):
        for encoding in tokenizer.encode_batch(part):
            counts.update(encoding.ids)
    return counts


def pruned(tokenizer: Tokenizer, counts: Mapping[int, float], most: int) -> tuple[Tokenizer, np.ndarray]:
    """A tokenizer of at most `most` tokens, the commonest by `counts`, and which of the old ones each was, int64 (n,).

    Tokens that do not occur are left out, even where there is room.

    The order of the tokens stays, so that special ones that stand first keep their numbers. A tokenizer that is small
    enough comes back as it is, and so does one that is not built as those of `data.tokens` are. Raises UsageError when
    `most` does not hold the bytes and the special tokens.
    """
    table = json.loads(tokenizer.to_str())
    vocabulary: dict[str, int] = table["model"]["vocab"] if table["model"]["type"] == "BPE" else {}
    special = {each["content"] for each in table["added_tokens"]}
    templates = (table.get("post_processor") or {"type": "TemplateProcessing"})["type"] == "TemplateProcessing"
    if tokenizer.get_vocab_size() <= most or not special <= set(vocabulary) or not templates:
        return tokenizer, np.arange(tokenizer.get_vocab_size())
    merges = [_pair(merge) for merge in table["model"]["merges"]]
    made_from: dict[str, list[str]] = {}
    for left, right in merges:
        made_from.setdefault(left + right, []).extend((left, right))
    kept = {token for token in vocabulary if token not in made_from} | special
    if len(kept) > most:
        raise UsageError(f"vocabulary: {most} tokens were asked for; {len(kept)} are bytes and special tokens")
    names = {number: token for token, number in vocabulary.items()}
    for number, _ in sorted(counts.items(), key=lambda each: (-each[1], each[0])):
        needed = _ancestors(names.get(number, ""), made_from, kept)
        if len(kept) + len(needed) <= most:
            kept |= needed
    order = sorted((number, token) for token, number in vocabulary.items() if token in kept)
    numbers = {token: new for new, (_, token) in enumerate(order)}
    table["model"]["vocab"] = numbers
    table["model"]["merges"] = [
        list(pair) for pair in merges if all(part in kept for part in (*pair, pair[0] + pair[1]))
    ]
    _renumber(table, numbers)
    return Tokenizer.from_str(json.dumps(table)), np.array([number for number, _ in order])


def _pair(merge: Any) -> tuple[str, str]:
    """Older files write 'a b', newer ones ['a', 'b']."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _ancestors(token: str, made_from: dict[str, list[str]], kept: set[str]) -> set[str]:
    """The token and all that it can be merged from, without what is kept already."""
    needed: set[str] = set()
    waiting = [token]
    while waiting:
        each = waiting.pop()
        if each and each not in kept and each not in needed:
            needed.add(each)
            waiting.extend(made_from.get(each, ()))
    return needed


def _renumber(table: dict[str, Any], numbers: dict[str, int]) -> None:
    """New numbers for the special tokens, wherever a tokenizer's file names them."""
    for each in table["added_tokens"]:
        each["id"] = numbers[each["content"]]
    if table.get("padding"):
        table["padding"]["pad_id"] = numbers[table["padding"]["pad_token"]]
    for each in ((table.get("post_processor") or {}).get("special_tokens") or {}).values():
        each["ids"] = [numbers[token] for token in each["tokens"]]
