"""Captions of pictograms: which emoji an icon shows, and that emoji's names and keywords in every language.

The icon sets name their icons in slightly different ways ("bear", "bear-face", "admissiontickets"). They are joined
through the code points: from the set's own `chars.json`, else from any set's, else from the English names in the
Unicode CLDR and in the Unicode character database. What is no emoji is captioned by its icon's name.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from recipes.captioned import unique
from recipes.vocabulary import SLANG, is_english, segmented

SKIN_TONES = frozenset({"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"})
TONE_SUFFIX = re.compile(r"(?:-(?:medium-light|medium-dark|light|medium|dark))+$|-tone-?\d$")
# "X flag" is not "flag of X" for these.
NO_PLACES = (
    "(?:black|white|red|yellow|green|blue|brown|orange|purple|pink|deep|"
    "chequered|crossed|pirate|rainbow|transgender|unknown|triangular) "
)
MOST_KEYWORDS = 5  # of languages other than English, which are over a hundred
# CLDR's English names with a colon, as people say them.
SPOKEN = {
    "flag": "flag of {}",
    "keycap": "keycap {}",
    "family": "family of {}",
    "person": "person with {}",
    "man": "man with {}",
    "woman": "woman with {}",
    "kiss": "kiss of {}",
    "couple with heart": "couple with heart, {}",
}


@dataclass
class IconSet:
    """An Iconify package: `icons` by name, other names of the same icons, the code points and category of each."""

    prefix: str
    licence: str
    icons: dict[str, dict]
    width: float
    height: float
    aliases: dict[str, list[str]] = field(default_factory=dict)
    characters: dict[str, str] = field(default_factory=dict)
    categories: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> IconSet:
        """From icons.json, chars.json, metadata.json and info.json of an unpacked package."""
        icons, characters, metadata, info = (
            json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            for name in ("icons", "chars", "metadata", "info")
        )
        aliases: dict[str, list[str]] = {}
        for alias, entry in icons.get("aliases", {}).items():
            if set(entry) <= {"parent", "hidden"}:  # a turned or mirrored one is another picture
                aliases.setdefault(entry["parent"], []).append(alias)
        return cls(
            prefix=icons["prefix"],
            licence=info["license"]["spdx"],
            icons=icons["icons"],
            width=icons.get("width", 16),
            height=icons.get("height", 16),
            aliases=aliases,
            characters={name: without_selectors(points) for points, name in characters.items()},
            categories={icon: name for name, own in metadata.get("categories", {}).items() for icon in own},
        )

    def names(self, icon: str) -> list[str]:
        """The icon's name and its other names."""
        return [icon, *self.aliases.get(icon, [])]

    def is_skin_tone(self, icon: str) -> bool:
        """Whether the icon only differs from another of the set by the colour of the skin."""
        if "skin-tone" in icon or SKIN_TONES & set(self.characters.get(icon, "").split("-")):
            return True
        base = TONE_SUFFIX.sub("", icon)
        return base != icon and any(name in self.icons for name in (base, f"person-{base}"))


def without_selectors(points: str) -> str:
    """'0032-FE0F-20E3' -> '32-20e3': code points in lower case, no leading zeros, no variation selectors."""
    return "-".join(p.lstrip("0") for p in points.lower().split("-") if p not in ("fe0f", "fe0e"))


def squashed(name: str) -> str:
    """'flag-for-flag-india' -> 'flagindia': letters and digits of a name, to compare names by."""
    name = unicodedata.normalize("NFKD", name.lower()).replace("flag-for-flag-", "flag-").replace("flag-for-", "flag-")
    return re.sub(r"[^a-z0-9]", "", name.replace("&", "and"))


