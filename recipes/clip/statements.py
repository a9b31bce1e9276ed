"""Where captions of scenes belong: a small encoder of what they say, which never sees a word.

A statement (`data.scene_captions.Statement`) is a set: a token for each thing, the sum of learned vectors of its kind,
colour, number, size and place, and one for the ground and the style. Two layers of attention and a mean make of it a
vector. It learns beside the region head of the image tower (`recipes.clip.look`) within minutes what the text tower
would learn from sentences in hours; the text tower then learns to say the same (`recipes.clip.train`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.data.scene_captions import Statement
from bahumukha.data.scene_colours import BASIC, COLOURS
from bahumukha.data.scenes import OPPOSITE, RELATIONS, SIZES, Ground, Scene, SceneObject, is_held_out
from bahumukha.nn.attention import Block, padding_mask
from bahumukha.train.checkpoints import write_whole

STATEMENTS = "statements.pt"
"""File of a run: where statements belong (`StatementPlaces`)."""
MOST_THINGS = 3
PLACES = ("", "left of", "right of", "above", "below", *(f"{way} {i}" for way in ("row", "column") for i in range(3)))
"""Where a thing is said to be: nowhere, on one side of the other, or its number in a row."""
_COLOURS = ("", *COLOURS)
_SIZES = ("medium", *(size for size in SIZES if size != "medium"))
WHITE = Ground(("white",), ((255, 255, 255),))
FIELDS = 5
"""Kind, colour, number, size, place."""


def statement_ids(statements: Sequence[Statement], kinds: dict[str, int], styles: Sequence[str]) -> Tensor:
    """Statements -> int64 (B, 4, 5): three things, and the ground (first colour, second, style); 0 for nothing."""
    ids = np.zeros((len(statements), MOST_THINGS + 1, FIELDS), np.int64)
    for row, said in zip(ids, statements, strict=True):
        for i, each in enumerate(said.objects):
            row[i] = (
                kinds[each.key] + 1,
                _COLOURS.index(each.colour or ""),
                each.count,
                _SIZES.index(each.size),
                PLACES.index(_place(said.arrangement, i)),
            )
        for i, name in enumerate(said.ground.names if said.ground else ()):
            row[-1, i] = _COLOURS.index(name)
        row[-1, 2] = styles.index(said.style) + 1 if said.style else 0
    return torch.from_numpy(ids)


def _place(arrangement: str, index: int) -> str:
    if arrangement in RELATIONS:
        return arrangement if index == 0 else OPPOSITE[arrangement]
    return f"{arrangement} {index}" if arrangement in ("row", "column") else ""


class StatementEncoder(nn.Module):
    """Ids of `statement_ids` -> (B, dim), not normalised."""

    def __init__(self, kinds: int, styles: int, dim: int, width: int = 192, layers: int = 2):
        super().__init__()
        sizes = (kinds + 1, len(_COLOURS), 6, len(_SIZES), len(PLACES))
        self.things = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        self.ground = nn.ModuleList(nn.Embedding(size, width) for size in (len(_COLOURS), len(_COLOURS), styles + 1))
        for table in (*self.things, *self.ground):
            nn.init.normal_(table.weight, std=0.2)  # type: ignore[arg-type]
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, dim, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, 4, 5) -> (B, dim)."""
        things = torch.stack([table(ids[:, :-1, i]) for i, table in enumerate(self.things)]).sum(0)
        ground = torch.stack([table(ids[:, -1, i]) for i, table in enumerate(self.ground)]).sum(0)
        x = torch.cat([things, ground[:, None]], 1)
        there = torch.cat([ids[:, :-1, 0] > 0, torch.ones_like(ids[:, -1:, 0], dtype=torch.bool)], 1)
        look = padding_mask(there)
        for block in self.blocks:
            x = block(x, look)
        weights = there.to(x.dtype)[..., None]
        return self.projection((self.norm(x) * weights).sum(1) / weights.sum(1))


class StatementPlaces(NamedTuple):
    """Where statements belong: an encoder of them, and the numbers of the kinds and styles that it knows."""

    encoder: StatementEncoder
    kinds: dict[str, int]
    styles: list[str]

    @classmethod
    def of(cls, state: dict[str, Tensor], kinds: dict[str, int], styles: list[str]) -> StatementPlaces:
        """With an encoder of this state, whose sizes are the state's."""
        dim, width = state["projection.weight"].shape
        layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
        encoder = StatementEncoder(len(kinds), len(styles), dim, width, layers)
        encoder.load_state_dict(state)
        return cls(encoder.eval(), kinds, styles)

    @classmethod
    def read(cls, file: Path) -> StatementPlaces:
        """What `write` wrote."""
        stored: dict[str, Any] = torch.load(file, weights_only=True)
        return cls.of(stored["encoder"], stored["kinds"], stored["styles"])

    def write(self, file: Path) -> None:
        """All three, in one file of tensors and plain values."""
        write_whole(file, {"encoder": self.encoder.state_dict(), "kinds": self.kinds, "styles": self.styles})

    def ids(self, said: Sequence[Statement]) -> Tensor:
        """Statements -> int64 (B, 4, 5)."""
        return statement_ids(said, self.kinds, self.styles)

    @torch.no_grad()
    def encode(self, said: Sequence[Statement]) -> Tensor:
        """Statements -> (N, dim), rows of norm 1, without gradients."""
        parts = (said[start : start + 1024] for start in range(0, len(said), 1024))
        return torch.cat([F.normalize(self.encoder(self.ids(part)), dim=1) for part in parts])


