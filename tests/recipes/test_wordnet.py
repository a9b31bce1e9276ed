"""Reading WordNet's own format, on a small file in that format."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.clip.texts import ADJECTIVES, TEMPLATES, nouns, phrase, sense_ranks
from recipes.clip.wordnet import WordNet, offset_of

DATA = """\
  1 This software and database is being provided to you, the LICENSEE
00000100 03 n 01 thing 0 000 | what there is; "a thing of beauty"
00000200 05 n 02 dog 0 domestic_dog 0 002 @ 00000100 n 0000 ~ 00000300 n 0000 | a barking animal; "the dog barked"
00000300 05 n 01 basenji 0 001 @ 00000200 n 0000 | a dog that does not bark
00000400 05 n 01 cat 0 001 @ 00000100 n 0000 | a feline
00000500 18 n 02 dog 1 frump 0 001 @ 00000100 n 0000 | a dull person
"""
INDEX = """\
  1 This software and database is being provided to you, the LICENSEE
dog n 2 2 @ ~ 2 1 00000200 00000500
frump n 1 1 @ 1 0 00000500
domestic_dog n 1 1 @ 1 0 00000200
"""


@pytest.fixture
def wordnet(tmp_path):
    (tmp_path / "data.noun").write_text(DATA)
    return WordNet.read(tmp_path / "data.noun")


def test_synsets(wordnet):
    assert set(wordnet.synsets) == {100, 200, 300, 400, 500}
    assert wordnet[200].lemmas == ("dog", "domestic dog")
    assert wordnet[200].gloss == "a barking animal"
    assert wordnet.ancestors(300) == {200, 100}
    assert wordnet.hyponyms[200] == [300]
    assert wordnet.classes_under(200, [400, 300]) == [1]


def test_offset_of_an_imagenet_id():
    assert offset_of("n02123045") == 2123045


def test_rare_meanings_are_drawn_seldom(wordnet, tmp_path):
    (tmp_path / "index.noun").write_text(INDEX)
    ranks = sense_ranks(tmp_path / "index.noun")
    weights = {(n.word, n.offset): n.weight for n in nouns(wordnet, ranks, [200, 500])}
    assert weights["dog", 200] == 1
    assert weights["dog", 500] == pytest.approx(1 / 9)
    assert weights["domestic dog", 200] == 1


@given(st.integers(0, 2**32), st.sampled_from(["owl", "dog", "ice cream"]))
def test_phrases_hold_the_word_and_right_articles(seed, word):
    text = phrase(word, np.random.default_rng(seed))
    assert word in text and "{}" not in text
    words = text.split()
    for article, following in zip(words, words[1:], strict=False):
        if article in ("a", "an"):
            assert (article == "an") == (following[0] in "aeiou")


def test_every_template_is_used():
    rng = np.random.default_rng(0)
    texts = {phrase("owl", rng) for _ in range(3000)}
    assert {"owl", "an owl", "many owl"} <= texts
    assert any(any(a in t.split() for a in ADJECTIVES) for t in texts)
    assert len(TEMPLATES) == len(set(TEMPLATES))
