"""Everyday things that photographs of ImageNet show and CLDR names in every language: `evaluate/everyday.json`.

    python -m recipes.evaluation.everyday --out src/bahumukha/evaluate/everyday.json

Which things: those that (1) are an emoji of their own, (2) are ImageNet classes or a kind above some (WordNet's
hypernyms decide), and (3) whose names were read in the sixteen languages, each for its sense. A name is CLDR's short
name ("tts"). Where that is the face of an animal, holds two names, or means something else, `CHOSEN` takes another word
from the same emoji's keywords; a word that CLDR does not list for it is refused.

Left out because a short name is wrong in some language and its keywords hold no right one: wolf (hi: jackal), skunk
(te: monitor lizard), otter (ar: beaver), badger (mr: badge), hamster (hi: mouse), goose (hi, bn: duck), water buffalo
(bn: hippopotamus), beetle (sw: cockroach), llama (zh: rhea), chicken (ta: chick), rooster (ur: hen), harp (te: veena),
shield (te: armour). Left out because emoji and class differ in sense, for instance kite (the class is the bird), horn,
organ, scale, locomotive (the class is electric, the emoji a steam engine), wastebasket (the class is the bin outside).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from bahumukha.data.folders import find_images
from bahumukha.data.imagenet import class_names
from bahumukha.errors import UsageError
from bahumukha.evaluate.clip import WNID
from recipes.clip.wordnet import WordNet, offset_of
from recipes.fetch import add_cache_option, folder_of, read_sources

LANGUAGES = "en te hi ta bn mr ur fr de es pt ru zh ja ar sw".split()
CLDR = "cldr-annotations-full"
EMOJI_STYLE = "\ufe0f"


@dataclass(frozen=True)
class Thing:
    """An emoji and the WordNet ids of what it stands for; kinds of `but` are another thing of the list."""

    emoji: str
    synsets: tuple[str, ...]
    but: tuple[str, ...] = ()


THINGS = {
    # animals
    "fish": Thing("🐟", ("n02512053",), but=("n01482330",)),
    "shark": Thing("🦈", ("n01482330",)),
    "bird": Thing("🐦", ("n01503061",), but=("n01816887", "n02055803")),
    "parrot": Thing("🦜", ("n01816887",)),
    "penguin": Thing("🐧", ("n02055803",)),
    "lizard": Thing("🦎", ("n01674464",)),
    "frog": Thing("🐸", ("n01639765",)),
    "turtle": Thing("🐢", ("n01662784",)),
    "snake": Thing("🐍", ("n01726692",)),
    "spider": Thing("🕷", ("n01772222",)),
    "spider web": Thing("🕸", ("n04275548",)),
    "whale": Thing("🐋", ("n02062744",)),
    "dog": Thing("🐕", ("n02084071",)),
    "cat": Thing("🐈", ("n02121808",)),
    "fox": Thing("🦊", ("n02118333",)),
    "lion": Thing("🦁", ("n02129165",)),
    "rabbit": Thing("🐇", ("n02324045",)),
    "pig": Thing("🐖", ("n02395406",)),
    "ox": Thing("🐂", ("n02403003",)),
    "gorilla": Thing("🦍", ("n02480855",)),
    "monkey": Thing("🐒", ("n02484322",)),
    "fly": Thing("🪰", ("n02190166",)),
    "ant": Thing("🐜", ("n02219486",)),
    "cockroach": Thing("🪳", ("n02233338",)),
    "butterfly": Thing("🦋", ("n02274259",)),
    # food
    "ice cream": Thing("🍨", ("n07614500",)),
    "pretzel": Thing("🥨", ("n07695742",)),
    "hot dog": Thing("🌭", ("n07697537",)),
    "cucumber": Thing("🥒", ("n07718472",)),
    "strawberry": Thing("🍓", ("n07745940",)),
    "lemon": Thing("🍋", ("n07749582",)),
    "pizza": Thing("🍕", ("n07873807",)),
    "ear of corn": Thing("🌽", ("n12144580", "n13133613")),
    "mushroom": Thing("🍄", ("n07734744", "n12998815", "n13054560")),
    # things
    "abacus": Thing("🧮", ("n02666196",)),
    "guitar": Thing("🎸", ("n03467517",)),
    "drum": Thing("🥁", ("n03249569",)),
    "microphone": Thing("🎤", ("n03759954",)),
    "television": Thing("📺", ("n04404412",)),
    "camera": Thing("📷", ("n02942699",)),
    "printer": Thing("🖨", ("n04004767",)),
    "keyboard": Thing("⌨", ("n03085013",)),
    "computer mouse": Thing("🖱", ("n03793489",)),
    "desktop computer": Thing("🖥", ("n03180011",)),
    "laptop": Thing("💻", ("n03642806", "n03832673")),
    "watch": Thing("⌚", ("n04555897",)),
    "sunglasses": Thing("🕶", ("n04355933", "n04356056")),
    "jeans": Thing("👖", ("n03594734",)),
    "bikini": Thing("👙", ("n02837789",)),
    "chair": Thing("🪑", ("n03001627",)),
    "bucket": Thing("🪣", ("n02909870",)),
    "hammer": Thing("🔨", ("n03481172",)),
    "shovel": Thing("🪏", ("n04208210",)),
    "paintbrush": Thing("🖌", ("n03876231",)),
    "safety pin": Thing("🧷", ("n04127249",)),
    "mouse trap": Thing("🪤", ("n03794056",)),
    "soccer ball": Thing("⚽", ("n04254680",)),
    "bicycle": Thing("🚲", ("n02834778",)),
    "automobile": Thing("🚗", ("n02958343",)),
    "bus": Thing("🚌", ("n02924116",)),
    "airplane": Thing("✈", ("n02691156", "n04552348")),  # the warplane stands beside it
    "canoe": Thing("🛶", ("n02951358",)),
    "parachute": Thing("🪂", ("n03888257",)),
    "fountain": Thing("⛲", ("n03388043",)),
}
"""English short name -> the thing. More than one synset only where WordNet has no kind above them that fits."""

CHOSEN = {
    # only the face of the animal is an emoji: the animal's own name
    "frog": dict(te="కప్ప", hi="मेंढक", ta="தவளை", mr="बेडूक", ru="лягушка", ja="カエル", ar="ضفدع", sw="chura"),
    "fox": dict(te="నక్క", hi="लोमड़ी", ta="நரி", mr="कोल्हा", pt="raposa", ru="лиса", ja="キツネ", ar="ثعلب"),
    "lion": dict(
        te="సింహం",
        hi="सिंह",
        ta="சிங்கம்",
        bn="সিংহ",
        mr="सिंह",
        ur="ببر شیر",
        fr="lion",
        pt="leão",
        ru="лев",
        ja="ライオン",
        ar="أسد",
    ),
    # two names in one: the one that means nothing else ("बाइक" is a motorcycle too)
    "bicycle": dict(hi="साइकिल"),
    "automobile": dict(hi="कार"),
    "watch": dict(hi="घड़ी"),
    "ear of corn": dict(hi="भुट्टा", bn="ভুট্টা", mr="मका"),  # bn "ear" was that of the body, mr a leaf
    "safety pin": dict(te="పిన్నీసు"),
    # another sense, or narrower than the thing
    "bus": dict(te="బస్సు"),  # a tram
    "rabbit": dict(de="Kaninchen"),  # a hare
    "mushroom": dict(de="Pilz"),  # the fly agaric alone
    "turtle": dict(sw="kobe"),  # "old man turtle"
    "fountain": dict(ur="پانی کا فوارہ"),  # a spring, or spectacles
    "drum": dict(fr="tambour"),  # a drum kit, or a battery
    "bikini": dict(te="బికినీ", ta="பிகினி", ar="بيكيني"),  # any swimwear
    "pizza": dict(hi="पिज़्ज़ा"),  # a slice
    "soccer ball": dict(ru="мяч", ja="サッカーボール"),  # the game
}
"""Thing -> language -> the keyword of its emoji that takes the place of the short name."""


def read_annotations(folder: Path, language: str) -> dict[str, dict[str, list[str]]]:
    """Emoji -> {"tts": [short name], "default": keywords} in one language, from the unpacked package."""
    path = folder / "annotations" / language / "annotations.json"
    return json.loads(path.read_text(encoding="utf-8"))["annotations"]["annotations"]


def name_of(thing: str, language: str, entry: dict[str, list[str]]) -> str:
    """The short name, or the keyword chosen in its place. Raises UsageError for a word that is not the emoji's."""
    short = entry["tts"][0]
    chosen = CHOSEN.get(thing, {}).get(language, short)
    if chosen not in (short, *entry.get("default", [])):
        raise UsageError(f"{thing}: {chosen!r} is no keyword of CLDR's for it in {language}")
    if "," in chosen or "،" in chosen:
        raise UsageError(f"{thing}: {chosen!r} in {language} holds two names; choose one in CHOSEN")
    return chosen


