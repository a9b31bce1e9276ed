"""What a text tower makes of each token, beside what it makes of the text."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bahumukha.errors import ModelError
from bahumukha.models.text import TextTower, TextTowerConfig
from bahumukha.zoo.folder import find
from bahumukha.zoo.pytorch import TextReader, TorchClip

WAYS = [
    {"attention": "masked", "pool": "mean"},
    {"attention": "causal", "pool": "end", "end_token": 2},
    {"attention": "all", "pool": "last"},
]


@pytest.mark.parametrize("way", WAYS)
def test_pooled_is_read_off_the_hidden_tokens(way: dict[str, Any]) -> None:
    torch.manual_seed(0)
    tower = TextTower(TextTowerConfig(vocabulary=20, context_length=6, width=16, layers=2, heads=2, **way), 8).eval()
    ids = torch.tensor([[1, 5, 7, 9, 2, 0], [1, 8, 2, 0, 0, 0]])
    mask = (ids != 0).long()
    hidden = tower.hidden(ids, mask)
    assert hidden.shape == (2, 6, 16)
    assert torch.allclose(tower.pool(hidden, ids, mask), tower.pooled(ids, mask), atol=1e-5)


def test_the_starter_reads_texts() -> None:
    clip = TorchClip("starter/clip")
    texts = ["a red fish", "", "ఎర్ర చేప నీలి కారు మీద"]
    read = clip.read_texts(texts)
    assert np.allclose(read.embedding.numpy(), clip.encode_texts(texts), atol=1e-5)
    assert read.tokens.shape == (*read.seen.shape, clip.model.config.text.width)
    assert read.seen.sum(1).tolist()[1] < read.seen.sum(1).tolist()[0] <= read.seen.shape[1]
    assert torch.allclose(clip.read_texts(texts[:1]).tokens[0], read.tokens[0, : int(read.seen[0].sum())], atol=1e-4)


def test_the_text_tower_alone_reads_the_same_without_the_picture_towers_libraries() -> None:
    texts = ["a red fish", "", "ఎర్ర చేప నీలి కారు మీద"]
    alone, whole = TextReader.load("starter/clip")(texts), TorchClip("starter/clip").read_texts(texts)
    assert all(torch.equal(a, b) for a, b in zip(alone, whole, strict=True))
    program = (
        "import sys; from bahumukha.zoo.pytorch import TextReader; TextReader.load('starter/clip')(['a cat'])\n"
        "print(sorted({'timm', 'torchvision', 'torch._dynamo'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


def test_weights_that_are_cut_off_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(find("starter/clip"), folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    for load in (TextReader.load, TorchClip):
        with pytest.raises(ModelError, match=r"model\.safetensors: damaged .* put the model there again"):
            load(folder)
    weights.unlink()
    with pytest.raises(ModelError, match="runs on ONNX Runtime only"):
        TextReader.load(folder)
