"""Finding pictures: by sentence, by picture, by what their files say, and by their copies.

    index = PictureIndex()
    index.index(["photos"])
    for match in index.search("a very fat gray cat", top=5):
        print(match.rank, match.score, match.path)

`store` is the ledger (`postgres` one for many machines), `index` keeps it true to the disk, `query` and `where` read
what the user typed, `ranking` ranks, `cutoff` ends the list, `duplicates` finds copies. This front joins them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bahumukha.errors import PictureIndexError, UsageError
from bahumukha.search import duplicates as _duplicates
from bahumukha.search import index as _index
from bahumukha.search import query as _query
from bahumukha.search.duplicates import Duplicates
from bahumukha.search.engines import Engine, embed_here
from bahumukha.search.listing import named
from bahumukha.search.paths import is_there, is_url, resolved, text_of, within
from bahumukha.search.places import exists, open_store, place_of, ranker
from bahumukha.search.ranking import Cutoff, Ranking
from bahumukha.search.records import Store, empty_index
from bahumukha.search.report import IndexProgress, IndexReport
from bahumukha.search.where import Condition, compile_where

if TYPE_CHECKING:
    from bahumukha.protocols import ImageTextEncoder

__all__ = ["Duplicates", "IndexProgress", "IndexReport", "Match", "Matches", "PictureIndex"]

DEFAULT_TOP = 10


@dataclass(frozen=True)
class Match:
    """One picture found: rank from 1, absolute path, score the cosine with the query in [-1, 1]."""

    rank: int
    path: str
    score: float


class Matches(list[Match]):
    """A list of matches, best first; `vanished` better or equal ones were skipped: their files are gone."""

    vanished: int = 0


class PictureIndex:
    """The picture index of one store. Opens the store anew for each call, so that others may use it too."""

    def __init__(
        self,
        path: str | Path | None = None,
        encoder: ImageTextEncoder | str | Path | None = None,
        *,
        approximate_above: int | None = None,
    ) -> None:
        """`path` is the ledger's file, by default `index.db` in the user's data folder, or the URL of a store
        that many machines share, `postgresql://…`. Nothing is opened or made yet.

        encoder: one, or the name of one; by default the model the index was made with, or the starter CLIP.
        approximate_above: with more pictures than this, an approximate graph is kept beside them; by default as
          many as the store can search exactly in a quarter of a second.
        """
        self.path = place_of(path)
        self._encoder = encoder
        self._ranker = ranker(self.path, approximate_above)

    # -- indexing --------------------------------------------------------------------------------------------

    def index(
        self, sources: Iterable[str | Path], *, rebuild: bool = False, engine: Engine = embed_here
    ) -> IndexReport:
        """Add, update and forget until the ledger is true of `sources`; see `index_steps`."""
        report = IndexReport()
        for step in self.index_steps(sources, rebuild=rebuild, engine=engine):
            if isinstance(step, IndexReport):
                report = step
        return report

    def index_steps(
        self, sources: Iterable[str | Path], *, rebuild: bool = False, engine: Engine = embed_here
    ) -> Generator[IndexProgress | IndexReport, None, None]:
        """The same, yielding IndexProgress on the way and the IndexReport last. Closing it keeps what is
        done.

        sources: folders, pictures, packs of pictures (`train-{000..012}.tar`, `a.parquet`) and URLs of such.
        `rebuild` embeds everything anew, as another model needs: these sources and all that were indexed
        before. `engine` says where (`search.engines`). Raises ModelMismatch, PictureIndexError, ModelError,
        UsageError.
        """
        sources = list(sources)
        if not sources:
            raise UsageError("give at least one folder to index")
        # A mistyped folder should not leave an empty ledger behind.
        if not any(map(_may_exist, sources)) and not exists(self.path):
            raise UsageError(f"no such file or folder: {text_of(os.fspath(sources[0]))}")
        with open_store(self.path, create=True) as ledger:
            encoder = self._encoder_of(ledger)
            for step in _index.index_steps(ledger, encoder, sources, rebuild=rebuild, engine=engine):
                if isinstance(step, IndexReport):
                    step.notices += self._ranker.derive(ledger)
                yield step

    def forget(self, folders: Iterable[str | Path]) -> int:
        """Forget all pictures and roots at or below `folders`, which need not exist; how many pictures went.

        For folders that were renamed or deleted. The files are untouched: what still lies in an indexed root
        comes back with its next run. Raises PictureIndexError.
        """
        removed = 0
        with open_store(self.path) as ledger:
            with ledger.writing():
                for folder in folders:
                    # As it stands first: where a folder was, there may now be a link to its new place.
                    as_it_stands = folder if is_url(os.fspath(folder)) else os.path.abspath(folder)
                    for name in dict.fromkeys((os.fspath(as_it_stands), resolved(folder))):
                        files, roots = ledger.forget(name)
                        removed += files
                        if files or roots:
                            break
            self._ranker.derive(ledger)
        return removed

    def unindexed(self, folders: Iterable[str | Path]) -> list[str]:
        """Those of `folders` that are not in a root indexed to its end, as absolute paths. Raises UsageError."""
        paths = named(folders)
        if not paths or not exists(self.path):
            return paths
        with open_store(self.path) as ledger:
            return [path for path in paths if not ledger.covers(path)]

    # -- asking ----------------------------------------------------------------------------------------------

    def search(
        self,
        query: str | None = None,
        folders: Iterable[str | Path] = (),
        *,
        image: str | Path | None = None,
        plus: Sequence[str] = (),
        minus: Sequence[str] = (),
        top: int | None = None,
        where: str | None = None,
        cutoff: Cutoff = None,
    ) -> Matches:
        """Pictures that suit a sentence, a picture, and what else was added and subtracted, best first.

        folders: only what lies in these (indexed) folders; all roots when empty.
        top: at most so many; by default 10, or without limit when there is a cut-off.
        where: an expression over metadata (see `where`), applied before ranking.
        Raises PictureIndexError (nothing indexed), ModelMismatch, UsageError, ImageError.
        """
        condition = compile_where(where) if where is not None else None
        terms = _query.parse_query(query, image=image, plus=plus, minus=minus)
        check_limits(top, cutoff)
        with self._asking(folders) as (ledger, scopes):
            encoder = self._encoder_of(ledger)
            ledger.require_model(encoder.name, encoder.fingerprint)
            vector = _query.embed_query(encoder, terms)
            return self._rank(ledger, vector, scopes, condition, top, cutoff)

    def similar(
        self,
        image: str | Path,
        folders: Iterable[str | Path] = (),
        *,
        top: int | None = None,
        cutoff: Cutoff = None,
    ) -> Matches:
        """Pictures like `image`, without itself and links to it. One that is indexed is not even opened."""
        check_limits(top, cutoff)
        path = check_picture(image)
        with self._asking(folders) as (ledger, scopes):
            if self._encoder is not None:
                encoder = self._encoder_of(ledger)
                ledger.require_model(encoder.name, encoder.fingerprint)
            vector = self._stored(ledger, path)
            if vector is None:
                encoder = self._encoder_of(ledger)
                ledger.require_model(encoder.name, encoder.fingerprint)
                vector = _query.embed_picture(encoder, path)
            return self._rank(ledger, vector, scopes, None, top, cutoff, _itself(ledger, path))

    def duplicates(self, folders: Iterable[str | Path] = (), *, near: bool = False) -> tuple[list[Duplicates], int]:
        """Groups of copies, and how many files were passed over as gone or changed since indexed."""
        with self._asking(folders) as (ledger, scopes):
            return _duplicates.find_duplicates(ledger, scopes, near=near)

    # -- parts -----------------------------------------------------------------------------------------------

    @contextmanager
    def _asking(self, folders: Iterable[str | Path]) -> Iterator[tuple[Store, list[str]]]:
        """The ledger, known to hold pictures, and the folders as it names them."""
        scopes = named(folders)
        with open_store(self.path) as ledger:
            for scope in scopes:
                if not ledger.covers(scope):
                    shown = text_of(scope)
                    raise PictureIndexError(f"{shown} is not indexed; run `bahu index {shown}` first")
            if ledger.is_empty:
                raise empty_index()
            yield ledger, scopes

    def _encoder_of(self, ledger: Store) -> ImageTextEncoder:
        if self._encoder is None or isinstance(self._encoder, (str, Path)):
            from bahumukha import zoo

            self._encoder = zoo.load(self._encoder if self._encoder is not None else ledger.model)
        return self._encoder

    def _stored(self, ledger: Store, path: str) -> np.ndarray | None:
        """The embedding in the ledger of the file at `path`, if that is still the file that was embedded."""
        rows = ledger.select(
            "SELECT embedding, size, mtime_ns FROM files WHERE path = ? AND embedding IS NOT NULL",
            (os.fsencode(path),),
        )
        if not rows:
            return None
        if os.path.exists(path):  # in a pack or a store there is only what was indexed
            found = os.stat(path)
            if rows[0][1:] != (found.st_size, found.st_mtime_ns):
                return None
        vector = np.frombuffer(rows[0][0], "<f2").astype(np.float32)
        return vector / np.linalg.norm(vector)

    def _rank(
        self,
        ledger: Store,
        vector: np.ndarray,
        scopes: list[str],
        condition: Condition | None,
        top: int | None,
        cutoff: Cutoff,
        but: frozenset[int] = frozenset(),
    ) -> Matches:
        """Filter, rank, cut off, and name what is left; files whose ids are in `but` do not take part."""
        ranking = self._ranker.rank(ledger, vector, _joined(scopes, condition), cutoff, but)
        if top is None:
            top = DEFAULT_TOP if cutoff is None else ranking.total(ledger)
        return _existing(ledger, ranking, top)


def _may_exist(source: str | Path) -> bool:
    text = os.fspath(source)
    return is_url(text) or os.path.exists(text) or any(sign in text for sign in "{*")


def check_picture(image: str | Path) -> str:
    """The path of a picture that is asked about, as the ledger has it. Raises UsageError where it is not there."""
    path = resolved(image)
    if not is_there(path):
        raise UsageError(f"no such picture file: {text_of(os.fspath(image))}")
    return path


def check_limits(top: int | None, cutoff: Cutoff) -> None:
    """Raises UsageError for what can be no limit of a search."""
    if top is not None and top < 1:
        raise UsageError(f"--top {top}: at least 1 is needed")
    if isinstance(cutoff, str) and cutoff != "auto" or isinstance(cutoff, float) and math.isnan(cutoff):
        raise UsageError(f"--cutoff {cutoff}: give auto, or the lowest score to show, such as 0.25")


def _joined(scopes: list[str], condition: Condition | None) -> Condition | None:
    """Files in `scopes` that satisfy `condition`; None for all."""
    if not scopes:
        return condition
    inside, values = within(scopes)
    sql, more = condition or ("TRUE", [])
    return f"{inside} AND {sql}", [*values, *more]


def _itself(ledger: Store, path: str) -> frozenset[int]:
    """Ids of the rows of the file at the real path `path`: its own, and those of symbolic links to it.

    A link has the size of its target, so few rows need a look.
    """
    if not os.path.exists(path):
        return frozenset(id for (id,) in ledger.select("SELECT id FROM files WHERE path = ?", (os.fsencode(path),)))
    rows = ledger.select(
        "SELECT id, path FROM files WHERE path = ? OR size = ? OR size IN (SELECT size FROM files WHERE path = ?)",
        (os.fsencode(path), os.stat(path).st_size, os.fsencode(path)),
    )
    return frozenset(id for id, name in rows if os.path.realpath(os.fsdecode(name)) == path)


def _existing(ledger: Store, ranking: Ranking, top: int) -> Matches:
    """The first `top` of a ranking whose files are still there.

    A result that cannot be opened helps no one, so files that are gone are passed over and counted.
    """
    matches = Matches()
    start, count = 0, top + 8
    while True:
        ids, scores = ranking.part(ledger, start, count - start)
        paths = ledger.paths(ids)
        for id, score in zip(ids, scores, strict=True):
            path = paths.get(id)
            if path is None:
                continue
            if not is_there(path):
                matches.vanished += 1
                continue
            # A row of float16 may be a little longer than 1, and its cosine with itself with it.
            matches.append(Match(len(matches) + 1, path, min(max(score, -1.0), 1.0)))
            if len(matches) == top:
                return matches
        if len(ids) < count - start:
            return matches
        start, count = count, 4 * count
