"""The program's own files: pages, styles, scripts, words. A name is looked up among them, so none leads elsewhere."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}


@dataclass(frozen=True)
class Shipped:
    """A file's content, its type, and a tag that changes with it."""

    data: bytes
    kind: str
    tag: str


@cache
def shipped(folder: str) -> dict[str, Shipped]:
    """Name -> file of `static` or `strings`."""
    found = {}
    for entry in (files("bahumukha.web") / folder).iterdir():
        ending = entry.name[entry.name.rfind(".") :]
        if ending in TYPES:
            data = entry.read_bytes()
            found[entry.name] = Shipped(data, TYPES[ending], f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"')
    return found


@cache
def languages() -> dict[str, str]:
    """Of the pages: code -> its own name, English first. A file of words in `strings` is all that another one needs."""
    found = {name.removesuffix(".json"): json.loads(file.data)["language"] for name, file in shipped("strings").items()}
    return dict(sorted(found.items(), key=lambda each: (each[0] != "en", each[0])))
