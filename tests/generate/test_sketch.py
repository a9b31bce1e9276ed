"""A sketch by DALL-E is what unCLIP's decoder begins with: as much of it as its noise leaves, step by step."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bahumukha.errors import ModelError, UsageError
from bahumukha.generate.diffusion import SAMPLERS, SamplerName, times_of
from bahumukha.generate.priors import PriorSampling
from bahumukha.generate.sketch import Sketcher, SketchSampling, left_of_sketch
from bahumukha.generate.unclip import DecoderSampling, Unclip, UnclipSampling, generate, last
from bahumukha.generate.upsample import UpsamplerSampling
from bahumukha.images.ranges import to_uint8
from tests.tiny_dalle import make_codec_folder, make_dalle_folder
from tests.tiny_unclip import tiny_unclip

pytestmark = pytest.mark.usefixtures("one_thread")

FAST = UnclipSampling(PriorSampling(steps=2), DecoderSampling(steps=4), UpsamplerSampling(steps=2))


@pytest.fixture(scope="module")
def dalle(tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("sketch")
    return make_dalle_folder(folder / "dalle", str(make_codec_folder(folder / "codec")))


def sketched(dalle: Path, **options: Any) -> Unclip:
    unclip = tiny_unclip(**options)
    unclip.loaded = replace(unclip.loaded, sketch=str(dalle))
    return unclip


def with_noise(noise: float, steps: int = 4, tries: int = 3) -> UnclipSampling:
    return replace(FAST, decoder=DecoderSampling(steps=steps, guidance=1.0), sketch=SketchSampling(noise, tries=tries))


@given(st.floats(0.01, 0.99), st.integers(1, 30))
def test_the_rest_of_the_way_begins_at_the_noise(noise: float, steps: int) -> None:
    rest = SketchSampling(noise).rest(times_of(steps))
    assert rest[0] == noise and rest[-1] == 0 and rest == sorted(set(rest), reverse=True)
    assert len(rest) - 1 <= steps


@pytest.mark.parametrize(("noise", "steps"), [(0.1, 20), (0.2, 20), (0.45, 20), (0.2, 5), (0.2, 50), (0.21, 100)])
def test_a_time_that_is_the_noise_but_for_rounding_is_no_step(noise: float, steps: int) -> None:
    rest = SketchSampling(noise).rest(times_of(steps))
    assert len(rest) - 1 == round(noise * steps)


@pytest.mark.parametrize("sampler", ["euler", "dpm++"])
@given(noise=st.floats(0.05, 0.95), steps=st.integers(2, 12))
def test_what_is_left_of_a_sketch_is_what_samplers_leave(sampler: SamplerName, noise: float, steps: int) -> None:
    """Where the decoder tells x all along."""
    sketch, x, ε = torch.randn(3, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    times = SketchSampling(noise).rest(times_of(steps))
    start = torch.lerp(sketch, ε, noise)
    for moment, t in zip(SAMPLERS[sampler](lambda z, t: x, start, times, lambda: ε), times[1:], strict=True):
        left = left_of_sketch(torch.tensor(t).double(), torch.tensor(noise).double())
        assert torch.allclose(moment.x, (1 - t) * torch.lerp(x, sketch, left) + t * ε, atol=1e-5)
    assert torch.allclose(moment.x, x, atol=1e-5)


@pytest.mark.parametrize("noise", [0.0, 1.0, -1.0, float("nan")])
def test_noise_that_leaves_all_or_nothing_is_refused(noise: float) -> None:
    with pytest.raises(UsageError, match="noise: .* it takes a number above 0, all of the sketch, below 1"):
        SketchSampling(noise)


def test_a_sketch_is_of_the_shape_asked_and_no_smaller_than_dalle_knows(dalle: Path) -> None:
    sketcher = Sketcher.load(str(dalle), tiny_unclip().encoder)  # grids of 4 x 4 codes, 8 pixels each
    assert [sketcher.grid(size) for size in ((32, 32), (8, 8), (16, 32), (40, 32))] == [(4, 4), (4, 4), (4, 8), (5, 4)]
    *_, step = sketcher.steps(["a red fish"], (12, 10), count=2, sampling=SketchSampling(), seed=3)
    assert step.images.shape == (2, 12, 10, 3) and step.images.min() >= 0 and step.images.max() <= 1


def test_rows_of_the_sketch_then_the_rest_of_the_steps_at_one_size(dalle: Path) -> None:
    unclip = sketched(dalle, upsampler=True)
    whole = list(generate(unclip, "a red fish", sampling=with_noise(0.6)))  # 4 rows; 0.6, 0.5, 0.25, 0; 2 steps
    assert [(step.index, step.total) for step in whole] == [(i, 9) for i in range(9)]
    assert {step.images.shape for step in whole} == {(1, 16, 16, 3)}
    some = list(generate(unclip, "a red fish", sampling=with_noise(0.6), every=4))
    assert [(step.index, step.total) for step in some] == [(0, 3), (1, 3), (2, 3)]
    assert np.array_equal(some[1].images, whole[7].images) and np.array_equal(some[2].images, whole[8].images)


def test_picture_k_of_a_seed_is_the_one_of_seed_plus_k_alone(dalle: Path) -> None:
    unclip, sampling = sketched(dalle), with_noise(0.5)
    together = last(generate(unclip, "a red fish", count=3, sampling=sampling, seed=5))
    for k in range(3):
        assert np.allclose(
            last(generate(unclip, "a red fish", sampling=sampling, seed=5 + k))[0], together[k], atol=1e-3
        )
    assert np.abs(together[0] - together[1]).max() > 1e-2


def test_little_noise_leaves_the_sketch_and_much_hides_it(dalle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that takes what it sees for the picture: all that differs is what it began with."""
    unclip = sketched(dalle)
    monkeypatch.setattr(
        unclip.loaded.decoder.model, "clean", lambda x, t, said: x / (1 - t.view(-1, 1, 1, 1)).clamp(0.1)
    )
    assert unclip.sketcher is not None
    *_, step = unclip.sketcher.steps(["a red fish"], (8, 8), count=1, sampling=SketchSampling(tries=1), seed=0)
    far = [
        np.abs(last(generate(unclip, "a red fish", sampling=with_noise(noise, steps=1, tries=1))) - step.images).mean()
        for noise in (0.001, 0.3, 0.9)
    ]
    assert far[0] < 0.01 < far[1] < far[2]


def test_of_the_tries_the_one_nearest_to_the_sentence_is_kept(dalle: Path) -> None:
    encoder = tiny_unclip().encoder
    sketcher, prompts = Sketcher.load(str(dalle), encoder), ["a red fish", "a cat"]

    def drawn(tries: int, count: int = 2, seed: int = 3, of: list[str] = prompts) -> np.ndarray:
        *_, step = sketcher.steps(of, (32, 32), count=count, sampling=SketchSampling(tries=tries), seed=seed)
        return step.images

    def nearness(images: np.ndarray) -> np.ndarray:
        seen = encoder.encode_images([Image.fromarray(pixels) for pixels in to_uint8(images)])
        return (seen * encoder.encode_texts(prompts)).sum(1)

    chosen = {tries: drawn(tries) for tries in (1, 2, 4, 16)}
    near = [nearness(images) for images in chosen.values()]
    assert all((more >= fewer - 1e-5).all() for fewer, more in itertools.pairwise(near)), "fewer tries are among more"
    assert near[-1].sum() > near[0].sum() + 1e-2 and not np.array_equal(chosen[1], chosen[16])
    assert np.allclose(drawn(4, 1, 4, ["a cat"])[0], chosen[4][1], atol=1e-3), "picture k is that of seed + k alone"
    assert np.array_equal(drawn(4, of=["a cat"]), drawn(4, of=["a cat", "a cat"])), "one prompt is that of all"


def test_tries_are_shown_by_the_first_until_one_is_chosen(dalle: Path) -> None:
    sketcher = Sketcher.load(str(dalle), tiny_unclip().encoder)
    one, many = (
        list(sketcher.steps(["a red fish"], (32, 32), count=1, sampling=SketchSampling(tries=tries), seed=3))
        for tries in (1, 4)
    )
    assert [(step.index, step.total) for step in many] == [(i, 4) for i in range(4)]
    for every, total in ((3, 2), (9, 1)):
        options: dict[str, Any] = {"count": 1, "sampling": SketchSampling(tries=4), "seed": 3, "every": every}
        some = list(sketcher.steps(["a red fish"], (32, 32), **options))
        assert [(step.index, step.total) for step in some] == [(i, total) for i in range(total)]
        assert np.array_equal(some[-1].images, many[-1].images)
    with pytest.raises(UsageError, match="every: 0 was given"):
        next(sketcher.steps(["a red fish"], (32, 32), count=1, sampling=SketchSampling(), seed=3, every=0))
    for alone, first in zip(one[:-1], many[:-1], strict=True):
        assert np.allclose(alone.images, first.images, atol=1e-3)
    with pytest.raises(UsageError, match="tries: 0 was given; it takes a whole number above 0"):
        SketchSampling(tries=0)


def test_without_a_sketch_as_before(dalle: Path) -> None:
    plain = last(generate(tiny_unclip(), "a red fish", sampling=FAST))
    assert np.array_equal(last(generate(sketched(dalle), "a red fish", sampling=replace(FAST, sketch=None))), plain)
    assert not np.allclose(last(generate(sketched(dalle), "a red fish", sampling=FAST)), plain, atol=1e-2)


def test_a_sketch_by_what_is_no_dalle(dalle: Path) -> None:
    unclip = sketched(dalle.parent / "codec")
    with pytest.raises(ModelError, match="'kind' is 'vqgan'; sentences become pictures with a 'dalle' model"):
        generate(unclip, "a red fish", sampling=FAST)
