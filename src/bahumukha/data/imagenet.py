"""Names of the thousand classes of ImageNet-1k: a list of things that photographs show, fixed, no two names alike."""

from __future__ import annotations

from importlib.resources import files


def class_names() -> list[tuple[str, str]]:
    """(WordNet id, name) of the 1,000 classes, sorted by id."""
    text = files("bahumukha.data").joinpath("imagenet_names.txt").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    return [(wnid, name) for wnid, name in rows]
