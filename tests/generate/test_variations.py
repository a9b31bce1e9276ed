"""What embeddings and noise make possible: variations, blends, edits, inpainting, axes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bahumukha.errors import UsageError
from bahumukha.generate.unclip import DecoderSampling, UnclipSampling, draw, last
from bahumukha.generate.variations import blend, edit, evenness, explore, inpaint, slerp, vary
from bahumukha.images.ranges import to_uint8
from tests.tiny_unclip import tiny_unclip
from tests.train.drawings import drawing, tiny_codec

SAMPLING = UnclipSampling(decoder=DecoderSampling(steps=6))


def picture(colour: str = "red", side: int = 8) -> Image.Image:
    return drawing("noto", colour, "circle").convert("RGB").resize((side, side))


def distance(images: np.ndarray, image: Image.Image) -> list[float]:
    """Mean absolute difference of each from a picture."""
    return [float(np.abs(each - np.asarray(image) / 255).mean()) for each in images]


def test_variations_go_as_far_as_they_are_told() -> None:
    unclip, source = tiny_unclip(), picture()
    away = [distance(last(vary(unclip, source, far=far, sampling=SAMPLING, seed=3)), source)[0] for far in (0, 0.3, 1)]
    assert away[0] < 0.02 and away[0] < away[1] / 2 < away[2]
    several = last(vary(unclip, source, far=0.5, count=3, sampling=SAMPLING, seed=3))
    alone = last(vary(unclip, source, far=0.5, sampling=SAMPLING, seed=5))
    assert np.allclose(several[2], alone[0], atol=1e-3) and not np.allclose(several[0], several[1], atol=1e-2)
    own = last(draw(unclip, unclip.embed([source]), sampling=SAMPLING, seed=3))
    assert np.allclose(last(vary(unclip, source, sampling=SAMPLING, seed=3)), own, atol=1e-5)


def test_a_blend_goes_from_one_picture_to_the_other() -> None:
    unclip, red, blue = tiny_unclip(), picture("red"), picture("blue")
    strip = last(blend(unclip, red, blue, count=5, own_noise=True, sampling=SAMPLING))
    assert strip.shape == (5, 8, 8, 3)
    from_red, from_blue = distance(strip, red), distance(strip, blue)
    assert from_red[0] < 0.02 and from_blue[-1] < 0.02
    assert from_red[0] < from_red[2] < from_red[-1] and from_blue[-1] < from_blue[2] < from_blue[0]
    plain = last(blend(unclip, red, blue, count=3, tries=1, sampling=SAMPLING, seed=4))
    ends = last(draw(unclip, unclip.embed([red]), sampling=SAMPLING, seed=4))
    assert np.allclose(plain[0], ends[0], atol=1e-4)
    with pytest.raises(UsageError, match="at least 2"):
        blend(unclip, red, blue, count=1)
    with pytest.raises(UsageError, match="tries: 0"):
        blend(unclip, red, blue, tries=0)


def test_a_blend_takes_the_noise_whose_strip_changes_most_evenly() -> None:
    unclip, ends = tiny_unclip(), (picture("red"), picture("blue"))
    targets = unclip.encoder.encode_images(ends).T
    each, even = [], []
    for seed in (4, 5, 6, 7):
        each.append(last(blend(unclip, *ends, count=4, tries=1, sampling=SAMPLING, seed=seed)))
        drawn = [Image.fromarray(pixels) for pixels in to_uint8(each[-1])]
        even.append(evenness(unclip.encoder.encode_images(drawn) @ targets))
    assert len(set(map(float, even))) == 4
    found = last(blend(unclip, *ends, count=4, tries=4, sampling=SAMPLING, seed=4))
    assert np.allclose(found, each[int(np.argmax(even))], atol=1e-4)


def test_one_noise_is_one_noise_for_every_sampler() -> None:
    """ddpm draws new noise at its first step, from generators that differ from picture to picture."""
    unclip, sampling = tiny_unclip(), replace(SAMPLING, decoder=replace(SAMPLING.decoder, sampler="ddpm"))
    same = last(blend(unclip, picture(), picture(), count=3, tries=1, sampling=sampling, seed=4))
    assert np.abs(same - same[:1]).max() < 1e-4
    walked = last(explore(unclip, picture(), axis=0, amounts=(1, 1), sampling=sampling, seed=2))
    assert np.abs(walked[0] - walked[1]).max() < 1e-4


def test_evenness_is_the_smallest_step_towards_the_second_end() -> None:
    cosines = np.array([[[1.0, 0.0], [0.8, 0.3], [0.2, 0.9]], [[1.0, 0.0], [0.9, 0.5], [0.95, 0.5]]])
    assert np.allclose(evenness(cosines), [0.5, -0.05])


def test_an_edit_turns_the_embedding_and_keeps_the_noise() -> None:
    unclip, source = tiny_unclip(spread=0.12), picture()
    sampling = UnclipSampling(decoder=DecoderSampling(steps=6, guidance=1.0))
    strip = last(edit(unclip, source, "a red ball", "a blue ball", strengths=(0, 0.3, 0.9), sampling=sampling))
    away = distance(strip, source)
    assert away[0] < 0.03 and away[0] < away[1] < away[2]
    other = last(edit(unclip, source, "a red ball", "a green ball", strengths=(0.9,), sampling=sampling))
    assert not np.allclose(other[0], strip[2], atol=1e-3)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"source": "a red ball", "target": "the red ball"}, "say the same"),
        ({"source": "red", "target": "blue", "strengths": (1.5,)}, "strength"),
        ({"source": "red", "target": "blue", "strengths": ()}, "strength"),
    ]
    for wrong, message in cases:
        with pytest.raises(UsageError, match=message):
            edit(unclip, source, **wrong)


@pytest.mark.parametrize("latents", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (37, 24), (16, 16)])
def test_inpainting_leaves_what_is_masked_bit_for_bit(latents: bool, size: tuple[int, int]) -> None:
    unclip = tiny_unclip(codec=tiny_codec() if latents else None, upsampler=True)
    random = np.random.default_rng(0)
    source = Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), np.uint8))
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[: size[1] // 2, : size[0] // 2] = 255
    steps = list(inpaint(unclip, source, Image.fromarray(mask), "a blue fish", count=2, sampling=SAMPLING))
    assert len(steps) == 14
    for step in (steps[0], steps[-1]):
        drawn = to_uint8(step.images)
        assert drawn.shape == (2, size[1], size[0], 3)
        assert all(np.array_equal(each[mask == 0], np.asarray(source)[mask == 0]) for each in drawn)
    changed = np.abs(drawn.astype(int) - np.asarray(source))[:, mask > 0]
    assert (changed.mean((1, 2)) > 10).all() and not np.array_equal(drawn[0], drawn[1])


def test_inpainting_sees_what_stays() -> None:
    unclip = tiny_unclip(spread=0.3)
    mask = Image.fromarray(np.eye(8, dtype=np.uint8) * 255)
    drawn = [last(inpaint(unclip, picture(c), mask, "a fish", sampling=SAMPLING))[0] for c in ("red", "blue")]
    is_open = np.eye(8, dtype=bool)
    assert np.abs(drawn[0][is_open] - drawn[1][is_open]).max() > 1e-2
    with pytest.raises(UsageError, match="nothing to draw"):
        inpaint(unclip, picture(), Image.new("L", (8, 8)), "a fish")
    with pytest.raises(UsageError, match="prompt"):
        inpaint(unclip, picture(), mask, " ")


def test_axes_of_the_embedding() -> None:
    unclip, source = tiny_unclip(spread=0.3), picture()
    standard = unclip.decoder.standard
    generator = torch.Generator().manual_seed(0)
    standard.fit(torch.nn.functional.normalize(torch.randn(200, 13, generator=generator) + 0.5, dim=1))
    whole = last(draw(unclip, unclip.embed([source]), sampling=SAMPLING, seed=2))
    strip = last(explore(unclip, source, keep=(1, 6, 13), sampling=SAMPLING, seed=2))
    away = [float(np.abs(each - whole[0]).mean()) for each in strip]
    assert len(strip) == 3 and away[2] < 1e-3 < min(away[:2])
    walked = last(explore(unclip, source, axis=0, amounts=(-2, 0, 2), sampling=SAMPLING, seed=2))
    assert np.allclose(walked[1], whole[0], atol=1e-3) and not np.allclose(walked[0], walked[2], atol=1e-2)
    for wrong in ({"keep": (0,)}, {"keep": ()}, {"axis": 13}, {"axis": 0, "amounts": ()}):
        with pytest.raises(UsageError, match="keep|axis"):
            explore(unclip, source, **wrong)  # type: ignore[arg-type]


def test_on_the_sphere() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 5, 4, 3, generator=generator)
    assert torch.allclose(slerp(a, b, 0.0), a, atol=1e-6) and torch.allclose(slerp(a, b, 1.0), b, atol=1e-6)
    half = slerp(a, b, 0.5).flatten(1)
    lengths = (a.flatten(1).norm(dim=1) + b.flatten(1).norm(dim=1)) / 2
    assert torch.allclose(half.norm(dim=1), lengths, atol=1e-5)
    to_a, to_b = (torch.nn.functional.cosine_similarity(half, end.flatten(1)) for end in (a, b))
    assert torch.allclose(to_a, to_b, atol=1e-5)
    assert torch.allclose(slerp(a, a, 0.3), a, atol=1e-5)
    shares = torch.linspace(0, 1, 5)
    assert torch.allclose(slerp(a, b, shares)[3], slerp(a[3:4], b[3:4], 0.75)[0], atol=1e-6)
