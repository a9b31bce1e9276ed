"""Turn what the Open Clip Art Library calls its drawings into captions that say what is seen.

Titles there are anything from "Straw Tote" over "arrow-up-purple", "Lime (Half)" and "glace_01" to the name of a
whole collection ("Part of the Flat Icon Collection"); file names end in their author's name. A text becomes a caption
when, such parts taken off, all its words are English.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from recipes.captioned import unique
from recipes.vocabulary import is_english, stems

# Titles that many different drawings have.
COLLECTION = re.compile(
    r"^clipart by|collection|theme|icon ?set|\bicons$|clip ?arts?$|road signs$|map symbols|aiga|gramastar|^advertising$"
    r"|boating rules|australian maps|^r\d+ |sibmission|sallite|^card$|^people$|chess pieces|connectors$|^unsorted"
    r"|handling symbols|^figures?$|illustration$|example \d",
    re.I,
)
SUFFIXES = re.compile(r"\s+-\s+(?:rpg map elements|body part|clothing|symbol)s?$|\.(?:svg|png|py)$", re.I)
COLOURS = frozenset(
    "black white red green blue yellow orange purple pink brown gray grey cyan magenta violet gold silver".split()
)
# Keywords about the library, its themes and its shelves rather than about the picture.
SHELVES = frozenset(
    """hash unsorted special magick clipart icon icons theme action actions application applications filesystem
    filesystems mimetypes mime-types device devices geometry shape shapes symbol symbols sign signs recreation
    entertainment education office equipment activities activity stock study internet webpage simple national
    subnational generic general states default festive menu work holiday example examples computer hardware software
    desktop transport transportation container containers decoration decorations miscellany misc historic
    illustration picture image art vector color colour colored colours svg draw drawing outline contour silhouette
    duplicates logos buttons hand object objects things web www title protein network collection cartoon caution
    security christianity navy card cards electronic electronics organizations flourish game games recreation science
    geography africa america asia europe oceania caribbean bordered ornamental""".split()
)
# Kinds of things: right, but the last choice for a caption.
COARSE = frozenset(
    """animal mammal insect bird fish food fruit plant people tool vehicle building game toy music weather clothing
    flag dessert beverage sport sports map arrow button logo party religion astronomy dairy tree flower body human
    home weapon appliance furniture medicine instrument""".split()
)
LANGUAGE_OF_AUTHOR = {"architetto": "it", "rollandin": "it", "guillou": "fr"}
SUITS = {"h": "hearts", "d": "diamonds", "s": "spades", "c": "clubs"}
RANKS = {"a": "ace", "j": "jack", "q": "queen", "k": "king"} | {
    str(i): word for i, word in enumerate("two three four five six seven eight nine ten".split(), 2)
}


def cleaned(text: str) -> str:
    """'arrow-up-purple' -> 'purple arrow up', 'RoundPointShovel 2' -> 'round point shovel'.

    Capitals are kept in words that are all capitals (LED).
    """
    text = re.sub("^hotel icon ", "", SUFFIXES.sub("", text.strip()), flags=re.I)
    black_and_white = bool(re.search(r"\bb ?(?:and|&|/|n) ?w\b|[ _]bw$", text, re.I))
    text = re.sub(r"\(?\bb ?(?:and|&|/|n) ?w\b\)?|[ _]bw$", "", text, flags=re.I)
    text = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", text)
    text = re.sub(r"[\s_\-()\[\]/+:;,!#\"]+", " ", text)
    words = [w if w.isupper() and len(w) > 1 else w.lower() for w in text.strip(" .").split(" ")]
    words = [re.sub(r"(?<=[a-z]{3})\d+$", "", word) for word in words]
    while len(words) > 1 and re.fullmatch(r"\d*[a-z]?|alt\d*|copy", words[-1]):
        words.pop()
    if 1 < len(words) < 5 and words[-1] in COLOURS:
        words.insert(0, words.pop())
    while len(words) > 1 and words[0] in ("new", "my", "a", "an", "the", "misc", "future"):
        words.pop(0)
    return " ".join((["black and white"] if black_and_white else []) + words)


def without_author(stem: str, author: str) -> str:
    """'arrow-up-purple_benji_pa_01' by 'Benji Park' -> 'arrow-up-purple': file names carry a cut-off author's name."""
    parts = stem.split("_")
    names = re.findall(r"[a-z.'-]+", author.lower()) + ["ganson"]
    while len(parts) > 1:
        last = parts[-1].lower()
        if re.fullmatch(r"\d*[a-z]?", last) or any(len(last) > 1 and name.startswith(last) for name in names):
            parts.pop()
        else:
            break
    return "_".join(parts)


