"""Drawing pictures token by token: order, guidance, seeds, given parts, windows, and what the cache saves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bahumukha.errors import UsageError
from bahumukha.generate.tokens import OPEN, Windows, complete, generate, origin, sample_ids
from bahumukha.models.quantize import QuantizerConfig
from bahumukha.models.tokens import TokenTransformer, TokenTransformerConfig
from bahumukha.models.vqgan import VqganConfig, build_codec
from bahumukha.nn.sampling import Sampling, draw, guided, probabilities
from bahumukha.protocols import ImageCodec
from tests.fake_codec import BlockCodec, block_pictures

pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(**changes: Any) -> TokenTransformer:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"codes": 27, "grid": (4, 4), "classes": 3, "width": 16, "layers": 2, "heads": 2}
    model = TokenTransformer(TokenTransformerConfig(**sizes | changes))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.requires_grad_(False)


def last(steps: Iterator[Any]) -> Any:
    *_, final = steps
    return final


def counted(model: TokenTransformer) -> list[int]:
    """Filled with how many tokens each call of the transformer computes, all pictures together."""
    counts: list[int] = []
    inner = model._through

    def through(x: Tensor, *rest: Any) -> Tensor:
        counts.append(x.shape[0] * x.shape[1])
        return inner(x, *rest)

    model._through = through  # type: ignore[method-assign]
    return counts


def test_the_fake_codec_is_a_codec() -> None:
    assert isinstance(BlockCodec(), ImageCodec)
    ids = torch.arange(27 * 3).reshape(3, 3, 9) % 27
    assert torch.equal(BlockCodec().quantize(BlockCodec().encode(block_pictures(ids)))[1], ids)


# --- what is drawn is what the model says


@pytest.mark.parametrize("guidance", [1.0, 3.0, 0.0])
def test_every_token_is_drawn_from_the_models_own_logits(guidance: float) -> None:
    """Guidance as well: on each token, and not on the first one only."""
    model, sampling = tiny().eval(), Sampling(temperature=0.8, top_k=9, top_p=0.9, guidance=guidance)
    ids = last(sample_ids(model, count=3, labels=[0, 2, 1], sampling=sampling, seed=5)).flatten(1)
    logits = guided(model(ids, torch.tensor([0, 2, 1])), model(ids), guidance)
    random = torch.stack(
        [torch.rand(16, generator=torch.Generator().manual_seed(5 + k), dtype=torch.float64) for k in range(3)]
    )
    for t in range(16):
        assert torch.equal(draw(probabilities(logits[:, t], sampling), random[:, t]), ids[:, t])


def test_rows_come_one_by_one() -> None:
    rows = list(sample_ids(tiny(), count=2))
    assert [(grid != OPEN).all(2).sum(1).tolist() for grid in rows] == [[1, 1], [2, 2], [3, 3], [4, 4]]
    assert all(torch.equal(rows[i][:, : i + 1], rows[-1][:, : i + 1]) for i in range(4))


def test_picture_k_of_a_seed_is_the_one_of_seed_plus_k_alone() -> None:
    model = tiny()
    together = last(sample_ids(model, count=3, labels=1, seed=10))
    for k in range(3):
        assert torch.equal(last(sample_ids(model, labels=1, seed=10 + k))[0], together[k])
    assert torch.equal(together, last(sample_ids(model, count=3, labels=1, seed=10)))
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(together, last(sample_ids(model, count=3, labels=2, seed=10)))


def test_no_dropout_while_drawing_and_no_global_random_number() -> None:
    model = tiny(dropout=0.5).train()
    assert torch.equal(last(sample_ids(model)), last(sample_ids(tiny(dropout=0.5).eval())))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    last(sample_ids(model))
    assert torch.equal(torch.get_rng_state(), state)


# --- given parts


def test_what_is_given_stays_and_changes_what_follows() -> None:
    model = tiny()
    given = torch.full((1, 4, 4), OPEN)
    given[0, 0, 1:], given[0, 2, 2] = torch.tensor([4, 26, 0]), 13
    ids = last(sample_ids(model, count=5, given=given))
    assert (ids[:, 0, 1:] == torch.tensor([4, 26, 0])).all() and (ids[:, 2, 2] == 13).all()
    free = last(sample_ids(model, count=5))
    assert torch.equal(ids[:, 0, 0], free[:, 0, 0]), "drawn before what is given, with the same numbers"
    assert not torch.equal(ids[:, 1], free[:, 1])


def test_completion_keeps_the_given_half_exactly() -> None:
    model, codec = tiny(), BlockCodec()
    ids = torch.randint(27, (2, 4, 4), generator=torch.Generator().manual_seed(2))
    pictures = block_pictures(ids)
    expected = (pictures.permute(0, 2, 3, 1).numpy() + 1) / 2
    step = last(complete(model, codec, pictures, count=3, seed=1))
    assert step.images.shape == (6, 32, 32, 3)
    for k in range(6):
        assert np.array_equal(step.images[k, :16], expected[k // 3, :16])
        assert not np.array_equal(step.images[k, 16:], expected[k // 3, 16:])
    drawn = {step.images[k, 16:].tobytes() for k in range(6)}
    assert len(drawn) == 6, "six ways to go on"
    whole = last(complete(model, codec, pictures, keep=1.0)).images
    assert np.array_equal(whole, expected)


def test_completion_computes_the_given_half_in_one_call() -> None:
    model = tiny()
    counts = counted(model)
    last(complete(model, BlockCodec(), torch.zeros(1, 3, 32, 32)))
    assert counts == [9] + [1] * 7


def test_completion_with_the_papers_codec() -> None:
    config = VqganConfig(
        ch=8, ch_mult=(1, 1, 1, 1), num_res_blocks=1, attn_resolutions=(), z_channels=8, embed_dim=4, groups=4,
        quantizer=QuantizerConfig("vq", codes=27),
    )  # fmt: skip
    torch.manual_seed(0)
    codec = build_codec(config).eval().requires_grad_(False)
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ids = codec.quantize(codec.encode(picture)).ids
    given = ids.clone()
    given[:, 2:] = OPEN
    drawn = last(sample_ids(tiny(), count=2, given=given))
    assert torch.equal(drawn[:, :2], ids[:, :2].expand(2, -1, -1))
    shown = last(complete(tiny(), codec, picture, count=2)).images
    expected = (codec.decode_ids(drawn.flatten(1), (4, 4)).clamp(-1, 1) + 1) / 2
    assert np.allclose(shown, expected.permute(0, 2, 3, 1).numpy(), atol=1e-6)


def test_completion_with_a_label_a_picture() -> None:
    model, pictures = tiny(), torch.zeros(2, 3, 32, 32)
    both = last(complete(model, BlockCodec(), pictures, labels=[0, 2], count=2, seed=4)).images
    alone = last(complete(model, BlockCodec(), pictures[:1], labels=2, count=2, seed=6)).images
    assert np.array_equal(both[2:], alone)


# --- larger than trained


@pytest.mark.parametrize("size", [16, 17, 24, 40])
def test_windows_stand_where_the_papers_do(size: int) -> None:
    """`sample_fast.ipynb`'s rule in taming-transformers, for a window of 16 at stride 1."""
    for place in range(size):
        if place <= 8:
            local = place
        elif size - place < 8:
            local = 16 - (size - place)
        else:
            local = 8
        assert place - origin(place, size, 16, 1) == local


