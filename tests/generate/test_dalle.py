"""Pictures of sentences: guidance, seeds, steps, completion from any side, ranking."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bahumukha.errors import UsageError
from bahumukha.generate.dalle import complete, generate, rank, sample_ids
from bahumukha.generate.tokens import OPEN
from bahumukha.generate.tries import chosen, needs_tries
from bahumukha.models.dalle import Dalle, DalleConfig
from bahumukha.nn.sampling import Sampling, draw, guided, probabilities
from bahumukha.zoo.dalle import LoadedDalle
from bahumukha.zoo.fake import ColourEncoder
from bahumukha.zoo.tokenizer import TextTokenizer
from tests.fake_codec import BlockCodec, block_pictures
from tests.tiny_models import tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = torch.tensor([[1, 9, 2, 0, 0, 0], [1, 7, 8, 9, 3, 2], [1, 2, 0, 0, 0, 0]])


def tiny(**changes: Any) -> Dalle:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocabulary": 300, "codes": 27, "grid": (4, 4), "text_length": 16, "padded_to": 4}
    model = Dalle(DalleConfig(**sizes | {"width": 16, "layers": 2, "heads": 2} | changes))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.requires_grad_(False)


@pytest.fixture
def dalle(tmp_path: Path) -> LoadedDalle:
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    return LoadedDalle(tiny(), TextTokenizer(tmp_path / "tokenizer.json", 16), "codec", 0)


def last(steps: Iterator[Any]) -> Any:
    *_, final = steps
    return final


# --- what is drawn is what the model says


@pytest.mark.parametrize("guidance", [1.0, 3.0, 0.0])
@pytest.mark.parametrize("attention", [("full",), ("row", "column"), ("convolutional",)])
def test_guidance_acts_on_every_token(attention: tuple[str, ...], guidance: float) -> None:
    """DALLE-pytorch's acts on the first one only: its caption is blanked in place by the other half."""
    model = tiny(attention=attention, kernel=3).eval()
    sampling = Sampling(temperature=0.8, top_k=9, top_p=0.9, guidance=guidance)
    texts = TEXTS.clone()
    ids = last(sample_ids(model, texts, count=3, sampling=sampling, seed=5)).flatten(1)
    assert torch.equal(texts, TEXTS), "nobody's text is touched"
    with_text, without = (model(each, ids, with_text=False)[1] for each in (TEXTS, torch.zeros_like(TEXTS)))
    assert ((with_text - without).abs().amax(-1) > 1e-3).all(), "the sentence is felt at every token"
    logits = guided(with_text, without, guidance)
    random = torch.stack(
        [torch.rand(16, generator=torch.Generator().manual_seed(5 + k), dtype=torch.float64) for k in range(3)]
    )
    for t in range(16):
        assert torch.equal(draw(probabilities(logits[:, t], sampling), random[:, t]), ids[:, t]), f"token {t}"


def test_both_halves_are_one_batch_and_each_token_one_call() -> None:
    model = tiny()
    rows: list[tuple[int, int]] = []
    model.blocks[0].register_forward_hook(lambda module, inputs, output: rows.append(tuple(output.shape[:2])))
    last(sample_ids(model, TEXTS[:1], count=9, sampling=Sampling(guidance=2)))
    assert rows == [(2, 5)] + [(18, 1)] * 15, "sentence and null caption once, then nine pictures of each"


def test_picture_k_of_a_seed_is_the_one_of_seed_plus_k_alone() -> None:
    model, sampling = tiny(), Sampling(guidance=2)
    together = last(sample_ids(model, TEXTS[1:2], count=3, sampling=sampling, seed=10))
    for k in range(3):
        assert torch.equal(last(sample_ids(model, TEXTS[1:2], sampling=sampling, seed=10 + k))[0], together[k])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(together, last(sample_ids(model, TEXTS[:1], count=3, sampling=sampling, seed=10)))


def test_a_prompt_draws_the_same_beside_a_longer_one() -> None:
    model = tiny()
    together = last(sample_ids(model, TEXTS, count=3, seed=2))
    for k, length in enumerate((3, 6, 2)):
        assert torch.equal(last(sample_ids(model, TEXTS[k : k + 1, :length], seed=2 + k))[0], together[k])


