"""Stage 5 of the starter CLIP's recipe: a perceptron beside the projection, how it is begun, solved and trained."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch.nn import functional as F

from bahumukha.data.scenes import Ground, Scene, SceneObject
from bahumukha.models.clip import Clip, ClipConfig
from bahumukha.models.text import TextTower, TextTowerConfig
from bahumukha.models.vit import ViTConfig
from bahumukha.zoo.folder import TOKENIZER
from recipes.clip.texts import in_parts
from recipes.clip.widen import Objective, Projection, Told, Weights, cached_states, widened

KINDS = ("name", "a name", "kept", "shown", "everyday", "class")


def projection(hidden: int = 256, width: int = 16, dim: int = 8) -> Projection:
    torch.manual_seed(0)
    text = TextTowerConfig(vocabulary=9, context_length=4, width=width, layers=1, heads=2, projection_hidden=hidden)
    return Projection(TextTower(text, dim))


def test_a_wide_layer_reaches_what_no_linear_map_does():
    torch.manual_seed(1)
    states = torch.randn(200, 16) @ torch.diag(torch.logspace(-1, 1, 16))  # of very different spreads
    targets = F.normalize(torch.randn(200, 8), dim=1)
    fits = []
    for hidden in (1, 256):
        made = projection(hidden)
        made.begin(states)
        assert not made.mlp.outer.weight.any()
        made.solve([states], [targets], [1.0], ridge=1e-3)
        fits.append((made(states) * targets).sum(1).mean().item())
        linear = F.linear(states, made.linear.weight) + made.mlp(states)
        assert torch.allclose(made(states), F.normalize(linear, dim=1), atol=1e-5)
    assert fits[0] < 0.5 < 0.95 < fits[1]


def test_the_first_layer_sees_every_direction_alike():
    states = torch.randn(4000, 16) @ torch.diag(torch.logspace(-1, 1, 16)) + 3
    made = projection(512)
    made.begin(states)
    inner = made.mlp.inner(states).detach()
    assert inner.mean(0).abs().mean() < 0.6  # the mean is taken off, but for a bias of half a deviation
    spreads = torch.linalg.svdvals(made.mlp.inner.weight.detach() @ torch.diag(torch.logspace(-1, 1, 16)))
    assert spreads[0] < 15 * spreads[-1]  # those of the states are 1 to 100


def test_kinds_that_weigh_more_are_met_better():
    states = [torch.randn(300, 16), torch.randn(300, 16)]
    targets = [F.normalize(torch.randn(300, 8), dim=1) for _ in states]

    def fits(weights: list[float]) -> list[float]:
        made = projection(64)
        made.begin(torch.cat(states))
        made.solve(states, targets, weights, ridge=1.0)
        return [(made(x) * y).sum(1).mean().item() for x, y in zip(states, targets, strict=True)]

    (a, b), (c, d) = fits([10.0, 0.1]), fits([0.1, 10.0])
    assert a > c + 0.1 and d > b + 0.1


def things() -> list[SceneObject]:
    return [
        SceneObject(key, name, f"{name}s", "noto", colour, colour, 1, "medium", ((0.5, 0.5, 0.5),), {})
        for key, name, colour in (("1", "cat", "red"), ("2", "dog", "blue"), ("3", "car", "green"))
    ]


def test_each_scene_has_its_true_statements_first():
    scenes = [Scene((each,), Ground(("white",), ((255, 255, 255),)), "alone") for each in things()]
    told = Told.of(scenes, things(), np.random.default_rng(0))
    assert len(set(told.texts)) == len(told.texts) == len(told.said)
    for text, said in zip(told.texts, told.said, strict=True):
        thing = said.objects[0]
        assert not text.isascii() or (thing.name in text and (thing.colour or "") in text)
    assert {scene for scene, _ in told.groups} == {0, 1, 2}
    for scene, numbers in told.groups:
        true, *false = (told.texts[number] for number in numbers)
        thing = things()[scene]
        assert thing.name in true and false and true not in false
        if len(false) > 5:  # all other colours, and nothing else changed
            own = f"{thing.colour} {thing.name}"
            assert own in true and {each.split(thing.name)[1] for each in false} == {true.split(thing.name)[1]}
            assert all(own not in each and each.split()[:-2][:-1] == true.split()[:-2][:-1] for each in false)


def objective(rows: torch.Tensor, weights: Weights) -> Objective:
    """Two texts of each kind, of three scenes one true and one false statement each; the places are `rows`."""
    made = projection()
    states = {kind: torch.eye(16)[:2] for kind in KINDS} | {"told": torch.eye(16)[:6]}
    places = {kind: rows[:2] for kind in KINDS} | {"told": rows[:6]}
    groups = [(0, [0, 1]), (1, [2, 3]), (2, [4, 5])]
    return Objective(made, states, places, groups, rows[[0, 2, 4]], weights)


IN_ORDER = {
    "scenes": torch.tensor([0, 1, 2]),
    "told": torch.arange(6),
    "of": torch.tensor([0, 0, 1, 1, 2, 2]),
    "place": torch.tensor([0, 1] * 3),
}
"""Of a batch of `objective`: each of its scenes once."""


def test_losses_vanish_where_all_is_in_its_place_and_fall_in_training():
    rows = torch.eye(8)
    weights = Weights(count=dict.fromkeys(KINDS, 4), told=3)
    made = objective(rows, weights)
    batch = next(made.batches(0))
    assert len(batch["scenes"]) == 3 and batch["place"].tolist() == [0, 1] * 3
    batch |= IN_ORDER
    made.projection.begin(torch.randn(100, 16))
    made.projection.solve([made.states["told"]], [rows[:6]], [1.0], ridge=1e-6)
    best = {name: float(value.detach()) for name, value in made(batch).items()}
    assert all(abs(value) < 1e-3 for value in best.values()), best

    torch.nn.init.normal_(made.projection.linear.weight)
    optimizer = torch.optim.Adam(made.projection.parameters(), lr=1e-2)
    seen = []
    for batch, _ in zip(made.batches(1), range(60), strict=False):
        loss = made(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    means = [float(np.mean(seen[i : i + 20])) for i in (0, 20, 40)]
    assert all(b < a for a, b in pairwise(means)) and means[-1] < 0.3 * means[0]


def test_a_false_statement_at_the_scene_is_a_slip():
    rows = torch.eye(8)
    made = objective(rows, Weights(count=dict.fromkeys(KINDS, 2), told=3))
    made.projection.begin(torch.randn(100, 16))
    targets = rows[:6].clone()
    targets[1] = rows[0]  # the false one lies where the true one does
    made.projection.solve([made.states["told"]], [targets], [1.0], ridge=1e-6)
    batch = next(made.batches(0)) | IN_ORDER
    losses = {name: float(value.detach()) for name, value in made(batch).items()}
    assert losses["slip"] == pytest.approx(np.log(2) / 3, abs=1e-2)
    assert losses["scene"] < 1e-2 and losses["stay"] == pytest.approx(1 / 6, abs=1e-2)


def test_a_widened_clip_keeps_all_weights():
    text = TextTowerConfig(vocabulary=9, context_length=4, width=16, layers=1, heads=2)
    model = Clip(ClipConfig(8, ViTConfig(size=16, patch=8, width=16, layers=1, heads=2), text))
    wide = widened(model, 24)
    assert wide.config.text.projection_hidden == 24 and wide.text.projection_mlp.inner.out_features == 24
    state = wide.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_states_are_computed_once_for_the_same_texts_and_tower(tiny_clip, tmp_path, monkeypatch):
    tokenizer = Tokenizer.from_file(str(tiny_clip / TOKENIZER))
    tower = TextTower(TextTowerConfig(tokenizer.get_vocab_size(), 16, width=16, layers=1, heads=2), 8)
    texts = ["a cat", "two dogs", "the sea"]
    states = cached_states(tower, tokenizer, texts, tmp_path)
    assert states.shape == (3, tower.config.width)
    assert torch.allclose(states, in_parts(tower.pooled, tokenizer, texts))
    assert not torch.equal(cached_states(tower, tokenizer, texts[::-1], tmp_path), states)
    monkeypatch.setattr(tower, "pooled", lambda *_: pytest.fail("computed again"))
    assert torch.equal(cached_states(tower, tokenizer, texts, tmp_path), states)
