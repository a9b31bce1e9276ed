"""After stage 4: part of the way back to the edition that it began with, and a last solve of the text projection.

Tuning for one thing forgets a little of all others. Weights between before and after keep most of either (WiSE-FT,
Wortsman et al. 2022); then the text tower's last matrix is set by ridge regression, from pooled states to where English
names belong, to where the edition has all else, and for statements to where they are.

    python -m recipes.clip.between --run runs/lit --part 0.6 --out runs/between   (and the options of recipes.clip.lit)
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bahumukha.models.clip import TextTower
from recipes.clip.lit import Prepared, embed_texts, parser, prepare
from recipes.clip.texts import in_parts
from recipes.clip.train import FINAL, LIMIT, solved

WEIGHTS = {"name": 6.0, "a name": 1.0, "kept": 0.3, "shown": 30.0, "told": 2.0}
"""Of the kinds of texts in the last solve."""
DRAWS = 30
"""Batches of texts that are kept or told."""


def towards(before: dict[str, Tensor], after: dict[str, Tensor], part: float) -> dict[str, Tensor]:
    """Weights `part` of the way: 0 is before, 1 after."""
    return {key: torch.lerp(value, after[key], part) for key, value in before.items()}


def last_solve(text: TextTower, prepared: Prepared, edition: TextTower) -> None:
    """Set the projection."""
    rng = np.random.default_rng(5)
    names = [captions["en"][0] for captions in prepared.texts.names.captions]
    said: dict[str, list[str]] = {"name": names, "a name": [f"a {name}" for name in names], "kept": [], "told": []}
    for _ in range(DRAWS):
        said["kept"] += prepared.texts.kept(rng)
        said["told"] += prepared.texts.told(rng)[0]
    said["shown"] = prepared.texts.shown
    states = {kind: in_parts(text.pooled, prepared.tokenizer, texts, LIMIT) for kind, texts in said.items()}
    targets = {kind: embed_texts(edition, prepared.tokenizer, said[kind]) for kind in ("kept", "shown")}
    targets |= dict.fromkeys(("name", "a name"), prepared.places)
    targets["told"] = F.normalize(text.projection(states["told"]), dim=1).detach()
    kinds = list(said)
    matrix = solved([states[k] for k in kinds], [targets[k] for k in kinds], [WEIGHTS[k] for k in kinds])
    text.projection.weight.data.copy_(matrix)


def main() -> None:
    """Write `--out/final.pt`, as stage 4 does."""
    options = parser(__doc__ or "")
    options.add_argument("--run", type=Path, required=True, help="run folder of stage 4")
    options.add_argument("--part", type=float, default=0.6, help="of the way: 0 is the edition, 1 the run's end")
    args = options.parse_args()
    prepared = prepare(args)
    after = torch.load(args.run / FINAL, weights_only=True)
    edition, model = prepared.model.text, copy.deepcopy(prepared.model)
    tuned = {k.removeprefix("text."): v for k, v in after["model"].items() if k.startswith("text.")}
    model.text.load_state_dict(towards(edition.state_dict(), tuned, args.part))
    if model.text.projection_mlp is None:  # one that has it is solved for by recipes.clip.widen
        last_solve(model.text.eval(), prepared, edition.eval())
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict(), "step": after["step"]}, args.out / FINAL)


if __name__ == "__main__":
    main()
