"""Which things are kept from training in which style of drawing.

A model that has seen apples, and has seen other things in a style, should draw an apple in it. Whether it does is
tested on pairs of style and thing that training never shows, neither alone nor in a scene: a twentieth, by a hash. (The
same for colours, a tenth, is `data.scenes.is_held_out`; how captions name a style is `data.scene_captions.styled`.)
"""

from __future__ import annotations

import hashlib

HELD_OUT_PERCENT = 5


def is_held_out(style: str, thing: str) -> bool:
    """Whether no training shows the thing, by its `key` in `captions.jsonl`, in this style."""
    digest = hashlib.sha256(f"style|{style}|{thing}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT
