"""The pictures that may be shown: what the ledger says of them, and their bytes, never of one outside the folders.

Connections to the ledger are kept open and lent out, as opening one costs more than most questions do.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bahumukha.search.paths import is_url, pack_of, under, within
from bahumukha.search.places import Place, exists, open_store
from bahumukha.search.records import Store, parts
from bahumukha.search.where import Condition, compile_where
from bahumukha.web.config import ServerConfig
from bahumukha.web.errors import NotFound
from bahumukha.web.opening import Opener, Showable, told

MOST_FACETS = 100
MOST_PLACES = 200
"""Folders and packs that are told apart where all that is indexed is shown; a database takes no longer condition."""

_COLUMNS = "id, path, content, width, height, format, taken, camera, latitude, longitude, size"


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture of the index as its row has it; sizes in pixels, upright, and in bytes."""

    id: int
    path: str
    content: str
    """Hash of the file, in hexadecimal digits."""
    width: int | None
    height: int | None
    format: str | None
    taken: str | None
    camera: str | None
    latitude: float | None
    longitude: float | None
    size: int

    @property
    def name(self) -> str:
        return told(self.path).rpartition("/" if is_url(self.path) else os.sep)[2]

    @property
    def is_far(self) -> bool:
        """Whether it comes from an object store, which may let one wait."""
        return is_url(pack_of(self.path) or self.path)


