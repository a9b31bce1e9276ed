"""Pairs of words: read off CLDR's, FreeDict's and the stamps' own formats."""

from __future__ import annotations

import json

import numpy as np

from recipes.clip.translations import KEYWORD, NAME, Pair, Translations, cldr_pairs, freedict_pairs, stamp_pairs

DICTIONARY = """\
cat /kˈæt/ <n>
1. बिल्ली
      "The cat drank the milk."
run /ɹˈʌn/ <v>
1. दौड़ना
pan pipe /pan/ <N>
1. बाँसुरी~वाद्य <masc>, मुरली
dog /dˈɒɡ/ <N>
 see: {hound}
?
""".splitlines()


def test_freedict_takes_the_first_meaning_of_known_nouns():
    pairs = list(freedict_pairs(DICTIONARY, "hi", True, frozenset({"cat", "run", "pan pipe", "dog"})))
    assert [(p.text, p.english) for p in pairs] == [("बिल्ली", "cat"), ("बाँसुरी वाद्य", "pan pipe")]


def test_freedict_in_the_other_direction():
    lines = ["chat /ʃa/ <n, masc>", "cat", "et /e/ <conj>", "and"]
    assert [(p.text, p.english) for p in freedict_pairs(lines, "fr", False, frozenset({"cat", "and"}))] == [
        ("chat", "cat")
    ]


def test_cldr_pairs_names_and_keywords_without_skin_tones(tmp_path):
    annotations = {
        "en": {"1f408": {"tts": ["cat"], "default": ["cat", "pet"]}, "1f44b": {"tts": ["hand: light skin tone"]}},
        "te": {"1f408": {"tts": ["పిల్లి"], "default": ["పిల్లి", "జంతువు"]}, "1f44b": {"tts": ["చేయి"]}},
    }
    for language, entries in annotations.items():
        file = tmp_path / "annotations" / language / "annotations.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"annotations": {"annotations": entries}}), encoding="utf-8")
    assert list(cldr_pairs([tmp_path], ["te"])) == [
        Pair("te", "పిల్లి", "cat", NAME),
        Pair("te", "జంతువు", "cat", KEYWORD),
    ]


def test_stamps_of_the_validation_split_are_not_used(tmp_path):
    captions = {"en": ["A cat."], "pt_BR": ["Um gato."], "xx": ["?"]}
    records = [{"captions": captions, "split": split} for split in ("train", "validation")]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    assert [(p.language, p.text) for p in stamp_pairs(tmp_path / "captions.jsonl")] == [("pt", "Um gato.")]


def test_languages_are_drawn_alike_and_hidden_words_never(tmp_path):
    path = tmp_path / "translations.npz"
    np.savez(
        path,
        language=np.array(["fr"] * 9 + ["te"]),
        text=np.array([f"mot {i}" for i in range(9)] + ["పిల్లి"]),
        weight=np.ones(10, np.float32),
        row=np.array([0] * 9 + [1]),
        english=np.array(["dog", "cats"]),
        name=np.zeros((2, 4), np.float16),
    )
    translations = Translations.read(path)
    drawn = translations.draw(2000, np.random.default_rng(0))
    assert 0.45 < (translations.languages[drawn] == "te").mean() < 0.55
    hidden = translations.without({"cat"}).draw(200, np.random.default_rng(0))
    assert (hidden < 9).all()
