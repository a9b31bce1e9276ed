"""Paths and text as the ledger compares them: bytes that need not be text, folders, case."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence


def text_of(path: str) -> str:
    """A path as text that any database and terminal can take: bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


def fold(text: str | None) -> str:
    """Text for comparing: case and Unicode composition do not matter."""
    return unicodedata.normalize("NFC", text or "").casefold()


def within(paths: Sequence[str]) -> tuple[str, list[bytes]]:
    """SQL condition, with its parameters, for files that are one of `paths` or lie below one of them.

    No paths means no restriction. The ranges are answered by the index on `path`.
    """
    if not paths:
        return "1", []
    parts, values = [], []
    for path in map(os.fsencode, paths):
        stem = path.rstrip(os.fsencode(os.sep))
        separator = os.fsencode(os.sep)
        parts.append("path = ? OR (path >= ? AND path < ?)")
        values += [path, stem + separator, stem + bytes([separator[0] + 1])]
    return "(" + " OR ".join(parts) + ")", values


def under(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies below it; both absolute."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
