"""The recipe of the everyday things, on a small WordNet and made-up annotations; no network."""

from __future__ import annotations

import pytest

from bahumukha.errors import UsageError
from bahumukha.evaluate.everyday import everyday_things
from recipes.clip.wordnet import Synset, WordNet
from recipes.evaluation.everyday import CHOSEN, LANGUAGES, THINGS, Thing, classes_of, name_of


def wordnet(tree: dict[int, tuple[int, ...]]) -> WordNet:
    """Offset -> offsets of its hypernyms."""
    return WordNet({o: Synset(o, (str(o),), "", above, 5) for o, above in tree.items()})


def test_classes_are_the_kinds_below_without_those_of_another_thing() -> None:
    tree = wordnet({1: (), 2: (1,), 3: (2,), 4: (2,), 5: (4,), 9: ()})
    wnids = [f"n{offset:08}" for offset in (3, 4, 5, 9)]
    bird = Thing("🐦", ("n00000002",), but=("n00000004",))
    assert classes_of(bird, tree, wnids) == ["n00000003"]
    assert classes_of(Thing("🦜", ("n00000004", "n00000009")), tree, wnids) == wnids[1:]


def test_a_name_is_the_short_name_or_a_keyword_chosen_for_it() -> None:
    assert name_of("ant", "de", {"tts": ["Ameise"], "default": ["Insekt"]}) == "Ameise"
    assert name_of("rabbit", "de", {"tts": ["Hase"], "default": ["Hase", "Kaninchen"]}) == "Kaninchen"
    with pytest.raises(UsageError, match="'Kaninchen' is no keyword of CLDR's for it in de"):
        name_of("rabbit", "de", {"tts": ["Hase"]})
    with pytest.raises(UsageError, match="holds two names"):
        name_of("ant", "hi", {"tts": ["चींटी, कीड़ा"]})


def test_what_ships_is_what_the_recipe_lists() -> None:
    shipped = {thing.thing: thing for thing in everyday_things()}
    assert list(shipped) == list(THINGS)
    for name, thing in THINGS.items():
        assert shipped[name].emoji == thing.emoji and list(shipped[name].names) == LANGUAGES
    for name, languages in CHOSEN.items():
        assert {language: shipped[name].names[language] for language in languages} == languages