@pytest.mark.parametrize("is_given", [False, True])
def test_variants_of_each_picture_the_first_of_them_as_drawn_alone(is_given: bool) -> None:
    """With codes given at the end each variant has tries of its own."""
    model = tiny()
    given = torch.full((1, *model.config.grid), OPEN)
    given[0, -1, -1] = 3 if is_given else OPEN
    options: dict[str, Any] = {"given": given, "tries": 3}
    alone = last(sample_ids(model, TEXTS, count=3, seed=2, **options))
    three = last(sample_ids(model, TEXTS, count=3, variants=3, seed=2, **options)).unflatten(0, (3, 3))
    assert torch.equal(three[:, 0], alone)
    assert all(not torch.equal(three[k, 0], three[k, variant]) for k in range(3) for variant in (1, 2))
    assert torch.equal(last(sample_ids(model, TEXTS[1:2], variants=3, seed=3, **options)), three[1])
    with pytest.raises(UsageError, match="variants: 0 was given"):
        sample_ids(model, TEXTS[:1], variants=0)


def test_no_dropout_while_drawing_and_no_global_random_number() -> None:
    model = tiny(dropout=0.5).train()
    assert torch.equal(last(sample_ids(model, TEXTS[:1])), last(sample_ids(tiny(dropout=0.5).eval(), TEXTS[:1])))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    last(sample_ids(model, None))
    assert torch.equal(torch.get_rng_state(), state)


def test_larger_grids_see_the_text_in_every_window() -> None:
    model = tiny(attention=("row", "full"))
    options: dict[str, Any] = {"count": 2, "grid": (4, 7), "sampling": Sampling(guidance=2), "seed": 3}
    fast, slow = (last(sample_ids(model, TEXTS[:1], cached=cached, **options)) for cached in (True, False))
    assert fast.shape == (2, 4, 7) and torch.equal(fast, slow)
    assert not torch.equal(fast, last(sample_ids(model, TEXTS[1:2], **options)))


# --- steps


def test_steps_show_what_is_drawn_so_far(dalle: LoadedDalle) -> None:
    steps = list(generate(dalle, BlockCodec(), "a red fish", count=2, seed=9))
    assert [(step.index, step.total) for step in steps] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    texts = dalle.encode(["a red fish"])
    assert texts.shape == (1, 12) and texts[0, 0] == 1 and texts[0, -1] == 2
    ids = last(sample_ids(dalle.model, texts, count=2, seed=9))
    expected = (block_pictures(ids).permute(0, 2, 3, 1).numpy() + 1) / 2
    for row, step in enumerate(steps, 1):
        assert step.images.dtype == np.float32 and step.images.shape == (2, 32, 32, 3)
        assert np.array_equal(step.images[:, : 8 * row], expected[:, : 8 * row])
        assert (step.images[:, 8 * row :] == 0.5).all()
    assert len(list(generate(dalle, BlockCodec(), "a", every=3))) == 2


def test_a_prompt_each_and_none(dalle: LoadedDalle) -> None:
    two = last(generate(dalle, BlockCodec(), ["a fish", "a much longer sentence"], count=2, seed=4)).images
    assert np.array_equal(two[1], last(generate(dalle, BlockCodec(), "a much longer sentence", seed=5)).images[0])
    none = last(generate(dalle, BlockCodec(), None, seed=4)).images
    null = torch.zeros(1, 3, dtype=torch.long)
    ids = last(sample_ids(dalle.model, null, seed=4))
    assert np.array_equal(none, (block_pictures(ids).permute(0, 2, 3, 1).numpy() + 1) / 2)


# --- given parts


