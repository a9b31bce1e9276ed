"""Everyday things in sixteen languages: does a model know "dog", "కుక్క" and "собака" as well as each other?

Each photograph that shows one of the list's things is compared with the names of all of them in one language; the
highest cosine is the answer. The names are CLDR's, and which ImageNet class is which thing WordNet tells
(`everyday.json`, made by `recipes/evaluation/everyday.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np

from bahumukha.errors import UsageError
from bahumukha.evaluate.answers import Answers, ClassScore
from bahumukha.evaluate.clip import photos_by_id
from bahumukha.evaluate.pictures import Progress, embed, name_embeddings, quiet
from bahumukha.protocols import ImageTextEncoder

BARE = ("{}",)
"""The default template: "a photo of a {}" is English."""


@dataclass(frozen=True)
class Thing:
    """One everyday thing: its English name, emoji, names by language, and the ImageNet ids that are a kind of it."""

    thing: str
    emoji: str
    names: dict[str, str]
    classes: frozenset[str]


@dataclass(frozen=True)
class LanguageScore:
    """One language: `top1` over photographs and `by_thing`, the mean over things, in [0, 1]; `ratio` of top1 to
    English's (None where that is 0)."""

    language: str
    top1: float
    by_thing: float
    ratio: float | None
    per_thing: list[ClassScore] = field(repr=False)


@dataclass(frozen=True)
class EverydayScores:
    """All languages, English first; `mean_top1` over all of them, `mean_ratio` over those that are not English."""

    photos: int
    things: int
    mean_top1: float
    mean_ratio: float | None
    languages: list[LanguageScore]
    failed: list[tuple[str, str]]


def everyday_things() -> list[Thing]:
    """The fixed list; no class is of two things, and no two things share a name in any language."""
    text = files("bahumukha.evaluate").joinpath("everyday.json").read_text(encoding="utf-8")
    return [Thing(t["thing"], t["emoji"], t["names"], frozenset(t["classes"])) for t in json.loads(text)["things"]]


def evaluate_everyday(
    encoder: ImageTextEncoder,
    folder: Path,
    *,
    templates: Sequence[str] | None = None,
    size: int | None = None,
    progress: Progress = quiet,
) -> EverydayScores:
    """Score an encoder on the photographs of a folder that show everyday things, in each language.

    `templates` None takes the bare names. Raises UsageError if no photograph's name starts with the id of a thing.
    """
    things = everyday_things()
    place_of = {wnid: place for place, thing in enumerate(things) for wnid in thing.classes}
    photos = photos_by_id(folder, place_of)
    embedded = embed(encoder, photos, option=f"--photos {folder}", size=size, progress=progress)
    truth = np.array([place_of[wnid] for wnid in embedded.keys])
    english = tuple(thing.thing for thing in things)
    answers = {}
    for language in things[0].names:
        prototypes = name_embeddings(encoder, [t.names[language] for t in things], templates or BARE, progress)
        answers[language] = Answers(english, truth, (embedded.rows @ prototypes.T).argmax(1))
    return _summary(answers, len(things), embedded.failed)


def _summary(answers: dict[str, Answers], things: int, failed: list[tuple[str, str]]) -> EverydayScores:
    top1 = {language: float((each.answer == each.truth).mean()) for language, each in answers.items()}
    languages = []
    for language, each in answers.items():
        per_thing = each.per_class()
        by_thing = float(np.mean([score.right / score.photographs for score in per_thing]))
        ratio = top1[language] / top1["en"] if top1["en"] else None
        languages.append(LanguageScore(language, top1[language], by_thing, ratio, per_thing))
    ratios = [each.ratio for each in languages if each.language != "en" and each.ratio is not None]
    mean_ratio = float(np.mean(ratios)) if ratios else None
    photos = len(answers["en"].truth)
    return EverydayScores(photos, things, float(np.mean(list(top1.values()))), mean_ratio, languages, failed)


def language_score(scores: EverydayScores, language: str) -> LanguageScore:
    """The one of a language. Raises UsageError with the languages there are."""
    for each in scores.languages:
        if each.language == language:
            return each
    there = ", ".join(each.language for each in scores.languages)
    raise UsageError(f"--language {language}: everyday things have no names in it; there are {there}")
