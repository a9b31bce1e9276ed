"""What `bahu serve` is started with."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bahumukha.errors import UsageError
from bahumukha.runtime import data_home
from bahumukha.search.paths import is_url, pack_of, resolved, text_of
from bahumukha.search.places import Place, place_of

SHORTEST_TOKEN = 12
SEVERAL = "*?[{"
"""Signs by which one name stands for several."""
MAKING = "bahumukha.web.making"
"""The module that knows how each kind of job is done; the worker imports it."""


@dataclass(frozen=True)
class ServerConfig:
    """All of a server's settings. Raises UsageError naming the option."""

    folders: tuple[Path | str, ...] = ()
    """Of which pictures may be shown: folders, shards, tables, and URLs of such; none for all that is indexed."""
    index: Path | None = None
    """The ledger; None for the user's own."""
    created: Path | None = None
    """Where pictures that are made go; None for `created` in the user's data folder."""
    model: str | None = None
    """CLIP model; None for the index's own."""
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    """What a client has to know; needed where others than this machine can reach the server."""
    names: tuple[str, ...] = ()
    """Host names under which the server may be asked, besides its address."""
    waiting: int = 20
    """Jobs that may wait; more are turned away."""
    upload_bytes: int = 32 << 20
    upload_pixels: int = 100_000_000
    making: str = MAKING
    store: str | None = None
    """URL of a store that many machines share, instead of a ledger."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UsageError(f"--port {self.port}: it takes a number from 0 to 65535")
        if self.token is not None and (len(self.token) < SHORTEST_TOKEN or not self.token.isascii()):
            raise UsageError(f"--token: it takes {SHORTEST_TOKEN} or more plain letters, digits and signs")
        if self.token is None and not self.is_local:
            raise UsageError(f"--host {self.host}: other machines can reach that address; give --token TEXT too")
        if self.waiting < 1:
            raise UsageError(f"waiting is {self.waiting}; it must be at least 1")
        self.place  # noqa: B018 (complains of what is wrong with it)
        self.roots  # noqa: B018 (from now on)
        for folder in self.folders:
            _require_one(folder)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """The folders as the index names them. They stay what they were at the start: a name may become a link."""
        return tuple(dict.fromkeys(map(resolved, self.folders)))

    @property
    def place(self) -> Place:
        """The ledger, or the URL of the store. Raises UsageError for both at once."""
        return place_of(self.index.absolute() if self.index is not None else None, self.store)

    @property
    def results(self) -> Path:
        return self.created if self.created is not None else data_home() / "created"

    @property
    def thumbnails(self) -> Path:
        """Beside the ledger, as what else is derived from it; of a store, in the user's data folder."""
        place = self.place
        return place.with_name(place.name + "-thumbnails") if isinstance(place, Path) else data_home() / "thumbnails"


def _require_one(folder: Path | str) -> None:
    """Raises UsageError for what is not one folder, pack or URL: paths of the index have to begin with it."""
    root = resolved(folder)
    if os.path.isdir(root) or (pack_of(root) == root and os.path.isfile(root)):
        return
    is_several = any(sign in root for sign in SEVERAL)
    if is_url(root) and not is_several:
        return
    said = "serve cannot take this URL" if is_url(root) else "there is no such folder, shard (.tar) or table (.parquet)"
    if is_several:
        said += "; it takes no ranges and none of * ? [ {: name packs one by one, or the folder that they lie in"
    raise UsageError(f"{text_of(os.fspath(folder))}: {said}")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own, out of reach for others."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
