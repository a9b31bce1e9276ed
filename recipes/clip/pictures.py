"""Cached features of the rendered pictures (stamps, clip art, pictograms) with their captions.

The trunk is frozen, so each picture passes through it once. Pictures with transparent parts are laid on a white
ground or on a plain or shaded ground of a random colour.

    python -m recipes.clip.pictures --pictures FOLDER --weights LITE2.pth --out features.npz
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass
class PictureSet:
    """features float16 (N, width); captions: a list for each picture, best first; keys: the concept of each."""

    features: np.ndarray
    captions: list[list[str]]
    keys: np.ndarray
    photographic: np.ndarray

    @classmethod
    def read(cls, path: Path, split: str = "train") -> PictureSet:
        """One split of what `main` wrote."""
        with np.load(path) as archive:
            rows = np.flatnonzero(archive["split"] == split)
            captions = [json.loads(str(c)) for c in archive["captions"][rows]]
            _, keys = np.unique(archive["keys"][rows], return_inverse=True)
            return cls(archive["features"][rows], captions, keys, archive["photographic"][rows])

    def __len__(self) -> int:
        return len(self.captions)

    def without(self, words: set[str]) -> PictureSet:
        """Leave out every picture that has one of these words in any caption, in the singular or plural."""
        if not words:
            return self
        pattern = re.compile(r"\b(?:" + "|".join(re.escape(w) for w in sorted(words)) + r")(?:s|es)?\b", re.I)
        keep = [i for i, captions in enumerate(self.captions) if not any(pattern.search(c) for c in captions)]
        captions = [self.captions[i] for i in keep]
        return PictureSet(self.features[keep], captions, self.keys[keep], self.photographic[keep])

    def draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, list[str], np.ndarray]:
        """Features float32 (count, width), one caption each (the first half of the time), concept keys (count,)."""
        rows = rng.choice(len(self), count, p=self._chance())
        captions = []
        for row in rows:
            own = self.captions[row]
            captions.append(own[0] if rng.random() < 0.5 else own[rng.integers(len(own))])
        return self.features[rows].astype(np.float32), captions, self.keys[rows]

    def _chance(self) -> np.ndarray:
        weights = np.where(self.photographic, 4.0, 1.0)
        return weights / weights.sum()


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


def main() -> None:
    """Render each picture on one ground (photographs among the stamps on three) and pass it through the trunk."""
    from dataclasses import replace

    from recipes.clip.trunk import PREPROCESS, trunk_on_onnx

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, help="a folder for each source, with captions.jsonl")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--language", default="en")
    parser.add_argument("--size", type=int, default=224, help="side at which pictures are encoded")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    preprocess = replace(PREPROCESS, size=args.size, resize=round(args.size / 0.875))
    jobs = []
    for listing in sorted(args.pictures.glob("*/captions.jsonl")):
        for line in listing.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            captions = [c for c in record["captions"].get(args.language, []) if c]
            if captions:
                photographic = record["style"] == "photo"
                copies = 3 if photographic else 1
                jobs += [(listing.parent / record["file"], record, captions, photographic, i) for i in range(copies)]
    trunk = trunk_on_onnx(args.weights, args.size)
    rows = []
    for start in range(0, len(jobs), 32):
        pixels = []
        for path, _, _, photographic, copy in jobs[start : start + 32]:
            with Image.open(path) as picture:
                square = squared(picture.convert("RGBA"), rng.uniform(0.05, 0.3))
            white = copy == 0 if photographic else rng.random() < 0.6
            pixels.append(preprocess(on_ground(square, rng, white)))
        rows.append(trunk(np.stack(pixels)).astype(np.float16))
        if start % 3200 == 0:
            print(f"{start} of {len(jobs)}", flush=True)
    np.savez(
        args.out,
        features=np.concatenate(rows),
        captions=np.array([json.dumps(j[2], ensure_ascii=False) for j in jobs]),
        keys=np.array([f"{j[2][0].lower()}" for j in jobs]),
        split=np.array([j[1]["split"] for j in jobs]),
        style=np.array([j[1]["style"] for j in jobs]),
        photographic=np.array([j[3] for j in jobs]),
    )


if __name__ == "__main__":
    main()
