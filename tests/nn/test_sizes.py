"""Sizes that no transformer can have, and which field is named."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from bahumukha.nn.sizes import TransformerSizes, check_least, check_transformer


@dataclass(frozen=True, kw_only=True)
class Tiny(TransformerSizes):
    dropout: float = 0.0
    words: int = 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "width is 0; it must be at least 1"),
        ({"layers": 0}, "layers is 0; it must be at least 1"),
        ({"heads": 0}, "heads is 0; it must be at least 1"),
        ({"width": 31}, "width is 31; it must be a multiple of heads 5"),
        ({"mlp_ratio": 0.0}, "mlp_ratio is 0.0; it must be above 0"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio is nan"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be at least 0 and below 1"),
    ],
)
def test_what_is_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tiny(**change)  # type: ignore[arg-type]


def test_turned_positions_take_quarters_of_a_head() -> None:
    with pytest.raises(ValueError, match="width is 30; it must be a multiple of 4 x heads 5"):
        check_transformer(Tiny(width=30), turned=True)
    check_transformer(Tiny(width=40), turned=True)
    with pytest.raises(ValueError, match="words is 2; it must be at least 3"):
        check_least(Tiny(), layers=1, words=3)
