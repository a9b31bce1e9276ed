"""Scenes composed of vector drawings, of which everything is known: what, how many, what colour, how large, where.

A `Scene` is a description; `draw_scene` draws one at random, `render` paints it, `scene_captions.caption` says it in
words. Positions and sizes are in units of the square picture's side, x to the right and y downward.

Composition is tested on what training never showed: a tenth of all (thing, colour) and (thing, relation, thing)
combinations, by a hash, is held out of every training scene.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
from PIL import Image

from bahumukha.data.scene_colours import BASIC, COLOURS, Rgb, contrast, distances, oklab, prototype, srgb
from bahumukha.data.scene_vectors import Concept, Drawing, Library
from bahumukha.errors import UsageError

RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
ARRANGEMENTS = ("alone", *RELATIONS, "row", "column")
SPLITS = ("train", "validation", "held-out-style")

SIZES = {"small": (0.14, 0.24), "medium": (0.27, 0.38), "large": (0.40, 0.85)}
"""The longer side of one thing. Captions name the small and the large."""

LEAST_CONTRAST = 0.17
"""Of every thing against its ground, as a distance in OKLab."""

HELD_OUT_PERCENT = 10

Combination = tuple[str, ...]


@dataclass(frozen=True)
class SceneObject:
    """One kind of thing in a scene, `count` times.

    colour: what a caption may say, or None when the drawing has no plain colour; paint: what it was recoloured to, or
    None for as drawn. spots: centre x, centre y and longer side of each of them. names: see `Concept`.
    """

    key: str
    name: str
    plural: str
    style: str
    colour: str | None
    paint: str | None
    count: int
    size: str
    spots: tuple[tuple[float, float, float], ...]
    names: dict[str, str]

    def __post_init__(self) -> None:
        if self.count != len(self.spots):
            raise UsageError(f"{self.name}: count is {self.count}, but {len(self.spots)} spots were given")
        if self.size not in SIZES:
            raise UsageError(f"{self.name}: size {self.size!r}; choose from {', '.join(SIZES)}")
        if self.count > 1 and not self.plural:
            raise UsageError(f"{self.name}: cannot be counted, so its count is 1, not {self.count}")

    @property
    def place(self) -> tuple[float, float]:
        """The middle of all of them."""
        x, y, _ = np.mean(self.spots, axis=0)
        return float(x), float(y)


@dataclass(frozen=True)
class Ground:
    """What lies behind: one colour, or a gradient from the first to the second at `angle` degrees (0 is rightward).

    names: of the colours; paints: their sRGB, 0 to 255.
    """

    names: tuple[str, ...]
    paints: tuple[Rgb, ...]
    angle: float = 0.0


@dataclass(frozen=True)
class Scene:
    """One to three kinds of things on a ground.

    arrangement: "alone"; of two, where the first is as seen from the second (`RELATIONS`); of three, "row" (from left
    to right) or "column" (from the top down).
    """

    objects: tuple[SceneObject, ...]
    ground: Ground
    arrangement: str

    def __post_init__(self) -> None:
        if self.arrangement not in ARRANGEMENTS:
            raise UsageError(f"arrangement {self.arrangement!r}; choose from {', '.join(ARRANGEMENTS)}")
        wanted = 1 if self.arrangement == "alone" else 2 if self.arrangement in RELATIONS else 3
        if len(self.objects) != wanted:
            raise UsageError(f"{self.arrangement!r} takes {wanted} things; {len(self.objects)} were given")

    def relations(self) -> Iterator[tuple[SceneObject, str, SceneObject]]:
        """Each pair once: (a, relation, b) with a left of or above b in the listed order."""
        if self.arrangement in RELATIONS:
            yield self.objects[0], self.arrangement, self.objects[1]
        elif self.arrangement != "alone":
            relation = "left of" if self.arrangement == "row" else "above"
            yield from ((a, relation, b) for a, b in combinations(self.objects, 2))

    def combinations(self) -> set[Combination]:
        """(thing, colour) and (thing, relation, thing) of all that is shown, the latter as left of or above."""
        found: set[Combination] = {(each.key, each.colour) for each in self.objects if each.colour}
        for a, relation, b in self.relations():
            found.add(
                (a.key, relation, b.key) if relation in ("left of", "above") else (b.key, OPPOSITE[relation], a.key)
            )
        return found

    def held_out(self) -> set[Combination]:
        """Those of its combinations that no training scene shows."""
        return {each for each in self.combinations() if is_held_out(each)}

    def as_record(self) -> dict:
        """Everything as JSON takes it."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict) -> Scene:
        """The scene that `as_record`, or its JSON, describes."""
        objects = [
            SceneObject(**{**each, "spots": tuple((float(x), float(y), float(side)) for x, y, side in each["spots"])})
            for each in record["objects"]
        ]
        ground = record["ground"]
        paints = tuple((int(r), int(g), int(b)) for r, g, b in ground["paints"])
        return cls(tuple(objects), Ground(tuple(ground["names"]), paints, ground["angle"]), record["arrangement"])


