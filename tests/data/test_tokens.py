from __future__ import annotations

import numpy as np

from bahumukha.data.tokens import END, PAD, START, encode_texts, learn_tokenizer


def test_a_learned_tokenizer_knows_every_character_and_its_own_words() -> None:
    tokenizer = learn_tokenizer(["a red circle", "నల్ల పిల్లి"] * 5, 600)
    assert [tokenizer.token_to_id(t) for t in (PAD, START, END)] == [0, 1, 2]
    for text in ("a red circle", "నల్ల పిల్లి", "zebra ✓ 红苹果"):
        assert tokenizer.decode(tokenizer.encode(text).ids).strip() == text
    assert len(tokenizer.encode("Red  circle").ids) == 4  # case and blanks do not count; a token a word
    assert tokenizer.get_vocab_size() <= 600


def test_ids_are_padded_and_cut() -> None:
    tokenizer = learn_tokenizer(["one two three four five"] * 3, 400)
    ids, mask = encode_texts(tokenizer, ["one", "one two three four five"], 5)
    assert ids.shape == mask.shape == (2, 5) and ids.dtype == mask.dtype == np.int64
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1] * 5] and (ids[0, 3:] == 0).all()
    assert ids[0, 0] == ids[1, 0] == 1 and ids[0, 2] == ids[1, 4] == 2
    assert encode_texts(tokenizer, ["one"], 9, full=True)[0].shape == (1, 9)
