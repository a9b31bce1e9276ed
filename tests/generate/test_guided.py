"""Guidance: it lowers its losses, and every prompt, loss, filter, start, overlay, encoder and codec has its part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bahumukha.errors import UsageError
from bahumukha.generate.cutouts import CutoutConfig
from bahumukha.generate.drawers.matte import MattedDrawer
from bahumukha.generate.guided import Painting, paint
from bahumukha.generate.guided_config import GuidedConfig, tier
from bahumukha.protocols import Step
from tests.fake_codec import BlockCodec
from tests.tiny_drawers import tiny_codec
from tests.tiny_guidance import ColourClip, cells, last, painted, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


# --- what it does


@pytest.mark.parametrize("drawer", ["cells", "fft", "pixel"])
def test_the_loss_falls_and_the_picture_is_what_was_asked_for(drawer: str) -> None:
    config = tiny(steps=40, drawer="fft" if drawer == "cells" else drawer)
    steps = list(paint(config, [ColourClip()], cells(config) if drawer == "cells" else None))
    assert [step.index for step in steps] == list(range(40)) and steps[0].total == 40
    assert steps[-1].losses["total"] < 0.5 * steps[0].losses["total"]
    images = steps[-1].images
    assert images.shape == (1, 24, 32, 3) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    red, green, blue = images.mean((0, 1, 2))
    assert red > green + 0.1 and red > blue + 0.1


def test_negative_prompts_push_away() -> None:
    without, with_ = last(tiny("white")), last(tiny("white | red:-0.9"))
    assert with_[..., 0].mean() < without[..., 0].mean() - 0.05


def test_a_story_changes_what_is_painted() -> None:
    steps = painted(tiny("red ^ blue", steps=60))
    middle, end = steps[29].images.mean((0, 1, 2)), steps[-1].images.mean((0, 1, 2))
    assert middle[0] > middle[2] and end[2] > end[0]


def test_past_the_stop_nothing_moves() -> None:
    steps = painted(tiny("red:1:4.9"))  # the loss is never above π² / 2 = 4.93
    assert np.array_equal(steps[0].images, steps[-1].images)


def test_other_losses_count() -> None:
    plain = tiny(steps=30)
    with_ = tiny(steps=30, losses={"symmetry": {"weight": 20.0, "axis": "vertical"}, "tv": 0.1})
    one, other = painted(plain)[-1], painted(with_)[-1]
    assert {"prompts", "symmetry", "tv", "total"} == set(other.losses)
    assert other.losses["total"] == pytest.approx(sum(v for k, v in other.losses.items() if k != "total"))

    def asymmetry(images: np.ndarray) -> float:
        return float(np.abs(images - images[:, :, ::-1]).mean())

    assert asymmetry(other.images) < 0.7 * asymmetry(one.images)


def test_weights_and_counts_follow_their_schedules() -> None:
    clip = ColourClip()
    config = tiny(losses={"tv": "0, 1 at 50%"}, cutouts={"count": "2 -> 13"}, rate="1, 0 at 75%")
    steps = list(paint(config, [clip], cells(config)))
    assert ["tv" in step.losses for step in steps] == [False] * 6 + [True] * 6
    assert [shape[0] for shape in clip.seen] == list(range(2, 14))
    assert np.array_equal(steps[10].images, steps[11].images), "a rate of 0 moves nothing"
    assert not np.array_equal(steps[7].images, steps[8].images)


def test_filters_are_part_of_what_is_judged_and_shown() -> None:
    images = last(tiny(filters={"lookup": {"colours": "[red, blue]"}}))
    colours = {tuple(pixel) for pixel in images.reshape(-1, 3).round(4).tolist()}
    assert colours <= {(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)}


def test_spots(tmp_path: Path) -> None:
    half = np.zeros((24, 32, 3), np.uint8)
    half[:, :16] = 255
    Image.fromarray(half).save(tmp_path / "mask.png")
    config = tiny("inside=red | outside=blue", steps=40, mask=str(tmp_path / "mask.png"))
    images = last(config)
    left, right = images[0, :, :16].mean((0, 1)), images[0, :, 16:].mean((0, 1))
    assert left[0] > left[2] + 0.2 and right[2] > right[0] + 0.2


def test_batches_have_the_gradient_of_the_whole() -> None:
    def gradient(batches: int) -> torch.Tensor:
        config = tiny(cutouts={"count": 7, "batches": batches, "noise": 0.0}, steps=1)
        drawer = cells(config)
        list(paint(config, [ColourClip()], drawer))
        assert drawer.cells.grad is not None
        return drawer.cells.grad

    assert torch.allclose(gradient(1), gradient(3), rtol=1e-4, atol=1e-8)


def test_the_gradient_is_that_of_the_loss() -> None:
    """By taking small steps in the direction that it says."""
    config = tiny(steps=1, losses={"tv": 0.5}, start={"pull": 1.0, "noise": "perlin"})

    def loss(move: float) -> float:
        painting = Painting(config, [ColourClip()], cells(config))
        if move:
            (value,) = painting._values()
            value.data -= move * gradient
        return painting._advance()["total"]

    first = Painting(config, [ColourClip()], cells(config))
    first._advance()
    gradient = first._values()[0].grad
    assert gradient is not None
    slope = (loss(-1e-2) - loss(1e-2)) / 2e-2
    assert slope == pytest.approx(float(gradient.square().sum()), rel=0.05)


def test_several_models_have_the_same_say() -> None:
    class Blues(ColourClip):
        def encode_texts(self, texts: Any) -> np.ndarray:
            return super().encode_texts(["blue"] * len(texts))

    config = tiny(steps=30)
    both = list(paint(config, [ColourClip(), Blues()], cells(config)))[-1]
    red, green, blue = both.images.mean((0, 1, 2))
    assert red > green + 0.1 and blue > green + 0.1


def test_what_is_shown_is_the_running_mean_of_the_parameters() -> None:
    config = tiny(ema=0.6)
    drawer = cells(config)
    expected = drawer.cells.detach().clone()
    for number, step in enumerate(paint(config, [ColourClip()], drawer), 1):
        expected.lerp_(drawer.cells.detach(), 1 - min(0.6, number / (9 + number)))
        shown = torch.from_numpy(step.images).permute(0, 3, 1, 2)[:, :, ::8, ::8]
        assert torch.allclose(shown, expected, atol=1e-6)
    assert not torch.allclose(expected, drawer.cells, atol=1e-2)


# --- starts


def test_pulls_hold_the_picture_back() -> None:
    far = last(tiny(start={"noise": "perlin"}))
    start = painted(tiny(start={"noise": "perlin"}))[0].images
    for pull_by in ("l2", "cosine", "spherical", "pixel"):
        held = tiny(start={"noise": "perlin", "pull": 100.0, "pull_by": pull_by, "pull_until": 1.0})
        steps = painted(held)
        assert steps[0].losses["pull"] == pytest.approx(0, abs=1e-4)
        assert steps[5].losses["pull"] > 0
        assert np.abs(steps[-1].images - start).mean() < 0.7 * np.abs(far - start).mean(), pull_by


def test_a_pull_that_has_decayed_is_gone() -> None:
    steps = painted(tiny(start={"noise": "snow", "pull": 1.0, "pull_until": 0.5}))
    assert ["pull" in step.losses for step in steps] == [True] * 6 + [False] * 6


def test_a_start_picture(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), (0, 0, 255)).save(tmp_path / "blue.png")
    first = painted(tiny(start={"picture": str(tmp_path / "blue.png")}))[0].images
    assert np.allclose(first, (0, 0, 1))


# --- overlays


def test_an_overlay_is_laid_again_and_again(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), (0, 0, 255)).save(tmp_path / "blue.png")
    overlay = {"picture": str(tmp_path / "blue.png"), "alpha": 0.5, "every": "3 iterations", "until": "7 iterations"}
    steps = painted(tiny(steps=10, rate=0.0, overlay=overlay))
    blues = np.array([step.images[..., 2].mean() for step in steps])
    first = blues[0]
    assert np.allclose(blues[:3], first) and np.allclose(blues[3:6], (1 + first) / 2, atol=1e-6)
    assert np.allclose(blues[6:], (3 + first) / 4, atol=1e-6)


def test_an_overlay_that_cannot_be_laid_is_an_error_before_the_first_step(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="drawer line cannot start from a picture"):
        paint(tiny(drawer="line", overlay={"picture": str(tmp_path / "a.png")}), [ColourClip()])


# --- with a codec


class StraightThrough(BlockCodec):
    """The codec of blocks with gradients through its rounding."""

    def quantize(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        nearest, ids, losses = super().quantize(latents)
        return latents + (nearest - latents).detach(), ids, losses


def test_the_vqgan_drawer_with_any_codec(tmp_path: Path) -> None:
    config = tiny("blue", drawer="vqgan", steps=30)
    steps = list(paint(config, [ColourClip()], codec=StraightThrough()))
    assert steps[-1].losses["total"] < 0.7 * steps[0].losses["total"]
    levels = set((steps[-1].images * 2).round(4).ravel().tolist())
    assert levels <= {0.0, 1.0, 2.0}, "the codec's own colours and no others"
    painting = Painting(config, [ColourClip()], codec=StraightThrough())
    running = painting.steps()
    for _ in range(11):
        next(running)
    painting.save(tmp_path / "c.pt")
    again = Painting(config, [ColourClip()], codec=StraightThrough())
    again.load(tmp_path / "c.pt")
    assert list(again.steps())[-1].images.tobytes() == steps[-1].images.tobytes()


class Watching(ColourClip):
    """Tells in which precision it was asked."""

    def encode_pixels(self, x: torch.Tensor, size: int | None = None, crop: bool = True) -> torch.Tensor:
        found = super().encode_pixels(x, size, crop)
        self.fast = torch.is_autocast_enabled("cpu")
        return found.bfloat16() if self.fast else found


def test_bfloat16_is_close_and_the_same_bits_each_time() -> None:
    codec = tiny_codec()

    def run(precision: str) -> tuple[list[Step], Watching]:
        clip = Watching()
        config = tiny("blue", drawer="vqgan", steps=6, precision=precision)
        return list(paint(config, [clip], codec=codec)), clip

    (exact, slow), (rough, fast), (again, _) = run("float32"), run("bfloat16"), run("bfloat16")
    assert fast.fast and not slow.fast
    for one, other in zip(rough, again, strict=True):
        assert one.losses == other.losses and one.images.tobytes() == other.images.tobytes()
        assert one.images.dtype == np.float32
    assert not np.array_equal(exact[0].images, rough[0].images)
    assert np.abs(exact[0].images - rough[0].images).mean() < 0.03
    assert rough[0].losses["prompts"] == pytest.approx(exact[0].losses["prompts"], rel=0.05)


@pytest.mark.parametrize("fast", [True, False])
def test_automatic_precision_is_bfloat16_where_it_is_fast(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bahumukha.nn.precision.bfloat16_is_fast", lambda: fast)
    clip = Watching()
    list(paint(tiny(precision="auto", steps=1), [clip]))
    assert clip.fast == fast


def test_a_codec_that_is_missing_and_a_size_that_it_does_not_take() -> None:
    with pytest.raises(UsageError, match="vqgan needs a codec"):
        paint(tiny(drawer="vqgan"), [ColourClip()])
    with pytest.raises(UsageError, match="multiples of 8"):
        paint(tiny(drawer="vqgan", size=(30, 24)), [ColourClip()], codec=StraightThrough())


def test_an_encoder_may_have_a_way_of_its_own_for_gradients() -> None:
    class Guiding(ColourClip):
        def guide_pixels(self, x: torch.Tensor, size: int) -> torch.Tensor:
            asked.append((tuple(x.shape), size))
            return self._embedded(x)

    asked: list[tuple[tuple[int, ...], int]] = []
    few = {"count": 3, "sizes": (16,)}
    config = tier("draft", prompt="red", drawer="fft", size=(32, 32), steps=2, cutouts=few, rivals={"weight": 0.0})
    encoder = Guiding()
    list(Painting(config, [encoder]).steps())
    assert asked == [((3, 3, 16, 16), 16)] * 2 and not encoder.seen


def test_cutouts_too_small_for_a_clip_are_refused_before_the_first_step() -> None:
    encoder = ColourClip()
    encoder.smallest_side = 48  # type: ignore[attr-defined]
    config = GuidedConfig(prompt="red", size=(32, 32), cutouts=CutoutConfig(count=2, sizes=(64, 32)))
    with pytest.raises(UsageError, match="cutouts.sizes has 32, and colours takes 48 pixels a side and more"):
        Painting(config, [encoder])


def test_a_disc_on_the_mattes_ground() -> None:
    config = tiny(start={"colour": "red"}, matte={"colour": "black"})
    picture = Painting(config, [ColourClip()]).picture[0]
    assert picture[:, 0, 0].max() < 0.02 and picture[0, 12, 16] > 0.9
    alike = Painting(tiny(start={"colour": "white"}, matte={"colour": "white"}), [ColourClip()]).drawer
    assert isinstance(alike, MattedDrawer) and alike.alpha().max() > 0.9, "nothing is lost where both are alike"