def classes_of(thing: Thing, wordnet: WordNet, wnids: list[str]) -> list[str]:
    """The ImageNet ids that are the thing or a kind of it, in the order of `wnids`."""
    offsets = [offset_of(wnid) for wnid in wnids]
    within = {i for synset in thing.synsets for i in wordnet.classes_under(offset_of(synset), offsets)}
    without = {i for synset in thing.but for i in wordnet.classes_under(offset_of(synset), offsets)}
    return [wnids[i] for i in sorted(within - without)]


def entries(annotations: dict[str, dict[str, dict[str, list[str]]]], wordnet: WordNet) -> list[dict]:
    """The list's things, each with classes and names. Raises UsageError where a class would fit two things."""
    wnids = [wnid for wnid, _ in class_names()]
    made, owner = [], {}
    for name, thing in THINGS.items():
        classes = classes_of(thing, wordnet, wnids)
        if not classes:
            raise UsageError(f"{name}: no ImageNet class is a kind of {', '.join(thing.synsets)}")
        for wnid in classes:
            if owner.setdefault(wnid, name) != name:
                raise UsageError(f"{wnid} fits both {owner[wnid]} and {name}")
        names = {language: name_of(name, language, annotations[language][thing.emoji]) for language in LANGUAGES}
        if names["en"] != name:
            raise UsageError(f"{name}: CLDR calls {thing.emoji} {names['en']!r} in English")
        synsets = list(thing.synsets)
        made.append({"thing": name, "emoji": thing.emoji, "synsets": synsets, "classes": classes, "names": names})
    for language in LANGUAGES:
        named = [entry["names"][language] for entry in made]
        if twice := {name for name in named if named.count(name) > 1}:
            raise UsageError(f"{language}: {sorted(twice)[0]!r} names two things")
    return made


