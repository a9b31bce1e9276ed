"""Draw the classes of an unseen-concepts test: 100 of those that a folder of photographs shows.

python -m recipes.clip.unseen --photos PHOTOS --seed 0 > unseen0.txt
python -m recipes.clip.look … --leave-out unseen0.txt --out runs/look0
python -m recipes.clip.anchors … --look runs/look0 --leave-out unseen0.txt --out runs/unseen0  (and recipes.clip.export)
bahu evaluate clip --photos PHOTOS --classes unseen0.txt --model EXPORTED
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bahumukha.data.folders import find_images
from bahumukha.evaluate.clip import WNID


def draw(photos: Path, seed: int, count: int = 100) -> list[str]:
    """`count` WordNet ids among those that the photographs' names start with, sorted."""
    ids = sorted({match[1] for path in find_images([photos]) if (match := WNID.match(path.name))})
    return sorted(np.random.default_rng(seed).choice(ids, count, replace=False).tolist())


def main() -> None:
    """Print the ids, one a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print("\n".join(draw(args.photos, args.seed)))


if __name__ == "__main__":
    main()
