"""What is true of a scene, in words: many phrasings in English, names, colours and places in fifteen other languages.

The plain caption says all things with number, size-less, with colour and relation; tests put it beside the same
caption with one word wrong. The free captions vary in wording and may leave out parts of the truth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bahumukha.data.scene_colours import BASIC
from bahumukha.data.scene_words import LANGUAGES, NUMBERS, TONGUES, Tongue, with_article
from bahumukha.data.scenes import OPPOSITE, RELATIONS, Ground, Scene, SceneObject, coloured_objects
from bahumukha.errors import UsageError

WAYS = {
    "left of": ("to the left of", "left of", "on the left of"),
    "right of": ("to the right of", "right of", "on the right of"),
    "above": ("above", "over"),
    "below": ("below", "under", "underneath"),
}
FRAMES = ("{}",) * 6 + (
    "a picture of {}", "a drawing of {}", "an icon of {}", "a pictogram of {}", "clip art of {}",
    "an illustration of {}",
)  # fmt: skip
SMALL, LARGE = ("small", "little"), ("large", "big")


def noun_phrase(each: SceneObject, *, size: str = "") -> str:
    """'two small red fish', 'an orange', 'blue scissors'; `size` is the word for it, "" to leave it out."""
    words = [size, each.colour or "", each.plural if each.count > 1 else each.name]
    phrase = " ".join(word for word in words if word)
    if each.count > 1:
        return f"{NUMBERS[each.count]} {phrase}"
    return with_article(phrase) if each.plural else phrase


def plain_caption(scene: Scene) -> str:
    """All things with number and colour and how they stand, in one fixed wording."""
    return _told(scene.arrangement, [noun_phrase(each) for each in scene.objects])


def _told(arrangement: str, phrases: list[str]) -> str:
    if arrangement == "alone":
        return phrases[0]
    if arrangement in RELATIONS:
        return f"{phrases[0]} {WAYS[arrangement][0]} {phrases[1]}"
    start = "from left to right" if arrangement == "row" else "from top to bottom"
    return f"{start}: {_listed(phrases)}"


def _listed(phrases: list[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


# --- captions with one thing wrong


def wrong_colours(scene: Scene, which: int | None = None) -> list[str]:
    """The plain caption with each of the seven other basic colours for one thing; [] when none has a basic colour.

    which: the index of the thing, by default the first with a basic colour.
    """
    coloured = coloured_objects(scene)
    if which is None and not coloured:
        return []
    index = coloured[0] if which is None else which
    if index not in coloured:
        raise UsageError(f"thing {index} of the scene has no basic colour; those that have: {coloured}")
    own = scene.objects[index].colour
    return [plain_caption(_with(scene, index, colour=colour)) for colour in BASIC if colour != own]


def wrong_relation(scene: Scene) -> str | None:
    """The plain caption with the opposite relation; None unless there are two things."""
    if scene.arrangement not in RELATIONS:
        return None
    return plain_caption(replace(scene, arrangement=OPPOSITE[scene.arrangement]))


def wrong_counts(scene: Scene, which: int = 0) -> list[str]:
    """The plain caption with the four other numbers from 1 to 5 for one thing; [] for what is not counted."""
    each = scene.objects[which]
    if not each.plural:
        return []
    spot = each.spots[0]
    return [
        plain_caption(_with(scene, which, count=count, spots=(spot,) * count))
        for count in range(1, 6)
        if count != each.count
    ]


def swapped_colours(scene: Scene) -> str | None:
    """The plain caption of two things with their colours exchanged; None unless both have different ones."""
    if len(scene.objects) != 2:
        return None
    first, second = (each.colour for each in scene.objects)
    if not first or not second or first == second:
        return None
    return plain_caption(_with(_with(scene, 0, colour=second), 1, colour=first))


def _with(scene: Scene, index: int, **changes: object) -> Scene:
    objects = list(scene.objects)
    objects[index] = replace(objects[index], **changes)  # type: ignore[arg-type]
    return replace(scene, objects=tuple(objects))


# --- free captions


@dataclass(frozen=True)
class Statement:
    """What a caption says of a scene, which may be less than the whole truth.

    objects: those spoken of; colour None and size "medium" where it is not told. arrangement: "" where it is not told.
    ground, style: None where it is not told.
    """

    objects: tuple[SceneObject, ...]
    arrangement: str
    ground: Ground | None = None
    style: str | None = None


def plainly(scene: Scene) -> Statement:
    """What `plain_caption` says: all things with number and colour, how they stand, and nothing else."""
    return Statement(tuple(replace(each, size="medium") for each in scene.objects), scene.arrangement)


def stated(scene: Scene, rng: np.random.Generator, language: str = "en") -> Statement:
    """A random statement that the scene makes true; sizes, styles, rows and gradients are only told in English."""
    english = language == "en"
    objects = tuple(_told_of(each, rng, sizes=english) for each in scene.objects)
    arrangement, ground, style = scene.arrangement, None, None
    if english and len(objects) > 1 and rng.random() < 0.12:  # a part of the truth
        objects, arrangement = (objects[rng.integers(len(objects))],), "alone"
    if arrangement in RELATIONS:
        arrangement = "" if rng.random() < (0.15 if english else 0.2) else arrangement
    elif len(objects) > 1 and (not english or rng.random() < 0.5):
        arrangement = ""
    if rng.random() < (0.4 if english else 0.3) and (english or len(scene.ground.names) == 1):
        ground = scene.ground
    elif english and rng.random() < 0.15:
        style = scene.objects[0].style
    return Statement(objects, arrangement, ground, style)


def _told_of(each: SceneObject, rng: np.random.Generator, sizes: bool) -> SceneObject:
    size = each.size if sizes and rng.random() < 0.45 else "medium"
    return replace(each, size=size, colour=each.colour if rng.random() < 0.85 else None)


def say(statement: Statement, rng: np.random.Generator, language: str = "en") -> str | None:
    """A statement in words, of many possible ones; None when the language has no name for one of its things.

    Raises UsageError for a language that is not in `LANGUAGES`.
    """
    if language not in LANGUAGES:
        raise UsageError(f"language {language!r}; choose from {', '.join(LANGUAGES)}")
    return _english(statement, rng) if language == "en" else _foreign(statement, language)


def caption(scene: Scene, rng: np.random.Generator, language: str = "en") -> str | None:
    """A random true caption; see `stated` and `say`."""
    return say(stated(scene, rng, language), rng, language)


def captions(scene: Scene, rng: np.random.Generator, language: str = "en", most: int = 4) -> list[str]:
    """At most `most` different captions; in English the plain one is first. Empty when there is no name."""
    found = dict.fromkeys([plain_caption(scene)] if language == "en" else [])
    for _ in range(3 * most):
        text = caption(scene, rng, language)
        if text is None or len(found) >= most:
            break
        found[text] = None
    return list(found)


def _english(statement: Statement, rng: np.random.Generator) -> str:
    phrases = []
    for each in statement.objects:
        words = {"small": SMALL, "large": LARGE}.get(each.size)
        phrases.append(noun_phrase(each, size=words[rng.integers(2)] if words else ""))
    text = _arranged(statement.arrangement, phrases, rng)
    if ": " not in text:
        text = FRAMES[rng.integers(len(FRAMES))].format(text)
    if statement.ground is not None:
        text += grounded(statement.ground, rng)
    elif statement.style is not None:
        text = styled(text, statement.style)
    return text


def styled(text: str, style: str) -> str:
    """A caption that also says the style: 'a cat' and 'fluent-emoji' -> 'a cat, fluent emoji style'."""
    return f"{text}, {style.replace('-', ' ')} style"


def _arranged(arrangement: str, phrases: list[str], rng: np.random.Generator) -> str:
    if arrangement in RELATIONS:
        first, second, relation = phrases[0], phrases[1], arrangement
        if rng.random() < 0.5:
            first, second, relation = second, first, OPPOSITE[relation]
        if rng.random() < 0.12:
            return _by_sides(first, second, relation)
        return f"{first} {WAYS[relation][rng.integers(len(WAYS[relation]))]} {second}"
    if arrangement:
        return _told(arrangement, phrases)
    return _listed([phrases[i] for i in rng.permutation(len(phrases))])


def _by_sides(first: str, second: str, relation: str) -> str:
    """'a cat on the left and a dog on the right'."""
    here = {"left of": "on the left", "right of": "on the right", "above": "at the top", "below": "at the bottom"}
    return f"{first} {here[relation]} and {second} {here[OPPOSITE[relation]]}"


def grounded(ground: Ground, rng: np.random.Generator) -> str:
    """' on a yellow background', ' on yellow', ' on a blue and pink gradient'."""
    if len(ground.names) == 2:
        return f" on a {' and '.join(sorted(ground.names))} gradient"
    (name,) = ground.names
    whole = with_article(f"{name} background")
    return (f", on {whole}", f" on {whole}", f" against {whole}", f", {name} background")[rng.integers(4)]


def _foreign(statement: Statement, language: str) -> str | None:
    tongue = TONGUES[language]
    if any(language not in each.names for each in statement.objects):
        return None
    phrases = [_foreign_phrase(each, tongue, language) for each in statement.objects]
    text = tongue.comma.join(phrases)
    if len(phrases) == 2:
        if statement.arrangement in ("right of", "below"):
            phrases.reverse()
        template = tongue.both
        if statement.arrangement:
            sideways = statement.arrangement in ("left of", "right of")
            template = tongue.left_right if sideways else tongue.above_below
        text = template.format(a=phrases[0], b=phrases[1])
    if statement.ground is not None:
        text += tongue.ground.format(colour=tongue.grounds[statement.ground.names[0]])
    return text


def _foreign_phrase(each: SceneObject, tongue: Tongue, language: str) -> str:
    noun = each.names[language]
    if each.count > 1 and tongue.counted:
        noun = tongue.counted[each.count - 2].format(noun=noun)
    if each.colour:
        return tongue.coloured.format(noun=noun, colour=tongue.colours[each.colour])
    return noun
