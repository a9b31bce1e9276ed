"""How well the image side of stage 2 does with exact vectors: what is there for the text tower to reach.

    python -m recipes.clip.image_side --look runs/look --pictures cache/pictures --scenes cache/scenes-validation

Pictures of the held-out style are found by their names (among all of these pictures whose name training knew), and
scenes told from what they nearly are: one thing's colour, number, or the relation changed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bahumukha.data.scene_captions import Statement, plainly
from bahumukha.data.scene_colours import BASIC
from bahumukha.data.scenes import OPPOSITE, RELATIONS, Scene
from bahumukha.models.clip import ImageTower, ImageTowerConfig
from recipes.clip.look import exactly
from recipes.clip.pictures import PictureSet, name_of
from recipes.clip.statements import StatementPlaces, in_other_colours
from recipes.clip.train import Place
from recipes.clip.trunk import HEAD


@torch.inference_mode()
def embeddings(tower: ImageTower, pictures: PictureSet) -> Tensor:
    """Of all pictures, (N, dim), rows of norm 1."""
    rows = []
    for start in range(0, len(pictures), 128):
        which = list(range(start, min(start + 128, len(pictures))))
        features, tokens = (torch.from_numpy(each) for each in pictures.maps(which))
        rows.append(F.normalize(tower.embed(features, tokens), dim=1))
    return torch.cat(rows)


def nearly(said: Statement) -> Iterator[tuple[str, list[Statement]]]:
    """What is asked of a plain statement, and the false ones beside it."""
    objects = said.objects
    coloured = [i for i, each in enumerate(objects) if each.colour in BASIC]
    if coloured:
        yield "colour", in_other_colours(said, coloured[0])
    if said.arrangement in RELATIONS:
        yield "relation", [replace(said, arrangement=OPPOSITE[said.arrangement])]
        colours = [each.colour for each in objects]
        if all(colours) and colours[0] != colours[1]:
            swapped = (replace(objects[0], colour=colours[1]), replace(objects[1], colour=colours[0]))
            yield "swapped", [replace(said, objects=swapped)]
    if objects[0].plural:
        first, *rest = objects
        numbers = (n for n in range(1, 6) if n != first.count)
        others = (replace(first, count=n, spots=first.spots[:1] * n) for n in numbers)
        yield "number", [replace(said, objects=(other, *rest)) for other in others]


@torch.inference_mode()
def scene_scores(tower: ImageTower, told: StatementPlaces, scenes: PictureSet) -> dict[str, float]:
    """Part of the questions of each kind that are answered rightly."""
    right: dict[str, list[bool]] = {}
    seen = embeddings(tower, scenes)
    for picture, record in zip(seen, scenes.records, strict=True):
        said = plainly(Scene.from_record(record["scene"]))
        if any(each.key not in told.kinds for each in said.objects):
            continue
        for kind, wrong in nearly(said):
            vectors = told.encode([said, *wrong])
            true, *false = exactly(vectors, picture[None])[:, 0].tolist()
            right.setdefault(kind, []).append(true > max(false))
    return {kind: float(np.mean(each)) for kind, each in sorted(right.items())}


def retrieval(tower: ImageTower, place: Place, pictures: PictureSet) -> dict[str, float]:
    """R@1 and R@5 of names among the pictures whose names training knew."""
    row = {name: i for i, name in enumerate(place.names)}
    known = [r for r in pictures.records if name_of(r) in row]
    part = replace(pictures, records=known)
    table = place.name_vectors[[row[name_of(r)] for r in known]]
    scores = table @ embeddings(tower, part).T
    rank = (scores > scores.diagonal()[:, None]).sum(1)
    return {"pictures": len(known), "R@1": (rank < 1).float().mean().item(), "R@5": (rank < 5).float().mean().item()}


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--look", type=Path, required=True, help="run folder of stage 2")
    parser.add_argument("--pictures", type=Path, required=True, help="cache of recipes.clip.pictures")
    parser.add_argument("--scenes", type=Path, required=True, help="the same, of the validation split's scenes")
    args = parser.parse_args()

    place = Place.read(args.look)
    classes = len(place.image["mixture.logits.bias"])
    tower = ImageTower(ImageTowerConfig(head=HEAD, classes=classes), place.name_vectors.shape[1]).eval()
    tower.load_state_dict(place.image)
    print(retrieval(tower, place, PictureSet.read(args.pictures, "held-out-style")))
    print(scene_scores(tower, place.told, PictureSet.read(args.scenes)))


if __name__ == "__main__":
    main()
