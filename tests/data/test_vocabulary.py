"""A tokenizer cut down: what was kept is cut as before, everything else still has tokens."""

from __future__ import annotations

from collections import Counter

import pytest
from tokenizers import Tokenizer

from bahumukha.data.tokens import learn_tokenizer
from bahumukha.data.vocabulary import pruned, token_counts
from bahumukha.errors import UsageError
from tests.tiny_models import tokenizer as bytes_only

CAPTIONS = ["a red apple", "red apples and an apple tree", "ఎరుపు ఆపిల్", "a tree"]
OTHERS = ["government policy", "policy of governments", "the government", "a politician", "politics"]


@pytest.fixture(scope="module")
def whole() -> Tokenizer:
    return learn_tokenizer(CAPTIONS * 9 + OTHERS * 9, 340)


def test_captions_are_cut_as_before_into_tokens_that_are_told(whole: Tokenizer) -> None:
    counts = token_counts(whole, CAPTIONS)
    small, old = pruned(whole, counts, 304)
    assert small.get_vocab_size() == len(old) <= 304 < whole.get_vocab_size()
    for text in CAPTIONS:
        before, after = whole.encode(text), small.encode(text)
        assert before.tokens == after.tokens
        assert [int(old[i]) for i in after.ids] == before.ids
    assert [small.token_to_id(t) for t in ("<pad>", "<start>", "<end>")] == [0, 1, 2]


def test_other_words_fall_into_shorter_pieces_and_come_back(whole: Tokenizer) -> None:
    small, _ = pruned(whole, token_counts(whole, CAPTIONS), 304)
    before, after = (each.encode("government policy") for each in (whole, small))
    assert len(after.ids) > len(before.ids)
    assert small.decode(after.ids).strip() == "government policy"


def test_the_commonest_go_first(whole: Tokenizer) -> None:
    apple, policy = (whole.encode(text).ids[1] for text in ("apple", "policy"))
    kept = set(pruned(whole, Counter({apple: 5, policy: 2}), 264)[1].tolist())
    assert apple in kept and policy not in kept


def test_what_is_small_enough_or_built_otherwise_stays(whole: Tokenizer) -> None:
    same, old = pruned(whole, Counter(), 400)
    assert same is whole and old.tolist() == list(range(whole.get_vocab_size()))
    assert pruned(bytes_only(), Counter(), 300)[0].get_vocab_size() == 259


def test_bytes_must_have_room(whole: Tokenizer) -> None:
    with pytest.raises(UsageError, match="vocabulary: 200 tokens were asked for; 259 are bytes"):
        pruned(whole, Counter(), 200)


@pytest.mark.slow
def test_the_starter_s_own_tokenizer() -> None:
    from bahumukha.zoo.folder import TOKENIZER, find

    whole = Tokenizer.from_file(str(find("starter/clip") / TOKENIZER))
    texts = ["a small red fish above a blue car on yellow", "ఎరుపు రంగు ఆపిల్", "गोधूलि", "綠色的樹"]
    small, old = pruned(whole, token_counts(whole, texts), 400)
    assert len(old) <= 400
    assert [small.encode(text).tokens for text in texts] == [whole.encode(text).tokens for text in texts]
