"""Drawing pictures token by token: with the cache beside computing the window anew for each token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.timing import line, seconds

GRID = (16, 16)
"""The trained grid, the paper's window."""


def sliding(photos: Path | None = None) -> None:
    """A grid of the trained size and one twice as wide; tokens computed, and tokens a second. About two minutes.

    Random weights: what is drawn makes no difference to the time. One picture at a time, as someone waits for it.
    """
    import torch

    from bahumukha import runtime
    from bahumukha.models.tokens import TokenTransformer, TokenTransformerConfig
    from bahumukha.nn.causal import laid_out_for_sampling

    torch.set_num_threads(runtime.thread_count(None))
    torch.manual_seed(0)
    # Laid out as every model that is loaded; without the cache it makes no difference.
    model = laid_out_for_sampling(TokenTransformer(TokenTransformerConfig(codes=1000, grid=GRID)).eval())
    _beside(model, GRID, None)
    _beside(model, (GRID[0], 2 * GRID[1]), None)


def _beside(model: Any, grid: tuple[int, int], stride: int | None) -> None:
    from bahumukha.generate.tokens import sample_ids

    computed: list[int] = []
    inner = model._through

    def through(x: Any, *rest: Any) -> Any:
        computed.append(x.shape[0] * x.shape[1])
        return inner(x, *rest)

    counts: dict[bool, int] = {}

    def draw(cached: bool) -> None:
        computed.clear()
        for _ in sample_ids(model, grid=grid, stride=stride, cached=cached):
            pass
        counts[cached] = sum(computed)

    model._through = through
    try:
        with_cache, without = seconds(lambda: draw(True), lambda: draw(False), rounds=1)
    finally:
        del model._through
    fast, slow = counts[True], counts[False]
    tokens = grid[0] * grid[1]
    name = f"{grid[0]} x {grid[1]}, window {GRID[0]} x {GRID[1]}, stride {stride or GRID[0] // 2}"
    print(f"  {name}: {fast:,} tokens computed with the cache, {slow:,} without ({slow / fast:.1f} x)")
    line(f"{name}, without the cache", tokens / without, "tokens/s")
    line(f"{name}, with it", tokens / with_cache, "tokens/s", tokens / without)
