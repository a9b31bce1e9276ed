"""Prompts: the grammar and its inverse, what each kind embeds, stories over time, spots, the loss by its formula."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from bahumukha.classify import label_embeddings
from bahumukha.errors import BahumukhaError, ImageError, UsageError
from bahumukha.generate.prompts import (
    NEVER,
    Prompt,
    Story,
    encode_prompts,
    parse_prompts,
    parse_story,
    picture_files,
    prompt_loss,
    read_mask,
    spot,
)
from bahumukha.zoo.fake import ColourEncoder

PATIENT = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
"""On a machine that is busy with something else."""

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)
TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from("|^:\\=0.5 -"), min_size=1).filter(
    lambda text: text == text.strip()
)
KNOWN = st.sampled_from(["label=x", "inside=a", "noise=7", "a:0.5", "inside=noise=3", "a\\", "^", ":", "1:2:3"])
PLACES = st.sampled_from(["everywhere", "inside", "outside"])
STOPS = st.just(NEVER) | NUMBERS
PROMPTS = st.one_of(
    *(st.builds(Prompt, **{kind: TEXTS | KNOWN}, weight=NUMBERS, stop=STOPS, place=PLACES)
      for kind in ("text", "label", "picture", "vector")),
    st.builds(Prompt, noise=st.integers(0, 2**63 - 1), weight=NUMBERS, stop=STOPS, place=PLACES),
)  # fmt: skip


# --- the grammar


@PATIENT
@given(st.lists(st.lists(PROMPTS, min_size=1, max_size=3), min_size=1, max_size=3))
def test_a_story_reads_back_from_its_text(chapters: list[list[Prompt]]) -> None:
    story = Story(tuple(map(tuple, chapters)))
    assert parse_story(str(story)) == story


@PATIENT
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("|^:\\=0.5 -")))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        story = parse_story(text)
    except UsageError as error:
        assert str(error).isprintable()
    else:
        assert parse_story(str(story)) == story


def test_weights_and_stops() -> None:
    assert parse_prompts("a | b:0.5 | c:-0.3:0.2") == [
        Prompt(text="a", weight=1.0, stop=NEVER),
        Prompt(text="b", weight=0.5),
        Prompt(text="c", weight=-0.3, stop=0.2),
    ]


def test_other_colons_belong_to_the_text() -> None:
    assert parse_prompts("Star Wars: a new hope:2") == [Prompt(text="Star Wars: a new hope", weight=2)]
    assert parse_prompts(r"a clock at 10\:30") == [Prompt(text="a clock at 10:30")]
    assert parse_prompts(r"picture=C:\photos\cat.png:0.5") == [Prompt(picture=r"C:\photos\cat.png", weight=0.5)]


def test_kinds_and_places() -> None:
    assert parse_prompts("label=red panda | picture=a/*.jpg:.3 | noise=7:-.1 | vector=v.npy") == [
        Prompt(label="red panda"),
        Prompt(picture="a/*.jpg", weight=0.3),
        Prompt(noise=7, weight=-0.1),
        Prompt(vector="v.npy"),
    ]
    assert parse_prompts("inside=a balloon | outside=label=sky:2") == [
        Prompt(text="a balloon", place="inside"),
        Prompt(label="sky", weight=2, place="outside"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "says nothing"),
        ("a | | b", "says nothing"),
        ("a ^", "says nothing"),
        ("label=:2", "'label=:2' says nothing"),
        ("a:", "'' is no weight"),
        ("a:0,5", "'0,5' is no weight; write TEXT:WEIGHT:STOP"),
        ("a:50%", "'50%' is no weight"),
        ("a:nan", "'nan' is no weight"),
        ("a:1:2:3", "at most two numbers"),
        ("a:1e999", "finite"),
        ("noise=seven", "takes a seed"),
        ("noise=-1", "takes a seed"),
        (f"noise={2**63}", "below 2^63"),
    ],
)
def test_what_cannot_be_read_is_one_line_that_names_the_part(text: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_story(text)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_a_story_is_not_a_list_of_prompts() -> None:
    with pytest.raises(UsageError, match="chapters of a story"):
        parse_prompts("a ^ b")


def test_a_prompt_is_exactly_one_thing() -> None:
    for wrong in ({}, {"text": "a", "label": "b"}, {"text": "a", "noise": 0}):
        with pytest.raises(UsageError, match="a prompt is one of"):
            Prompt(**wrong)
    for wrong in ({"weight": math.inf}, {"stop": math.nan}, {"stop": math.inf}, {"place": "under"}):
        with pytest.raises(UsageError, match="prompt '(under=)?a'"):
            Prompt(text="a", **wrong)


# --- stories


@PATIENT
@given(st.integers(1, 5), st.floats(0, 1), st.floats(0, 1))
def test_chapters_share_one_weight(count: int, fade: float, progress: float) -> None:
    story = Story(tuple((Prompt(text=f"{i}"),) for i in range(count)), fade)
    weights = story.weights(progress)
    assert min(weights) >= 0 and sum(weights) == pytest.approx(1)
    assert [p.weight for p in story.at(progress)] == [weight for weight in weights if weight > 0]
    assert sum(weight > 0 for weight in weights) <= 2  # no third chapter speaks while two change places


def test_a_story_over_time() -> None:
    story = parse_story("a ^ b:2 | c:-1 ^ d")
    assert [p.text for p in story.prompts] == ["a", "b", "c", "d"]
    assert story.weights(0.0) == story.weights(0.33) == [1, 0, 0, 0]
    assert story.weights(0.34) == story.weights(0.66) == [0, 2, -1, 0]
    assert story.weights(0.67) == story.weights(1.0) == [0, 0, 0, 1]
    assert story.at(0.5) == parse_prompts("b:2 | c:-1")


def test_a_story_fades_around_the_change() -> None:
    story = parse_story("a ^ b", fade=0.5)  # half of a chapter: from 3/8 to 5/8 of the run
    assert [story.weights(p)[1] for p in (0.0, 0.375, 0.4375, 0.5, 0.625, 1.0)] == [0, 0, 0.25, 0.5, 1, 1]
    with pytest.raises(UsageError, match="fade"):
        parse_story("a ^ b", fade=2)


# --- embedding


@pytest.fixture
def encoder() -> ColourEncoder:
    return ColourEncoder()


def test_each_kind_is_embedded_as_the_encoder_does(
    encoder: ColourEncoder, coloured_pictures: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "v.npy", np.full(encoder.dim, 3.0))
    prompts = parse_prompts(
        f"red:0.5 | label=green:2:0.1 | picture={coloured_pictures}/*:-3 | noise=7 | vector={tmp_path}/v.npy"
    )
    targets = encode_prompts(prompts, encoder)
    assert targets.embeddings.shape == (7, encoder.dim) and targets.embeddings.dtype == torch.float32
    torch.testing.assert_close(targets.embeddings.norm(dim=1), torch.ones(7))
    assert targets.owner.tolist() == [0, 1, 2, 2, 2, 3, 4]
    torch.testing.assert_close(targets.embeddings[0], torch.from_numpy(encoder.encode_texts(["red"])[0]))
    torch.testing.assert_close(targets.embeddings[1], torch.from_numpy(label_embeddings(encoder, ["green"])[0]).float())
    images = [Image.open(path) for path in sorted(coloured_pictures.iterdir())]
    torch.testing.assert_close(targets.embeddings[2:5], torch.from_numpy(encoder.encode_images(images)))
    torch.testing.assert_close(targets.embeddings[6], torch.full((encoder.dim,), encoder.dim**-0.5))
    weights = targets.weights([p.weight for p in prompts])
    torch.testing.assert_close(weights, torch.tensor([0.5, 2, -1, -1, -1, 1, 1]))
    torch.testing.assert_close(targets.stops[:2], torch.tensor([NEVER, 0.1]))


def test_templates_of_labels_are_averaged(encoder: ColourEncoder) -> None:
    found = encode_prompts([Prompt(label="blue")], encoder, templates=["{} on red", "a {}"])
    mean = encoder.encode_texts(["blue on red", "a blue"]).mean(0)
    torch.testing.assert_close(found.embeddings[0], F.normalize(torch.from_numpy(mean), dim=0))


def test_noise_follows_its_seed(encoder: ColourEncoder) -> None:
    first, again, other = encode_prompts([Prompt(noise=3), Prompt(noise=3), Prompt(noise=4)], encoder).embeddings
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_what_cannot_be_embedded_is_named(encoder: ColourEncoder, tmp_path: Path) -> None:
    np.save(tmp_path / "short.npy", np.ones(encoder.dim - 1))
    np.save(tmp_path / "zeros.npy", np.zeros(encoder.dim))
    np.save(tmp_path / "words.npy", np.array(["a"]))
    (tmp_path / "text.npy").write_text("no array")
    for name, said in {
        "short": "has shape", "zeros": "rows of zeros", "words": "not an array", "text": "not an array",
        "none": "No such file",
    }.items():  # fmt: skip
        with pytest.raises(UsageError, match=rf"vector=.*{name}\.npy.*{said}"):
            encode_prompts([Prompt(vector=str(tmp_path / f"{name}.npy"))], encoder)
    with pytest.raises(UsageError, match=r"picture=.*\*\.jpg: no picture matches"):
        encode_prompts([Prompt(picture=f"{tmp_path}/*.jpg")], encoder)
    with pytest.raises(ImageError, match="nowhere.jpg"):
        encode_prompts([Prompt(picture=str(tmp_path / "nowhere.jpg"))], encoder)
    with pytest.raises(BahumukhaError, match="{}"):
        encode_prompts([Prompt(label="cat")], encoder, templates=["no place"])
    with pytest.raises(UsageError, match="no prompts"):
        encode_prompts([], encoder)


def test_a_pattern_gives_pictures_alone_and_a_name_with_its_signs_is_a_file(tmp_path: Path) -> None:
    for name in ("b.png", "a.PNG", "notes.txt", "[c].png"):
        (tmp_path / name).touch()
    assert [Path(p).name for p in picture_files(f"{tmp_path}/[!c]*")] == ["[c].png", "a.PNG", "b.png"]
    assert picture_files(f"{tmp_path}/[c].png") == [f"{tmp_path}/[c].png"]


# --- spots


def test_a_spot_shows_and_moves_its_side_alone(tmp_path: Path) -> None:
    mask = Image.new("L", (16, 16), 0)
    mask.paste(255, (0, 0, 8, 16))
    mask.save(tmp_path / "left.png")
    inside = read_mask(tmp_path / "left.png", (16, 12))
    assert inside.shape == (1, 1, 12, 16) and inside[..., :7].eq(1).all() and inside[..., 9:].eq(0).all()
    render = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert spot(render, inside, "everywhere") is render
    for place, seen, hidden in (("inside", slice(0, 7), slice(9, 16)), ("outside", slice(9, 16), slice(0, 7))):
        shown = spot(render, inside, place)  # type: ignore[arg-type]
        assert torch.equal(shown[..., seen], render[..., seen])
        assert shown[..., hidden].eq(0.5).all()
        (gradient,) = torch.autograd.grad(shown.sum(), render)
        assert gradient[..., seen].eq(1).all() and gradient[..., hidden].eq(0).all()


def test_a_mask_has_two_sides(tmp_path: Path) -> None:
    for colour, said in ((0, "all black"), (255, "all white")):
        Image.new("L", (8, 8), colour).save(tmp_path / "mask.png")
        with pytest.raises(UsageError, match=said):
            read_mask(tmp_path / "mask.png", (8, 8))


# --- the loss


def embeddings(count: int, dim: int = 6, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(rows, dim=1)


def test_the_loss_is_the_formula() -> None:
    u, v = embeddings(5), embeddings(3, seed=1)
    weights = torch.tensor([1.0, 0.25, -0.5], dtype=torch.float64)
    wanted = sum(
        abs(w) * np.mean([np.sign(w) * 2 * np.arcsin(np.linalg.norm(a - b) / 2) ** 2 for a in u.numpy()])
        for w, b in zip(weights.numpy(), v.numpy(), strict=True)
    )
    found = prompt_loss(u * 3, v * 0.1, weights, torch.full((3,), NEVER))  # norms do not count
    assert found.item() == pytest.approx(wanted, rel=1e-12)


def test_the_loss_is_zero_at_the_target_and_only_there() -> None:
    u, one = embeddings(1), torch.ones(1, dtype=torch.float64)
    never = torch.full((1,), NEVER)
    assert prompt_loss(u, u, one, never).item() == 0
    assert prompt_loss(u, u + 1e-3, one, never).item() > 0
    assert prompt_loss(u, -u, one, never).item() == pytest.approx(math.pi**2 / 2)


def test_gradients_are_right_and_finite_at_the_poles() -> None:
    u, v = embeddings(4).requires_grad_(), embeddings(2, seed=1)
    weights, stops = torch.tensor([1.0, -0.5], dtype=torch.float64), torch.full((2,), NEVER)
    assert torch.autograd.gradcheck(lambda x: prompt_loss(x, v, weights, stops), u)
    for pole in (v[:1].clone(), -v[:1]):
        pole.requires_grad_()
        (gradient,) = torch.autograd.grad(prompt_loss(pole, v[:1], weights[:1], stops[:1]), pole)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_a_step_down_goes_towards_a_prompt_or_away(weight: float) -> None:
    u, v = embeddings(8).requires_grad_(), embeddings(1, seed=1)
    loss = prompt_loss(u, v, torch.tensor([weight]), torch.tensor([NEVER]))
    (gradient,) = torch.autograd.grad(loss, u)
    nearer = F.cosine_similarity(u - 0.1 * gradient, v) - F.cosine_similarity(u, v)
    assert (nearer * weight > 0).all()


@pytest.mark.parametrize(("weight", "stop"), [(2.0, 0.6), (-2.0, 0.6), (-2.0, -0.6)])
def test_below_the_stop_a_cutout_is_at_rest(weight: float, stop: float) -> None:
    u, v = embeddings(40).requires_grad_(), embeddings(1, seed=1)
    loss = prompt_loss(u, v, torch.tensor([weight]), torch.tensor([stop]))
    free = prompt_loss(u, v, torch.tensor([weight]), torch.tensor([NEVER]))
    assert loss.item() == free.item()  # the stop is of the gradient, not of the value
    moved = torch.autograd.grad(loss, u)[0].abs().sum(1) > 0
    distance = torch.arccos((u @ v.T)[:, 0]).square() / 2
    assert torch.equal(moved, distance > 0.6 if weight > 0 else distance < 0.6)
    assert 0 < moved.sum() < 40
