"""Which English words are words: WordNet's, for telling captions from file names, brands and other languages."""

from __future__ import annotations

import re
from functools import cache, partial
from pathlib import Path

from recipes.fetch import folder_of

# Words that WordNet, a dictionary of content words, leaves out or that captions need.
FUNCTION_WORDS = frozenset(
    """a an the of in on at with without and or for from to by over under up down into onto off out upwards
    downwards leftwards rightwards as is are it its
    his her their this that these those no not all some his my your behind between inside outside through
    against above below near two three four five six seven eight nine ten""".split()
)
# In WordNet as abbreviations, slang or proper names, but in keywords no description of a picture.
SLANG = frozenset(
    """ace bae bff bro bruh bs cha choo cmon dope eek epic ew fab fam fml gaga geez guh hehe hmm huh ily jeez jel lit
    lmao lol meh miss mwah nope omg omw oops ouch phat pga rad rofl sexy shh slay smh swag tbt thx tmi tash ugh uhh
    whew whoa woah wow wtv xoxo yay yeah yep yikes yolo yum yup zany af awk brb caw sir tee well fail done totes
    stan vibes bet cap queen king hello""".split()
)


@cache
def english_words(cache_folder: Path) -> frozenset[str]:
    """Every single word of WordNet's nouns, verbs and adjectives in lower case, parts of compounds included."""
    folder = folder_of("wordnet-base", cache_folder) / "usr/share/wordnet"
    words = set(FUNCTION_WORDS)
    for kind in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"index.{kind}").read_text(encoding="utf-8").splitlines():
            if not line.startswith("  "):
                words.update(re.findall(r"[a-z]+", line.split(" ", 1)[0]))
    return frozenset(words)


def stems(word: str) -> list[str]:
    """The word and what it may be a plural or verb form of, by WordNet's own detachment rules (morphy(7WN))."""
    endings = (("ies", "y"), ("es", ""), ("s", ""), ("ing", ""), ("ing", "e"), ("ed", ""), ("ed", "e"), ("er", ""))
    cut = [word[: -len(end)] + put for end, put in endings if word.endswith(end) and len(word) > len(end) + 2]
    doubled = [w[:-1] for w in cut if len(w) > 3 and w[-1] == w[-2]]
    return [word, *cut, *doubled]


def is_word(word: str, vocabulary: frozenset[str]) -> bool:
    """Whether a word in lower case, in any regular form, is in the vocabulary; numbers are words."""
    return word.isdigit() or any(stem in vocabulary for stem in stems(word))


def is_english(text: str, vocabulary: frozenset[str]) -> bool:
    """Whether every word of a text is an English one."""
    words = re.findall(r"[^\W_]+", re.sub(r"[’']s\b", "", text.lower()))
    return bool(words) and all(is_word(word, vocabulary) for word in words)


def _awkwardness(words: list[str], vocabulary: frozenset[str]) -> tuple[int, int, int, int]:
    """Least for few words, then for uninflected ones ("small smile", not "smalls mile"), then for long ones."""
    inflected = sum(word not in vocabulary for word in words)
    return len(words), inflected, -sum(len(word) ** 2 for word in words), len(words[-1])


def segmented(run: str, vocabulary: frozenset[str]) -> str | None:
    """'admissiontickets' -> 'admission tickets': the split into fewest known words, or None when there is none."""
    cost = partial(_awkwardness, vocabulary=vocabulary)
    best: list[list[str] | None] = [[]] + [None] * len(run)
    for end in range(1, len(run) + 1):
        for start in range(end):
            head, word = best[start], run[start:end]
            known = len(word) > 2 or word in FUNCTION_WORDS or word.isdigit()
            if head is not None and known and is_word(word, vocabulary):
                best[end] = min([*filter(None, [best[end]]), [*head, word]], key=cost)
    words = best[-1]
    return " ".join(words) if words else None
