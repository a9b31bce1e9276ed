"""What is said of pictures: names more than keywords, styles and grounds sometimes, scenes as they are."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bahumukha.data.pairs import About
from bahumukha.data.wording import COUNTED, WordingConfig, plainly_said, said

CAPTIONS = {"en": ("red apple", "fruit"), "te": ("ఎరుపు ఆపిల్", "పండు"), "fr": ("pomme",)}
APPLE = About("fluent-emoji", (("fluent-emoji", "1f34e"),))


def many(config: WordingConfig, about: About = APPLE, ground: str | None = None, count: int = 400) -> Counter[str]:
    return Counter(said(CAPTIONS, about, ground, config, np.random.default_rng([7, i])) for i in range(count))


def test_names_keywords_articles_and_styles_come_as_often_as_asked() -> None:
    mix = {"en": 1.0}
    found = many(WordingConfig(mix, name=0.75, article=0.0, style=0.5))
    assert set(found) == {"red apple", "fruit", "red apple, fluent emoji style", "fruit, fluent emoji style"}
    names = found["red apple"] + found["red apple, fluent emoji style"]
    assert 0.68 < names / 400 < 0.82
    assert 0.42 < sum(n for text, n in found.items() if text.endswith(" style")) / 400 < 0.58
    assert set(many(WordingConfig(mix, name=0.5, article=1.0, style=0.0))) == {"a red apple", "fruit"}


def test_languages_by_their_share_and_only_those_of_the_mix() -> None:
    found = many(WordingConfig({"en": 3.0, "te": 1.0}, name=1.0, article=0.0, style=0.0))
    assert set(found) == {"red apple", "ఎరుపు ఆపిల్"} and 0.67 < found["red apple"] / 400 < 0.83


def test_grounds_are_said_in_the_language_and_before_the_style() -> None:
    english = many(WordingConfig({"en": 1.0}, name=1.0, article=0.0, style=1.0, ground=1.0), ground="yellow")
    assert "red apple on a yellow background, fluent emoji style" in english
    assert all("yellow" in text and text.endswith(", fluent emoji style") for text in english)
    telugu = many(WordingConfig({"te": 1.0}, name=1.0, style=0.0, ground=1.0), ground="yellow")
    (text,) = telugu
    assert text.startswith("ఎరుపు ఆపిల్") and len(text) > len("ఎరుపు ఆపిల్") + 3
    assert not any("yellow" in text for text in many(WordingConfig({"en": 1.0}, ground=0.0), ground="yellow"))


def test_captions_of_scenes_stay_as_they_are() -> None:
    scene = About("", (("noto", "1f34e"),))
    found = many(WordingConfig({"en": 1.0}, name=1.0, article=1.0, style=1.0), scene)
    assert set(found) == {"red apple", "fruit"} and min(found.values()) > 150


@pytest.mark.parametrize("text", ["red apple", "woman farmer", "glass", "t-shirt"])
def test_what_takes_an_article(text: str) -> None:
    assert COUNTED.fullmatch(text)


@pytest.mark.parametrize("text", ["scissors", "glasses", "Libra", "flag of India", "1st place medal"])
def test_what_takes_none(text: str) -> None:
    assert not COUNTED.fullmatch(text)


def test_what_is_validated_on_is_the_english_name_with_its_style() -> None:
    assert plainly_said(CAPTIONS, APPLE, {}) == "red apple, fluent emoji style"
    assert plainly_said({"te": ("పండు",), "fr": ("fruit",)}, About(), {"fr": 1.0}) == "fruit"


def test_settings_out_of_range() -> None:
    with pytest.raises(ValueError, match="style is 2"):
        WordingConfig(style=2.0)
    with pytest.raises(ValueError, match="below 0"):
        WordingConfig({"en": -1.0})