class Library:
    """The ledger, within the folders that the server was started with. Every method may be called from any thread."""

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self._opener = Opener()
        self._idle: list[tuple[tuple[int, int], Store]] = []
        self._lock = threading.Lock()
        self._was_made = False

    def close(self) -> None:
        """Close the connections that are not lent out."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, ledger in idle:
            ledger.close()

    @property
    def exists(self) -> bool:
        """Whether anything was ever indexed."""
        place = self.config.place
        if isinstance(place, Path) or not self._was_made:  # a server is not asked again and again
            self._was_made = exists(place)
        return self._was_made

    @contextmanager
    def ledger(self) -> Iterator[Store]:
        """A connection to the ledger as it now is. Raises PictureIndexError where there is none."""
        identity = _identity(self.config.place)
        with self._lock:
            fit = [each for each in self._idle if each[0] == identity]
            unfit = [each for each in self._idle if each[0] != identity]  # the file was replaced
            lent = fit.pop()[1] if fit else None
            self._idle = fit
        for _, old in unfit:
            old.close()
        ledger = lent or open_store(self.config.place)
        try:
            yield ledger
        except BaseException:
            ledger.close()
            if isinstance(self.config.place, str):
                self.close()  # where a server was started again, all connections to it are dead
            raise
        with self._lock:
            self._idle.append((identity, ledger))

    def roots(self, ledger: Store) -> list[str]:
        """The folders, packs and stores of which pictures may be shown."""
        if self.config.roots:
            return list(self.config.roots)
        roots = [root.path for root in ledger.roots()]
        return roots + [pack for pack in ledger.packs() if not any(under(pack, root) for root in roots)]

    def covers(self, root: str) -> bool:
        """Whether a folder is indexed to its end."""
        if not self.exists:
            return False
        with self.ledger() as ledger:
            return ledger.covers(root)

    def count(self, root: str | None = None) -> int:
        """Pictures that can be found, in all folders or in one."""
        if not self.exists:
            return 0
        with self.ledger() as ledger:
            inside, values = within([root]) if root else self._inside(ledger)
            return int(
                ledger.select(f"SELECT count(*) FROM files WHERE {inside} AND embedding IS NOT NULL", values)[0][0]
            )

    def rows(self, ledger: Store, ids: Sequence[int]) -> list[Shown]:
        """What is known of these pictures, in this order, without those whose files are gone or may not be shown."""
        found: dict[int, Shown] = {}
        may_show = Showable(self.roots(ledger))
        for part, marks in parts(ids):
            for row in ledger.select(f"SELECT {_COLUMNS} FROM files WHERE id IN ({marks})", part):
                path = os.fsdecode(row[1])
                if may_show(path):
                    found[row[0]] = _shown(row, path)
        return [found[id] for id in ids if id in found]

    def ids(self, ledger: Store, paths: Sequence[str]) -> list[int]:
        """Of the pictures at these paths, in their order."""
        found: dict[str, int] = {}
        for part, marks in parts([os.fsencode(path) for path in paths]):
            for path, id in ledger.select(f"SELECT path, id FROM files WHERE path IN ({marks})", part):
                found[os.fsdecode(path)] = id
        return [found[path] for path in paths if path in found]

    def picture(self, id: int) -> Shown:
        """Raises NotFound."""
        if self.exists:
            with self.ledger() as ledger:
                rows = self.rows(ledger, [id])
            if rows:
                return rows[0]
        raise NotFound(f"there is no picture {id}")

    @contextmanager
    def opened(self, shown: Shown) -> Iterator[BinaryIO]:
        """A picture's bytes. Raises NotFound for one that is gone, lies outside the folders, or cannot be had."""
        with self.ledger() as ledger:
            roots = self.roots(ledger)
        with self._opener.opened(shown.path, roots) as file:
            if file is None:
                raise NotFound(f"picture {shown.id} is not there any more")
            yield file

    def browse(self, where: str | None, offset: int, limit: int) -> tuple[int, list[Shown]]:
        """Newest first, those without a date last: how many there are, and a part of them. Raises UsageError."""
        condition = compile_where(where) if where else ("TRUE", [])
        if not self.exists:
            return 0, []
        with self.ledger() as ledger:
            sql, values = self.scope(ledger, condition)
            total = int(ledger.select(f"SELECT count(*) FROM files WHERE {sql}", values)[0][0])
            order = "ORDER BY taken IS NULL, taken DESC, id DESC LIMIT ? OFFSET ?"
            found = ledger.select(f"SELECT id FROM files WHERE {sql} {order}", [*values, limit, offset])
            return total, self.rows(ledger, [row[0] for row in found])

    def scope(self, ledger: Store, condition: Condition) -> Condition:
        """The condition, and that a picture may be shown."""
        inside, values = self._inside(ledger)
        return f"{inside} AND embedding IS NOT NULL AND {condition[0]}", [*values, *condition[1]]

    def _inside(self, ledger: Store) -> Condition:
        """That a picture lies in one of the folders or packs."""
        roots = self.roots(ledger)
        if not roots:
            return "FALSE", []
        if not self.config.roots and len(roots) > MOST_PLACES:
            return "TRUE", []  # all that is indexed; what lies in none of them is left out of each page
        condition, values = within(roots)
        return condition, [*values]

    def facets(self) -> dict[str, list[tuple[str, int]]]:
        """What one can filter by: years, cameras and types, with how many pictures there are of each."""
        columns = {"years": "substr(taken, 1, 4)", "cameras": "camera", "types": "format"}
        if not self.exists:
            return {name: [] for name in columns}
        found: dict[str, list[tuple[str, int]]] = {}
        with self.ledger() as ledger:
            for name, column in columns.items():
                order = "value DESC" if name == "years" else "count(*) DESC, value"
                sql, values = self.scope(ledger, (f"{column} IS NOT NULL", []))
                grouped = f"GROUP BY value ORDER BY {order} LIMIT {MOST_FACETS}"
                rows = ledger.select(f"SELECT {column} AS value, count(*) FROM files WHERE {sql} {grouped}", values)
                found[name] = [(str(value), int(count)) for value, count in rows]
        return found


def _shown(row: tuple, path: str) -> Shown:
    id, _, content, *rest = row
    return Shown(id, path, content.hex() if content else "", *rest)


def _stat(path: str | Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def _identity(place: Place) -> tuple[int, int]:
    found = _stat(place) if isinstance(place, Path) else None
    return (found.st_dev, found.st_ino) if found is not None else (0, 0)
