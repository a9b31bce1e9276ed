"""Paintings that follow one another: what each starts from, and that a stopped run goes on bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bahumukha.errors import BahumukhaError, ImageError, ModelError, UsageError
from bahumukha.generate.animation import Animation, animate
from bahumukha.generate.camera import move
from bahumukha.generate.guided_config import GuidedConfig, seed_number
from tests.tiny_drawers import tiny_codec
from tests.tiny_guidance import ColourClip, cells

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Four pictures of 4 x 3 cells, noise about grey; each its own."""
    random = np.random.default_rng(0)
    folder = tmp_path / "frames"
    folder.mkdir()
    for k in range(4):
        cells = (random.random((3, 4, 3)) * 100 + 80).astype(np.uint8)
        Image.fromarray(cells.repeat(8, 0).repeat(8, 1)).save(folder / f"{k}.png")
    return folder


def tiny(prompt: str = "red", **settings: Any) -> GuidedConfig:
    table = {"prompt": prompt, "size": (32, 24), "steps": 3, "rate": 1.0, "cutouts": {"count": 3, "sizes": (16,)}}
    return GuidedConfig.from_dict(table | settings)


def over(frames: Path, prompt: str = "red", **settings: Any) -> GuidedConfig:
    animation = {"frames": str(frames)} | settings.pop("animation", {})
    return tiny(prompt, animation=animation, **settings)


def painted(config: GuidedConfig) -> np.ndarray:
    """(frames, H, W, 3)."""
    return np.concatenate([step.images for step in animate(config, [ColourClip()], cells(config))])


def read(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) / 255 for path in sorted(folder.glob("*.png"))])


# --- over frames


def test_every_frame_is_painted_on_from_itself(frames: Path) -> None:
    given = read(frames)
    still = painted(over(frames, rate=0.0, animation={"smoothing": 0.0}))
    assert still.shape == (4, 24, 32, 3) and np.allclose(still, given, atol=1e-6)
    redder = painted(over(frames, animation={"smoothing": 0.0})) - given
    assert (redder[..., 0].mean((1, 2)) > 0.03).all() and (redder[..., 2].mean((1, 2)) < -0.03).all()


def test_smoothing_mixes_the_last_result_into_the_start(frames: Path) -> None:
    given = read(frames)
    smooth = painted(over(frames, rate=0.0, animation={"smoothing": 0.25}))
    expected = given[:1]
    for each in given[1:]:
        expected = np.concatenate([expected, [0.75 * each + 0.25 * expected[-1]]])
    assert np.allclose(smooth, expected, atol=1e-6)


def test_smoothing_lessens_flicker(frames: Path) -> None:
    def flicker(smoothing: float) -> float:
        made = painted(over(frames, animation={"smoothing": smoothing}))
        return float(np.abs(np.diff(made, axis=0)).mean())

    assert flicker(0.7) < 0.6 * flicker(0.0)


def test_the_first_frame_gets_the_steps_that_smoothing_gives_to_the_others(frames: Path) -> None:
    animation = Animation(over(frames, steps=6, animation={"smoothing": 0.4}), [ColourClip()])
    assert animation.total == 4 and animation.steps_left == 10 + 3 * 6
    first = animation.next_painting()
    list(first.steps())
    animation.keep(first)
    assert first.done == 10 and animation.next_painting().config.steps == 6 and animation.steps_left == 18


def test_fewer_frames(frames: Path) -> None:
    made = painted(over(frames, rate=0.0, animation={"smoothing": 0.0, "every": 3}))
    assert np.allclose(made, read(frames)[::3], atol=1e-6)


def test_a_story_runs_over_the_video(frames: Path) -> None:
    made = painted(over(frames, "red ^ blue", steps=8))
    colours = made.mean((1, 2))
    assert colours[1, 0] > colours[1, 2] + 0.1 and colours[3, 2] > colours[2, 2] > colours[1, 2]


def test_in_the_latents_of_a_codec(frames: Path) -> None:
    config = over(frames, drawer="vqgan", animation={"smoothing": 0.5})
    codec = tiny_codec()
    animation = Animation(config, [ColourClip()], codec=codec)
    first = animation.next_painting()
    list(first.steps())
    animation.keep(first)
    with first.at_rest() as drawer:
        last = drawer.state_dict()["latents"]
    second = animation.next_painting().drawer.state_dict()["latents"]
    picture = torch.from_numpy(read(frames)[1]).permute(2, 0, 1)[None].float()
    low, high = codec.quantizer.codebook().aminmax(dim=0)
    encoded = codec.encode(picture * 2 - 1).clamp(low[:, None, None], high[:, None, None])
    assert torch.allclose(second, (last + encoded) / 2, atol=1e-5)


# --- under a camera


def test_the_camera_moves_the_last_painting(tmp_path: Path) -> None:
    Image.effect_noise((32, 24), 60).convert("RGB").save(tmp_path / "start.png")
    moves = {"frames": 4, "steps": 1, "zoom": 1.2, "shift": (0.1, 0.0), "turn": 10.0, "fill": "edge"}
    config = tiny(drawer="fft", rate=0.0, steps=1, start={"picture": str(tmp_path / "start.png")}, camera=moves)
    made = [torch.from_numpy(step.images).permute(0, 3, 1, 2) for step in animate(config, [ColourClip()])]
    assert len(made) == 4
    for before, after in zip(made, made[1:], strict=False):
        assert torch.allclose(after, move(before, 1.2, (0.1, 0.0), 10.0, "edge").clamp(0.005, 0.995), atol=1e-4)


