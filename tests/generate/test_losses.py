"""Losses of a render: zero exactly where they should be, right gradients that lead there, errors of one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from bahumukha.errors import BahumukhaError, ImageError, UsageError
from bahumukha.generate import losses
from bahumukha.generate.losses import LOSSES, colourfulness, gram, make_loss, pull, register_loss
from bahumukha.generate.palettes import parse_palette
from bahumukha.models.perceptual import TrunkDistance

PATIENT = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
"""On a machine that is busy with something else."""

SEEDS = st.integers(0, 2**32)


def noise(seed: int = 0, batch: int = 2, height: int = 7, width: int = 10) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """64 x 48 pixels of coarse colours."""
    path = tmp_path / "photo.png"
    save(F.interpolate(noise(9, 1, 6, 8), (48, 64), mode="bilinear"), path)
    return path


def save(x: Tensor, path: Path) -> None:
    Image.fromarray((x[0].movedim(0, -1) * 255).round().byte().numpy()).save(path)


def descended(loss: Callable[[Tensor], Tensor], x: Tensor, rate: float, count: int = 40) -> Tensor:
    for _ in range(count):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(x), x)
        x = (x - rate * x[0].numel() * gradient).clamp(0, 1)
    return x.detach()


SMOOTH: dict[str, tuple[str, dict[str, Any]]] = {
    "palette": ("palette", {"colours": "[red, white, teal]"}),
    "saturation": ("saturation", {}),
    "range": ("range", {"low": 0.2, "high": 0.7}),
    "left like right": ("symmetry", {"axis": "vertical"}),
    "top like bottom": ("symmetry", {"axis": "horizontal"}),
    "both": ("symmetry", {"axis": "both"}),
    "smoothness": ("smoothness", {}),
    "clipped": ("smoothness", {"kind": "clipped", "edge": 0.4}),
    "log": ("smoothness", {"kind": "log"}),
    "tv": ("tv", {}),
    "edge": ("edge", {"colour": "navy", "thickness": 0.2}),
}


@pytest.mark.parametrize("case", SMOOTH)
def test_gradients_are_those_of_the_value(case: str) -> None:
    name, options = SMOOTH[case]
    assert torch.autograd.gradcheck(make_loss(name, **options), noise(batch=1).requires_grad_())


@pytest.mark.parametrize("case", SMOOTH)
def test_a_walk_down_the_gradient_lowers_it(case: str) -> None:
    name, options = SMOOTH[case]
    loss, x = make_loss(name, **options), noise()
    rate = 0.01 if name == "tv" else 0.1
    assert loss(descended(loss, x, rate)) < 0.7 * loss(x)


@pytest.mark.parametrize("case", SMOOTH)
def test_the_value_is_a_mean_over_pictures_and_pixels(case: str) -> None:
    """A batch costs the mean of its pictures, and a picture of constant rows as much when they are twice as many."""
    name, options = SMOOTH[case]
    loss, x = make_loss(name, **options), noise(batch=3)
    torch.testing.assert_close(loss(x), torch.stack([loss(each[None]) for each in x]).mean())
    assert loss(x).dim() == 0 and loss(x) > 0


# --- zero exactly where it should be


@PATIENT
@given(SEEDS)
def test_palette_is_zero_for_its_colours_alone(seed: int) -> None:
    loss, colours = make_loss("palette", colours=r"black->red\5; [teal]"), parse_palette(r"black->red\5; [teal]")
    generator = torch.Generator().manual_seed(seed)
    picture = colours[torch.randint(6, (1, 5, 5), generator=generator)].movedim(-1, 1)
    assert loss(picture) == 0
    picture[0, 0, 2, 2] += 0.01
    assert loss(picture).item() == pytest.approx(0.01**2 / 25, rel=1e-3)


@PATIENT
@given(SEEDS)
def test_symmetry_is_zero_for_mirror_images(seed: int) -> None:
    x = noise(seed)
    across, down = x + x.flip(-1), x + x.flip(-2)
    both = across + across.flip(-2)
    for axis, zero in {"vertical": across, "horizontal": down, "both": both}.items():
        assert make_loss("symmetry", axis=axis)(zero) == 0
    assert make_loss("symmetry", axis="vertical")(down) > 0
    assert make_loss("symmetry", axis="horizontal")(across) > 0
    assert make_loss("symmetry", axis="both")(across) > 0


@PATIENT
@given(st.floats(0, 1), st.sampled_from(["smoothness", "clipped", "log", "tv"]))
def test_smoothness_is_zero_for_one_colour(value: float, case: str) -> None:
    name, options = SMOOTH[case]
    x = torch.full((1, 3, 5, 6), value, dtype=torch.float64)
    assert make_loss(name, **options)(x) == 0
    x[0, 1, 2, 3] += 0.01
    assert make_loss(name, **options)(x) > 0


def test_kinds_of_smoothness_differ_in_what_an_edge_costs() -> None:
    """A step of height h along a whole column of a 4 x 4 picture: 4 of 16 pixels have it to their right."""
    for height in (0.05, 0.1, 0.5):
        x = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
        x[..., 2:] = height
        found = [make_loss("smoothness", kind=k, edge=0.1)(x).item() for k in ("default", "clipped", "log")]
        square = torch.tensor(height**2, dtype=torch.float64)
        wanted = [square, square.clamp(max=0.01), 0.01 * torch.log1p(square / 0.01)]
        assert found == pytest.approx([each.item() / 4 for each in wanted])
        assert make_loss("tv")(x).item() == pytest.approx(height / 4)


def test_clipped_smoothness_leaves_an_edge_alone() -> None:
    x = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    x[..., 2:] = 0.5
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(make_loss("smoothness", kind="clipped", edge=0.1)(x), x)
    assert not gradient.any()


@PATIENT
@given(SEEDS)
def test_range_is_zero_inside_it(seed: int) -> None:
    x = noise(seed)
    loss = make_loss("range", low=0.1, high=0.8)
    assert make_loss("range")(x) == 0 and loss(0.1 + 0.7 * x) == 0
    x[0, 0, 0, 0] = 0.9
    assert loss(x.clamp(0.1, 0.9)) > 0
    assert make_loss("range")(x * 1.5 - 0.2) > 0


def test_saturation_is_the_formula_and_zero_at_its_target() -> None:
    assert colourfulness(noise()[:, :1].expand(-1, 3, -1, -1)).abs().max() < 1e-12  # gray
    x = noise(batch=1)
    r, g, b = (x[0] * 255).flatten(1)
    rg, yb = r - g, (r + g) / 2 - b
    spread = (rg.var(correction=0) + yb.var(correction=0)).sqrt()
    wanted = (spread + 0.3 * (rg.mean() ** 2 + yb.mean() ** 2).sqrt()) / 255
    assert colourfulness(x).item() == pytest.approx(wanted.item(), abs=2e-4)
    assert make_loss("saturation", target=colourfulness(x).item())(x) == 0
    dull, vivid = make_loss("saturation", target=0.05), make_loss("saturation", target=0.4)
    soft = 0.5 + (x - 0.5) * 0.3
    assert (
        colourfulness(descended(dull, soft, 0.05)) < colourfulness(soft) < colourfulness(descended(vivid, soft, 0.05))
    )


def test_saturation_has_a_finite_gradient_for_gray() -> None:
    gray = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
    (gradient,) = torch.autograd.grad(make_loss("saturation")(gray), gray)
    assert gradient.isfinite().all()


def test_edge_is_zero_where_the_frame_has_its_colour() -> None:
    x = noise(batch=1, height=20, width=30)
    loss = make_loss("edge", colour="rgb(51, 102, 255)", thickness=0.1)  # 2 pixels of 20
    framed = torch.tensor([0.2, 0.4, 1.0], dtype=torch.float64).view(1, 3, 1, 1).expand_as(x).clone()
    framed[..., 2:-2, 2:-2] = x[..., 2:-2, 2:-2]
    assert loss(framed) < 1e-14
    framed[..., 5, 1] += 0.1
    assert loss(framed) > 1e-5
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x), x)
    assert not gradient[..., 2:-2, 2:-2].any() and gradient[..., :2, :].all() and gradient[..., -2:].all()


def test_edge_under_a_mask(tmp_path: Path) -> None:
    mask = Image.new("L", (30, 20), 0)
    mask.paste(255, (0, 0, 15, 20))
    mask.save(tmp_path / "mask.png")
    loss = make_loss("edge", colour="black", mask=str(tmp_path / "mask.png"))
    x = noise(batch=1, height=20, width=30)
    x[..., :15] = 0
    assert loss(x) == 0
    x[..., 3, 3] = 1
    assert loss(x).item() == pytest.approx(1 / 300)


# --- pictures to resemble


@pytest.mark.parametrize("measure", losses.MEASURES)
def test_pull_is_zero_at_the_goal_and_leads_there(measure: str) -> None:
    goal, start = noise(1) - 0.5, noise(2) - 0.5
    assert pull(goal, goal, measure) == 0
    assert pull(goal + 0.01 * start, goal, measure) > 0
    assert torch.autograd.gradcheck(lambda x: pull(x, goal, measure), start.clone().requires_grad_())
    x = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(pull(x, goal, measure), x)
    nearer = F.cosine_similarity((start - 1e-2 * gradient / gradient.norm()).flatten(1), goal.flatten(1))
    assert (nearer > F.cosine_similarity(start.flatten(1), goal.flatten(1))).all()


def test_the_measures_by_their_formulas() -> None:
    x, goal = noise(1) - 0.5, noise(2) - 0.5
    cosine = F.cosine_similarity(x.flatten(1), goal.flatten(1))
    assert pull(x, goal, "pixel").item() == pytest.approx((x - goal).abs().mean().item())
    assert pull(x, goal, "l2").item() == pytest.approx(((x - goal) ** 2).mean().item())
    assert pull(x, goal, "cosine").item() == pytest.approx((1 - cosine).mean().item())
    assert pull(x, goal, "spherical").item() == pytest.approx((cosine.arccos() ** 2 / 2).mean().item())
    assert pull(x * 3, goal, "cosine").item() == pytest.approx((1 - cosine).mean().item())
    with pytest.raises(UsageError, match="measure: 'l3' was given; it takes pixel, l2, cosine or spherical"):
        pull(x, goal, "l3")


@pytest.mark.parametrize("measure", losses.MEASURES)
def test_target_is_zero_for_the_picture_at_any_size(photo: Path, measure: str) -> None:
    loss = make_loss("target", picture=str(photo), measure=measure)
    with Image.open(photo) as image:
        for size in ((64, 48), (32, 24)):
            image.resize(size, Image.Resampling.LANCZOS).save(photo.with_name("small.png"))
            x = losses._tensor(Image.open(photo.with_name("small.png")))
            assert loss(x.expand(2, -1, -1, -1)) < 1e-5
            assert loss(x.flip(-1)) > 1e-3
    assert loss(noise().float()).isfinite()


def layers(x: Tensor) -> list[Tensor]:
    """Two fixed layers in place of a trunk."""
    generator = torch.Generator().manual_seed(5)
    kernel = torch.randn(4, 3, 3, 3, generator=generator).to(x)
    first = F.relu(F.conv2d(x, kernel, padding=1))
    return [first, F.avg_pool2d(first, 2)]


def test_style_is_zero_for_its_own_picture_and_the_formula_elsewhere(photo: Path) -> None:
    loss = make_loss("style", picture=str(photo), features=layers)
    own = losses._tensor(Image.open(photo))
    assert loss(own) == 0
    x = noise(batch=1, height=48, width=64).float()
    wanted = 0.0
    for a, b in zip(layers(x * 2 - 1), layers(own * 2 - 1), strict=True):
        a, b = (torch.einsum("chw,dhw->cd", f[0], f[0]) / f[0, 0].numel() for f in (a, b))
        wanted += ((a - b) ** 2).sum().item() / (b**2).sum().item() / 2
    assert loss(x).item() == pytest.approx(wanted, rel=1e-4)


def test_style_does_not_look_at_places() -> None:
    f = noise()
    shuffled = f.flatten(2)[..., torch.randperm(70, generator=torch.Generator().manual_seed(0))].view_as(f)
    torch.testing.assert_close(gram(f), gram(shuffled))


def test_style_leads_towards_its_picture(photo: Path) -> None:
    loss = make_loss("style", picture=str(photo), features=layers)
    x = noise(batch=1, height=24, width=32).float()
    assert loss(descended(loss, x, 1e-4)) < 0.5 * loss(x)


def test_style_takes_the_stages_of_the_trunk(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    trunk = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    monkeypatch.setattr("bahumukha.zoo.perceptual.trunk_distance", lambda: TrunkDistance(trunk))
    loss = make_loss("style", picture=str(photo), stages=[0, 2], size=32)
    assert [len(each[0]) for each in loss._goal] == [16, 40]  # type: ignore[attr-defined]
    x = noise(batch=1, height=32, width=32).float().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x), x)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0


# --- by name


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("palete", {}, "loss 'palete': there is none (did you mean palette?); there are palette, saturation"),
        ("palette", {}, "its option 'colours' is missing"),
        ("palette", {"colours": "[rad]"}, "loss palette: colours: 'rad' is no colour"),
        ("palette", {"colours": 3}, "colours: 3 was given; it takes a text"),
        ("symmetry", {"axes": "both"}, "'axes' is no option of it (did you mean axis?); it takes axis"),
        ("symmetry", {"axis": "left"}, "axis: 'left' was given; it takes vertical, horizontal or both"),
        ("tv", {"kind": "x"}, "it takes none"),
        ("saturation", {"target": "much"}, "target: 'much' was given; it takes a number from 0 to 1"),
        ("range", {"low": 0.5, "high": 0.4}, "high: 0.4 was given; it takes a number from 0.5 to 1"),
        ("smoothness", {"kind": "soft"}, "it takes default, clipped or log"),
        ("smoothness", {"edge": True}, "edge: True was given"),
        ("edge", {"colour": "rde"}, "did you mean red?"),
        ("edge", {"thickness": 2}, "thickness: 2 was given"),
        ("edge", {"mask": 3}, "mask: 3 was given; it takes a text"),
        ("target", {"picture": ""}, "picture: '' was given"),
        ("style", {"picture": "a.png", "stages": [9]}, "stages: [9] was given"),
        ("style", {"picture": "a.png", "stages": 2}, "stages: 2 was given; it takes a list"),
    ],
)
def test_what_is_wrong_is_one_line(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        make_loss(name, **options)
    assert said in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["target", "style"])
def test_a_picture_that_is_missing_is_an_error_before_the_first_step(name: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="nowhere.png"):
        make_loss(name, picture=str(tmp_path / "nowhere.png"), **({"features": layers} if name == "style" else {}))


def test_a_loss_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "LOSSES", dict(LOSSES))

    def darkness(scale: float = 1.0) -> losses.Loss:
        return lambda render: scale * render.mean()

    register_loss("darkness", darkness)
    assert make_loss("darkness", scale=2.0)(torch.full((1, 3, 4, 4), 0.25)) == 0.5
    for taken in ("darkness", "tv"):
        with pytest.raises(BahumukhaError, match=f"loss '{taken}': there is one already"):
            register_loss(taken, darkness)
    with pytest.raises(UsageError, match="a name is of letters"):
        register_loss("my loss", darkness)