def title_caption(title: str, vocabulary: frozenset[str]) -> str | None:
    """The title as a caption, None when it names a collection or is not English."""
    return None if is_collection(title) else _english(cleaned(title), vocabulary)


def is_collection(title: str) -> bool:
    """Whether a title is that of a collection rather than of a drawing."""
    return bool(COLLECTION.search(title.strip()))


def file_caption(stem: str, author: str, vocabulary: frozenset[str]) -> str | None:
    """The file name as a caption, None when it is not made of English words."""
    bare = re.sub(r"^(?:aiga|gnome|contour|stock|\d+)[_\- ](?:(?:mime|fs|dev)[_\-])?", "", stem)
    caption = _english(cleaned(without_author(bare, author)), vocabulary)
    return f"{caption} sign" if caption and stem.startswith("aiga") else caption  # the pictograms of airports


def description_caption(text: str, vocabulary: frozenset[str]) -> str | None:
    """A description of 2 to 14 English words without remarks on how or by whom the drawing was made."""
    text = " ".join(text.split())
    remarks = (
        r"@|http|www|\bSVG\b|inkscape|part of|convert|collection|clip ?art|illustrator|sodipodi|vectori|contact|trace"
    )
    if re.search(remarks + r"|example|you |\bmy\b|\bI\b|gradien|based on|submi", text, re.I):
        return None
    text = re.sub(r"^(?:this is|it is|it's) ", "", text, flags=re.I)
    sentence = re.split(r"(?<=[a-z])\. ", text)[0].rstrip(".")
    return sentence if 2 <= len(sentence.split()) <= 14 and is_english(sentence, vocabulary) else None


def keyword_captions(keywords: Sequence[str], vocabulary: frozenset[str]) -> list[str]:
    """Keywords that name something to be seen, kinds of things last, no plural beside its singular."""
    words = unique(k.lower().replace("_", " ") for k in keywords)
    telling = [w for w in words if _is_telling(w) and is_english(w, vocabulary)]
    telling = [w for w in telling if not any(stem in telling for stem in stems(w)[1:])]
    return sorted(telling, key=lambda w: w in COARSE)


def _is_telling(keyword: str) -> bool:
    shelf = keyword in SHELVES or re.search(r"\btheme\b|^signs? and|^united nations|^clip ?art", keyword)
    return len(keyword) > 2 and not keyword.isdigit() and not shelf


def special_caption(folder: str, stem: str, title: str) -> str | None:
    """Captions for the families of drawings whose file names follow a rule: cards, stars, flags."""
    if "games/cards" in folder and (card := re.search(r"_([hdsc])_(10|[2-9ajqk])$", stem)):
        return f"{RANKS[card[2]]} of {SUITS[card[1]]}, a playing card"
    if star := re.match(r"star_(\d+)pt\d+step", stem):
        return f"{int(star[1])}-pointed star"
    if "/flags" in folder and not re.search("semaphore|miscellany", folder) and "signal" not in stem + title.lower():
        return flag_caption(title if title.strip() else stem, folder.rpartition("/")[2])
    return None


def flag_caption(title: str, folder: str = "") -> str | None:
    """'Clipart by Steve Hall - United States - Arkansas' -> 'flag of Arkansas'; the folder's country is left off."""
    place = re.sub(r"[_\s]+", " ", re.sub(r"^clipart by [^-]* - ", "", title, flags=re.I)).split(" - ")[-1]
    place = re.sub(rf"^(?:{re.escape(folder)}|uk|usa)[ \-](?=\w)", "", place.strip(), flags=re.I)
    extra = r"\b(?:the|national|old|flag|of|alternate|civil|state|naval|ensign|\d+)\b|[()]"
    words = re.sub(extra, "", place, flags=re.I).split()
    place = " ".join(w if w == "and" else re.sub(r"(?<![^\W_]|')[a-z]", lambda m: m[0].upper(), w) for w in words)
    return f"flag of {place}" if len(place) > 2 else None


def _english(text: str, vocabulary: frozenset[str]) -> str | None:
    long_enough = len(text) > 2 and len(text.split()) <= 9 and re.search(r"[a-zA-Z]{3}", text)
    return text if long_enough and text not in SHELVES and is_english(text, vocabulary) else None