@dataclass
class Annotations:
    """Names and keywords of emoji: language -> code points ("1f468-200d-1f33e") -> text or texts."""

    names: dict[str, dict[str, str]]
    keywords: dict[str, dict[str, list[str]]]

    @classmethod
    def read(cls, *folders: Path) -> Annotations:
        """From the unpacked packages cldr-annotations-full and cldr-annotations-derived-full."""
        found = cls({}, {})
        for folder in folders:
            for path in sorted(folder.glob("annotations*/*/annotations.json")):
                (content,) = json.loads(path.read_text(encoding="utf-8")).values()
                found._add(path.parent.name, content.get("annotations", {}))
        return found

    def _add(self, language: str, entries: dict[str, dict[str, list[str]]]) -> None:
        names, keywords = self.names.setdefault(language, {}), self.keywords.setdefault(language, {})
        for characters, entry in entries.items():
            points = without_selectors("-".join(f"{ord(c):x}" for c in characters))
            name = entry.get("tts", [""])[0]
            if name and "↑" not in name:  # the mark for "as in the parent language"
                names[points] = name
            keywords[points] = [k for k in entry.get("default", []) if "↑" not in k]

    def captions(self, points: str, vocabulary: frozenset[str]) -> dict[str, list[str]]:
        """Language -> [name, keywords…]; empty when CLDR does not know the emoji."""
        captions = {}
        for language, names in self.names.items():
            if points not in names:
                continue
            name, keywords = names[points], self.keywords[language].get(points, [])
            if language == "en":
                captions[language] = unique([spoken(name), *described(name, keywords, vocabulary)])
            else:
                captions[language] = unique([name, *keywords[:MOST_KEYWORDS]])
        return captions


def spoken(name: str) -> str:
    """'flag: India' -> 'flag of India'."""
    kind, colon, rest = name.partition(": ")
    if not colon:
        return name
    return SPOKEN.get(kind, kind + ", {}").format(rest)


def described(name: str, keywords: Iterable[str], vocabulary: frozenset[str]) -> list[str]:
    """English keywords that say what is seen: no slang, chat abbreviations, signs, numbers; no "man" for a woman."""
    other = (
        {"man", "men", "male"} if "woman" in name else {"woman", "women", "female"} if "man" in name.split() else set()
    )
    return [k for k in keywords if _is_telling(k) and k not in other and is_english(k, vocabulary)]


def _is_telling(keyword: str) -> bool:
    return len(keyword) > 2 and not keyword.isdigit() and keyword.lower() not in SLANG


class CodePoints:
    """Finds the code points of an icon from its names."""

    def __init__(self, sets: Iterable[IconSet], annotations: Annotations) -> None:
        self.by_name: dict[str, str] = {}
        for points, name in annotations.names["en"].items():
            self.by_name.setdefault(squashed(name), points)
        for icons in sets:
            for icon, points in icons.characters.items():
                for name in icons.names(icon):
                    self.by_name.setdefault(squashed(name), points)
        for points in annotations.names["en"]:
            if "-" not in points:
                self.by_name.setdefault(squashed(unicodedata.name(chr(int(points, 16)), "")), points)
        self.by_name.pop("", None)

    def of(self, icons: IconSet, icon: str) -> str | None:
        """'1f43b' for "bear-face", None for what is no emoji."""
        for name in icons.names(icon):
            if name in icons.characters:
                return icons.characters[name]
        own = [squashed(name) for name in icons.names(icon)]
        whole = [name.removesuffix("side") for name in own]  # fxemoji's "catside" is the cat as against its face
        return next((self.by_name[name] for name in own + whole if name in self.by_name), None)


def name_in_words(icon: str, vocabulary: frozenset[str]) -> str | None:
    """'axe2' -> 'axe', 'nut-and-bolt' -> 'nut and bolt', 'admissiontickets' -> 'admission tickets', else None."""
    if icon.startswith("cjk"):  # signs that have no name but "ideograph"
        return None
    text = re.sub(r"^regional-?indicator-?([a-z])$", r"letter \1", icon)
    text = re.sub(r"-(?:low|old)$|(?<=[a-z])-?\d$", "", text)
    text = re.sub(r"^flag-for-(?:flag-)?|^flag-(?!in-)", "flag of ", text).replace("-", " ")
    text = re.sub(rf"^(?!{NO_PLACES})(\w+(?: \w+){{0,3}}) flag$", r"flag of \1", text)
    if " " in text or is_english(text, vocabulary):
        return text
    return segmented(text, vocabulary)


def captions_of(
    icons: IconSet, icon: str, points: str | None, annotations: Annotations, vocabulary: frozenset[str]
) -> dict[str, list[str]]:
    """All captions of an icon by language, best first; empty when its name says nothing."""
    captions = annotations.captions(points, vocabulary) if points else {}
    own = [n for n in (name_in_words(name, vocabulary) for name in icons.names(icon)) if n]
    english = captions.get("en", [])
    best = english[:1]
    if best and not best[0].startswith("flag of"):  # "flag-for-flag-chequered" is no country's
        own = [name for name in own if not name.startswith("flag of")]
    captions["en"] = unique([*best, *own, *english[1:]])
    return captions if captions["en"] else {}
