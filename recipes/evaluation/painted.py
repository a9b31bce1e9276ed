"""Guided painting before judges that took no part in it: forty nouns, or twenty-five pictograms with a colour each.

    python -m recipes.evaluation.painted --out DIR [--nouns [N] | --pictograms [N]] [--minutes M] [--photos DIR]
        [--drawer fft] [--quality normal] [--seed 0] [--config FILE] [--set KEY=VALUE]...

Paints "a photo of a tiger" and so on with the given settings, one after another, into DIR/TIGER.png. A picture that is
there with the same settings is judged and not painted again; --fresh paints all anew. N takes the first N of the list,
which are spread over its kinds; after M minutes no further picture is begun, and the others are left out.

Nouns are judged by EfficientNet-Lite0's own classifier (`recipes/evaluation/lite0.py`), which is in no tower and in no
loss; pictograms by the CLIP that guided (does it retrieve the prompt among all of the list?) and by the colour that
most of the picture shows (`bahumukha.evaluate.colours`). Prints a table and the rates, and writes DIR/sheet.png and
DIR/scores.json. With --photos, also how colourful the pictures are beside those photographs.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from bahumukha import zoo
from bahumukha.data.folders import find_images
from bahumukha.errors import BahumukhaError
from bahumukha.evaluate.guided import (
    Colourfulness,
    Noun,
    Pictogram,
    colourfulness,
    first_among,
    judge_nouns,
    judge_pictograms,
    nouns,
    pictograms,
)
from bahumukha.images import open_image, save_image
from bahumukha.sheets import contact_sheet
from recipes.evaluation.lite0 import CROPPED, Lite0
from recipes.fetch import add_cache_option
from recipes.painting import Made, Settings, add_settings_options, find_made, paint, read_settings

GOOD, FAIR, BAD = "#1f9d3a", "#e0a800", "#d92626"
"""Frames on the sheet: right, nearly, wrong."""
PHOTO_SIDE = 224
"""Pixels of photographs' shortest side when they are compared with."""


@dataclass(frozen=True)
class Judged:
    """One picture with what is said of it."""

    picture: Image.Image
    line: str
    """Of the table."""
    caption: str
    frame: str
    figures: dict[str, Any]


# --- painting ---------------------------------------------------------------------------------------------


def all_made(
    prompts: Sequence[str], settings: Settings, out: Path, minutes: float | None, fresh: bool
) -> Iterator[tuple[int, Made]]:
    """(index of the prompt, its picture), in order; those that are there already take no time."""
    until = None if minutes is None else time.monotonic() + 60 * minutes
    for i, prompt in enumerate(prompts):
        config, path = settings.of(prompt), out / f"{slug(prompt)}.png"
        made = None if fresh else find_made(config, path)
        if made is None:
            if until is not None and time.monotonic() >= until:
                continue
            made = paint(config, path)
        yield i, made


def slug(prompt: str) -> str:
    """`a photo of a tiger` -> `tiger`; `a red apple` -> `red-apple`."""
    bare = re.sub(r"^(a photo of )?(an? )?", "", prompt)
    return re.sub(r"[\W_]+", "-", bare)


# --- judging ----------------------------------------------------------------------------------------------


def noun_judge(asked: Sequence[Noun], cache: Path) -> Callable[[int, Made], Judged]:
    """What Lite0 says of the picture for `asked[i]`."""
    classifier = Lite0(cache)

    def judge(i: int, made: Made) -> Judged:
        picture = made.open()
        (score,) = judge_nouns([picture], [asked[i]], classifier)
        (cropped,) = judge_nouns([picture], [asked[i]], lambda pictures: classifier(pictures, CROPPED))
        name = asked[i].noun
        first = f"{score.first:<22.22} {score.first_probability:>4.0%}"
        line = f"{name:<20} {score.rank:>4}  {score.probability:>5.0%}   {first}"
        caption = f"{name}: {'first' if score.rank == 1 else f'place {score.rank}'}, {score.probability:.0%}"
        caption += f"\n{score.first} {score.first_probability:.0%}"
        frame = GOOD if score.rank == 1 else FAIR if score.rank <= 5 else BAD
        return Judged(picture, line, caption, frame, asdict(score) | {"cropped_rank": cropped.rank})

    return judge


