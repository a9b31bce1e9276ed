"""Composed scenes of three shapes that anyone can draw, and an encoder that sees nothing but shapes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from bahumukha.data.scene_colours import BASIC, COLOURS
from bahumukha.data.scenes import RELATIONS, Ground, Scene, SceneObject, painted_ground
from bahumukha.protocols import ImageTextEncoder

SHAPES = ("ball", "cross", "frame")
PLACES = {"left of": ((0.25, 0.5), (0.75, 0.5)), "above": ((0.5, 0.25), (0.5, 0.75))}
PLACES |= {"right of": PLACES["left of"][::-1], "below": PLACES["above"][::-1]}


def thing(name: str, colour: str, place: tuple[float, float], side: float = 0.36) -> SceneObject:
    return SceneObject(name, name, f"{name}s", "plain", colour, colour, 1, "medium", ((*place, side),), {})


def pair(
    names: tuple[str, str], colours: tuple[str, str], relation: str, ground: Ground = Ground(("white",), ((250,) * 3,))
) -> Scene:
    things = [thing(*each) for each in zip(names, colours, PLACES[relation], strict=True)]
    return Scene(tuple(things), ground, relation)


def random_scene(random: np.random.Generator) -> Scene:
    """One thing, or two in a relation."""
    names = [str(each) for each in random.permutation(SHAPES)[:2]]
    colours = [str(each) for each in random.choice(BASIC, 2)]
    if random.random() < 0.3:
        return Scene((thing(names[0], colours[0], (0.5, 0.5)),), Ground(("white",), ((250,) * 3,)), "alone")
    return pair((names[0], names[1]), (colours[0], colours[1]), str(random.choice(RELATIONS)))


def painted(scene: Scene, size: int = 64) -> Image.Image:
    """The scene, four times as large first, so that edges are soft."""
    big = 4 * size
    page = painted_ground(scene.ground, big)
    draw = ImageDraw.Draw(page)
    for each in scene.objects:
        (x, y, side), paint = each.spots[0], COLOURS[each.colour or "black"]
        box = tuple(big * edge for edge in (x - side / 2, y - side / 2, x + side / 2, y + side / 2))
        third = big * side / 3
        if each.name == "ball":
            draw.ellipse(box, fill=paint)
        elif each.name == "frame":
            draw.rectangle(box, outline=paint, width=round(third / 2))
        else:
            draw.rectangle((box[0] + third, box[1], box[2] - third, box[3]), fill=paint)
            draw.rectangle((box[0], box[1] + third, box[2], box[3] - third), fill=paint)
    return page.resize((size, size), Image.Resampling.BOX)


def write_scenes(folder: Path, scenes: Sequence[Scene], size: int = 64) -> Path:
    """As `recipes.pictograms.scenes` writes them."""
    folder.mkdir()
    lines = []
    for number, scene in enumerate(scenes):
        painted(scene, size).save(folder / f"{number}.png")
        lines.append(json.dumps({"file": f"{number}.png", "split": "train", "scene": scene.as_record()}) + "\n")
    (folder / "scenes.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


class ShapeEncoder(ImageTextEncoder):
    """Where a picture differs from its corner, in 12 x 12 cells; a text is its letters."""

    name, fingerprint, dim, logit_scale, templates = "shapes", "shapes-1", 144, 20.0, ("{}",)

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        rows = []
        for image in images:
            pixels = np.asarray(image.convert("RGB").resize((12, 12), Image.Resampling.BOX), np.float32)
            rows.append((np.abs(pixels - pixels[0, 0]).sum(-1) > 60).ravel() + np.float32(0.01))
        return _unit(np.array(rows, np.float32))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return _unit(np.array([np.bincount(list(text.encode()), minlength=144)[:144] for text in texts], np.float32))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