@pytest.mark.parametrize(("size", "window", "stride"), [(32, 16, 8), (32, 16, 3), (19, 8, 4), (8, 8, 4), (9, 4, 2)])
def test_windows_stay_inside_and_see_on_both_sides(size: int, window: int, stride: int) -> None:
    origins = [origin(place, size, window, stride) for place in range(size)]
    assert origins == sorted(origins) and len(set(origins)) <= -(-(size - window) // stride) + 1
    for place, start in enumerate(origins):
        assert 0 <= start <= size - window and start <= place < start + window
        if start > 0:
            assert place - start >= window // 4
        if start < size - window:
            assert start + window - 1 - place >= window // 4


@pytest.mark.parametrize(("grid", "stride"), [((4, 8), None), ((8, 4), 1), ((7, 9), 2), ((8, 8), 1)])
def test_windows_with_caches_draw_what_windows_without_draw(grid: tuple[int, int], stride: int | None) -> None:
    model = tiny()
    options: dict[str, Any] = {"count": 2, "labels": 1, "grid": grid, "stride": stride, "seed": 3}
    options["sampling"] = Sampling(guidance=2.0)
    fast, slow = (last(sample_ids(model, cached=cached, **options)) for cached in (True, False))
    assert fast.shape == (2, *grid) and torch.equal(fast, slow)


def test_logits_of_windows_with_and_without_caches_agree() -> None:
    model, grid = tiny().eval(), (8, 8)
    ids = torch.randint(27, (2, *grid), generator=torch.Generator().manual_seed(0))
    fast, slow = (Windows(model, grid, None, Sampling(), 2, cached) for cached in (True, False))
    for row in range(8):
        for column in range(8):
            a, b = fast.logits(ids, row, column), slow.logits(ids, row, column)
            assert (a - b).abs().max() < 1e-5
            top, left = origin(row, 8, 4, 2), origin(column, 8, 4, 2)
            whole = model(ids[:, top : top + 4, left : left + 4].flatten(1))
            assert (a - whole[:, 4 * (row - top) + column - left]).abs().max() < 1e-5


@pytest.mark.parametrize(("grid", "stride"), [((4, 4), None), ((4, 8), None), ((7, 9), 1), ((6, 20), 2)])
def test_a_front_hangs_on_earlier_ones_only(grid: tuple[int, int], stride: int | None) -> None:
    windows = Windows(tiny(), grid, None, Sampling(), stride)
    drawn: set[tuple[int, int]] = set()
    count = 0
    for front in windows.fronts():
        count += 1
        lefts = [origin(column, grid[1], 4, windows.strides[1]) for _, column in front]
        assert len(set(lefts)) == len(front), "a window takes one token at a time"
        for (row, column), left in zip(front, lefts, strict=True):
            top = origin(row, grid[0], 4, windows.strides[0])
            above = {(r, c) for r in range(top, row) for c in range(left, left + 4)}
            assert above | {(row, c) for c in range(left, column)} <= drawn
        drawn |= set(front)
    assert len(drawn) == grid[0] * grid[1]
    assert count == grid[0] * grid[1] if grid[1] == 4 else count < 0.8 * grid[0] * grid[1]
    one_by_one = Windows(tiny(), grid, None, Sampling(), stride, cached=False).fronts()
    assert all(len(front) == 1 for front in one_by_one)


@pytest.mark.parametrize("grid", [(8, 16), (16, 16)])
def test_a_cache_saves_most_of_the_work(grid: tuple[int, int]) -> None:
    """A picture twice as wide as trained, and one twice as wide and high: tokens computed."""
    model = tiny(grid=(8, 8))
    counts = counted(model)
    last(sample_ids(model, grid=grid))
    fast = sum(counts)
    counts.clear()
    last(sample_ids(model, grid=grid, cached=False))
    assert sum(counts) >= 5 * fast
    windows = 3 * (3 if grid[0] > 8 else 1)
    assert fast <= 64 * windows, "each window computes its tokens once"


# --- steps


def test_steps_show_what_is_drawn_so_far() -> None:
    model, codec = tiny(), BlockCodec()
    steps = list(generate(model, codec, count=2, labels=0, seed=9))
    assert [(step.index, step.total) for step in steps] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    ids = last(sample_ids(model, count=2, labels=0, seed=9))
    expected = (block_pictures(ids).permute(0, 2, 3, 1).numpy() + 1) / 2
    for row, step in enumerate(steps, 1):
        assert step.images.dtype == np.float32 and step.images.shape == (2, 32, 32, 3)
        assert np.array_equal(step.images[:, : 8 * row], expected[:, : 8 * row])
        assert (step.images[:, 8 * row :] == 0.5).all()
    fewer = list(generate(model, codec, count=2, labels=0, seed=9, every=3))
    assert [(step.index, step.total) for step in fewer] == [(0, 2), (1, 2)]
    assert np.array_equal(fewer[0].images, steps[2].images) and np.array_equal(fewer[1].images, steps[3].images)


def test_a_wide_picture() -> None:
    assert last(generate(tiny(), BlockCodec(), grid=(4, 8))).images.shape == (1, 32, 64, 3)


# --- mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count: 0 pictures were asked for; it takes a whole number above 0"),
        ({"grid": (4, 3)}, "grid: 4 x 3 tokens were given; this model draws 4 x 4 or more"),
        ({"labels": 3}, "label: 3 was given; this model has the classes 0 to 2"),
        ({"labels": [0, 1]}, "labels: 2 were given for 1 pictures; give one for all, or one for each"),
        ({"sampling": Sampling(guidance=2)}, "guidance: 2 was given without a label"),
        ({"stride": 3}, "stride: 3 was given; it takes 1 to 2, half of what the model was trained on"),
        ({"given": torch.zeros(1, 4, 3, dtype=torch.long)}, "given: ids of shape (1, 4, 3); (1, 4, 4) is needed"),
        ({"given": torch.full((1, 4, 4), 27)}, "given: ids from 27 to 27; 0 to 26 are codes, -1 is open"),
        ({"every": 0}, "every: 0 was given"),
    ],
)
def test_mistakes_are_one_line_before_the_first_step(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        generate(tiny(), BlockCodec(), **options)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_other_mistakes() -> None:
    with pytest.raises(UsageError, match="the transformer is of 30 codes and the codec of 27; not a pair"):
        generate(tiny(codes=30), BlockCodec())
    with pytest.raises(UsageError, match="this model draws pictures of no class in particular"):
        sample_ids(tiny(classes=0), labels=0)
    picture = torch.zeros(2, 3, 32, 32)
    with pytest.raises(UsageError, match="keep: 1.5 was given; it takes the part of the picture that stays"):
        complete(tiny(), BlockCodec(), picture, keep=1.5)
    with pytest.raises(UsageError, match="labels: 1 were given for 2 pictures"):
        complete(tiny(), BlockCodec(), picture, labels=[0], count=2)
    with pytest.raises(UsageError, match=r"images of shape \(3, 32, 32\) were given"):
        complete(tiny(), BlockCodec(), picture[0])
    with pytest.raises(UsageError, match="grid: 4 x 2 tokens were given"):
        complete(tiny(), BlockCodec(), picture[..., :16])
