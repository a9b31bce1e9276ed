"""Tiny random models of OpenCLIP and transformers: their features and ours must agree, there and back."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch

from bahumukha.models.clip import Clip
from bahumukha.zoo.architectures import from_open_clip
from bahumukha.zoo.convert import from_ours, keys, to_ours

TINY: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 60, "width": 32, "heads": 4, "layers": 2},
}
END = 59


def shaken(model: torch.nn.Module) -> Any:
    """The model with noise on every weight, so that no bias is zero and no norm is one."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def texts() -> torch.Tensor:
    """Three texts of OpenCLIP's kind: an end-of-text token, then zeros."""
    ids = torch.randint(1, END, (3, 16), generator=torch.Generator().manual_seed(2))
    for row, end in enumerate((5, 15, 3)):
        ids[row, end], ids[row, end + 1 :] = END, 0
    return ids


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_open_clip_and_back(quick_gelu):
    config = TINY | {"quick_gelu": quick_gelu}
    theirs = shaken(open_clip.CLIP(**config))
    ours = Clip(from_open_clip(config, "tiny")).eval()
    layout = keys(ours.config, "open_clip")
    ours.load_state_dict(to_ours(theirs.state_dict(), layout))
    pixels, ids = torch.randn(3, 3, 32, 32), texts()
    with torch.inference_mode():
        assert (ours.encode_image(pixels) - theirs.encode_image(pixels)).abs().max() < 1e-4
        assert (ours.encode_text(ids, ids.new_ones(ids.shape)) - theirs.encode_text(ids)).abs().max() < 1e-4
    back = from_ours(ours.state_dict(), layout)
    assert back.keys() == theirs.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in theirs.state_dict().items())
