"""Another beginning of stage 3: kernel regression from the classes, as a perceptron beside the text projection.

`recipes.clip.guess` places a noun by how like the classes it is,

    k(s, c) = exp(<n_s, n_c> + <d_s, d_c> + <t_s, t_c> - 2),

with the teacher's vectors of name n, definition d and taxonomy t. After stage 1 the text tower predicts these three of
any word, and linearly so: the sum of the three products with the vectors of class c is a unit of a hidden layer. So
each class is one unit, an anchor, and gelu stands for exp,

    h_c = gelu(<n(x), n_c> + <d(x), d_c> + <t(x), t_c> - 1),  text = W_2 h

and ridge regression sets W_2 by the classes' names and by sentences about nouns. No step of training follows: it loses
some of what words without pictures have from this (docs/log.md).

    python -m recipes.clip.anchors --wordnet FOLDER --teacher teacher.npz --tokenizer tokenizer.json --look runs/look \\
        --init runs/text --leave-out unseen0.txt --out runs/unseen0
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from bahumukha.models.text import Perceptron
from recipes.clip import look
from recipes.clip.captions import Captions
from recipes.clip.classes import given_names
from recipes.clip.export import TEMPLATES
from recipes.clip.guess import first_names, unit
from recipes.clip.pretrain import TARGETS
from recipes.clip.teacher import read_teacher
from recipes.clip.texts import in_parts
from recipes.clip.train import FINAL, LIMIT, NOUNS_ONLY, Place, new_clip, options, solved, text_state

LEAST = 1.0
"""Taken off the sum of three cosines: below it a class says next to nothing of a word."""
RIDGE = 10.0
DRAWS, SENTENCES = 20, 0.3
"""Batches of sentences about nouns, and what one weighs beside a class's name."""

ReadOut = tuple[Tensor, Tensor]
"""Weight (size, width) and bias (size,) of stage 1's linear map from pooled states to one of the teacher's vectors."""


def read_outs(run: Path) -> dict[str, ReadOut]:
    """Of a run of stage 1."""
    state = torch.load(run / "checkpoint.pt", weights_only=True)["model"]
    return {name: (state[f"heads.{name}.weight"], state[f"heads.{name}.bias"]) for name in TARGETS}


@torch.no_grad()
def anchor(layer: Perceptron, vectors: dict[str, Tensor], outs: dict[str, ReadOut], states: Tensor) -> None:
    """Make each hidden unit the sum of cosines with the vectors (units, size) of a class, less `LEAST`.

    A read-out's vector is divided by its mean length over `states` (N, width), and not by its own.
    """
    layer.inner.weight.zero_()
    layer.inner.bias.fill_(-LEAST)
    for name, (weight, bias) in outs.items():
        length = (states @ weight.T + bias).norm(dim=1).mean()
        layer.inner.weight += vectors[name] @ weight / length
        layer.inner.bias += vectors[name] @ bias / length


def class_vectors(teacher: dict[str, np.ndarray], captions: Captions, classes: Sequence[int]) -> dict[str, Tensor]:
    """The teacher's vectors of class offsets by kind, (C, size), rows of norm 1."""
    rows = [captions.row[offset] for offset in classes]
    taken = {"name": first_names(captions.wordnet, teacher, classes), "definition": rows, "taxonomy": rows}
    return {kind: torch.from_numpy(unit(teacher[kind][taken[kind]].astype(np.float32))) for kind in TARGETS}


def sentences(captions: Captions, rng: np.random.Generator) -> tuple[list[str], list[int]]:
    """Sentences about nouns as stage 3 draws them, and the row of each among the nouns."""
    texts: list[str] = []
    rows: list[int] = []
    counts = (("class", NOUNS_ONLY.classes), ("coarse", NOUNS_ONLY.coarse), ("noun", NOUNS_ONLY.noun))
    for _ in range(DRAWS):
        for kind, count in counts:
            drawn, offsets = captions.draw(kind, count, rng)
            texts += drawn
            rows += [captions.row[captions.word.get(t, int(o))] for t, o in zip(drawn, offsets, strict=True)]
    return texts, rows


def main() -> None:
    """Write `--out/final.pt`, as stage 3 does."""
    parser = options(__doc__ or "")
    parser.add_argument("--init", type=Path, required=True, help="run folder of stage 1")
    args = parser.parse_args()

    torch.manual_seed(0)
    left_out = look.read_ids(args.leave_out)
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    teacher = read_teacher(args.teacher)
    captions = Captions.read(args.wordnet, [int(o) for o in teacher["offsets"]], left_out)
    place = Place.read(args.look)
    given = given_names()
    shown = [offset for offset in given if offset not in left_out]

    model = new_clip(tokenizer, place.image, hidden=len(shown)).eval()
    tower = model.text
    assert tower.projection_mlp is not None
    missing = tower.load_state_dict(text_state(args.init), strict=False).missing_keys
    assert all(name.startswith("projection_mlp.") for name in missing), missing
    named = [template.format(given[offset]) for offset in shown for template in TEMPLATES]
    told, rows = sentences(captions, np.random.default_rng(1))
    states = [in_parts(tower.pooled, tokenizer, texts, LIMIT) for texts in (named, told)]
    outs = read_outs(args.init)
    anchor(tower.projection_mlp, class_vectors(teacher, captions, shown), outs, states[0][:: len(TEMPLATES)])
    targets = [place.nouns[[captions.row[o] for o in shown for _ in TEMPLATES]], place.nouns[rows]]
    with torch.no_grad():
        hidden = [tower.projection_mlp.hidden(each) for each in states]
        tower.projection_mlp.outer.weight.copy_(solved(hidden, targets, [1.0, SENTENCES], RIDGE))
        tower.projection.weight.zero_()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict(), "step": 0}, args.out / FINAL)


if __name__ == "__main__":
    main()
