"""The decoder's network: shapes of any size, what it sees and what not, that it learns, and degraded pictures."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bahumukha.models.degradation import DegradationConfig, blurred, degraded, like_jpeg
from bahumukha.models.denoiser import (
    LEAST_TIME,
    Condition,
    Denoiser,
    DenoiserConfig,
    TimesConfig,
    flow_loss,
    random_times,
    velocity_errors,
)
from bahumukha.models.spaces import Latents, Pixels
from bahumukha.models.text import TextFeatures
from tests.tiny_unclip import DIM, TEXT_WIDTH, captions, tiny_denoiser
from tests.train.drawings import tiny_codec


def picture(count: int = 2, side: int = 8, width: int | None = None) -> Tensor:
    return torch.randn(count, 3, side, width or side, generator=torch.Generator().manual_seed(0))


def condition(lengths: list[int]) -> Condition:
    text = captions(lengths)
    return Condition(text.embedding, text)


@pytest.mark.parametrize("stages", [(), (8, 16)])
def test_a_new_network_tells_nothing_and_all_its_weights_learn(stages: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"grid": 8, "patch": 4, "dim": DIM, "text_width": TEXT_WIDTH, "width": 16, "layers": 3}
    model = Denoiser(DenoiserConfig(**sizes, heads=2, stages=stages))
    t = torch.tensor([0.3, 0.9])
    assert torch.equal(model(picture(), t, condition([3, 2])), torch.zeros(2, 3, 8, 8))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(4):  # what begins at zero lets the rest learn one after the other
        optimizer.zero_grad()
        flow_loss(model, picture(), condition([3, 2])._replace(without_embedding=torch.tensor([True, False])))[
            "loss"
        ].backward()
        optimizer.step()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still


@pytest.mark.parametrize("predicts", ["clean", "velocity"])
def test_the_error_is_against_the_picture_whatever_stands_under_the_noise(
    predicts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who tells x has none; who tells what it sees, all that is between them."""
    model = tiny_denoiser(predicts=predicts)
    x, noise = torch.randn(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0.02, 0.6])
    worse, at = x + 0.5, t.view(-1, 1, 1, 1)

    def errors(clean: Tensor, under: Tensor | None) -> Tensor:
        z = torch.lerp(x if under is None else under, noise, at)
        monkeypatch.setattr(model, "forward", lambda *_: clean if predicts == "clean" else (z - clean) / at)
        return velocity_errors(model, x, noise, t, Condition(), under)

    assert errors(x, None).max() < 1e-6 and errors(x, worse).max() < 1e-6 and errors(x, x).max() < 1e-6
    least = t if predicts == "velocity" else t.clamp(min=LEAST_TIME)
    assert torch.allclose(errors(worse, worse), (0.5 / least) ** 2, rtol=1e-3)
    assert torch.allclose(errors(worse, x), errors(worse, None), rtol=1e-4)


@pytest.mark.parametrize(("predicts", "stages"), [("clean", ()), ("velocity", ()), ("clean", (8,)), ("velocity", (8,))])
def test_any_size_and_everything_is_seen(predicts: str, stages: tuple[int, ...]) -> None:
    model = tiny_denoiser(predicts=predicts, stages=stages).eval()
    x, t, said = picture(2, 8, 12), torch.tensor([0.3, 0.9]), condition([3, 5])
    told = model(x, t, said)
    assert told.shape == x.shape
    assert said.text is not None
    others = [
        model(x + 1, t, said),
        model(x, t / 2, said),
        model(x, t, said._replace(embedding=-said.embedding)),  # type: ignore[operator]
        model(x, t, said._replace(text=said.text._replace(tokens=-said.text.tokens))),
        model(x, t, said._replace(text=None)),
        model(x, t, Condition(text=said.text)),
    ]
    assert all(((other - told).abs().amax((1, 2, 3)) > 1e-3).all() for other in others)
    clean = model.clean(x, t, said)
    assert torch.allclose(clean, told if predicts == "clean" else x - t.view(-1, 1, 1, 1) * told)


def test_padding_and_what_is_dropped_is_not_seen() -> None:
    model, x, t = tiny_denoiser().eval(), picture(), torch.tensor([0.3, 0.9])
    said = condition([5, 2])
    assert said.text is not None
    told = model(x, t, said)
    alone = Condition(said.text.embedding[1:], TextFeatures(*(each[1:] for each in said.text)))
    short = alone._replace(text=TextFeatures(said.text.embedding[1:], said.text.tokens[1:, :2], said.text.seen[1:, :2]))
    for each in (alone, short, said.rows(torch.tensor([1]))):
        assert torch.allclose(model(x[1:], t[1:], each), told[1:], atol=1e-5)
    dropped = torch.tensor([True, True])
    nothing = model(x, t, said._replace(without_embedding=dropped, without_text=dropped))
    assert torch.allclose(nothing, model(x, t), atol=1e-5)
    first = model(x, t, said._replace(without_embedding=torch.tensor([True, False])))
    assert torch.allclose(first[1], told[1], atol=1e-5) and not torch.allclose(first[0], told[0], atol=1e-3)


def test_a_given_picture_and_its_noise_are_seen() -> None:
    model = tiny_denoiser(given=3, dim=0, text_width=0).eval()
    x, t = picture(), torch.tensor([0.3, 0.9])
    told = model(x, t, Condition(given=picture(2) / 2))
    assert not torch.allclose(told, model(x, t, Condition(given=-picture(2) / 2)), atol=1e-3)
    assert not torch.allclose(
        told, model(x, t, Condition(given=picture(2) / 2, given_noise=torch.tensor([0.5, 0.5]))), atol=1e-3
    )


