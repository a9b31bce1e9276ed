"""DALL-E's transformer: one stream of text and codes, its masks, padding, cache and loss."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bahumukha.models.dalle import Dalle, DalleConfig, dalle_loss, paper_attention
from bahumukha.nn.masks import PATTERNS

CONFIG = DalleConfig(
    vocabulary=20, codes=27, grid=(3, 4), text_length=12, padded_to=4, width=32, layers=2, heads=2, kernel=3
)
TEXTS = torch.tensor([[1, 5, 2, 0, 0, 0, 0], [1, 7, 8, 9, 3, 11, 2], [0] * 7])
"""Three tokens, seven, and the null caption: padded to 4, 8 and 4."""


def tiny(**changes: Any) -> Dalle:
    """Random weights large enough that every input is felt."""
    torch.manual_seed(0)
    model = Dalle(DalleConfig.from_dict(CONFIG.to_dict() | changes)).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.requires_grad_(False)


def ids(count: int = 3, tokens: int = 12) -> Tensor:
    return torch.randint(27, (count, tokens), generator=torch.Generator().manual_seed(1))


def picture_logits(model: Dalle, texts: Tensor, codes: Tensor) -> Tensor:
    return model(texts, codes, with_text=False)[1]


def text_logits(model: Dalle, texts: Tensor, codes: Tensor) -> Tensor:
    return model(texts, codes)[0]


def differs(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().amax(-1) > 1e-4


# --- the cache


@pytest.mark.parametrize("parts", [(0, *[1] * 11), (5, 4, 2), (0, 11)])
@pytest.mark.parametrize("attention", [*((pattern,) for pattern in PATTERNS), ("column", "convolutional")])
def test_cached_logits_are_those_of_the_whole_stream(attention: tuple[str, ...], parts: tuple[int, ...]) -> None:
    model = tiny(attention=attention)
    expected = picture_logits(model, TEXTS, ids())
    cache = model.new_cache(3)
    known = 0
    for part in parts:
        logits = model.extend(cache, ids()[:, known : known + part], TEXTS)
        known += part
        assert (logits - expected[:, known]).abs().max() < 1e-4
    assert cache.length == 8 + 1 + 11 <= cache.most, "the longest padded text, the beginning, all codes but the last"


@pytest.mark.parametrize("change", [{"positions": "learned"}, {"qk_norm": False}, {"padded_to": 1}, {"padded_to": 12}])
def test_cached_logits_of_other_settings(change: dict[str, Any]) -> None:
    model = tiny(**change)
    expected = picture_logits(model, TEXTS, ids())
    cache = model.new_cache(3)
    for t in range(12):
        logits = model.extend(cache, ids()[:, max(0, t - 1) : t], TEXTS)
        assert (logits - expected[:, t]).abs().max() < 1e-4


def test_a_text_that_comes_several_times_is_computed_once() -> None:
    model = tiny()
    computed: list[torch.Size] = []
    model.blocks[0].register_forward_hook(lambda module, inputs, output: computed.append(output.shape))
    model.extend(model.new_cache(9), ids(9)[:, :0], TEXTS[:2].repeat_interleave(5, 0)[:9])
    assert computed == [torch.Size([2, 9, 32])]


def test_rows_of_a_cache_in_another_order() -> None:
    model = tiny(attention=("row", "full"))
    cache, places = model.new_cache(3), torch.tensor([2, 0, 0])
    model.extend(cache, ids()[:, :5], TEXTS)
    cache.reorder(places)
    expected = picture_logits(model, TEXTS[places], ids()[places])
    assert (model.extend(cache, ids()[places, 5:7]) - expected[:, 7]).abs().max() < 1e-4


def test_a_cleared_cache_takes_other_texts() -> None:
    model = tiny()
    cache = model.new_cache(1)
    model.extend(cache, ids(1)[:, :4], TEXTS[1:2])
    cache.clear()
    assert torch.allclose(
        model.extend(cache, ids(1)[:, :4], TEXTS[:1]), picture_logits(model, TEXTS[:1], ids(1))[:, 4], atol=1e-5
    )
    with pytest.raises(ValueError, match="no tokens were given"):
        model.extend(cache, ids(1)[:, :0])


def test_no_text_given_is_the_null_caption() -> None:
    model = tiny()
    got = model.extend(model.new_cache(1), ids(1)[:, :3])
    assert torch.allclose(got, picture_logits(model, TEXTS[2:], ids(1))[:, 3], atol=1e-5)
    assert torch.equal(model.unconditional(TEXTS), torch.zeros_like(TEXTS))


# --- who sees whom


@pytest.mark.parametrize("attention", [*((pattern,) for pattern in PATTERNS)])
def test_text_never_sees_the_picture_and_every_code_sees_all_the_text(attention: tuple[str, ...]) -> None:
    model = tiny(attention=attention, layers=1)
    texts = TEXTS[1:2]
    assert torch.equal(text_logits(model, texts, ids(1)), text_logits(model, texts, (ids(1) + 1) % 27))
    before = picture_logits(model, texts, ids(1))
    for place in range(7):
        changed = texts.clone()
        changed[0, place] = 15
        assert differs(before, picture_logits(model, changed, ids(1))).all(), f"word {place}"
        told = differs(text_logits(model, texts, ids(1)), text_logits(model, changed, ids(1)))[0]
        assert told.tolist() == [i >= place for i in range(7)], "words follow from those before them"


@pytest.mark.parametrize("attention", ["full", "row", "column", "convolutional"])
def test_codes_follow_from_those_their_layer_may_see(attention: str) -> None:
    model = tiny(attention=(attention,), layers=1)
    before = picture_logits(model, TEXTS[:1], ids(1))
    for place in range(12):
        changed = ids(1)
        changed[0, place] = (changed[0, place] + 1) % 27
        felt = differs(before, picture_logits(model, TEXTS[:1], changed))[0]
        mask = model.get_buffer(f"{attention}_mask")
        assert felt.tolist() == [False, *mask[:-1, place].tolist()], "a code's logits are those of the one before it"


def test_several_layers_reach_everything_before() -> None:
    model = tiny(attention=("row", "column"), layers=4)
    before = picture_logits(model, TEXTS[:1], ids(1))
    changed = ids(1)
    changed[0, 1] += 1
    assert differs(before, picture_logits(model, TEXTS[:1], changed))[0].tolist() == [False] * 2 + [True] * 10


def test_order_counts_in_text_and_picture() -> None:
    model, other = tiny(), tiny(grid=(4, 3))
    turned = TEXTS[1:2, [0, 2, 1, 3, 4, 5, 6]]
    assert differs(picture_logits(model, TEXTS[1:2], ids(1)), picture_logits(model, turned, ids(1))).all()
    other.load_state_dict(model.state_dict())
    logits = differs(picture_logits(model, TEXTS[:1], ids(1)), picture_logits(other, TEXTS[:1], ids(1)))[0]
    assert not logits[:4].any() and logits[5:].all(), "the first row's are the same, the other rows' are not"


def test_the_papers_patterns() -> None:
    assert paper_attention(6) == ("row", "column", "row", "row", "row", "convolutional")
    assert len(paper_attention(64)) == 64 and paper_attention(64).count("convolutional") == 1
    tiny(attention=paper_attention(2))


# --- padding


@pytest.mark.parametrize("padded_to", [1, 4, 12])
def test_a_caption_means_the_same_alone_and_beside_longer_ones(padded_to: int) -> None:
    """Cutting a batch changes nothing, nor does padding that was given."""
    model = tiny(padded_to=padded_to)
    codes, words = picture_logits(model, TEXTS, ids()), text_logits(model, TEXTS, ids())
    for k, length in enumerate((3, 7, 1)):
        alone = model(TEXTS[k : k + 1, :length], ids()[k : k + 1])
        assert torch.allclose(alone[1][0], codes[k], atol=1e-5)
        assert torch.allclose(alone[0][0, : length - 1], words[k, : length - 1], atol=1e-5)
    long = F.pad(TEXTS, (0, 5))
    assert torch.equal(picture_logits(model, long, ids()), codes)


def test_a_batch_is_cut_to_its_longest_padded_text() -> None:
    model = tiny()
    texts, seen = model.cut(TEXTS)
    assert texts.shape == (3, 8) and seen.sum(1).tolist() == [4, 8, 4]
    assert model.cut(TEXTS[[0, 2]])[0].shape == (2, 4)
    assert model.cut(F.pad(TEXTS[1:2], (0, 5)) * 0 + 3)[0].shape == (1, 12)
    assert tiny(padded_to=1).cut(TEXTS)[1].sum(1).tolist() == [3, 7, 1]
    assert tiny(padded_to=5).cut(torch.ones(1, 11, dtype=torch.long))[0].shape == (1, 12), "never longer than places"


def test_padding_is_learned_place_by_place() -> None:
    model = tiny()
    before = picture_logits(model, TEXTS, ids())
    with torch.no_grad():
        model.padding[3] *= -1
    after = differs(before, picture_logits(model, TEXTS, ids())).all(1)
    assert after.tolist() == [True, False, True], "place 3 is empty in the first and in the null caption"
    with torch.no_grad():
        model.padding[7] *= -1
        model.padding[8:] *= -1
    again = differs(before, picture_logits(model, TEXTS, ids())).any(1)
    assert again.tolist() == [True, True, True], "place 7 is the second one's only padding"
    assert torch.equal(picture_logits(model, TEXTS[:1], ids(1))[0], picture_logits(model, TEXTS[:1, :3], ids(1))[0])


def test_hidden_padding_is_felt_by_nobody() -> None:
    model = tiny(padded_to=1)
    before = picture_logits(model, TEXTS, ids())
    with torch.no_grad():
        model.padding[1:] *= -1
    assert torch.equal(before, picture_logits(model, TEXTS, ids()))
    with torch.no_grad():
        model.padding[0] *= -1
    assert differs(before, picture_logits(model, TEXTS, ids())).all(1).tolist() == [False, False, True]


# --- heads and loss


def test_each_kind_has_its_own_head() -> None:
    model = tiny()
    asked: dict[str, list[torch.Size]] = {"text_head": [], "head": []}
    for name, shapes in asked.items():
        model.get_submodule(name).register_forward_hook(lambda m, x, y, shapes=shapes: shapes.append(y.shape))
    words, codes = model(TEXTS, ids())
    assert words.shape == (3, 7, 20) and codes.shape == (3, 12, 27)
    assert asked == {"text_head": [torch.Size([3, 7, 20])], "head": [torch.Size([3, 12, 27])]}
    assert model(TEXTS, ids(), with_text=False)[0] is None and len(asked["text_head"]) == 1
    model.extend(model.new_cache(3), ids()[:, :5], TEXTS)
    assert asked["head"][2] == torch.Size([3, 1, 27]) and len(asked["text_head"]) == 1
    dalle_loss(model, TEXTS, ids())
    assert asked["text_head"][1] == torch.Size([8, 20]), "2 words of the first text to tell, 6 of the second"


def test_the_loss_is_an_eighth_text() -> None:
    model = tiny()
    words, codes = model(TEXTS, ids())
    told = [F.cross_entropy(words[k, i], TEXTS[k, i + 1]) for k, n in ((0, 3), (1, 7)) for i in range(n - 1)]
    losses = dalle_loss(model, TEXTS, ids())
    assert losses["text"] == pytest.approx(float(torch.stack(told).mean()), rel=1e-5)
    assert losses["picture"] == pytest.approx(float(F.cross_entropy(codes.mT, ids())), rel=1e-5)
    assert losses["loss"] == pytest.approx(float(losses["text"] / 8 + 7 * losses["picture"] / 8), rel=1e-6)
    only = dalle_loss(model, TEXTS, ids(), text_weight=0)
    assert set(only) == {"loss", "picture"} and torch.equal(only["loss"], losses["picture"])


def test_a_model_need_not_tell_words() -> None:
    """Nothing else changes: same codes told, same loss of the picture, and a weight of the text is refused."""
    whole, mute = tiny(), tiny(tells_text=False)
    state = whole.state_dict()
    del state["text_head.weight"]
    mute.load_state_dict(state)
    assert DalleConfig.from_dict(mute.config.to_dict()) == mute.config
    words, codes = mute(TEXTS, ids())
    assert words is None and torch.equal(codes, whole(TEXTS, ids())[1])
    loss = dalle_loss(mute, TEXTS, ids(), text_weight=0)["loss"]
    assert torch.equal(loss, dalle_loss(whole, TEXTS, ids())["picture"])
    with pytest.raises(ValueError, match="no head for words"):
        dalle_loss(mute, TEXTS, ids())


def test_a_batch_without_words_trains_too() -> None:
    model = tiny().requires_grad_(True).train()
    losses = dalle_loss(model, TEXTS[2:], ids(1))
    assert losses["text"] == 0
    losses["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_every_parameter_has_a_gradient() -> None:
    model = tiny(positions="learned", attention=("row", "full"), dropout=0.1).requires_grad_(True).train()
    dalle_loss(model, TEXTS, ids())["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_it_learns_which_text_goes_with_which_picture() -> None:
    torch.manual_seed(0)
    model = Dalle(CONFIG)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    codes = torch.tensor([3, 14, 25])[:, None].expand(-1, 12)
    for _ in range(25):
        optimizer.zero_grad()
        losses = dalle_loss(model, TEXTS, codes)
        losses["loss"].backward()
        optimizer.step()
    assert losses["picture"] < 0.1 < math.log(27)
    cache = model.eval().new_cache(3)
    assert model.extend(cache, codes[:, :0], TEXTS).argmax(-1).tolist() == [3, 14, 25]


# --- settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": 1}, "codes is 1; it must be at least 2"),
        ({"vocabulary": 1}, "vocabulary is 1; it must be at least 2"),
        ({"grid": (1, 8)}, "grid is .1, 8.; it takes two whole numbers"),
        ({"width": 36}, "width is 36; it must be a multiple of 4 x heads 2"),
        ({"pad": 20}, "pad is 20; it must be a text token, 0 to 19"),
        ({"padded_to": 13}, "padded_to is 13; it takes 1 to text_length, 12"),
        ({"attention": ("rows",)}, "attention is .'rows'.; it takes 1 to 2 of full, row, column, convolutional"),
        ({"attention": ()}, "attention is ..; it takes"),
        ({"kernel": 4}, "kernel is 4; it must be an odd number"),
        ({"positions": "none"}, "positions is 'none'; it must be one of rotary2d, learned"),
        ({"mlp_ratio": 0}, "mlp_ratio is 0; it must be above 0"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be at least 0 and below 1"),
    ],
)
def test_settings_it_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DalleConfig.from_dict(CONFIG.to_dict() | change)


def test_texts_that_are_too_long() -> None:
    with pytest.raises(ValueError, match=r"texts of shape \(1, 13\); \(batch, at most 12\) is needed"):
        tiny()(torch.ones(1, 13, dtype=torch.long), ids(1))


def test_config_survives_json() -> None:
    config = DalleConfig.from_dict(CONFIG.to_dict() | {"attention": ("row", "column")})
    assert DalleConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
