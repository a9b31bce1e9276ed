"""DALL-E 1: drawing nine pictures of a sentence, beside DALLE-pytorch's own sampler.

Its package pins a tokenizer that no longer builds, so it is installed for the bench only, without what it asks for:

    pip install --no-deps --target PEERS dalle-pytorch==1.6.6 "rotary-embedding-torch<0.2" \\
        "axial-positional-embedding<0.3" einops
    PYTHONPATH=PEERS python -m bench dalle

What it imports besides (omegaconf, taming-transformers, pkg_resources) serves loading of VQGANs and its version, which
nothing here does; empty modules stand in for them.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.timing import line, seconds

COUNT = 9
GUIDANCE = 3.0
CODES = 1000
VOCABULARY = 2000
TEXT = 32
"""Tokens of the text; all of them are words, so that neither side is spared any."""
WIDTH, LAYERS, HEADS = 320, 8, 5
MLP_RATIO = 6.0
"""Of ours. Theirs has a gate in its MLP, and so three matrices of ratio 4: as many weights a layer as ours at 6."""
SIDES = (8, 16)
"""Of the grid, in tokens."""
NEEDED = ("dalle_pytorch", "rotary_embedding_torch", "axial_positional_embedding", "einops")


def beside_dalle_pytorch(photos: Path | None = None) -> None:
    """Nine pictures of 64 and of 256 tokens with guidance, random weights. Some minutes: most of it theirs.

    Theirs runs with its cache and, at the first size, without: it is off unless asked for, and 256 tokens then take
    minutes. Its guidance computes both halves for every token, though only the first token's differ (`generate.dalle`),
    so the work is the same on both sides.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        print(f"  {', '.join(missing)}: not installed; the top of bench/dalle.py says how to", file=sys.stderr)
        raise SystemExit(1)
    import torch

    from bahumukha import runtime

    torch.set_num_threads(runtime.thread_count(None))
    torch.manual_seed(0)
    for side in SIDES:
        text = torch.randint(1, VOCABULARY, (1, TEXT))
        our_weights, ours = _ours(side, text)
        their_weights, theirs = _theirs(side, text)
        print(f"  {side} x {side} tokens, {LAYERS} layers of {WIDTH}, guidance {GUIDANCE:g}; weights of the layers:")
        print(f"  ours {our_weights / 1e6:.1f} M, theirs {their_weights / 1e6:.1f} M")
        both = (True, False) if side == SIDES[0] else (True,)
        spent = seconds(ours, *(partial(theirs, cached) for cached in both), rounds=1)
        rate, *rates = [COUNT / each for each in spent]
        for cached, their_rate in zip(both, rates, strict=True):
            how = "with its cache" if cached else "without its cache"
            line(f"DALLE-pytorch, {how}", their_rate, "pictures/s")
            line(f"ours, over theirs {how}", rate, "pictures/s", their_rate)
        print(f"  ours: {spent[0]:.2f} s for {COUNT} pictures", flush=True)


def _ours(side: int, text: Any) -> tuple[int, Callable[[], None]]:
    """Weights of the layers, and drawing once."""
    from bahumukha.generate.dalle import sample_ids
    from bahumukha.models.dalle import Dalle, DalleConfig
    from bahumukha.nn.sampling import Sampling

    config = DalleConfig(
        vocabulary=VOCABULARY, codes=CODES, grid=(side, side), text_length=TEXT, padded_to=TEXT,
        width=WIDTH, layers=LAYERS, heads=HEADS, mlp_ratio=MLP_RATIO,
    )  # fmt: skip
    model = Dalle(config).eval()
    sampling = Sampling(top_k=CODES // 2, guidance=GUIDANCE)

    def draw() -> None:
        for _ in sample_ids(model, text, count=COUNT, sampling=sampling):
            pass

    return sum(p.numel() for p in model.blocks.parameters()), draw


def _theirs(side: int, text: Any) -> tuple[int, Callable[[bool], None]]:
    """Weights of the layers, and drawing once, with its cache or without. Its codec is of one layer a halving and next
    to no channels, so that pictures cost next to nothing."""
    package = _package()
    codec = package.DiscreteVAE(
        image_size=8 * side, num_tokens=CODES, codebook_dim=8, num_layers=3, num_resnet_blocks=0, hidden_dim=8
    )
    model = package.DALLE(
        dim=WIDTH, vae=codec, num_text_tokens=VOCABULARY, text_seq_len=TEXT, depth=LAYERS, heads=HEADS,
        dim_head=WIDTH // HEADS,
    ).eval()  # fmt: skip

    def draw(cached: bool) -> None:
        # A copy: its guidance blanks the text that it is given.
        model.generate_images(text.repeat(COUNT, 1), filter_thres=0.5, cond_scale=GUIDANCE, use_cache=cached)

    return sum(p.numel() for p in model.transformer.parameters()), draw


def _package() -> Any:
    """Their package, with stand-ins for what is not installed of what it imports in vain."""
    stand_ins: dict[str, tuple[str, ...]] = {
        "omegaconf": ("OmegaConf",),
        "taming": (),
        "taming.models": (),
        "taming.models.vqgan": ("VQModel", "GumbelVQ"),
        "pkg_resources": ("get_distribution",),
    }
    roots = {name.partition(".")[0] for name in stand_ins} - set(sys.modules)
    absent = {root for root in roots if importlib.util.find_spec(root) is None}
    for name, members in stand_ins.items():
        if name.partition(".")[0] in absent:
            sys.modules[name] = ModuleType(name)
            vars(sys.modules[name]).update(dict.fromkeys(members))
    import dalle_pytorch

    return dalle_pytorch