@pytest.mark.parametrize(
    ("side", "rows", "columns"),
    [
        ("top", slice(0, 16), slice(None)),
        ("bottom", slice(16, 32), slice(None)),
        ("left", slice(None), slice(0, 16)),
        ("right", slice(None), slice(16, 32)),
    ],
)
def test_completion_keeps_the_given_side_exactly(dalle: LoadedDalle, side: Any, rows: slice, columns: slice) -> None:
    ids = torch.randint(27, (2, 4, 4), generator=torch.Generator().manual_seed(2))
    pictures = block_pictures(ids)
    expected = (pictures.permute(0, 2, 3, 1).numpy() + 1) / 2
    options: dict[str, Any] = {"side": side, "tries": 4, "sampling": Sampling(guidance=1.5)}
    *_, before, step = complete(dalle, BlockCodec(), pictures, ["a", "b"], count=3, seed=1, **options)
    assert step.images.shape == (6, 32, 32, 3)
    for k in range(6):
        assert np.array_equal(step.images[k, rows, columns], expected[k // 3, rows, columns])
        assert np.array_equal(before.images[k, rows, columns], expected[k // 3, rows, columns])
        assert not np.array_equal(step.images[k], expected[k // 3])
    assert (step.images != 0.5).any(-1).mean() > 0.5, "all is drawn"
    assert len({step.images[k].tobytes() for k in range(6)}) > 2, "several ways to go on"
    alone = last(complete(dalle, BlockCodec(), pictures[1:], "b", count=3, seed=4, **options)).images
    assert np.array_equal(step.images[3:], alone), "seeds go on from picture to picture"


def test_all_kept_and_none_kept(dalle: LoadedDalle) -> None:
    pictures = block_pictures(torch.arange(16).reshape(1, 4, 4))
    whole = last(complete(dalle, BlockCodec(), pictures, "a", side="left", keep=1.0)).images
    assert np.array_equal(whole, (pictures.permute(0, 2, 3, 1).numpy() + 1) / 2)
    free = last(complete(dalle, BlockCodec(), pictures, "a", side="left", keep=0.0, seed=3)).images
    assert np.array_equal(free, last(generate(dalle, BlockCodec(), "a", seed=3)).images)


def test_the_top_needs_no_tries() -> None:
    model = tiny()
    given = torch.full((1, 4, 4), OPEN)
    given[:, :2] = 5
    assert not needs_tries(given) and not needs_tries(torch.full((1, 4, 4), OPEN))
    assert needs_tries(given.flip(1)) and needs_tries(given.mT)
    one, many = (last(sample_ids(model, TEXTS[:1], given=given, tries=tries)) for tries in (1, 50))
    assert torch.equal(one, many)
    rows: list[int] = []
    model.blocks[0].register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    last(sample_ids(model, TEXTS[:1], given=given.flip(1), tries=7))
    assert rows == [1] + [7] * 15, "seven tries from the first token on"


@pytest.mark.parametrize("places", [[1, 3], [3]], ids=["right", "corner"])
def test_tries_come_near_to_what_fits_the_given_part(places: list[int]) -> None:
    """A grid of 2 x 2 and three codes, where p(open | given) can be counted out."""
    model = tiny(codes=3, grid=(2, 2), vocabulary=10).eval()
    model.head.weight.mul_(1.5)
    ways = torch.tensor(list(itertools.product(range(3), repeat=4)))
    logits = model(TEXTS[:1].expand(81, -1), ways, with_text=False)[1].double()
    joint = logits.log_softmax(-1).gather(2, ways[:, :, None]).sum((1, 2)).exp()
    wanted = torch.tensor([2, 0])[: len(places)]
    fits = (ways[:, places] == wanted).all(1)
    expected = joint * fits / (joint * fits).sum()
    given = torch.full((1, 4), OPEN)
    given[0, places] = wanted

    def distance(tries: int) -> float:
        ids = last(sample_ids(model, TEXTS[:1], count=400, given=given.view(1, 2, 2), tries=tries)).flatten(1)
        assert (ids[:, places] == wanted).all()
        share = torch.bincount(ids @ torch.tensor([27, 9, 3, 1]), minlength=81) / 400
        return float((share - expected).abs().sum() / 2)

    assert distance(48) < 0.1
    assert distance(1) > 0.15, "without looking ahead"


def test_choosing_is_even() -> None:
    share = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    for number, places in ((0.0, [0, 0, 1, 2]), (0.3, [0, 0, 1, 2]), (1 - 2**-53, [0, 1, 2, 2])):
        got = chosen(share, torch.tensor([number, number], dtype=torch.float64), 4)
        assert got.tolist() == [places, [3] * 4]
    numbers = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    once = chosen(share[:1].expand(1000, -1), numbers, 1)[:, 0]
    assert once.bincount(minlength=4).tolist() == [500, 250, 250, 0]


# --- ranking


def test_ranking_puts_the_best_first() -> None:
    images = np.zeros((4, 16, 16, 3), np.float32)
    images[0, ..., 2] = images[2, ..., 0] = 1.0  # blue, black, red, and grey
    images[3] = 0.5
    encoder = ColourEncoder()
    ranked = rank(encoder, images, "a red door")
    assert ranked.places[0] == 2 and ranked.images.shape == images.shape and ranked.scores.dtype == np.float32
    assert (np.diff(ranked.scores) <= 0).all() and np.array_equal(ranked.images, images[ranked.places])
    two = rank(encoder, images, "the blue sea", keep=2)
    assert two.places[0] == 0 and len(two.images) == len(two.scores) == len(two.places) == 2
    same = rank(encoder, np.repeat(images[:1], 5, 0), "a red door", keep=9)
    assert same.places.tolist() == [0, 1, 2, 3, 4], "equal ones as they came"


# --- mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count: 0 pictures were asked for; it takes a whole number above 0"),
        ({"grid": (4, 3)}, "grid: 4 x 3 tokens were given; this model draws 4 x 4 or more"),
        ({"prompts": ["a", "b"]}, "prompts: 2 were given for 1 pictures; give one for all, or one for each"),
        ({"prompts": None, "sampling": Sampling(guidance=2)}, "guidance: 2 was given without a prompt"),
        ({"given": torch.zeros(1, 4, 3, dtype=torch.long)}, "given: ids of shape (1, 4, 3); (1, 4, 4) is needed"),
        ({"tries": 0}, "tries: 0 was given; it takes a whole number above 0"),
        ({"every": 0}, "every: 0 was given"),
    ],
)
def test_mistakes_are_one_line_before_the_first_step(dalle: LoadedDalle, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        generate(dalle, BlockCodec(), **{"prompts": "a", **options})
    assert message in str(error.value) and "\n" not in str(error.value)


def test_other_mistakes(dalle: LoadedDalle) -> None:
    codec, picture = BlockCodec(), torch.zeros(2, 3, 32, 32)
    with pytest.raises(UsageError, match="the transformer is of 30 codes and the codec of 27; not a pair"):
        generate(LoadedDalle(tiny(codes=30), dalle.tokenizer, "", 0), codec, "a")
    with pytest.raises(UsageError, match="a text of 17 tokens; this model reads at most 16"):
        sample_ids(tiny(), torch.ones(1, 17, dtype=torch.long))
    with pytest.raises(UsageError, match="text tokens from 300 to 300; 0 to 299 are known"):
        sample_ids(tiny(), torch.full((1, 2), 300))
    with pytest.raises(UsageError, match="side: 'middle' was given; it takes one of top, bottom, left, right"):
        complete(dalle, codec, picture, "a", side="middle")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="keep: 1.5 was given; it takes the part of the picture that stays"):
        complete(dalle, codec, picture, "a", keep=1.5)
    with pytest.raises(UsageError, match="prompts: 3 were given for 2 pictures"):
        complete(dalle, codec, picture, ["a", "b", "c"])
    with pytest.raises(UsageError, match=r"images of shape \(3, 32, 32\) were given"):
        complete(dalle, codec, picture[0], "a")
    with pytest.raises(UsageError, match=r"images of shape \(16, 16, 3\) were given; \(N, H, W, 3\) is needed"):
        rank(ColourEncoder(), np.zeros((16, 16, 3), np.float32), "a")
    with pytest.raises(UsageError, match="keep: 0 pictures were asked for"):
        rank(ColourEncoder(), np.zeros((1, 16, 16, 3), np.float32), "a", keep=0)


def test_long_prompts_are_cut(dalle: LoadedDalle) -> None:
    texts: Tensor = dalle.encode(["a sentence of more than sixteen bytes", "a"])
    assert texts.shape == (2, 16) and texts[0, -1] == 2 and (texts[1, 3:] == 0).all()
