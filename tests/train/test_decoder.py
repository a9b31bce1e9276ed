"""What a decoder sees in training: pictures on the way from a codec's copies of them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from bahumukha.generate.sketch import left_of_sketch
from bahumukha.models.spaces import Pixels
from bahumukha.nn.draws import Draws
from bahumukha.train.decoder import DecoderRun
from bahumukha.train.unclip_config import SketchesConfig

COUNT, BEGUN = 8, 0.6


class Darkened:
    """Of this codec a copy is half as bright; `rows` are how many it has made."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, x: Tensor) -> tuple[Tensor, None]:
        self.rows += len(x)
        return x / 2, None


def pictures() -> Tensor:
    return torch.rand(COUNT, 3, 4, 4, generator=torch.Generator().manual_seed(0)) - 0.5


def on_the_way(share: float, codec: Any = None, part: int = 0, parts: int = 1) -> Callable[[Tensor], Tensor]:
    """All begin at BEGUN."""
    run: Any = SimpleNamespace(
        config=SimpleNamespace(sketches=SketchesConfig(share=share, noise=(BEGUN, BEGUN))), space=Pixels()
    )
    rows = slice(part * COUNT // parts, (part + 1) * COUNT // parts)
    x = pictures()[rows]
    return DecoderRun._on_the_way(run, codec or Darkened(), x, x, Draws.of(3, 0, torch.device("cpu"), part, parts))


def test_as_much_of_the_copy_as_is_left_and_none_before_the_way_begins() -> None:
    t = torch.linspace(0.05, 0.95, COUNT)
    seen, x = on_the_way(1.0)(t), pictures()
    left = left_of_sketch(t, torch.tensor(BEGUN)).view(-1, 1, 1, 1)
    before = t >= BEGUN
    assert torch.equal(seen[before], x[before]) and 0 < before.sum() < COUNT
    assert torch.allclose(seen[~before], torch.lerp(x, x / 2, left)[~before])


def test_a_share_of_the_rows_and_copies_of_no_others() -> None:
    t, x = torch.full((COUNT,), 0.3), pictures()
    for share, least, most in ((0.0, 0, 0), (0.5, 1, COUNT - 1), (1.0, COUNT, COUNT)):
        codec = Darkened()
        changed = (on_the_way(share, codec)(t) != x).flatten(1).any(1).sum()
        assert least <= int(changed) <= most and codec.rows == int(changed)


def test_parts_of_a_batch_see_what_the_whole_sees() -> None:
    t = torch.full((COUNT,), 0.3)
    whole = on_the_way(0.5)(t)
    parts = torch.cat([on_the_way(0.5, None, part, 2)(t[: COUNT // 2]) for part in range(2)])
    assert torch.equal(parts, whole)
