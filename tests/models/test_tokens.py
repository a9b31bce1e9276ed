"""The transformer over codes: causality, the cache, the head, the sizes it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bahumukha.models.tokens import TokenTransformer, TokenTransformerConfig

CONFIG = TokenTransformerConfig(codes=27, grid=(3, 4), classes=5, width=32, layers=2, heads=2)


def tiny(**changes: Any) -> TokenTransformer:
    """Random weights large enough that every input is felt."""
    torch.manual_seed(0)
    model = TokenTransformer(TokenTransformerConfig.from_dict(CONFIG.to_dict() | changes)).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.requires_grad_(False)


def ids(count: int = 2, tokens: int = 12) -> torch.Tensor:
    return torch.randint(27, (count, tokens), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("parts", [(0, *[1] * 11), (4, 4, 3), (11,), (0, 11)])
@pytest.mark.parametrize("labelled", [True, False])
def test_cached_and_uncached_logits_agree(parts: tuple[int, ...], labelled: bool) -> None:
    model, x = tiny(), ids()
    labels = torch.tensor([3, 0]) if labelled else None
    expected = model(x, labels)
    cache = model.new_cache(2)
    known = 0
    for part in parts:
        logits = model.extend(cache, x[:, known : known + part], labels)
        known += part
        assert (logits - expected[:, known]).abs().max() < 1e-5
    assert cache.length == known + 1


def test_each_code_follows_from_those_before_it_and_the_label() -> None:
    model, x = tiny(), ids(1)
    before = model(x, torch.tensor([2]))
    changed = x.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 27
    after = model(changed, torch.tensor([2]))
    same = (before - after).abs().amax(-1)[0] < 1e-6
    assert same.tolist() == [True] * 6 + [False] * 6
    other = model(x, torch.tensor([1]))
    assert ((before - other).abs().amax(-1) > 1e-4).all()
    assert torch.equal(model(x), model(x, torch.tensor([model.no_label])))


def test_order_counts_in_both_directions() -> None:
    """Positions: the same codes in a grid of other rows are another picture."""
    model, x = tiny(), ids(1)
    other = tiny(grid=(4, 3))
    other.load_state_dict(model.state_dict())
    logits = (model(x) - other(x)).abs().amax(-1)[0]
    assert (logits[:4] < 1e-6).all(), "tokens 0 to 2 stand in the first row of both; token 3's logits see only those"
    assert (logits[5:] > 1e-4).all()


def test_a_part_of_a_grid_and_gradients() -> None:
    model = tiny().requires_grad_(True).train()
    assert torch.allclose(model(ids()[:, :7])[:, :7], model(ids())[:, :7], atol=1e-5)
    model(ids(), torch.tensor([0, 5])).logsumexp(-1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert (model.labels.weight.grad.abs().sum(-1) > 0).tolist() == [True, False, False, False, False, True]


def test_the_head_answers_for_one_token_only(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    asked: list[torch.Size] = []
    model.head.register_forward_hook(lambda module, inputs, output: asked.append(inputs[0].shape))
    model.extend(model.new_cache(2), ids()[:, :9])
    assert asked == [torch.Size([2, 1, 32])]


def test_a_longer_prefix_keeps_the_grids_positions() -> None:
    """What a model with a text in front will be: two vectors, both at row 0 and column 0."""

    class Prefixed(TokenTransformer):
        prefix_length = 2

        def prefix(self, batch: int, labels: torch.Tensor | None) -> torch.Tensor:
            return super().prefix(batch, labels).expand(-1, 2, -1)

    model = Prefixed(CONFIG).eval()
    model.load_state_dict(tiny().state_dict())
    cache = model.new_cache(2)
    logits = [model.extend(cache, ids()[:, :4]), model.extend(cache, ids()[:, 4:11])]
    expected = model(ids())
    assert expected.shape == (2, 12, 27) and cache.length == 13 == cache.most
    assert torch.allclose(logits[0], expected[:, 4], atol=1e-5) and torch.allclose(
        logits[1], expected[:, 11], atol=1e-5
    )
    # Two equal vectors at one place weigh more in attention than one, so the numbers differ, and the place does not.
    assert not torch.allclose(expected, tiny()(ids()), atol=1e-3)
    assert torch.equal(model._turn(0, 4)[2:], tiny()._turn(1, 2)) and (model._turn(0, 2) == 1).all()


def test_nothing_new_for_a_cache_that_has_answered() -> None:
    model = tiny()
    cache = model.new_cache(1)
    model.extend(cache, ids(1)[:, :0])
    with pytest.raises(ValueError, match="no tokens were given"):
        model.extend(cache, ids(1)[:, :0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": 1}, "codes is 1; it must be at least 2"),
        ({"grid": (1, 8)}, "grid is .1, 8.; it takes two whole numbers"),
        ({"width": 36}, "width is 36; it must be a multiple of 4 x heads 2"),
        ({"classes": -1}, "classes is -1; it must be at least 0"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be at least 0 and below 1"),
    ],
)
def test_sizes_it_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenTransformerConfig.from_dict(CONFIG.to_dict() | change)


def test_config_survives_json() -> None:
    import json

    assert TokenTransformerConfig.from_dict(json.loads(json.dumps(CONFIG.to_dict()))) == CONFIG
