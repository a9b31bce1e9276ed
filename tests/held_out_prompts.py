"""What the drawing starters are asked for in their gates, which training kept from them."""

from __future__ import annotations

import numpy as np

from bahumukha.evaluate.colours import dominant_colour
from bahumukha.evaluate.drawn import Asked, Draw, draw_all, retrieval
from bahumukha.protocols import ImageTextEncoder

PROMPTS = (
    "a purple guitar", "an orange camel", "a gray owl", "green shorts", "a red hamburger", "yellow grapes",
    "an orange chair", "a red backpack", "a green tree", "a purple bird", "a brown door", "a purple car",
    "a brown fish", "an orange car", "pink glasses", "a red crab",
)  # fmt: skip
"""Things in colours in which training does not show them (`data.scenes.is_held_out`)."""


def part_found(draw: Draw, encoder: ImageTextEncoder, side: int, each: int = 1) -> float:
    """Share of the pictures, `each` of every prompt, of this side in pixels, that CLIP finds by their own prompt."""
    drawn = draw_all(draw, encoder, [Asked(prompt, prompt) for prompt in PROMPTS], each=each)
    assert drawn.pictures.shape == (len(PROMPTS), each, side, side, 3)
    return retrieval(encoder, drawn, PROMPTS).single


PAIRS = (
    ("a green tree to the left of a red car", "left", "green", "red"),
    ("a red crab below a blue star", "above", "blue", "red"),
    ("a purple butterfly above a yellow banana", "above", "purple", "yellow"),
    ("a yellow star to the right of a blue book", "left", "blue", "yellow"),
    ("an orange fish above a green frog", "above", "orange", "green"),
    ("a blue teapot to the left of a pink crown", "left", "blue", "pink"),
    ("a red apple below a green cactus", "above", "green", "red"),
    ("a pink tulip to the right of a brown horse", "left", "brown", "pink"),
)
"""Two things each, where the first colour is, and both."""


def part_placed(draw: Draw, encoder: ImageTextEncoder, each: int = 1) -> float:
    """Share of the pictures, `each` of every prompt of PAIRS, in which both colours are seen most where they belong:
    told by `evaluate.colours`, which knows no model."""
    prompts = [prompt for prompt, *_ in PAIRS]
    drawn = draw_all(draw, encoder, [Asked(prompt, prompt) for prompt in prompts], each=each)
    right = 0
    for (_, side, *wanted), pictures in zip(PAIRS, drawn.pictures, strict=True):
        for picture in pictures:
            halves = np.split(picture, 2, axis=0 if side == "above" else 1)
            right += [dominant_colour(half)[0] for half in halves] == wanted
    return right / (len(PAIRS) * each)
