"""A trained checkpoint -> the model folder that ships.

python -m recipes.clip.export --run runs/clip --tokenizer tokenizer.json --out src/bahumukha/starter/clip
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer

from bahumukha.zoo.export import export_clip
from bahumukha.zoo.folder import CONFIG, IMAGE_TOWER, fingerprint
from recipes.clip.train import FINAL, Place, new_clip
from recipes.clip.trunk import PREPROCESS

TEMPLATES = ("{}", "a {}", "a photo of a {}", "a picture of a {}")
"""Averaged: the bare word, and the sentences that photographs were described with in training."""


def take_image_tower(source: Path, folder: Path) -> None:
    """Put the image tower's graph of one model folder into another, byte for byte.

    To export the same weights once more would round some of them otherwise, and move every embedding a little.
    """
    shutil.copyfile(source / IMAGE_TOWER, folder / IMAGE_TOWER)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8")) | {"fingerprint": fingerprint(folder)}
    (folder / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Write the folder, all but its card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--look", type=Path, help="run of stage 2 whose image tower is taken instead")
    parser.add_argument("--image-of", type=Path, help="model folder of whose image tower the graph is taken as it is")
    parser.add_argument("--logit-scale", type=float, help="of the probabilities (default: as trained)")
    parser.add_argument("--steps", type=int, help="steps of all stages together (default: of this run)")
    parser.add_argument("--name", default="starter/clip")
    parser.add_argument("--onnx-only", action="store_true", help="leave out the PyTorch twin, the larger half")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    state = torch.load(args.run / FINAL, weights_only=True)
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    image = {k.removeprefix("image."): v for k, v in state["model"].items() if k.startswith("image.")}
    inner = state["model"].get("text.projection_mlp.inner.bias")
    model = new_clip(tokenizer, image, 0 if inner is None else len(inner))
    model.load_state_dict(state["model"])
    if args.look:
        model.image.load_state_dict(Place.read(args.look).image)
    if args.logit_scale:
        torch.nn.init.constant_(model.log_scale, math.log(args.logit_scale))
    export_clip(
        model,
        args.out,
        name=args.name,
        tokenizer=tokenizer.to_str(),
        preprocess=PREPROCESS,
        templates=TEMPLATES,
        steps=args.steps or state["step"],
        image_storage="int8",
        words="int8",
        twin=not args.onnx_only,
    )
    if args.image_of:
        take_image_tower(args.image_of, args.out)
    for file in sorted(args.out.rglob("*")):
        if file.is_file():
            print(f"{file.stat().st_size / 1e6:7.2f} MB  {file.relative_to(args.out)}")


if __name__ == "__main__":
    main()
