"""One contrastive step: in parts as in whole, whatever is dropped out, and with less memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bahumukha.data.batches import Batch
from bahumukha.data.tokens import learn_tokenizer
from bahumukha.images import Preprocess
from bahumukha.models.clip import Clip, ClipConfig, ImageTowerConfig, TextTowerConfig
from bahumukha.models.vit import ViTConfig
from bahumukha.train.clip_config import LossConfig
from bahumukha.train.objective import ClipObjective, running_statistics_kept
from tests.train.shapes import COLOURS, SHAPES

SIZE = 32
CAPTIONS = [f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES]
TOKENIZER = learn_tokenizer(CAPTIONS, 400)
KINDS = ["clip", "siglip"]


def tiny_clip(kind: str, patch_dropout: float = 0.0) -> Clip:
    torch.manual_seed(0)
    image = ViTConfig(SIZE, 8, 32, 2, 4, patch_dropout=patch_dropout)
    text = TextTowerConfig(TOKENIZER.get_vocab_size(), 12, 32, 2, 4)
    return Clip(ClipConfig(16, image, text, logit_bias=kind == "siglip"))


def batch_of(size: int, seed: int = 0) -> Batch:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, SIZE, SIZE, 3), dtype=np.uint8)
    return Batch(0, pixels, CAPTIONS[:size], None)


def objective(model: Clip, kind: str, micro_batches: int = 1) -> ClipObjective:
    return ClipObjective(model, TOKENIZER, Preprocess(SIZE, SIZE), LossConfig(kind), micro_batches)  # type: ignore[arg-type]


def gradient(model: Clip, kind: str, micro_batches: int) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    torch.manual_seed(5)
    loss = objective(model, kind, micro_batches)(batch_of(16))["loss"]
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parts", [2, 4, 5, 16])
def test_micro_batches_have_the_gradient_of_the_whole_batch(kind: str, parts: int) -> None:
    model = tiny_clip(kind).train()
    loss, whole = gradient(model, kind, 1)
    again, in_parts = gradient(model, kind, parts)
    assert torch.allclose(loss, again, atol=1e-5)
    assert set(whole) == set(in_parts) and len(whole) > 30
    for name, expected in whole.items():
        assert torch.allclose(in_parts[name], expected, atol=1e-5), name


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_dropped_is_the_same_in_the_second_pass(kind: str) -> None:
    """The recomputed part must be the part that the loss was taken of: compared with a pass that keeps everything."""
    model = tiny_clip(kind, patch_dropout=0.5).train()
    _, in_parts = gradient(model, kind, 4)
    torch.manual_seed(5)
    model.zero_grad()
    o, batch = objective(model, kind), batch_of(16)
    images = torch.cat([model.encode_image(p, True) for p in o.pixels(torch.from_numpy(batch.pixels)).chunk(4)])
    o.contrast(images, model.encode_text(*o.tokens(batch.texts), normalize=True)).backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(in_parts[name], parameter.grad, atol=1e-5), name  # type: ignore[arg-type]


def test_micro_batches_keep_less_for_the_backward_pass() -> None:
    model = tiny_clip("clip").train()

    def kept(parts: int) -> int:
        sizes: list[int] = []

        def note(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            objective(model, "clip", parts)(batch_of(16))
        return sum(sizes)

    pixels = 16 * 3 * SIZE**2  # each part's input stays
    assert kept(4) - pixels < (kept(1) - pixels) / 50


def test_running_means_move_once_in_parts() -> None:
    torch.manual_seed(0)
    image = ImageTowerConfig("tf_efficientnet_lite0", SIZE)
    model = Clip(ClipConfig(16, image, TextTowerConfig(TOKENIZER.get_vocab_size(), 12, 32, 1, 4))).train()
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    x = objective(model, "clip").pixels(torch.from_numpy(batch_of(8).pixels))
    before = norm.running_mean.clone()  # type: ignore[union-attr]
    with torch.no_grad():
        for part in x.chunk(2):
            model.encode_image(part)
    expected = norm.running_mean.clone()  # type: ignore[union-attr]
    norm.running_mean.copy_(before)  # type: ignore[union-attr]
    objective(model, "clip", 2)(batch_of(8))["loss"].backward()
    assert torch.allclose(norm.running_mean, expected, atol=1e-6)  # type: ignore[arg-type]
    assert norm.momentum not in (0.0, None)
    with running_statistics_kept(model), torch.no_grad():
        model.encode_image(x)
    assert torch.allclose(norm.running_mean, expected, atol=1e-6)  # type: ignore[arg-type]


def test_pixels_are_normalised_as_preprocess_does() -> None:
    from PIL import Image

    raw = batch_of(1).pixels
    preprocess = Preprocess(SIZE, SIZE)
    mine = objective(tiny_clip("clip"), "clip").pixels(torch.from_numpy(raw))
    theirs = torch.from_numpy(preprocess(Image.fromarray(raw[0])))
    assert torch.allclose(mine[0], theirs, atol=1e-5)


def test_a_caption_that_is_twice_in_a_batch_is_no_negative() -> None:
    """To the sigmoid, which would answer one question with yes and with no; the softmax shares in any case."""
    batch = batch_of(4)
    same = np.eye(4, dtype=bool)
    same[0, 1] = same[1, 0] = True
    twice = Batch(0, batch.pixels, [batch.texts[0], batch.texts[0], *batch.texts[2:]], same)
    losses = {}
    for kind in KINDS:
        model = tiny_clip(kind)
        for matched in (True, False):
            options = LossConfig(kind, same_match=matched)  # type: ignore[arg-type]
            step = ClipObjective(model, TOKENIZER, Preprocess(SIZE, SIZE), options)
            losses[kind, matched] = float(step(twice)["loss"].detach())
    assert losses["clip", True] == pytest.approx(losses["clip", False], abs=1e-5)
    assert losses["siglip", True] != pytest.approx(losses["siglip", False], abs=0.1)
