"""Paths and text as the ledger compares them: bytes that need not be text, folders, case.

A picture without a file of its own has a path too. One in an object store has its URL, `s3://bucket/cats/a.jpg`; one
that is packed with others into a shard or a table lies below that file as below a folder, `/data/train-0001.tar/a.jpg`,
so that folders, filters and forgetting mean the same for all.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

PACKED = {".tar": "WEBDATASET", ".parquet": "PARQUET"}
"""Endings of files that hold many pictures -> `format` of such a file's own row in the ledger."""


def is_url(path: str) -> bool:
    """Whether this names something in an object store rather than on a disk; a picture in a shard may have any name."""
    scheme, sign, _ = path.partition("://")
    return bool(sign) and "/" not in scheme


def resolved(path: str | os.PathLike[str]) -> str:
    """A path as the ledger has it: absolute, links followed; `file:` URLs as paths, other URLs without a last slash."""
    text = os.fspath(path)
    if not is_url(text):
        return os.path.realpath(text)
    if text.startswith("file://"):
        return os.path.realpath(unquote(urlsplit(text).path))
    scheme, _, rest = text.partition("://")
    return f"{scheme}://{rest.rstrip('/')}"


def pack_of(path: str) -> str | None:
    """The shard or table that the picture at `path` is packed in, or that `path` itself is; None for a plain file.

    It need not exist. A folder may be called `a.tar` as well; what lies there is no pack.
    """
    end, text = 0, path.replace(os.sep, "/")
    while end < len(path):
        end = text.find("/", end + 1)
        end = len(path) if end < 0 else end
        if path[:end].lower().endswith(tuple(PACKED)) and (is_url(path) or not os.path.isdir(path[:end])):
            return path[:end]
    return None


def packed_path(pack: str, name: str) -> str:
    """Where the ledger has the picture `name` of a shard or table."""
    return pack + ("/" if is_url(pack) else os.sep) + name


def is_there(path: str) -> bool:
    """Whether the picture can still be opened, as far as a look at the disk tells; an object store is not asked."""
    return is_url(path) or os.path.exists(path) or ((pack := pack_of(path)) is not None and os.path.isfile(pack))


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
        return "TRUE", []
    parts, values = [], []
    for name in paths:
        path, separator = os.fsencode(name), b"/" if is_url(name) else os.fsencode(os.sep)
        stem = path.rstrip(separator)
        parts.append("path = ? OR (path >= ? AND path < ?)")
        values += [path, stem + separator, stem + bytes([separator[0] + 1])]
    return "(" + " OR ".join(parts) + ")", values


def under(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies below it; both absolute."""
    separator = "/" if is_url(folder) else os.sep
    return path == folder or path.startswith(folder.rstrip(separator) + separator)
