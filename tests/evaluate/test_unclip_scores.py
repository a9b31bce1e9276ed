"""What is said of variations, blends, edits, inpainting and the prior: right on known answers, and of a tiny unCLIP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from bahumukha.errors import UsageError
from bahumukha.evaluate import unclip as module
from bahumukha.evaluate.drawn import Asked, draw_all
from bahumukha.evaluate.unclip import (
    Edit,
    UnclipEvaluation,
    away,
    blend_scores,
    box,
    by_unclip,
    edit_scores,
    in_steps,
    inpaint_scores,
    likenesses,
    monotone,
    prior_scores,
    read_edits,
    same_caption,
    variation_scores,
)
from bahumukha.generate.priors import PriorSampling
from bahumukha.generate.unclip import DecoderSampling, generate, last
from bahumukha.images import to_uint8
from tests.tiny_unclip import DIM, captions, pictures_of, tiny_prior, tiny_token_prior, tiny_unclip

CONFIG = UnclipEvaluation(prior=PriorSampling(steps=2), decoder=DecoderSampling(steps=3))


def pictures(count: int, side: int = 12) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (side, side + 3, 3), np.uint8)) for _ in range(count)]


# --- known answers


def test_a_source_is_found_where_its_variation_is_nearest_to_it_alone() -> None:
    cosines = np.array([[0.9, 0.1, 0.2], [0.3, 0.6, 0.5], [0.7, 0.1, 0.7]])
    scores = likenesses(cosines)
    assert scores.pictures == 3 and scores.first == pytest.approx(2 / 3), "level with another is not found"
    assert scores.own == pytest.approx((0.9 + 0.6 + 0.7) / 3)
    assert scores.other == pytest.approx((0.1 + 0.2 + 0.3 + 0.5 + 0.7 + 0.1) / 6)


def test_blends_that_go_evenly() -> None:
    even = [[1, 0], [0.8, 0.4], [0.5, 0.7], [0.1, 1]]
    by_difference = [[1, 0], [0.8, 0.4], [0.85, 0.7], [0.1, 1]]  # a little more like the first, much more the second
    back = [[1, 0], [0.4, 0.9], [0.6, 0.5], [0.1, 1]]
    scores = monotone(np.array([even, by_difference, back, even]))
    assert (scores.pairs, scores.strip, scores.monotone, scores.both) == (4, 4, 0.75, 0.5)


def test_how_far_pixels_are() -> None:
    x = np.zeros((2, 4, 4, 3), np.uint8)
    y = x.copy()
    y[1] = 255
    assert away(x, y).tolist() == [0, 1] and away(y, x).tolist() == [0, 1], "no number wraps around"


def test_a_box_is_open_and_something_stays() -> None:
    random = np.random.default_rng(3)
    for size in ((40, 30), (7, 100), (3, 3)):
        for _ in range(20):
            mask = box(size, random)
            assert mask.shape == size[::-1] and set(np.unique(mask)) == {0, 255}
            assert (mask > 0).mean() <= 0.5


def test_the_mean_of_the_others_with_the_same_caption() -> None:
    true = F.normalize(torch.tensor([[1.0, 0], [0, 1], [1, 0.1], [0.5, 0.5]]), dim=1)
    heart, has_others = same_caption(["A cat.", "a dog", "a cat", "a  cat"], true)
    assert has_others.tolist() == [True, False, True, True]
    assert torch.allclose(heart[0], F.normalize(true[2] + true[3], dim=0))


@pytest.mark.parametrize("prior", [tiny_prior(), tiny_token_prior()])
def test_the_prior_beside_what_it_has_to_beat(prior: Any) -> None:
    text = captions([3, 4, 2, 5])
    true = pictures_of(text)
    if hasattr(prior, "code"):
        prior.code.fit(torch.cat([true, pictures_of(captions([3] * 40, seed=4))]), torch.randn(44, DIM))
    else:
        prior.standard.fit(torch.cat([true, pictures_of(captions([3] * 40, seed=4))]))
    scores = prior_scores(prior, ["a", "b", "a", "c"], text, true, PriorSampling(steps=2))
    assert scores.caption == pytest.approx(float((true * text.embedding).sum(1).mean()), abs=1e-5)
    assert scores.alike == 2 and scores.same_caption == pytest.approx(float(true[0] @ true[2]), abs=1e-5)
    assert scores.middle > 0.5, "all lie in one cone"
    alone = prior_scores(prior, ["a", "b", "c", "d"], text, true, PriorSampling(steps=2))
    assert (alone.alike, alone.alike_near, alone.same_caption) == (0, None, None) and alone.near == scores.near


# --- of a tiny model


def test_each_picture_has_its_seed() -> None:
    unclip = tiny_unclip(upsampler=True)
    asked = [Asked("red", "red"), Asked("blue", "b")]
    drawn = draw_all(by_unclip(unclip, CONFIG.sampling), unclip.encoder, asked, each=2, seed=5)
    assert drawn.pictures.shape == (2, 2, 8, 8, 3), "not enlarged"
    alone = to_uint8(last(generate(unclip, "blue", sampling=CONFIG.sampling, seed=5 + 3)))[0]
    assert np.abs(drawn.pictures[1, 1].astype(int) - alone).max() <= 1
    assert in_steps(CONFIG.sampling, 7).decoder.steps == 7


def test_variations_at_no_distance_are_found_and_at_full_distance_are_drawn_anew() -> None:
    unclip, sources = tiny_unclip(), pictures(5)
    near, made = variation_scores(unclip, sources, UnclipEvaluation(decoder=DecoderSampling(steps=12), far=0.0))
    assert near.first == 1 and near.own > near.other + 0.1 and made.shape == (5, 8, 8, 3)
    far, _ = variation_scores(unclip, sources, CONFIG)
    assert far.own < near.own
    with pytest.raises(UsageError, match="--pictures: fewer than two"):
        variation_scores(unclip, sources[:1], CONFIG)


def test_strips_edits_and_boxes(tmp_path: Path) -> None:
    unclip, some = tiny_unclip(), pictures(4)
    scores, strips = blend_scores(unclip, [(some[0], some[1]), (some[2], some[3])], CONFIG)
    assert (scores.pairs, scores.strip) == (2, 5) and strips.shape == (2, 5, 8, 8, 3)
    file = tmp_path / "edits.txt"
    some[0].save(tmp_path / "cat.png")
    file.write_text("# comment\na red ball\ta blue ball\n\na red cat\ta green cat\tcat.png\n")
    edits = read_edits(file)
    assert edits == [Edit("a red ball", "a blue ball"), Edit("a red cat", "a green cat", tmp_path / "cat.png")]
    found, edited = edit_scores(unclip, edits, {tmp_path / "cat.png": some[0]}, CONFIG)
    assert found.edits == 2 and found.succeeded == pytest.approx((edited.preferred & edited.kept).mean())
    assert found.change == pytest.approx(away(edited.before, edited.after).mean())
    inpainted, shown = inpaint_scores(unclip, some, ["a red ball"] * 4, CONFIG)
    assert (inpainted.pictures, inpainted.exact, inpainted.changed) == (4, 1.0, 1.0) and len(shown) == 4


def test_an_edit_that_changes_nothing_is_kept_and_does_not_succeed(monkeypatch: pytest.MonkeyPatch) -> None:
    unclip = tiny_unclip()
    red = Image.new("RGB", (8, 8), "red")

    def nothing(unclip: Any, picture: Image.Image, *args: Any, **options: Any) -> Any:
        yield type("Step", (), {"images": np.asarray(picture)[None] / np.float32(255)})

    monkeypatch.setattr(module, "edit", nothing)
    found, _ = edit_scores(unclip, [Edit("a red ball", "a blue ball", Path("a"))], {Path("a"): red}, CONFIG)
    assert (found.kept, found.preferred, found.succeeded, found.change) == (1, 0, 0, 0)


def test_inpainting_that_spoils_a_pixel_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.inpaint

    def spoiled(*args: Any, **options: Any) -> Any:
        for step in real(*args, **options):
            step.images[:, -1, -1] = 1 - np.round(step.images[:, -1, -1])
            step.images[:, 0, 0] = 1 - np.round(step.images[:, 0, 0])
            yield step

    monkeypatch.setattr(module, "inpaint", spoiled)
    scores, _ = inpaint_scores(tiny_unclip(), pictures(3), ["a"] * 3, CONFIG)
    assert scores.exact == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "holds no edits"), ("a cat\n", "line 1 is no"), ("a\tb\n\nc\t\n", "line 3 is no")],
)
def test_what_is_wrong_with_edits(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "edits.txt"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_edits(file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_edits(tmp_path / "gone.txt")


def test_settings() -> None:
    assert UnclipEvaluation().sampling.upsampler is None
    for wrong in ({"far": 2}, {"strength": -1}, {"strip": 2}, {"many": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            UnclipEvaluation(**wrong)  # type: ignore[arg-type]


def test_the_edits_of_the_project_change_one_word() -> None:
    edits = read_edits(Path(__file__).parents[2] / "recipes/evaluation/edits.txt")
    assert len(set(edits)) == 50
    for each in edits:
        words = [[word for word in text.split() if word not in ("a", "an")] for text in (each.source, each.target)]
        assert sum(a != b for a, b in zip(*words, strict=True)) == 1, each