def is_held_out(combination: Combination) -> bool:
    """Whether a combination belongs to the tenth kept for testing."""
    digest = hashlib.sha256("|".join(combination).encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT


# --- drawing at random


@dataclass(frozen=True)
class Chances:
    """How scenes fall: weights of one, two and three kinds of things, before those that do not fit are drawn anew, and
    the part recoloured of the things that take a colour."""

    number: tuple[float, float, float] = (0.45, 0.42, 0.13)
    painted: float = 0.65


USUAL, COLOURFUL = Chances(), Chances((0.1, 0.55, 0.35), 0.95)


def draw_scene(
    rng: np.random.Generator,
    library: Library,
    *,
    split: str = "train",
    styles: Sequence[str] | None = None,
    chances: Chances = USUAL,
) -> Scene:
    """A random scene of one split: "train" shows no held-out combination, the two others always show one.

    styles: to choose from, by default those of the library. All things of a scene are of one style.
    chances: `USUAL`, or `COLOURFUL` where training wants many coloured things a picture.
    Raises UsageError for another split, or when the library cannot give such a scene.
    """
    if split not in SPLITS:
        raise UsageError(f"split {split!r}; choose from {', '.join(SPLITS)}")
    pool = _pool(library, tuple(styles or library.styles()))
    for _ in range(1000):
        scene = _attempt(rng, pool, chances)
        if scene is not None and bool(scene.held_out()) == (split != "train"):
            return scene
    raise UsageError(f"the library gives no scene for {split!r}; it needs more things or styles")


@dataclass(frozen=True)
class _Pool:
    """Concepts that may be shown, by style."""

    by_style: dict[str, list[Concept]]
    concepts: list[Concept]

    @classmethod
    def of(cls, library: Library, styles: tuple[str, ...]) -> _Pool:
        usable = [each for each in library.concepts.values() if each.split == "train"]
        by_style = {style: [each for each in usable if style in each.drawings] for style in styles}
        pool = cls(by_style, [each for each in usable if any(style in each.drawings for style in styles)])
        if not pool.concepts:
            raise UsageError(f"the library draws nothing in the styles {', '.join(styles)}")
        return pool


def _pool(library: Library, styles: tuple[str, ...]) -> _Pool:
    """The pool of a library, made once for the same styles."""
    if styles not in library.pools:
        library.pools[styles] = _Pool.of(library, styles)
    pool = library.pools[styles]
    assert isinstance(pool, _Pool)
    return pool


def _attempt(rng: np.random.Generator, pool: _Pool, chances: Chances) -> Scene | None:
    """A scene, or None when the dice fell so that things do not fit or do not stand out."""
    first = pool.concepts[rng.integers(len(pool.concepts))]
    style = _chosen(rng, [style for style in first.drawings if style in pool.by_style])
    number = _chosen(rng, (1, 2, 3), chances.number)
    if number > len(pool.by_style[style]):
        return None
    concepts = [first]
    while len(concepts) < number:
        other = pool.by_style[style][rng.integers(len(pool.by_style[style]))]
        if other not in concepts:
            concepts.append(other)
    arrangement = "alone" if number == 1 else _chosen(rng, RELATIONS if number == 2 else ("row", "column"))
    regions = _regions(arrangement)
    size = _chosen(rng, tuple(SIZES), (0.22, 0.33, 0.45))
    objects = []
    for concept, region in zip(concepts, regions, strict=True):
        own = size if rng.random() < 0.7 else _chosen(rng, tuple(SIZES))
        own = own if number < 3 else _chosen(rng, ("small", "medium"))
        paint = _paint(rng, concept.drawings[style], chances.painted)
        placed = _placed(rng, concept, style, paint, region, own, number)
        if placed is None:
            return None
        objects.append(placed)
    ground = _ground(rng, [_ink(each, pool) for each in objects])
    return Scene(tuple(objects), ground, arrangement) if ground else None


Region = tuple[float, float, float, float]  # left, top, width, height


def _regions(arrangement: str) -> list[Region]:
    """Where each of the things may be; a strip is free between them."""
    left, right = (0.02, 0.02, 0.46, 0.96), (0.52, 0.02, 0.46, 0.96)
    above, below = (0.02, 0.02, 0.96, 0.46), (0.02, 0.52, 0.96, 0.46)
    return {
        "alone": [(0.02, 0.02, 0.96, 0.96)],
        "left of": [left, right],
        "right of": [right, left],
        "above": [above, below],
        "below": [below, above],
        "row": [(0.01 + 0.33 * i, 0.02, 0.32, 0.96) for i in range(3)],
        "column": [(0.02, 0.01 + 0.33 * i, 0.96, 0.32) for i in range(3)],
    }[arrangement]


def _paint(rng: np.random.Generator, drawing: Drawing, chance: float) -> str | None:
    """A colour that the drawing takes, or None for as it is drawn."""
    return _chosen(rng, drawing.colours) if drawing.colours and rng.random() < chance else None


def _placed(
    rng: np.random.Generator, concept: Concept, style: str, paint: str | None, region: Region, size: str, number: int
) -> SceneObject | None:
    drawing = concept.drawings[style]
    count = 1
    if concept.plural and rng.random() < {1: 0.45, 2: 0.3, 3: 0.0}[number]:
        count = int(rng.integers(2, 6))
    spots = _spots(rng, region, count, size, banded=number > 1)
    if spots is None:
        return None
    return SceneObject(
        concept.key, concept.name, concept.plural, style, paint or drawing.natural, paint, count, size, spots,
        concept.names,
    )  # fmt: skip


def _spots(
    rng: np.random.Generator, region: Region, count: int, size: str, banded: bool
) -> tuple[tuple[float, float, float], ...] | None:
    """Places in a loose grid, none touching another, or None when `count` of that size do not fit.

    banded: one single thing stays near the region's middle line, so that it is beside another and not also above it.
    """
    left, top, width, height = region
    grids = [(c, r) for c in range(1, count + 1) for r in range(1, count + 1) if count <= c * r < count + max(c, r)]
    room = {grid: min(width / grid[0], height / grid[1]) / 1.06 for grid in grids}
    low, high = SIZES[size]
    fitting = [grid for grid in grids if room[grid] >= low]
    if not fitting:
        return None
    columns, rows = _chosen(rng, fitting)
    high = min(high, room[columns, rows])
    side = (
        float(rng.uniform(low, high)) if size != "large" else float(max(rng.uniform(low, high), rng.uniform(low, high)))
    )
    cells = rng.permutation(columns * rows)[:count]
    spots = []
    for cell in sorted(int(each) for each in cells):
        x, y = _jittered(rng, left, top, width / columns, height / rows, cell % columns, cell // columns, side)
        if banded and count == 1:
            x = x if width <= height else left + width / 2 + 0.28 * (x - left - width / 2)
            y = y if height <= width else top + height / 2 + 0.28 * (y - top - height / 2)
        spots.append((round(x, 4), round(y, 4), round(side, 4)))
    return tuple(spots)


def _jittered(
    rng: np.random.Generator, left: float, top: float, width: float, height: float, column: int, row: int, side: float
) -> tuple[float, float]:
    """A centre in a cell such that a square of `side` stays inside it."""
    x = left + column * width + side / 2 + rng.random() * (width - side)
    y = top + row * height + side / 2 + rng.random() * (height - side)
    return float(x), float(y)


def _ink(each: SceneObject, pool: _Pool) -> Rgb:
    if each.paint:
        return COLOURS[each.paint]
    return next(c for c in pool.by_style[each.style] if c.key == each.key).drawings[each.style].ink


def _ground(rng: np.random.Generator, inks: Sequence[Rgb]) -> Ground | None:
    """White, one colour or a gradient of two, from which all inks stand out; None when a few tries find none."""
    for _ in range(6):
        kind = _chosen(rng, ("white", "plain", "gradient"), (0.35, 0.45, 0.2))
        if kind == "white":
            ground = Ground(("white",), ((255, 255, 255),))
        else:
            names = [_chosen(rng, tuple(COLOURS)) for _ in range(1 if kind == "plain" else 2)]
            paints = tuple(varied(rng, name) for name in names)
            ground = Ground(tuple(names), paints, float(rng.integers(0, 360)) if kind == "gradient" else 0.0)
        if len(set(ground.names)) < len(ground.names):
            continue
        if all(contrast(paint, ink) >= LEAST_CONTRAST for paint in ground.paints for ink in inks):
            return ground
    return None


def varied(rng: np.random.Generator, name: str) -> Rgb:
    """A shade of a colour that nobody would call by another name: clearly nearest to its own."""
    for spread in (1.0, 0.5, 0.25):
        tint = 0.003 if name in ("black", "white", "gray") else 0.02  # the eye sees the least tint of a gray
        shift = rng.normal(0, (0.07, tint, tint)) * spread
        rgb = np.clip(np.rint(srgb(prototype(name) + shift)), 0, 255)
        (first, near), (_, second), *_ = distances(oklab(rgb), tuple(COLOURS)).items()
        if first == name and near < 0.6 * second:
            red, green, blue = rgb.astype(int)
            return int(red), int(green), int(blue)
    return COLOURS[name]


def _chosen(rng, choices, weights=None):  # type: ignore[no-untyped-def]
    """One of a sequence; faster than `rng.choice`, and no numpy scalar comes back."""
    if weights is None:
        return choices[int(rng.integers(len(choices)))]
    return choices[int(np.searchsorted(np.cumsum(weights), rng.random() * sum(weights), side="right"))]


# --- painting


def render(scene: Scene, library: Library, size: int = 260) -> Image.Image:
    """The scene as a square RGB picture of `size` pixels."""
    if size < 16:
        raise UsageError(f"size: {size} pixels were given; a scene takes 16 or more")
    canvas = painted_ground(scene.ground, size)
    for each in scene.objects:
        for x, y, side in each.spots:
            layer = library.layer(each.key, each.style, each.paint, max(4, round(side * size)))
            canvas.paste(layer, (round(x * size - layer.width / 2), round(y * size - layer.height / 2)), layer)
    return canvas


def painted_ground(ground: Ground, size: int) -> Image.Image:
    """The ground alone, RGB."""
    if len(ground.paints) == 1:
        return Image.new("RGB", (size, size), ground.paints[0])
    first, second = (np.array(paint, np.float32) for paint in ground.paints)
    across = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    turn = np.radians(ground.angle)
    along = np.cos(turn) * across[None, :] + np.sin(turn) * across[:, None]
    share = (along / (2 * np.abs(along).max()) + 0.5)[..., None]
    return Image.fromarray((first + (second - first) * share).round().astype(np.uint8))


def coloured_objects(scene: Scene) -> list[int]:
    """Indices of the things whose colour is one of the eight that tests of colour choose among."""
    return [i for i, each in enumerate(scene.objects) if each.colour in BASIC]