@pytest.mark.parametrize(("predicts", "stages"), [("clean", ()), ("velocity", ()), ("clean", (8,))])
def test_it_learns_to_draw_what_an_embedding_says(predicts: str, stages: tuple[int, ...]) -> None:
    model = tiny_denoiser(predicts=predicts, stages=stages, text_width=0, spread=0.1)
    colours = torch.tensor([[0.8, -0.8, -0.8], [-0.8, -0.8, 0.8]])
    means = torch.eye(DIM)[:2]
    model.standard.fit(torch.eye(DIM))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    which = torch.arange(16) % 2
    x = colours[which][:, :, None, None].expand(-1, -1, 8, 8).contiguous()
    torch.manual_seed(0)
    losses = []
    for _ in range(80):
        loss = flow_loss(model, x, Condition(means[which]))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    noise = torch.randn(2, 3, 8, 8)
    drawn = model.eval().clean(noise, torch.ones(2), Condition(means)).mean((2, 3))
    assert torch.allclose(drawn, colours, atol=0.5)


def test_random_times_are_where_they_should_be() -> None:
    torch.manual_seed(0)
    t = random_times(4000, torch.zeros(1))
    assert 0 < float(t.min()) < 0.05 and 0.95 < float(t.max()) < 1
    assert float(t.median()) == pytest.approx(0.5, abs=0.01)
    assert float(((t > 0.27) & (t < 0.73)).float().mean()) == pytest.approx(0.68, abs=0.02)
    assert float(random_times(4000, torch.zeros(1), TimesConfig(1.0)).median()) == pytest.approx(0.731, abs=0.01)


# --- spaces


def test_latents_are_the_codes_of_pictures() -> None:
    space = Latents(tiny_codec())
    x = picture(2, 16).clamp(-1, 1)
    latents = space.encode(x)
    assert latents.shape == (2, space.channels, 16 // space.downsampling, 16 // space.downsampling)
    assert float(latents.abs().max()) <= 1
    assert torch.allclose(space.decode(latents + 0.01), space.decode(latents)), "snapped to codes"
    ids = space.codec.quantize(space.codec.encode(x))[1]
    by_ids = space.codec.decode_ids(ids.flatten(1), (ids.shape[1], ids.shape[2]))
    assert torch.allclose(space.decode(latents), by_ids.clamp(-1, 1), atol=1e-5)
    assert torch.equal(Pixels().decode(Pixels().encode(x)), x)


# --- degraded pictures


def test_blur_keeps_what_is_even_and_spreads_the_rest() -> None:
    x = torch.zeros(2, 3, 15, 15)
    x[:, :, 7, 7] = 1.0
    soft = blurred(x, torch.tensor([0.5, 1.0]))
    assert torch.allclose(soft.sum((2, 3)), torch.ones(2, 3), atol=1e-5)
    at = torch.arange(15.0) - 7
    width = (soft[:, 0].sum(1) * at**2).sum(1).sqrt()
    assert torch.allclose(width, torch.tensor([0.5, 1.0]), atol=0.05)
    assert torch.allclose(blurred(torch.full((1, 3, 5, 5), 0.4), torch.ones(1)), torch.full((1, 3, 5, 5), 0.4))


def test_like_jpeg_is_like_jpeg() -> None:
    """In grey, where JPEG has no channels of colour: nearly Pillow's own pixels."""
    noise = np.random.default_rng(0).uniform(0, 255, (24, 20))
    grey = np.asarray(Image.fromarray(noise.astype(np.uint8)).resize((40, 48), Image.Resampling.BICUBIC))
    for quality in (20, 60, 90):
        file = BytesIO()
        Image.fromarray(grey).save(file, "JPEG", quality=quality)
        theirs = np.asarray(Image.open(file)).astype(np.float32)
        x = torch.from_numpy(grey.astype(np.float32) / 127.5 - 1)[None, None].expand(1, 3, -1, -1)
        ours = (like_jpeg(x, torch.tensor([float(quality)]))[0, 0].numpy() + 1) * 127.5
        lost = np.abs(theirs - grey).mean()
        assert np.abs(ours - theirs).mean() < 0.25 * lost + 0.6


def test_each_picture_is_degraded_in_its_own_way() -> None:
    torch.manual_seed(0)
    x = picture(200, 8).clamp(-1, 1)
    worse, noise = degraded(x, DegradationConfig(noise_most=0.2, blur=0.5, jpeg=0.0))
    assert worse.shape == x.shape and 0 <= float(noise.min()) and 0.18 < float(noise.max()) <= 0.2
    plain, none = degraded(x, DegradationConfig(blur=0, jpeg=0, noise_most=0))
    assert torch.equal(plain, x) and not none.any()
    only_blur, _ = degraded(x, DegradationConfig(blur=0.5, jpeg=0, noise_most=0))
    same = (only_blur == x).flatten(1).all(1).float().mean()
    assert 0.35 < float(same) < 0.65


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DenoiserConfig(patch=5), "patch is 5; it must divide grid, 64"),
        (lambda: DenoiserConfig(layers=4), "layers is 4; it must be odd"),
        (lambda: DenoiserConfig(width=30), "width is 30; it must be a multiple of 4 x heads 5"),
        (lambda: DenoiserConfig(predicts="noise"), "predicts is 'noise'"),  # type: ignore[arg-type]
        (lambda: DenoiserConfig(given=-1), "given is -1"),
        (lambda: DenoiserConfig(stages=(8, 8, 8)), "patch is 4; 3 stages need a multiple of 8"),
        (lambda: DenoiserConfig(stages=(12,)), "stages are .12,.; each must be a multiple of 8"),
        (lambda: DegradationConfig(quality=(0, 50)), "quality is"),
        (lambda: DegradationConfig(noise_most=1.0), "noise_most is 1.0"),
    ],
)
def test_sizes_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
