"""Properties of top-k, top-p, temperature, guidance and the draw."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bahumukha.errors import UsageError
from bahumukha.nn.sampling import Sampling, draw, guided, nucleus, probabilities

rows = st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=30).map(lambda values: torch.tensor([values]))


@given(rows, st.integers(1, 40))
def test_top_k_keeps_the_k_likeliest(logits: Tensor, k: int) -> None:
    p = probabilities(logits, Sampling(top_k=k))[0]
    kept = p > 0
    assert kept.sum() == min(k, len(p)), "also among equals"
    assert p.sum() == pytest.approx(1)
    if not kept.all():
        assert logits[0][kept].min() >= logits[0][~kept].max() - 1e-6  # nearer ones are equal as probabilities
    whole = probabilities(logits, Sampling())[0]
    assert torch.allclose(p[kept], whole[kept] / whole[kept].sum())


@given(rows, st.floats(0.01, 1))
def test_top_p_keeps_the_fewest_that_suffice(logits: Tensor, mass: float) -> None:
    whole = probabilities(logits, Sampling())[0]
    p = probabilities(logits, Sampling(top_p=mass))[0]
    kept = p > 0
    assert p.sum() == pytest.approx(1)
    assert whole[kept].sum() >= mass - 1e-9
    assert whole[kept].sum() - whole[kept].min() < mass + 1e-9, "one fewer would not suffice"
    if not kept.all():
        assert whole[kept].min() >= whole[~kept].max()


@given(rows, st.floats(0.05, 5))
def test_temperature_is_a_power_of_the_probabilities(logits: Tensor, temperature: float) -> None:
    power = probabilities(logits, Sampling()) ** (1 / temperature)
    expected = power / power.sum()
    assert torch.allclose(probabilities(logits, Sampling(temperature=temperature)), expected, atol=1e-6)


@given(rows)
def test_temperature_nought_takes_the_likeliest_and_small_ones_come_to_it(logits: Tensor) -> None:
    p = probabilities(logits, Sampling(temperature=0))[0]
    assert p.max() == 1 and p.sum() == 1 and logits[0][p.argmax()] == logits.max()
    cold = probabilities(logits, Sampling(temperature=1e-300))[0]
    assert torch.equal(cold > 0, logits[0] == logits.max())


@given(rows, st.integers(1, 5), st.floats(0.05, 1), st.floats(0, 1, exclude_max=True))
def test_nothing_that_was_left_out_is_drawn(logits: Tensor, k: int, mass: float, uniform: float) -> None:
    p = probabilities(logits, Sampling(top_k=k, top_p=mass))
    assert p[0, draw(p, torch.tensor([uniform], dtype=torch.float64))] > 0
    for number in (0.0, 1 - 2**-53):
        assert p[0, draw(p, torch.tensor([number], dtype=torch.float64))] > 0


def test_draws_are_as_frequent_as_they_are_probable() -> None:
    p = torch.tensor([[0.0, 0.5, 0.125, 0.0, 0.375, 0.0]])
    numbers = (torch.arange(8000, dtype=torch.float64) + 0.5) / 8000  # every eight-thousandth once
    counts = draw(p.expand(8000, -1), numbers).bincount(minlength=6)
    assert counts.tolist() == [0, 4000, 1000, 0, 3000, 0]


def test_nucleus_of_one_batch_row_by_row() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], dtype=torch.float64)
    expected = torch.tensor([[0.625, 0.375, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    assert torch.allclose(nucleus(p, 0.79), expected)


def test_guidance() -> None:
    c, u = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 1.0])
    before = c.clone(), u.clone()
    assert torch.equal(guided(c, u, 1.0), c) and torch.equal(guided(c, u, 0.0), u)
    assert torch.allclose(guided(c, u, 3.0), u + 3 * (c - u))
    assert torch.equal(c, before[0]) and torch.equal(u, before[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1}, "temperature: -1 was given; it takes a number from 0 up"),
        ({"temperature": float("nan")}, "temperature: nan was given"),
        ({"top_k": 0}, "top_k: 0 was given; it takes a whole number above 0"),
        ({"top_p": 0.0}, "top_p: 0.0 was given; it takes a number above 0, at most 1"),
        ({"top_p": 1.5}, "top_p: 1.5 was given"),
        ({"guidance": -0.5}, "guidance: -0.5 was given; it takes a number from 0 up"),
    ],
)
def test_mistakes_are_one_line(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError) as error:
        Sampling(**options)  # type: ignore[arg-type]
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
