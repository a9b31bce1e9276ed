"""Captions to pictures by way of embeddings: seeds, steps, sizes, guidance, the upsampler's tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bahumukha.errors import ModelError, UsageError
from bahumukha.generate.diffusion import PictureNoise
from bahumukha.generate.priors import PriorSampling
from bahumukha.generate.unclip import DecoderSampling, Unclip, UnclipSampling, draw, generate, last
from bahumukha.generate.unclip_config import UnclipConfig
from bahumukha.generate.upsample import UpsamplerSampling, _starts, tiled, upsampled
from bahumukha.models.denoiser import Condition, enlarged
from bahumukha.models.spaces import Latents
from bahumukha.zoo.fake import ColourEncoder
from bahumukha.zoo.unclip import LoadedUpsampler
from tests.tiny_unclip import tiny_denoiser, tiny_unclip
from tests.train.drawings import tiny_codec

pytestmark = pytest.mark.usefixtures("one_thread")

FAST = UnclipSampling(PriorSampling(steps=2), DecoderSampling(steps=4), UpsamplerSampling(steps=2))


@pytest.mark.parametrize("sampler", ["dpm++", "ddpm"])
def test_picture_k_of_a_seed_is_the_one_of_seed_plus_k_alone(sampler: Any) -> None:
    unclip = tiny_unclip(upsampler=True)
    sampling = UnclipSampling(FAST.prior, DecoderSampling(steps=4, sampler=sampler), FAST.upsampler)
    together = last(generate(unclip, "a red fish", count=3, sampling=sampling, seed=5))
    assert together.shape == (3, 16, 16, 3) and together.min() >= 0 and together.max() <= 1
    for k in range(3):
        alone = last(generate(unclip, "a red fish", sampling=sampling, seed=5 + k))
        assert np.allclose(alone[0], together[k], atol=1e-3)
    assert not np.allclose(together[0], together[1], atol=1e-2)
    other = last(generate(unclip, ["a red fish", "the blue sea", "a"], count=3, sampling=sampling, seed=5))
    assert np.allclose(other[0], together[0], atol=1e-3) and not np.allclose(other[1], together[1], atol=1e-3)


def test_steps_lead_to_the_last_one_at_one_size() -> None:
    unclip = tiny_unclip(upsampler=True)
    whole = list(generate(unclip, "a red fish", sampling=FAST))
    assert [(step.index, step.total) for step in whole] == [(i, 6) for i in range(6)]
    assert {step.images.shape for step in whole} == {(1, 16, 16, 3)}
    some = list(generate(unclip, "a red fish", sampling=FAST, every=4))
    assert [(step.index, step.total) for step in some] == [(0, 2), (1, 2)]
    assert np.array_equal(some[0].images, whole[3].images) and np.array_equal(some[1].images, whole[5].images)
    small = list(generate(unclip, "a red fish", sampling=UnclipSampling(FAST.prior, FAST.decoder, None), every=3))
    assert [step.index for step in small] == [0, 1] and small[-1].images.shape == (1, 8, 8, 3)


def test_other_sizes_latents_and_no_global_random_number() -> None:
    state = torch.get_rng_state()
    assert last(generate(tiny_unclip(), "a red fish", size=(12, 10), sampling=FAST)).shape == (1, 10, 12, 3)
    unclip = tiny_unclip(codec=tiny_codec())
    torch.set_rng_state(state)
    assert (unclip.size, unclip.step) == (16, 8)
    drawn = last(generate(unclip, "a red fish", size=(24, 16), sampling=FAST))
    assert drawn.shape == (1, 16, 24, 3) and isinstance(unclip.space, Latents)
    assert torch.equal(torch.get_rng_state(), state)


def test_embedding_caption_and_guidance_are_felt() -> None:
    unclip = tiny_unclip(spread=0.3)
    encoder = ColourEncoder()
    red, blue = (torch.from_numpy(encoder.encode_texts([word])) for word in ("red", "blue"))
    text = unclip.read(["a red fish"])
    plain = UnclipSampling(FAST.prior, DecoderSampling(steps=4, guidance=1.0))
    pictures = [
        last(draw(unclip, red, sampling=plain)),
        last(draw(unclip, blue, sampling=plain)),
        last(draw(unclip, red, text, sampling=plain)),
        last(draw(unclip, red, sampling=FAST)),
        last(draw(unclip, red, sampling=plain, seed=1)),
    ]
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert np.abs(one - other).max() > 1e-2
    again = last(draw(unclip, red, sampling=FAST, guidance=1.0))
    assert np.allclose(again, pictures[0], atol=1e-6)


def test_thresholds_only_in_pixels() -> None:
    red = torch.from_numpy(ColourEncoder().encode_texts(["red"]))
    for unclip, changes in ((tiny_unclip(spread=0.4), True), (tiny_unclip(codec=tiny_codec(), spread=0.4), False)):
        plain, thresholded = (
            last(draw(unclip, red, sampling=UnclipSampling(decoder=DecoderSampling(4, guidance=9.0, threshold=share))))
            for share in (None, 0.5)
        )
        assert np.array_equal(plain, thresholded) != changes


# --- the upsampler


def test_tiles_cover_every_place() -> None:
    for length, side, overlap, patch in ((16, 8, 0.25, 2), (21, 8, 0.5, 1), (8, 8, 0.25, 2), (6, 8, 0.25, 2)):
        starts = _starts(length, side, overlap, patch)
        covered = {at for start in starts for at in range(start, min(start + side, length))}
        assert covered == set(range(length)) and all(start % patch == 0 for start in starts[:-1])
        assert all(b - a <= side * (1 - overlap) for a, b in zip(starts, starts[1:], strict=False))


def test_tiles_together_are_what_each_says() -> None:
    """A network that tells what it is given: no seam, whatever the size."""

    class Telling:
        config = tiny_denoiser(given=3, dim=0, text_width=0).config

        def clean(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
            assert condition.given is not None and max(x.shape[2:]) <= 8 and torch.equal(t, torch.full((2,), 0.5))
            return condition.given

    given = torch.randn(2, 3, 22, 14)
    told = tiled(Telling(), given, torch.zeros(2), 0.25)(torch.zeros_like(given), 0.5)  # type: ignore[arg-type]
    assert torch.allclose(told, given, atol=1e-5)


def test_any_picture_is_enlarged_and_a_small_one_in_one_piece() -> None:
    model = tiny_denoiser(given=3, dim=0, text_width=0, spread=0.1).eval()
    loaded = LoadedUpsampler(model, 2, 1)
    small = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    *_, drawn = upsampled(loaded, small, sampling=UpsamplerSampling(steps=1, noise=0.0))
    noise = PictureNoise(0, 2, (3, 8, 8), part=2)
    noise()  # the first is for what is given, though none is taken
    once = Condition(given=enlarged(small, 2), given_noise=torch.zeros(2))
    assert torch.allclose(drawn, model.clean(noise(), torch.ones(2), once).clamp(-1, 1), atol=1e-5)
    pictures = list(upsampled(loaded, torch.rand(1, 3, 5, 7), sampling=UpsamplerSampling(steps=3), seed=4))
    assert [each.shape for each in pictures] == [(1, 3, 10, 14)] * 3
    alone = list(upsampled(loaded, small[1:], sampling=UpsamplerSampling(steps=2), seed=1))[-1]
    both = list(upsampled(loaded, small, sampling=UpsamplerSampling(steps=2), seed=0))[-1]
    assert torch.allclose(both[1:], alone, atol=1e-4)
    noisier = list(upsampled(loaded, small, sampling=UpsamplerSampling(steps=2, noise=0.5)))[-1]
    assert not torch.allclose(noisier, both, atol=1e-3)


# --- what is wrong


def test_wrong_ways_to_ask() -> None:
    unclip = tiny_unclip()
    cases: list[tuple[Any, str]] = [
        (lambda: generate(unclip, ""), "prompt: an empty one"),
        (lambda: generate(unclip, ["a", "b"], count=3), "prompts: 2 were given for 3 pictures"),
        (lambda: generate(unclip, "a", size=(9, 8)), "size: 9x8 was given; it takes multiples of 2"),
        (lambda: generate(unclip, "a", every=0), "every: 0"),
        (lambda: DecoderSampling(steps=0), "steps: 0"),
        (lambda: DecoderSampling(threshold=0.0), "threshold: 0.0"),
        (lambda: DecoderSampling(sampler="plms"), "sampler: 'plms'"),  # type: ignore[arg-type]
        (lambda: UpsamplerSampling(noise=1.0), "noise: 1.0"),
        (lambda: UpsamplerSampling(overlap=0.6), "overlap: 0.6"),
    ]
    for ask, message in cases:
        with pytest.raises(UsageError, match=message):
            ask()


def test_a_clip_or_a_codec_that_does_not_fit() -> None:
    unclip = tiny_unclip()
    with pytest.raises(ModelError, match="trained with fake/colours of other weights than fake/colours has"):
        Unclip(unclip.loaded, ColourEncoder(grid=3), unclip.read, unclip.space)
    with pytest.raises(ModelError, match="its decoder draws 3 numbers a place; the codec of pixels has 2"):
        Unclip(unclip.loaded, unclip.encoder, unclip.read, Latents(tiny_codec()))


def test_settings_of_a_file() -> None:
    config = UnclipConfig("a fish", pictures=2, candidates=5, upsample=False)
    assert config.drawn == 5 and config.sampling.upsampler is None
    for wrong, message in (
        ({"prompt": " "}, "prompt is empty"),
        ({"pictures": 0}, "pictures is 0"),
        ({"candidates": 2}, "candidates is 2"),
        ({"size": (0, 8)}, "size is"),
    ):
        with pytest.raises(ValueError, match=message):
            UnclipConfig(**{"prompt": "a"} | wrong)  # type: ignore[arg-type]