def main() -> None:
    """Write the list; with --photos, tell which things no photograph shows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photos", type=Path, help="photographs named by WordNet ids: name the things none shows")
    add_cache_option(parser)
    args = parser.parse_args()
    folder = folder_of(CLDR, args.cache)
    wordnet = WordNet.read(folder_of("wordnet-base", args.cache) / "usr/share/wordnet/data.noun")
    made = entries({language: read_annotations(folder, language) for language in LANGUAGES}, wordnet)
    lists = {
        "about": f"Names: Unicode CLDR {read_sources()[CLDR].version}, short names and keywords of emoji. "
        "Classes: WordNet 3.0, Princeton University. Made by recipes/evaluation/everyday.py.",
        "licence": (folder / "LICENSE").read_text(encoding="utf-8").strip(),
        "languages": LANGUAGES,
        "things": made,
    }
    rows = ",\n  ".join(json.dumps(entry, ensure_ascii=False) for entry in made)
    head = json.dumps({**lists, "things": []}, ensure_ascii=False, indent=1).removesuffix("[]\n}")
    args.out.write_text(f"{head}[\n  {rows}\n ]\n}}\n", encoding="utf-8")
    print(f"{len(made)} things of {sum(len(entry['classes']) for entry in made)} classes in {len(LANGUAGES)} languages")
    if args.photos:
        shown = {match[1] for path in find_images([args.photos]) if (match := WNID.match(path.name))}
        fitting = {entry["thing"]: len(shown.intersection(entry["classes"])) for entry in made}
        print(f"{sum(fitting.values())} photographs fit; shown by none: {[k for k, n in fitting.items() if not n]}")


if __name__ == "__main__":
    main()