def slip(true: Tensor, false: Tensor, of: Tensor, place: Tensor) -> Tensor:
    """How surely scenes' true statements are told from false ones about the same scene: the mean cross entropy.

    true (S,), false (W,): scaled cosines with the scene. of, place (W,): the scene of each false one, and which of that
    scene's it is, from 1.
    """
    most = int(place.max()) if len(place) else 0
    others = true.new_full((len(true), most), -torch.inf).index_put((of, place - 1), false)
    return -torch.cat([true[:, None], others], 1).log_softmax(1)[:, 0].mean()


def in_other_colours(said: Statement, index: int) -> list[Statement]:
    """A statement with one of its things in each other basic colour."""
    before, own, behind = said.objects[:index], said.objects[index], said.objects[index + 1 :]
    others = (replace(own, colour=colour) for colour in BASIC if colour != own.colour)
    return [replace(said, objects=(*before, other, *behind)) for other in others]


def falsified(said: Statement, rng: np.random.Generator, most: int, others: Sequence[SceneObject]) -> list[Statement]:
    """At most `most` different statements that differ from a true one in one thing that it tells, of random kinds.

    The kinds take turns, in at most four rounds.

    others: things that may be put in another's stead. None says what the held-out scenes show: as it is never true in
    training, it would be learned to be false.
    """
    ways = [i for i in range(6) if _can(said, i)]
    found: list[Statement] = []
    for way in (ways[i] for _ in range(4) for i in rng.permutation(len(ways))):
        if len(found) == most:
            break
        wrong = _falsify(said, way, rng, others)
        if wrong is not None and wrong not in found and not held_out(wrong):
            found.append(wrong)
    return found


def held_out(said: Statement) -> bool:
    """Whether a statement says what only the held-out scenes show (`data.scenes.is_held_out`)."""
    if said.arrangement:
        return bool(Scene(said.objects, said.ground or WHITE, said.arrangement).held_out())
    return any(is_held_out((each.key, each.colour)) for each in said.objects if each.colour)


def mirrored(said: Statement) -> Statement:
    """What is true of the picture when left and right are exchanged."""
    if said.arrangement in ("left of", "right of"):
        return replace(said, arrangement=OPPOSITE[said.arrangement])
    return replace(said, objects=said.objects[::-1]) if said.arrangement == "row" else said


def _can(said: Statement, way: int) -> bool:
    coloured = [each for each in said.objects if each.colour]
    return (
        bool(coloured),
        said.arrangement in RELATIONS,
        len(said.objects) == 2 and len({each.colour for each in coloured}) == 2,
        any(each.plural for each in said.objects),
        said.ground is not None and len(said.ground.names) == 1,
        True,
    )[way]


def _falsify(said: Statement, way: int, rng: np.random.Generator, others: Sequence[SceneObject]) -> Statement | None:
    objects = list(said.objects)

    def one(fits: Sequence[bool]) -> int:
        return int(rng.choice(np.flatnonzero(fits)))

    if way == 0:
        i = one([bool(each.colour) for each in objects])
        colours = [c for c in BASIC if c != objects[i].colour]
        objects[i] = replace(objects[i], colour=colours[rng.integers(len(colours))])
    elif way == 1:
        return replace(said, arrangement=OPPOSITE[said.arrangement])
    elif way == 2:
        objects = [replace(objects[0], colour=objects[1].colour), replace(objects[1], colour=objects[0].colour)]
    elif way == 3:
        i = one([bool(each.plural) for each in objects])
        counts = [n for n in range(1, 6) if n != objects[i].count]
        count = counts[rng.integers(len(counts))]
        objects[i] = replace(objects[i], count=count, spots=objects[i].spots[:1] * count)
    elif way == 4:
        assert said.ground is not None
        colours = [c for c in COLOURS if c != said.ground.names[0]]
        return replace(said, ground=Ground((colours[rng.integers(len(colours))],), said.ground.paints))
    else:
        i, other = int(rng.integers(len(objects))), others[rng.integers(len(others))]
        if other.key in {each.key for each in objects} or (objects[i].count > 1 and not other.plural):
            return None
        own = objects[i]
        objects[i] = replace(own, key=other.key, name=other.name, plural=other.plural, names=other.names)
    return replace(said, objects=tuple(objects))
