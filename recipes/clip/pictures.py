"""Cached features of captioned pictures: the trunk is frozen, so each picture passes through it once.

Kept for each picture are the pooled feature and the region tokens (`models.regions`), both float16, in two arrays that
are mapped into memory and never read whole. Pictures with transparent parts are laid on white or on a plain or shaded
ground of a random colour, with a random margin; scenes and photographs are taken as they are.

    python -m recipes.clip.pictures --pictures FOLDER --weights LITE2.pth --out cache/pictures
    python -m recipes.clip.pictures --scenes FOLDER --weights LITE2.pth --out cache/scenes [--size 160]
    python -m recipes.clip.pictures --photos FOLDER... --weights LITE2.pth --out cache/photos
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from recipes.clip.trunk import PREPROCESS, maps_on_onnx

FEATURES, TOKENS, RECORDS = "features.npy", "tokens.npy", "records.jsonl"
PHOTO_VIEWS = 6
"""Random crops of a photograph; there are few of them."""


@dataclass
class PictureSet:
    """features float16 (N, width), tokens float16 (N, h, w, channels), and what is known of each picture."""

    features: np.ndarray
    tokens: np.ndarray
    records: list[dict[str, Any]]

    @classmethod
    def read(cls, folder: Path, split: str | None = None) -> PictureSet:
        """What `main` wrote, or one split of it; the tokens stay on disk."""
        records = [json.loads(line) for line in (folder / RECORDS).read_text(encoding="utf-8").splitlines()]
        features = np.load(folder / FEATURES, mmap_mode="r")
        tokens = np.load(folder / TOKENS, mmap_mode="r")
        for row, record in enumerate(records):
            record["row"] = row
        if split is not None:
            records = [r for r in records if r["split"] == split]
        return cls(features, tokens, records)

    def __len__(self) -> int:
        return len(self.records)

    def without(self, words: set[str]) -> PictureSet:
        """Leave out every picture that has one of these words in any English caption, in the singular or plural."""
        if not words:
            return self
        pattern = re.compile(r"\b(?:" + "|".join(re.escape(w) for w in sorted(words)) + r")(?:s|es)?\b", re.I)
        records = [r for r in self.records if not any(pattern.search(c) for c in r["captions"].get("en", []))]
        return replace(self, records=records)

    def maps(self, which: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Positions in `records` -> features float32 (B, width), tokens float32 (B, h, w, channels)."""
        rows = np.array([self.records[i]["row"] for i in which])
        return self.features[rows].astype(np.float32), self.tokens[rows].astype(np.float32)


def name_of(record: dict[str, Any]) -> str:
    """The name by which a captioned picture goes."""
    return record["captions"]["en"][0].lower()


def on_ground(picture: Image.Image, rng: np.random.Generator, plain_white: bool) -> Image.Image:
    """An RGBA picture on white, or on a shaded ground of two random light or dark colours; RGB."""
    if plain_white:
        ground = Image.new("RGBA", picture.size, "white")
    else:
        corners = rng.integers(0, 256, (2, 2, 3)).astype(np.uint8)
        if rng.random() < 0.5:
            corners[:] = corners[0, 0]
        ground = Image.fromarray(corners).resize(picture.size, Image.Resampling.BILINEAR).convert("RGBA")
    return Image.alpha_composite(ground, picture.convert("RGBA")).convert("RGB")


def squared(picture: Image.Image, margin: float) -> Image.Image:
    """The picture in the middle of a transparent square, with a margin as a part of its side."""
    side = int(max(picture.size) * (1 + 2 * margin))
    square = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


Job = tuple[Path, dict[str, Any], int]
"""A file, its record, and which of its copies this is (from 0)."""


def picture_jobs(folder: Path, copies: int) -> Iterator[Job]:
    """Every picture of the sources' `captions.jsonl`; photographs among the stamps three times as often."""
    for listing in sorted(folder.glob("*/captions.jsonl")):
        for line in listing.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if record["captions"].get("en"):
                file = listing.parent / record.pop("file")
                held_out = record["split"] != "train"
                times = 1 if held_out else copies * (3 if record["style"] == "photo" else 1)
                yield from ((file, record, copy) for copy in range(times))


def scene_jobs(folder: Path) -> Iterator[Job]:
    """Every scene of `scenes.jsonl`."""
    for line in (folder / "scenes.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        yield folder / record.pop("file"), record, 0


def photo_jobs(folders: list[Path]) -> Iterator[Job]:
    """Photographs without captions, several views of each: they only teach what a photograph is."""
    for folder in folders:
        for file in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")):
            record = {"captions": {}, "split": "train", "style": "photo", "source": "photos", "key": file.name}
            yield from ((file, record, copy) for copy in range(PHOTO_VIEWS))


def opened(job: Job, size: int) -> np.ndarray:
    """Preprocessed pixels (3, size, size) of one job; the same for the same job."""
    file, record, copy = job
    rng = np.random.default_rng([copy, *file.name.encode(), *str(record.get("style")).encode()])
    preprocess = replace(PREPROCESS, size=size, resize=round(size / 0.875))
    with Image.open(file) as picture:
        if record.get("source") == "photos":
            image = random_view(picture.convert("RGB"), rng)
        elif picture.mode in ("RGBA", "LA", "P"):
            held_out = record["split"] != "train"
            white = copy == 0 if record["style"] == "photo" else held_out or rng.random() < 0.6
            margin = 0.0 if held_out else max(0.0, rng.uniform(-0.08, 0.3))
            image = on_ground(squared(picture.convert("RGBA"), margin), rng, white)
        else:
            image = picture.convert("RGB")
    return preprocess(image)


def random_view(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A crop of at least 30% of each side, mirrored half the time."""
    width, height = (int(side * rng.uniform(0.3, 1.0)) for side in photo.size)
    left, top = rng.integers(0, photo.width - width + 1), rng.integers(0, photo.height - height + 1)
    view = photo.crop((int(left), int(top), int(left) + width, int(top) + height))
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else view


def main() -> None:
    """Pass every picture through the trunk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--pictures", type=Path, help="a folder for each source, with captions.jsonl")
    source.add_argument("--scenes", type=Path, help="folder with scenes.jsonl")
    source.add_argument("--photos", type=Path, nargs="+", help="folders of photographs")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--size", type=int, default=PREPROCESS.size, help="side at which pictures are encoded")
    parser.add_argument("--copies", type=int, default=1, help="grounds on which each pictogram is shown")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    if args.pictures:
        jobs = list(picture_jobs(args.pictures, args.copies))
    else:
        jobs = list(scene_jobs(args.scenes) if args.scenes else photo_jobs(args.photos))
    maps = maps_on_onnx(args.weights, args.size)
    args.out.mkdir(parents=True, exist_ok=True)
    features = tokens = None
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(jobs), 16):
            pixels = np.stack(list(pool.map(lambda job: opened(job, args.size), jobs[start : start + 16])))
            pooled, regions = maps(pixels)
            if features is None or tokens is None:
                shapes = (len(jobs), *pooled.shape[1:]), (len(jobs), *regions.shape[1:])
                features, tokens = (
                    np.lib.format.open_memmap(args.out / name, "w+", np.float16, shape)
                    for name, shape in zip((FEATURES, TOKENS), shapes, strict=True)
                )
            features[start : start + 16], tokens[start : start + 16] = pooled, regions
            if start % 1600 == 0:
                print(f"{start} of {len(jobs)}", flush=True)
    lines = [json.dumps(record | {"copy": copy}, ensure_ascii=False) for _, record, copy in jobs]
    (args.out / RECORDS).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
