"""Where an index is: in a file of this machine, or in a database that many machines share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bahumukha.errors import UsageError
from bahumukha.search.paths import is_url
from bahumukha.search.ranking import MatrixRanker, Ranker
from bahumukha.search.records import Store
from bahumukha.search.store import Ledger
from bahumukha.search.vectors import APPROXIMATE_ABOVE

VARIABLE = "BAHUMUKHA_STORE"
"""Environment variable: the URL of a store, which holds a password that is no business of `ps`."""
SCHEMES = ("postgresql", "postgres")

Place = Path | str
"""A ledger's file, or a store's URL."""


def place_of(path: str | Path | None = None, url: str | None = None) -> Place:
    """What `--db PATH` and `--store URL` say, else the variable, else `index.db` in the user's data folder.

    Raises UsageError for both at once, and for a URL of another kind of database.
    """
    if path is not None and url is not None:
        raise UsageError("--db is an index in a file, --store one in a database; give one of them")
    if url is None and path is None:
        url = os.environ.get(VARIABLE, "").strip() or None
    if url is not None:
        return _checked(url)
    if path is None:
        from bahumukha.runtime import data_home

        return data_home() / "index.db"
    text = os.fspath(path)
    return _checked(text) if isinstance(path, str) and is_url(text) else Path(path)


def open_store(place: Place, *, create: bool = False) -> Store:
    """Raises PictureIndexError where there is none (unless `create`), or where it cannot be reached or read."""
    if isinstance(place, Path):
        return Ledger(place, create=create)
    return _postgres().PostgresStore(place, create=create)


def exists(place: Place) -> bool:
    """Whether anything was ever indexed there. Raises PictureIndexError where that cannot be told."""
    return place.exists() if isinstance(place, Path) else bool(_postgres().is_made(place))


def ranker(place: Place, approximate_above: int | None = None) -> Ranker:
    """What ranks the pictures of the store at `place`.

    approximate_above: with more pictures than this, an approximate graph is kept; None for what suits the store.
    """
    if isinstance(place, Path):
        return MatrixRanker(APPROXIMATE_ABOVE if approximate_above is None else approximate_above)
    _postgres()
    from bahumukha.search.postgres.indexes import GRAPH_ABOVE
    from bahumukha.search.postgres.ranking import PostgresRanker

    return PostgresRanker(GRAPH_ABOVE if approximate_above is None else approximate_above)


def _postgres() -> Any:
    """The module, with what it needs. Raises UsageError naming the extra."""
    try:
        from bahumukha.search import postgres
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "bahumukha":
            raise
        raise UsageError(f"--store needs {error.name}, of the extra [scale]: pip install 'bahumukha[scale]'") from error
    return postgres


def _checked(url: str) -> str:
    scheme, sign, _ = url.partition("://")
    if not sign or scheme not in SCHEMES:
        given = f"{scheme}://…" if sign else repr(url)  # what follows may hold a password
        raise UsageError(f"--store {given}: give a PostgreSQL database, as postgresql://USER@HOST:5432/DATABASE")
    return url