def pictogram_judge(asked: Sequence[Pictogram], settings: Settings) -> Callable[[int, Made], Judged]:
    """What the CLIP that guided and the colours say of the picture for `asked[i]`."""
    encoder = zoo.load(settings.of("a").models[0])

    def judge(i: int, made: Made) -> Judged:
        picture = made.open()
        (score,) = judge_pictograms([picture], [asked[i]], encoder)
        line = f"{score.prompt:<26} {score.rank:>4}   {score.retrieved:<26} {score.colour:<8}{score.share:>4.0%}"
        line += "   " if score.colour_is_right else " ! "
        caption = f"{score.prompt}\n{'' if score.rank == 1 else score.retrieved + ', '}{score.colour} {score.share:.0%}"
        right = (score.rank == 1) + score.colour_is_right
        return Judged(picture, line, caption, (BAD, FAIR, GOOD)[right], asdict(score))

    return judge


NOUN_HEAD = f"{'noun':<20} {'rank':>4} {'prob.':>6}   {'named first':<22} {'':>4}"
PICTOGRAM_HEAD = f"{'prompt':<26} {'rank':>4}   {'retrieved':<26} {'colour':<8}{'':>4}   "
REST = f"{'chroma':>7}{'satur.':>8}{'CLIP':>7}{'s':>7}"


