"""Quality gates on the DALL-E that ships, and on its codec: what it draws of sentences that training kept from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bahumukha.evaluate.dalle import by_dalle
from bahumukha.evaluate.drawn import Draw
from bahumukha.evaluate.fidelity import psnr
from bahumukha.images import open_image
from bahumukha.nn.sampling import Sampling
from bahumukha.zoo import load
from bahumukha.zoo.codecs import load_codec
from bahumukha.zoo.dalle import LoadedDalle, load_dalle
from bahumukha.zoo.folder import WEIGHTS, find
from tests.held_out_prompts import part_found, part_placed

FIRST = 0.62
"""Share of pictures that CLIP finds by their own prompt, a little below what was measured, so that only a real loss
fails."""
PLACED = 0.7
"""Share of pictures of two things with both colours in their places, likewise."""
PSNR = 24.5
"""Of the codec, in dB, likewise."""


@pytest.fixture(scope="module")
def dalle() -> LoadedDalle:
    return load_dalle("starter/dalle")


@pytest.fixture(scope="module")
def draw(dalle: LoadedDalle) -> Draw:
    return by_dalle(dalle, load_codec(dalle.codec), Sampling(guidance=3.0, top_p=0.8))


def test_pictures_are_what_was_asked_for(draw: Draw) -> None:
    assert part_found(draw, load("starter/clip"), 64, each=3) >= FIRST


def test_two_things_have_their_colours_where_they_belong(draw: Draw) -> None:
    assert part_placed(draw, load("starter/clip"), each=3) >= PLACED


def test_its_codec_keeps_pictures() -> None:
    folder = Path(__file__).parent / "scenes"
    pictures = [open_image(path).convert("RGB").resize((64, 64)) for path in sorted(folder.glob("*.jpg"))[:8]]
    before = torch.from_numpy(np.stack([np.asarray(each, np.float32) for each in pictures])).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        after, _ = load_codec("starter/dalle-codec")(2 * before - 1)
    assert float(psnr(before, (after.clamp(-1, 1) + 1) / 2).mean()) >= PSNR


def test_sizes_licence_and_card(dalle: LoadedDalle) -> None:
    assert dalle.codec == "starter/dalle-codec"
    for name, most in (("starter/dalle", 20e6), ("starter/dalle-codec", 12e6)):
        folder = find(name)
        assert (folder / WEIGHTS).stat().st_size <= most
        card = (folder / "card.md").read_text(encoding="utf-8")
        assert all(word in card for word in ("## Data", "licence: ", "## Recipe", "## Scores", "## Limits"))
        assert json.loads((folder / "config.json").read_text())["steps"] > 0
