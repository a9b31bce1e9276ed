"""Count what a folder of rendered sources holds, and show a sample of it on one contact sheet.

    python -m recipes.pictograms.statistics --pictures PICTURES [--sheet sheet.png] [--seed 0]

Prints one line a source: pictures by split, concepts, captions, languages; then the concepts that are in both splits,
of which there must be none but those that came by a double picture.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from bahumukha.sheets import contact_sheet
from recipes.captioned import CaptionedPicture, read_listing, slug


def find_listings(pictures: Path) -> dict[Path, list[CaptionedPicture]]:
    """Folder -> records of each source below `pictures`, sorted."""
    return {path.parent: read_listing(path.parent) for path in sorted(pictures.glob("*/captions.jsonl"))}


def summary(records: Sequence[CaptionedPicture]) -> dict[str, object]:
    """Counts of one source: pictures, by split, by style, concepts, captions in English, pictures by language."""
    languages = Counter(code for record in records for code in record.captions)
    return {
        "pictures": len(records),
        "splits": dict(Counter(record.split for record in records)),
        "styles": dict(Counter(record.style for record in records)),
        "concepts": len({concept(record) for record in records}),
        "english": sum(len(record.captions["en"]) for record in records),
        "languages": languages,
    }


def concept(record: CaptionedPicture) -> str:
    """What decides the split: the slug of the best English caption."""
    return slug(record.captions["en"][0])


def in_both_splits(listings: Sequence[Sequence[CaptionedPicture]]) -> set[str]:
    """Concepts found both in training and in validation, the held-out style aside."""
    splits = {"train": set[str](), "validation": set[str]()}
    for records in listings:
        for record in records:
            if record.split in splits:
                splits[record.split].add(concept(record))
    return splits["train"] & splits["validation"]


def sample_sheet(listings: dict[Path, list[CaptionedPicture]], each: int, seed: int) -> Image.Image:
    """`each` random pictures of every source with their best English caption."""
    rng = random.Random(seed)
    tiles = []
    for folder, records in listings.items():
        for record in rng.sample(records, min(each, len(records))):
            with Image.open(folder / record.file) as picture:
                tiles.append((on_white(picture), record.captions["en"][0][:40]))
    return contact_sheet(tiles, columns=each)


def on_white(picture: Image.Image) -> Image.Image:
    """A picture with alpha laid on white, RGB."""
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def main(arguments: list[str] | None = None) -> None:
    """Print the counts; write the sheet if asked to."""
    parser = argparse.ArgumentParser(prog="recipes.pictograms.statistics", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, help="write a contact sheet here")
    parser.add_argument("--each", type=int, default=12, help="pictures of each source on the sheet")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    listings = find_listings(args.pictures)
    if not listings:
        parser.error(f"no */captions.jsonl below {args.pictures}")
    total: Counter[str] = Counter()
    for folder, records in listings.items():
        counts = summary(records)
        languages = counts.pop("languages")
        assert isinstance(languages, Counter)
        total.update(languages)
        print(f"{folder.name}: {counts}, {len(languages)} languages")
    print(f"pictures by language: {dict(total.most_common())}")
    print(f"concepts in both splits: {sorted(in_both_splits(list(listings.values())))}")
    if args.sheet:
        sample_sheet(listings, args.each, args.seed).save(args.sheet)


if __name__ == "__main__":
    main()
