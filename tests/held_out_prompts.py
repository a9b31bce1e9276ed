"""What the drawing starters are asked for in their gates, which training kept from them."""

from __future__ import annotations

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
