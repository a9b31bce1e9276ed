"""Kernel regression from the classes, as a perceptron: each hidden unit says how like one class a word is."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from bahumukha.models.text import Perceptron
from recipes.clip.anchors import LEAST, anchor
from recipes.clip.train import solved

SIZES = {"name": 6, "definition": 5, "taxonomy": 4}


def parts(count: int, width: int = 12) -> tuple[dict, dict, torch.Tensor]:
    """Vectors of `count` classes, read-outs of a tower, and states whose read-outs are these vectors but for length."""
    torch.manual_seed(0)
    vectors = {name: F.normalize(torch.randn(count, size), dim=1) for name, size in SIZES.items()}
    outs = {name: (torch.randn(size, width), torch.randn(size)) for name, size in SIZES.items()}
    weight = torch.cat([weight for weight, _ in outs.values()])  # (15, width)
    bias = torch.cat([bias for _, bias in outs.values()])
    wanted = 3 * torch.cat(list(vectors.values()), 1)
    return vectors, outs, (wanted - bias) @ torch.linalg.pinv(weight).T


def test_a_unit_is_the_sum_of_three_cosines_with_its_class():
    vectors, outs, states = parts(7, width=20)  # wide enough that states can have any read-outs
    layer = Perceptron(20, 7, 3)
    anchor(layer, vectors, outs, states)
    cosines = sum(vectors[name] @ vectors[name].T for name in SIZES)
    assert torch.allclose(layer.inner(states), cosines - LEAST, atol=1e-3)
    assert torch.allclose(layer.inner(states).diagonal(), torch.full((7,), 3 - LEAST), atol=1e-3)


def test_what_is_like_two_classes_lies_between_them():
    vectors, outs, states = parts(7, width=20)
    layer = Perceptron(20, 7, 7)
    anchor(layer, vectors, outs, states)
    matrix = solved([layer.hidden(states).detach()], [torch.eye(7)], [1.0], ridge=1e-3)
    layer.outer.weight.data.copy_(matrix)
    places = layer(states).detach()
    assert (places.argmax(1) == torch.arange(7)).all()
    between = layer((states[:1] + states[1:2]) / 2).detach()[0]
    assert set(np.argsort(-between.numpy())[:2]) == {0, 1}