def test_steps_and_seeds_under_a_camera() -> None:
    config = tiny(steps=7, seed="sea", camera={"frames": 3, "steps": 2})
    animation = Animation(config, [ColourClip()])
    assert animation.steps_left == 7 + 2 + 2
    seeds, steps = [], []
    while not animation.is_over:
        painting = animation.next_painting()
        seeds.append(painting.seed)
        steps.append(len(list(painting.steps())))
        animation.keep(painting)
    first = seed_number("sea")
    assert steps == [7, 2, 2] and seeds == [first, first + 1, first + 2]
    assert len(animation.scores) == 3 and animation.scores[2] > animation.scores[0]


def test_texts_are_embedded_once_for_all_frames() -> None:
    class Counting(ColourClip):
        calls = 0

        def encode_texts(self, texts: Any) -> np.ndarray:
            self.calls += 1
            return super().encode_texts(texts)

    clip = Counting()
    made = list(animate(tiny("red | blue:-0.2", camera={"frames": 4, "steps": 1}), [clip]))
    assert len(made) == 4 and clip.calls == 2


def test_what_else_an_encoder_has_is_found_through_that() -> None:
    class Guiding(ColourClip):
        smallest_side, guided = 20, 0

        def guide_pixels(self, x: Any, size: int) -> Any:
            self.guided += 1
            return self.encode_pixels(x, size, False)

    clip = Guiding()
    with pytest.raises(UsageError, match="cutouts.sizes has 16, and .* takes 20 pixels"):
        list(animate(tiny(camera={"frames": 2, "steps": 1}), [clip]))
    cutouts = {"count": 3, "sizes": (24,)}
    assert len(list(animate(tiny(camera={"frames": 2, "steps": 1}, cutouts=cutouts), [clip]))) == 2
    assert clip.guided > 0, "guided by what is smooth, as one picture is"


def test_a_colour_is_what_the_first_frame_starts_from() -> None:
    made = painted(tiny(camera={"frames": 3, "steps": 2}, steps=2, rate=0.3, start={"colour": "blue"}))
    reds = made[..., 0].mean((1, 2))
    assert (np.diff(reds) > 1e-3).all(), "each goes on from the one before, away from the disc"


def test_a_still_camera_paints_on() -> None:
    made = painted(tiny(camera={"frames": 4, "steps": 3}))
    assert (np.diff(made.mean((1, 2))[:, 0]) > 0.01).all()


# --- the same bits


@pytest.mark.parametrize(
    "settings",
    [
        {"animation": {"smoothing": 0.5}, "ema": 0.5},
        {"camera": {"frames": 4, "zoom": "1.05 -> 0.95", "steps": 2}, "drawer": "fft", "ema": 0.5},
        {"camera": {"frames": 4, "turn": 5.0, "steps": 2}, "drawer": "strokes", "drawer_options": {"strokes": 6}},
    ],
)
def test_a_stopped_run_goes_on_bit_for_bit(settings: dict[str, Any], frames: Path, tmp_path: Path) -> None:
    config = over(frames, "red ^ blue", drawer="pixel", **settings) if "camera" not in settings else tiny(**settings)
    whole = [step.images.tobytes() for step in animate(config, [ColourClip()])]
    pieces = []
    for k in range(4):
        torch.manual_seed(k)
        animation = Animation(config, [ColourClip()])
        if k:
            animation.load(tmp_path / "c.pt")
        painting = animation.next_painting()
        pieces.append(list(painting.steps())[-1].images.tobytes())
        animation.keep(painting)
        animation.save(tmp_path / "c.pt")
    assert pieces == whole and animation.is_over
    again = Animation(config, [ColourClip()])
    again.load(tmp_path / "c.pt")
    assert again.is_over and again.scores == animation.scores and again.steps_left == 0


def test_what_does_not_belong_to_a_run(tmp_path: Path) -> None:
    config = tiny(camera={"frames": 2})
    Animation(config, [ColourClip()]).save(tmp_path / "c.pt")
    for other, said in ((tiny(camera={"frames": 3}), "another camera"), (tiny("blue", camera={"frames": 2}), "prompt")):
        with pytest.raises(ModelError, match=said):
            Animation(other, [ColourClip()]).load(tmp_path / "c.pt")


# --- errors


def test_a_frame_that_cannot_be_read_is_named(frames: Path) -> None:
    (frames / "2.png").write_bytes(b"damaged")
    shown = []
    with pytest.raises(ImageError, match="2.png"):
        for step in animate(over(frames), [ColourClip()]):
            shown.append(step)
    assert len(shown) == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "there are no frames"),
        ({"animation": {"frames": "nowhere"}}, "nowhere: there is no such file or folder"),
        ({"animation": {"frames": "a"}, "camera": {"frames": 2}}, "camera.frames and animation.frames"),
        ({"animation": {"frames": "a"}, "start": {"noise": "perlin"}}, "the frames are the starts"),
        ({"animation": {"frames": "a"}, "start": {"colour": "blue"}}, "the frames are the starts"),
        ({"animation": {"smoothing": 1.0}}, "smoothing"),
        ({"camera": {"frames": 2, "zoom": 99.0}}, "zoom"),
        ({"camera": {"frames": 2}, "video": {"of": "strokes"}}, "video.of"),
        ({"camera": {"frames": 2}, "drawer": "line"}, "drawer line cannot start from a picture"),
    ],
)
def test_each_wrong_setting_gives_one_clear_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises((UsageError, BahumukhaError)) as error:
        Animation(tiny(**settings), [ColourClip()])
    assert said in str(error.value) and "\n" not in str(error.value)
