"""VQGAN's second stage on a trained codec: a transformer over its codes, class-conditional by style of drawing.

    python -m recipes.second_stage --pictures DATA/pictures --out runs/second-stage [--minutes 20] [--codec NAME]
    python -m recipes.second_stage --pictures DATA/pictures --out runs/second-stage --sheets-only

DATA/pictures as `recipes/pictograms` and `recipes/clipart` make it; the classes are its folders of pictograms. Prints
bits a token of held-out concepts (12 is knowing nothing, for 4,096 codes), and writes two sheets: `samples.png`, a row
for each class, and `completions.png`, held-out pictures whose lower halves are drawn four times.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bahumukha.generate.tokens import complete, generate
from bahumukha.images import open_image
from bahumukha.models.tokens import TokenTransformer, TokenTransformerConfig
from bahumukha.nn.sampling import Sampling
from bahumukha.protocols import ImageCodec
from bahumukha.sheets import contact_sheet
from bahumukha.train.loop import LoopConfig
from bahumukha.train.tokens import Codes, bits_per_token, encode_pictures, train_tokens
from bahumukha.zoo.codecs import load_codec
from bahumukha.zoo.tokens import load_tokens, save_tokens
from recipes.pictograms.render import TRAINING_SETS

SIZE = 64
"""Pixels of a picture's side."""
EACH = 8
"""Pictures of a class on the sheet."""
WAYS = 4
"""In which a half is completed."""
SHOWN = 12
"""Held-out pictures on the other sheet, at most."""
SAMPLING = Sampling(top_p=0.92, guidance=1.5)


def listed(pictures: Path, split: str) -> list[tuple[Path, int]]:
    """Pictures of one split and the number of their style."""
    found = []
    for number, style in enumerate(TRAINING_SETS):
        rows = map(json.loads, (pictures / style / "captions.jsonl").read_text(encoding="utf-8").splitlines())
        found += [(pictures / style / row["file"], number) for row in rows if row["split"] == split]
    return found


def encoded(codec: ImageCodec, pictures: Path, split: str) -> Codes:
    """Their codes and classes."""
    rows = listed(pictures, split)
    return encode_pictures(codec, [path for path, _ in rows], size=SIZE, labels=[label for _, label in rows])


def trained(pictures: Path, codec_name: str, out: Path, minutes: float) -> None:
    """Train, tell what it costs to say a held-out picture, and write the model to `out/model`."""
    codec = load_codec(codec_name)
    seen, held = (encoded(codec, pictures, split) for split in ("train", "validation"))
    rows, columns = seen.ids.shape[1:]
    sizes = TokenTransformerConfig(
        codec.codes, (rows, columns), len(TRAINING_SETS), width=256, layers=6, heads=4, dropout=0.1
    )
    model = TokenTransformer(sizes)
    loop = LoopConfig(
        steps=100_000, minutes=minutes, learning_rate=1e-3, betas=(0.9, 0.95), average=0.995, validate_every=500
    )
    steps = 0
    for report in train_tokens(model, seen, loop, out, validation=held):
        print(report, flush=True)
        steps = report.step
    model.eval().requires_grad_(False)
    save_tokens(model, out / "model", name="second-stage", codec=codec_name, steps=steps)
    print(f"{bits_per_token(model, held):.2f} bits a token on {len(held)} held-out pictures, {steps} steps")


def sheets(pictures: Path, out: Path) -> None:
    """Samples of each class and completions of held-out pictures, drawn by `out/model`."""
    tokens = load_tokens(out / "model")
    codec = load_codec(tokens.codec)
    labels = [label for label in range(len(TRAINING_SETS)) for _ in range(EACH)]
    *_, step = generate(tokens.model, codec, count=len(labels), labels=labels, sampling=SAMPLING)
    tiles = [(picture(each), TRAINING_SETS[label]) for each, label in zip(step.images, labels, strict=True)]
    contact_sheet(tiles, columns=EACH, tile=128).save(out / "samples.png")

    held = listed(pictures, "validation")
    chosen = held[:: -(-len(held) // SHOWN)]
    given = torch.stack([pixels(path) for path, _ in chosen])
    *_, step = complete(
        tokens.model, codec, given, count=WAYS, labels=[label for _, label in chosen], sampling=SAMPLING
    )
    made = step.images.reshape(len(chosen), WAYS, SIZE, SIZE, 3)
    tiles = []
    for (path, label), ways in zip(chosen, made, strict=True):
        tiles.append((open_image(path, at_least=SIZE).convert("RGB"), f"{path.stem}\n{TRAINING_SETS[label]}"))
        tiles += [(picture(each), "") for each in ways]
    contact_sheet(tiles, columns=2 * (WAYS + 1), tile=112).save(out / "completions.png")


def picture(pixels: np.ndarray) -> Image.Image:
    """Of float (H, W, 3) in [0, 1]."""
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


def pixels(path: Path) -> torch.Tensor:
    """float (3, SIZE, SIZE) in [-1, 1]."""
    image = open_image(path, at_least=SIZE).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)


def main(arguments: list[str] | None = None) -> None:
    """Train, then draw the sheets."""
    parser = argparse.ArgumentParser(prog="recipes.second_stage", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=Path, required=True, help="folder with a folder for each style")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--codec", default="starter/vqgan", help="name or folder of the codec")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--sheets-only", action="store_true", help="draw with the model that is there")
    args = parser.parse_args(arguments)
    if not args.sheets_only:
        trained(args.pictures, args.codec, args.out, args.minutes)
    sheets(args.pictures, args.out)


if __name__ == "__main__":
    main()
