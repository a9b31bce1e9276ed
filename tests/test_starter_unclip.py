"""Quality gates on the unCLIP that ships: what it draws of sentences that training kept from it, and what it keeps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from bahumukha.evaluate.drawn import Draw
from bahumukha.evaluate.fidelity import psnr
from bahumukha.evaluate.unclip import by_unclip
from bahumukha.generate.unclip import DecoderSampling, Unclip, UnclipSampling, last
from bahumukha.generate.upsample import UpsamplerSampling, upsampled
from bahumukha.generate.variations import inpaint
from bahumukha.images import open_image, to_uint8
from bahumukha.zoo.folder import WEIGHTS, find
from tests.held_out_prompts import part_found, part_placed

FIRST = 0.7
"""Share of pictures that CLIP finds by their own prompt, a little below what was measured, so that only a real loss
fails."""
PLACED = 0.8
"""Share of pictures of two things with both colours in their places, likewise."""
STEPS = 12
ENLARGED = 28.0
"""PSNR in dB, likewise."""
SCENE = Path(__file__).parent / "scenes" / "00.jpg"


@pytest.fixture(scope="module")
def unclip() -> Unclip:
    return Unclip.load("starter/unclip")


@pytest.fixture(scope="module")
def draw(unclip: Unclip) -> Draw:
    return by_unclip(unclip, UnclipSampling(decoder=DecoderSampling(steps=STEPS), upsampler=None))


def test_pictures_are_what_was_asked_for(unclip: Unclip, draw: Draw) -> None:
    assert part_found(draw, unclip.encoder, unclip.size) >= FIRST


def test_two_things_have_their_colours_where_they_belong(unclip: Unclip, draw: Draw) -> None:
    assert part_placed(draw, unclip.encoder) >= PLACED


def test_what_a_mask_does_not_show_stays(unclip: Unclip) -> None:
    picture = open_image(SCENE).convert("RGB").resize((64, 64))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 64))
    few = UnclipSampling(decoder=DecoderSampling(steps=2), upsampler=None)
    [made] = to_uint8(last(inpaint(unclip, picture, mask, "a red star", sampling=few)))
    before = np.asarray(picture)
    assert (made[:, :32] == before[:, :32]).all() and (made[:, 32:] != before[:, 32:]).any()


def test_what_is_made_larger_stays_what_it_was(unclip: Unclip) -> None:
    large = torch.from_numpy(np.asarray(open_image(SCENE).convert("RGB").resize((128, 128)), np.float32) / 255)
    large = large.permute(2, 0, 1)[None]
    small = F.interpolate(large, scale_factor=0.5, mode="area")
    assert unclip.loaded.upsampler is not None
    *_, made = upsampled(unclip.loaded.upsampler, 2 * small - 1, sampling=UpsamplerSampling(steps=4))
    assert made.shape == large.shape
    assert float(psnr(large, (made.clamp(-1, 1) + 1) / 2)) >= ENLARGED


def test_sizes_licence_and_card() -> None:
    folder = find("starter/unclip")
    parts = list(folder.rglob(WEIGHTS))
    assert len(parts) == 3 and sum(path.stat().st_size for path in parts) <= 35e6
    card = (folder / "card.md").read_text(encoding="utf-8")
    assert all(word in card for word in ("## Data", "licence: ", "## Recipe", "## Scores", "## Limits"))
    assert all(json.loads((path.parent / "config.json").read_text())["steps"] > 0 for path in parts)