def noun_rates(figures: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The parts of the pictures whose class came first, and among the first five."""
    whole, cropped = ([each[key] for each in figures] for key in ("rank", "cropped_rank"))
    return {
        "first": first_among(whole, 1),
        "among five": first_among(whole, 5),
        "first, cropped as photographs": first_among(cropped, 1),
        "among five, cropped": first_among(cropped, 5),
    }


def pictogram_rates(figures: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The parts that were retrieved, and whose colour is right."""
    return {
        "retrieved": first_among([each["rank"] for each in figures], 1),
        "colour": float(np.mean([each["colour_is_right"] for each in figures])),
    }


def photo_colours(folder: Path) -> list[Colourfulness]:
    """Of every photograph in a folder, at about `PHOTO_SIDE` pixels."""
    found = []
    for path in find_images([folder]):
        image = open_image(path, at_least=PHOTO_SIDE)
        image.thumbnail((2 * PHOTO_SIDE, PHOTO_SIDE))
        found.append(colourfulness(image))
    return found


def beside_photos(figures: Sequence[dict[str, Any]], photos: Sequence[Colourfulness]) -> dict[str, Any]:
    """By measure: the photographs' 5th, 50th and 95th percentile, the pictures' median, and how many are within."""
    beside = {}
    for name in ("chroma", "saturation"):
        low, middle, high = np.percentile([getattr(each, name) for each in photos], (5, 50, 95))
        ours = np.array([each[name] for each in figures])
        within = float(((ours >= low) & (ours <= high)).mean())
        beside[name] = {
            "photographs": [round(float(v), 3) for v in (low, middle, high)],
            "painted": round(float(np.median(ours)), 3),
            "within": within,
        }
    return beside


# --- the command ------------------------------------------------------------------------------------------


def write_sheet(judged: Sequence[Judged], path: Path, title: str) -> None:
    """All pictures, each in a frame of what came of it: green, amber, red."""
    side = max(max(each.picture.size) for each in judged)
    framed = [(ImageOps.expand(each.picture, max(4, side // 28), each.frame), each.caption) for each in judged]
    save_image(contact_sheet(framed, columns=min(8, len(framed)), title=title), path)


def report(judged: Sequence[Judged], rates: dict[str, float], total: int, args: argparse.Namespace) -> None:
    """Print the rates; write the sheet and the figures."""
    figures = [each.figures for each in judged]
    seconds = [each["seconds"] for each in figures]
    settings = " ".join([args.drawer or "", args.quality, f"seed {args.seed}", *args.set]).strip()
    summary: dict[str, Any] = {
        "settings": settings,
        "judged": len(judged),
        "of": total,
        "rates": rates,
        "seconds": {"median": float(np.median(seconds)), "most": max(seconds)},
    }
    missing = "" if len(judged) == total else f" ({total - len(judged)} are not painted yet: no rate counts them)"
    print(f"\n{len(judged)} of {total} pictures{missing}; {settings}")
    for name, rate in rates.items():
        print(f"  {name:<32}{rate:7.1%}")
    print(f"  seconds a picture                 {np.median(seconds):.0f}, at most {max(seconds):.0f}")
    if args.photos:
        summary["beside photographs"] = beside_photos(figures, photo_colours(args.photos))
        for name, row in summary["beside photographs"].items():
            low, middle, high = row["photographs"]
            print(
                f"  {name:<12}median {row['painted']:g}; photographs {middle:g}, 5% to 95%: {low:g} to {high:g}; "
                f"within: {row['within']:.0%}"
            )
    title = ", ".join(f"{name} {rate:.0%}" for name, rate in list(rates.items())[:2]) + f" ({settings})"
    write_sheet(judged, args.out / "sheet.png", title)
    text = json.dumps(summary | {"pictures": figures}, indent=1, ensure_ascii=False)
    (args.out / "scores.json").write_text(text + "\n", encoding="utf-8")
    print(f"  {args.out / 'sheet.png'}, {args.out / 'scores.json'}")


def main(arguments: list[str] | None = None) -> int:
    """Paint, judge and tell; 1 when nothing could be judged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--nouns", type=int, nargs="?", metavar="N", help="the default, all of them")
    which.add_argument("--pictograms", type=int, nargs="?", const=-1, metavar="N")
    parser.add_argument("--minutes", type=float, help="after these begin no further picture")
    parser.add_argument("--fresh", action="store_true", help="paint also what is there")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="photographs to compare colours with")
    add_settings_options(parser)
    add_cache_option(parser)
    args = parser.parse_args(arguments)
    try:
        return run(args)
    except BahumukhaError as error:
        parser.exit(1, f"error: {error}\n")


def run(args: argparse.Namespace) -> int:
    """What the options ask for. Raises BahumukhaError."""
    settings = read_settings(args)
    asked: Sequence[Noun] | Sequence[Pictogram]
    if args.pictograms is None:
        asked = few = nouns(args.nouns)
        head, judge, rates = NOUN_HEAD, noun_judge(few, args.cache), noun_rates
    else:
        asked = some = pictograms(None if args.pictograms == -1 else args.pictograms)
        head, judge, rates = PICTOGRAM_HEAD, pictogram_judge(some, settings), pictogram_rates
    args.out.mkdir(parents=True, exist_ok=True)
    print(head + REST, flush=True)
    judged = []
    try:
        prompts = [each.prompt for each in asked]
        for i, made in all_made(prompts, settings, args.out, args.minutes, args.fresh):
            one = judge(i, made)
            colours = colourfulness(one.picture)
            rest = f"{colours.chroma:>7.1f}{colours.saturation:>8.2f}{made.score:>7.3f}{made.seconds:>7.0f}"
            print(one.line + rest, flush=True)
            one.figures.update(asdict(colours), score=made.score, seconds=made.seconds, picture=made.path.name)
            judged.append(one)
    except KeyboardInterrupt:
        print("stopped; what was painted stays")
    if not judged:
        print("nothing was judged; give more --minutes")
        return 1
    report(judged, rates([each.figures for each in judged]), len(asked), args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
