"""Object stores and whatever else has a URL, through fsspec: what lies there, and its bytes.

fsspec needs a package for each kind of store (`s3fs`, `gcsfs`, `adlfs`); for S3 and Google's, pyarrow's own do as well.
Credentials are found as those packages find them: environment, configuration files, the machine's role.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, BinaryIO

from bahumukha.errors import BahumukhaError, UsageError
from bahumukha.search.paths import PACKED
from bahumukha.search.reading import Unreadable

INSTALL = "pip install 'bahumukha[scale]'"
PATIENCE = 20.0
"""Seconds that someone who wants to see one picture waits."""


@dataclass(frozen=True, slots=True)
class Object:
    """One object; `mtime_ns` stands for its version, and is 0 where the store tells none."""

    path: str
    size: int
    mtime_ns: int


def pictures_below(url: str) -> list[Object]:
    """Pictures at or below `url`, by their endings, sorted by name; hidden ones are left out as in folders.

    Raises UsageError when the store cannot be asked.
    """
    from bahumukha.images import EXTENSIONS

    return [found for found in _below(url) if found.path == url or _ending(found.path) in EXTENSIONS]


def packs(url: str) -> list[Object]:
    """The shards or tables that a URL with `*` in it stands for. Raises UsageError when there is none."""
    try:
        system, path = _place(url)
        system.invalidate_cache()
        found = system.glob(path, detail=True) if "*" in path else {path: system.info(path)}
    except BahumukhaError:
        raise
    except FileNotFoundError:
        found = {}
    except Exception as error:  # each store's package has exceptions of its own
        raise UsageError(f"{url}: {_reason(error)}") from error
    named = [_object(_named(url, path, name), info) for name, info in sorted(found.items())]
    named = [each for each in named if _ending(each.path) in PACKED]
    if not named:
        raise UsageError(f"{url}: there is no such shard or table")
    return named


@contextmanager
def _reading(url: str) -> Iterator[tuple[Any, str]]:
    """An object's file system and its path there; what fails meanwhile becomes Unreadable that names it."""
    try:
        yield _place(url)
    except UsageError:
        raise
    except Exception as error:  # each store's package has exceptions of its own
        raise Unreadable(f"{url}: cannot be read: {_reason(error)}") from error


def read_bytes(url: str) -> bytes:
    """All of one object. Raises Unreadable."""
    with _reading(url) as (system, path):
        return bytes(system.cat_file(path))


def read_part(url: str, start: int, size: int) -> bytes:
    """At most `size` bytes of an object from `start` on, in PATIENCE seconds where its store's package can be told so.

    Raises Unreadable.
    """
    with _reading(url) as (system, path):
        return bytes(system.cat_file(path, start=start, end=start + size, **_hurry(system)))


def look(url: str) -> Object:
    """What a store tells of one object, in PATIENCE seconds as above. Raises Unreadable."""
    with _reading(url) as (system, path):
        return _object(url, system.info(path, **_hurry(system)))


def _hurry(system: Any) -> dict[str, float]:
    return {"timeout": PATIENCE} if system.async_impl else {}


def open_stream(url: str) -> BinaryIO:
    """An object to be read from front to back, or with seeks. Raises Unreadable."""
    with _reading(url) as (system, path):
        stream: BinaryIO = system.open(path, "rb")
        return stream


def _below(url: str) -> Iterator[Object]:
    try:
        system, path = _place(url)
        system.invalidate_cache()
        found = system.find(path, detail=True)
    except BahumukhaError:
        raise
    except FileNotFoundError:
        return
    except Exception as error:  # each store's package has exceptions of its own
        raise UsageError(f"{url}: {_reason(error)}") from error
    for name, info in sorted(found.items()):
        named = _named(url, path, name)
        if not any(part.startswith(".") for part in named[len(url) :].split("/")):
            yield _object(named, info)


def _named(url: str, path: str, name: str) -> str:
    """The URL of what the store calls `name`; the store calls `url` itself `path`."""
    if url.endswith(path):
        return url[: len(url) - len(path)] + name
    return url.partition("://")[0] + "://" + name.lstrip("/")


def _ending(path: str) -> str:
    name = path.rpartition("/")[2]
    return "." + name.rpartition(".")[2].lower() if "." in name else ""


def _object(url: str, info: Mapping[str, Any]) -> Object:
    return Object(url, int(info.get("size") or 0), _version(info))


def _version(info: Mapping[str, Any]) -> int:
    """When it was last written, in nanoseconds, under whichever name a store tells it; else a hash of its tag."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = info.get(name)
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                continue
        if isinstance(value, datetime):
            value = value.timestamp()
        if isinstance(value, (int, float)):
            return round(value * 1e6) * 1000
    tag = info.get("ETag") or info.get("etag") or info.get("md5Hash")
    return int.from_bytes(hashlib.blake2b(str(tag).encode(), digest_size=7).digest()) if tag else 0


def _place(url: str) -> tuple[Any, str]:
    """File system and path in it. Raises UsageError that names the package to install."""
    scheme, _, rest = url.partition("://")
    try:
        system = _opened(f"{scheme}://{rest.partition('/')[0]}")  # one for each bucket or host
    except ModuleNotFoundError as error:
        if error.name in ("fsspec", "pyarrow"):
            raise UsageError(f"{url}: object stores take what `{INSTALL}` installs") from error
        raise UsageError(f"{url}: {scheme} takes the package {error.name}; install it with pip") from error
    except Exception as error:  # each store's package has exceptions of its own
        raise UsageError(
            f"{url}: no object store can be reached this way ({_reason(error)}); give a folder, or a URL such as "
            "s3://bucket/folder"
        ) from error
    return system, system._strip_protocol(url)


@lru_cache(maxsize=32)
def _opened(start: str) -> Any:
    import fsspec

    try:
        return fsspec.core.url_to_fs(start)[0]
    except ImportError:
        from fsspec.implementations.arrow import ArrowFSWrapper
        from pyarrow import fs

        return ArrowFSWrapper(fs.FileSystem.from_uri(start)[0])


def _reason(error: BaseException) -> str:
    said = getattr(error, "strerror", None) or str(error)
    return " ".join(str(said).split())[:200] or type(error).__name__
