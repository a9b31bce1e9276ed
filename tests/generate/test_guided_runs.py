"""A run of guidance: a seed decides every bit, a stopped run goes on as if it had not been, the best is kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bahumukha.errors import BahumukhaError, ModelError, UsageError
from bahumukha.generate.guided import Painting, paint
from bahumukha.generate.guided_config import GuidedConfig
from bahumukha.protocols import Step
from tests.tiny_guidance import ColourClip, cells, last, painted, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


# --- the same bits


def test_the_same_seed_and_settings_give_the_same_bytes() -> None:
    config = tiny(seed="my seed", drawer="fft", losses={"tv": 0.1}, ema=0.5)

    def run(config: GuidedConfig) -> bytes:
        return b"".join(step.images.tobytes() for step in paint(config, [ColourClip()]))

    torch.manual_seed(1)
    one = run(config)
    torch.manual_seed(2)
    assert run(config) == one
    assert run(GuidedConfig.from_dict(config.to_dict() | {"seed": "my seeds"})) != one


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    last(tiny())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("stops", [[1], [5], [3, 4, 11]])
@pytest.mark.parametrize(
    "settings",
    [
        {"drawer": "fft", "ema": 0.9},
        {"drawer": "pixel", "filters": {"wallpaper": {}}, "rate": "0.2 -> 1", "losses": {"tv": "0 -> 1"}},
        {"drawer": "fft", "start": {"noise": "perlin", "pull": 2.0}},
    ],
)
def test_a_stopped_run_goes_on_bit_for_bit(stops: list[int], settings: dict[str, Any], tmp_path: Path) -> None:
    config = tiny("red | blue:-0.2 ^ green", **settings)
    whole = list(paint(config, [ColourClip()]))
    pieces: list[Step] = []
    for at in [*stops, 12]:
        torch.manual_seed(at)
        painting = Painting(config, [ColourClip()])
        if pieces:
            painting.load(tmp_path / "checkpoint.pt")
        steps = painting.steps()
        while painting.done < at:
            pieces.append(next(steps))
        steps.close()
        painting.save(tmp_path / "checkpoint.pt")
    assert len(pieces) == len(whole)
    for one, other in zip(whole, pieces, strict=True):
        assert one.index == other.index and one.losses == other.losses
        assert one.images.tobytes() == other.images.tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_every_so_many_steps() -> None:
    assert [step.index for step in painted(tiny(), every=5)] == [4, 9, 11]
    assert np.array_equal(painted(tiny(), every=5)[-1].images, last(tiny()))


def test_a_finished_run_is_shown_again_and_goes_further(tmp_path: Path) -> None:
    config = tiny()
    painting = Painting(config, [ColourClip()], cells(config))
    end = list(painting.steps())[-1]
    painting.save(tmp_path / "c.pt")
    again = Painting(config, [ColourClip()], cells(config))
    again.load(tmp_path / "c.pt")
    (only,) = again.steps()
    assert np.array_equal(only.images, end.images) and only.index == 11
    further = Painting(tiny(steps=15), [ColourClip()], cells(config))
    further.load(tmp_path / "c.pt")
    assert [step.index for step in further.steps()] == [12, 13, 14]


def test_what_does_not_belong_to_a_run(tmp_path: Path) -> None:
    config = tiny()
    Painting(config, [ColourClip()], cells(config)).save(tmp_path / "c.pt")
    (tmp_path / "junk.pt").write_bytes(b"junk")

    def load(config: GuidedConfig, name: str = "c.pt", clip: ColourClip | None = None) -> str:
        with pytest.raises(ModelError) as error:
            Painting(config, [clip or ColourClip()], cells(config)).load(tmp_path / name)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "another prompt" in load(tiny("a blue thing"))
    assert "another cutouts" in load(tiny(cutouts={"count": 3}))
    assert "other CLIP models" in load(config, clip=ColourClip("other"))
    assert "junk.pt: not a painting" in load(config, "junk.pt")
    assert "no such file" in load(config, "none.pt")


def test_a_painting_of_other_variables_is_refused_by_name(tmp_path: Path) -> None:
    clip, path = ColourClip(), tmp_path / "state"
    painting = Painting(tiny(), [clip])
    painting.drawer.add_variable("colours", torch.zeros(3), 0.1)
    painting.save(path)
    with pytest.raises(ModelError, match=rf"{path}: was written by another version .*; begin the painting anew"):
        Painting(tiny(), [clip]).load(path)


# --- the best picture


class Turning(ColourClip):
    """Sees the opposite of what there is from its ninth look on."""

    def encode_pixels(self, x: torch.Tensor, size: int | None = None, crop: bool = True) -> torch.Tensor:
        seen = super().encode_pixels(x, size, crop)
        return seen if len(self.seen) <= 8 else -seen


def test_the_best_picture_is_that_of_the_lowest_loss() -> None:
    config = tiny(steps=14)
    painting = Painting(config, [Turning()], cells(config))
    steps = list(painting.steps())
    kept = painting.best_picture()
    places = [i for i, step in enumerate(steps) if np.array_equal(step.images, kept)]
    assert places == [7], "the last one before the turn"


def test_where_the_goal_moves_the_last_picture_is_kept() -> None:
    config = tiny("red ^ blue", steps=14)
    painting = Painting(config, [Turning()], cells(config))
    steps = painting.steps()
    shown = [next(steps) for _ in range(12)]
    assert np.array_equal(painting.best_picture(), shown[-1].images)


def test_score() -> None:
    config = tiny(steps=30)
    painting = Painting(config, [ColourClip()], cells(config))
    before = painting.score()
    list(painting.steps())
    assert -1 <= before < painting.score() <= 1
    assert painting.score() > 0.8


def test_a_loss_that_is_no_number_is_an_error_of_one_line() -> None:
    class Broken(ColourClip):
        def encode_pixels(self, x: torch.Tensor, size: int | None = None, crop: bool = True) -> torch.Tensor:
            return super().encode_pixels(x, size, crop) * math.nan

    config = tiny()
    with pytest.raises(BahumukhaError, match="step 1; lower rate"):
        list(paint(config, [Broken()], cells(config)))


# --- an early end


def test_it_stops_when_the_loss_no_longer_falls(tmp_path: Path) -> None:
    config = tiny("red:1:4.9", steps=30, stop_after=5)  # past its stop nothing moves: the first loss is never bettered
    painting = Painting(config, [ColourClip()], cells(config))
    steps = list(painting.steps())
    assert len(steps) == painting.done < 30 and painting.is_over
    assert painting.done - painting.best_at == 5
    painting.save(tmp_path / "c.pt")
    again = Painting(config, [ColourClip()], cells(config))
    again.load(tmp_path / "c.pt")
    (only,) = again.steps()
    assert np.array_equal(only.images, steps[-1].images)


def test_it_does_not_stop_while_the_loss_falls() -> None:
    assert len(painted(tiny(steps=12, stop_after=3, cutouts={"noise": 0.0, "count": 12}))) == 12


# --- stroke by stroke


@pytest.mark.parametrize("drawer", ["strokes", "line"])
def test_the_film_of_a_picture_begins_with_paper_and_ends_with_the_picture(drawer: str) -> None:
    config = tiny(steps=2, drawer=drawer, drawer_options={"strokes": 7}, ema=0.5, filters={"tile": {}})
    painting = Painting(config, [ColourClip()])
    end = list(painting.steps())[-1].images[0]
    film = list(painting.stroke_by_stroke())
    assert len(film) == 8 and film[0].shape == (24, 32, 3) and film[0].min() == 1
    assert np.array_equal(film[-1], end)
    covered = [float(np.abs(frame - 1).sum()) for frame in film]
    assert len(set(covered)) == 8, "every frame shows one more stroke"
    short = list(painting.stroke_by_stroke(most=4))
    assert len(short) == 4 and np.array_equal(short[-1], end) and np.array_equal(short[1], film[2])
    assert torch.is_grad_enabled()


def test_other_drawers_have_no_strokes() -> None:
    with pytest.raises(UsageError, match="drawer fft draws no strokes; take strokes or line"):
        next(Painting(tiny(), [ColourClip()]).stroke_by_stroke())
