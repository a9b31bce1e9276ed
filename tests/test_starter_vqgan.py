"""Quality gates on the codec that ships: what it keeps of drawings and photographs that it was not trained on."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from bahumukha.evaluate.fidelity import psnr, ssim
from bahumukha.evaluate.vqgan import pixels_of
from bahumukha.images import open_image
from bahumukha.zoo.codecs import load_codec
from bahumukha.zoo.folder import WEIGHTS, find

SCENES = sorted((Path(__file__).parent / "scenes").glob("*.jpg"))
PHOTOS = sorted((Path(str(files("bahumukha"))) / "demo_photos").glob("*.jpg"))

GATES = {("scenes", 64): 24.5, ("scenes", 128): 27.3, ("photos", 128): 23.0}
"""PSNR in dB, a little below what was measured, so that only a real loss fails."""


@pytest.fixture(scope="module")
def codec():
    return load_codec("starter/vqgan")


def kept(codec, paths, size):
    """Pictures, what the codec makes of them, both (N, 3, size, size) in [0, 1], and the codes."""
    x = torch.stack([pixels_of(open_image(path, at_least=size), size) for path in paths])
    with torch.no_grad():
        latents, ids, _ = codec.quantize(codec.encode(2 * x - 1))
        return x, (codec.decode(latents).clamp(-1, 1) + 1) / 2, ids


@pytest.mark.parametrize(("what", "size"), GATES)
def test_pictures_are_kept(codec, what, size):
    x, made, ids = kept(codec, SCENES if what == "scenes" else PHOTOS, size)
    assert ids.shape[1:] == (size // 8, size // 8)
    assert float(psnr(x, made).mean()) >= GATES[what, size]


def test_structure_and_codes(codec):
    x, made, ids = kept(codec, SCENES, 128)
    assert float(ssim(x, made).mean()) >= 0.885
    assert len(ids.unique()) >= 0.3 * codec.codes, "of 16,000 places that are half plain ground"


def test_size_licence_and_card():
    folder = find("starter/vqgan")
    assert (folder / WEIGHTS).stat().st_size <= 15e6
    card = (folder / "card.md").read_text(encoding="utf-8")
    assert all(word in card for word in ("## Data", "licence: ", "## Recipe", "## Scores", "## Limits"))
    assert json.loads((folder / "config.json").read_text())["steps"] > 0


@pytest.mark.parametrize("size", [(64, 96), (512, 64)])
def test_any_multiple_of_eight(codec, size):
    with torch.no_grad():
        latents = codec.encode(torch.zeros(1, 3, *size))
        assert codec.decode(latents).shape == (1, 3, *size)
