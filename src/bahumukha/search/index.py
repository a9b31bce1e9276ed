"""Bringing the ledger up to date with the disk, with as little reading and embedding as that takes.

A file whose size and mtime are those of its row is not opened at all. Any other is read once; its hash tells
whether its content was in the ledger when the run began (touched, moved, copied), and only content that was
not gets decoded and embedded (of new copies that come in one run, each). Hashing, EXIF and decoding run in
the encoder's worker threads, beside the embedding.

The order of commits makes a kill harmless: pictures are committed batch by batch, files that are gone are
forgotten after all that moved have been found, and a root counts as indexed only after everything below it.
"""

from __future__ import annotations

import os
import shlex
import stat
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bahumukha.classify import shortest_side
from bahumukha.errors import BahumukhaError, UsageError
from bahumukha.search.paths import text_of, under
from bahumukha.search.reading import SameContent, Unreadable, Work, load_picture
from bahumukha.search.store import Ledger, Picture, Root, Row

if TYPE_CHECKING:
    from PIL import Image

    from bahumukha.protocols import ImageTextEncoder

BATCH = 32  # pictures a transaction: what a kill can cost
BATCH_SECONDS = 2.0  # or as many as are ready by then


@dataclass(frozen=True)
class IndexProgress:
    """`done` of `total` pictures; total is None while the folders are being listed."""

    done: int
    total: int | None


@dataclass
class IndexReport:
    """What a run of the index did. Each file counts once; `notices` are sentences for the user."""

    added: int = 0
    updated: int = 0
    moved: int = 0
    removed: int = 0
    unchanged: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)  # (path, error)
    seconds: float = 0.0
    notices: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The object that `bahu index --json` prints."""
        counts = {name: getattr(self, name) for name in ("added", "updated", "moved", "removed", "unchanged")}
        failed = [{"path": path, "error": error} for path, error in self.failed]
        return {**counts, "failed": failed, "seconds": round(self.seconds, 3)}


@dataclass
class _Plan:
    """What a listing of the folders, compared with the ledger, leaves to do."""

    scopes: list[str]
    absent: list[str] = field(default_factory=list)  # scopes and roots that are gone as a whole
    work: list[Work] = field(default_factory=list)
    gone: list[tuple[int, str]] = field(default_factory=list)  # id and path of rows without a file


def index_steps(
    ledger: Ledger, encoder: ImageTextEncoder, folders: Iterable[str | Path], *, rebuild: bool = False
) -> Iterator[IndexProgress | IndexReport]:
    """Index `folders` (or single files), yielding progress and at last one IndexReport.

    `rebuild` drops every embedding of the ledger and makes them again with this encoder, for the folders
    given and all roots known; an encoder that does not work fails before anything is dropped. Raises
    ModelMismatch, PictureIndexError, and UsageError for a folder that is nowhere. Closing the generator, or
    an interrupt, keeps what was finished.
    """
    start = time.perf_counter()
    report = IndexReport()
    scopes = _scopes(ledger, folders)
    if rebuild:
        _try_out(encoder)
        ledger.start_rebuild(encoder.name, encoder.fingerprint)
        scopes = _outermost([*scopes, *(root.path for root in ledger.roots())])
    ledger.require_model(encoder.name, encoder.fingerprint)
    plan = _Plan(scopes)
    yield IndexProgress(0, None)
    yield from _compare(ledger, plan, report)
    done, todo = 0, plan.work
    known = ledger.contents_of_sizes(work.size for work in todo)
    while todo:
        batch = _Batch(ledger, encoder, report)
        with closing(_encode(encoder, todo, known)) as results:
            try:
                for work, outcome in results:
                    batch.add(work, outcome)
                    done += 1
                    yield IndexProgress(done, len(plan.work))
                batch.commit()
            except (KeyboardInterrupt, GeneratorExit):
                batch.commit()
                raise
        # Content that left the ledger while we relied on it, through another process: embed it after all.
        todo, known, done = batch.again, {}, done - len(batch.again)
    _finish(ledger, plan, report)
    report.seconds = time.perf_counter() - start
    yield report


def _try_out(encoder: ImageTextEncoder) -> None:
    """Run both halves of the encoder once; a damaged model raises its own error here."""
    from PIL import Image

    encoder.encode_images([Image.new("RGB", (64, 64), "grey")])
    encoder.encode_texts(["a grey picture"])


# -- listing -------------------------------------------------------------------------------------------------


def _scopes(ledger: Ledger, folders: Iterable[str | Path]) -> list[str]:
    scopes = [os.path.realpath(folder) for folder in folders]
    if not scopes:
        raise UsageError("give at least one folder to index")
    for scope in scopes:
        known = any(under(scope, root.path) or under(root.path, scope) for root in ledger.roots())
        if not os.path.exists(scope) and not known:
            raise UsageError(f"no such file or folder: {text_of(scope)}")
    return _outermost(scopes)


def _outermost(paths: Iterable[str]) -> list[str]:
    """The paths without those that lie below another of them."""
    kept: list[str] = []
    for path in sorted(set(paths), key=len):
        if not any(under(path, outer) for outer in kept):
            kept.append(path)
    return sorted(kept)


def _compare(ledger: Ledger, plan: _Plan, report: IndexReport) -> Iterator[IndexProgress]:
    """Fill in the plan: list what is there, and hold it against the rows."""
    from bahumukha.data.folders import find_images

    rows = ledger.rows_within(plan.scopes)
    seen: set[str] = set()
    for path in find_images([Path(scope) for scope in plan.scopes if os.path.exists(scope)]):
        name = os.fspath(path)
        if name in seen:
            continue
        seen.add(name)
        _sort_in(name, rows.get(name), plan, report)
        if len(seen) % 500 == 0:
            yield IndexProgress(len(seen), None)
    plan.absent = sorted(set(_absent(ledger, plan, seen)))
    for root in plan.absent:
        kept = [row for path, row in rows.items() if under(path, root)]
        if kept:
            report.notices.append(_notice(root, kept))
    for name, row in rows.items():
        if name not in seen and not any(under(name, root) for root in plan.absent) and _is_gone(name):
            plan.gone.append((row.id, name))


def _notice(root: str, kept: list[Row]) -> str:
    """What to tell of a root that is not there, and of its rows."""
    waiting = sum(not row.embedded and row.error is None for row in kept)
    state = f"its {len(kept)} pictures are kept"
    if waiting:
        state += (
            f", but {waiting} cannot be found until it is back and indexed again: a rebuild dropped their embeddings"
        )
    forget = f"bahu index {shlex.quote(text_of(root))} --forget"
    return f"{text_of(root)} is not there (a drive that is away?); {state}. If it is gone for good: `{forget}`"


def _sort_in(path: str, row: Row | None, plan: _Plan, report: IndexReport) -> None:
    try:
        found = os.stat(path)
    except OSError as error:
        report.failed.append((path, f"{text_of(path)}: {error.strerror}"))
        return
    if not stat.S_ISREG(found.st_mode):
        report.failed.append((path, f"{text_of(path)}: not a regular file"))
    elif row is None or (row.size, row.mtime_ns) != (found.st_size, found.st_mtime_ns):
        plan.work.append(Work(path, row, found.st_size, found.st_mtime_ns))
    elif row.error is not None:
        report.failed.append((path, row.error))
    elif not row.embedded:  # a rebuild that was cut short
        plan.work.append(Work(path, row, found.st_size, found.st_mtime_ns))
    else:
        report.unchanged += 1


def _absent(ledger: Ledger, plan: _Plan, seen: set[str]) -> Iterator[str]:
    """Scopes and roots that are gone as a whole, as a drive is when it is not mounted.

    A mount point without its drive is still a folder, but another one: with other numbers, and empty.
    """
    yield from (scope for scope in plan.scopes if not os.path.exists(scope))
    for root in ledger.roots():
        if not any(under(root.path, scope) for scope in plan.scopes):
            continue
        identity = _identity(root.path)
        if identity is None or (
            identity != (root.device, root.inode) and not any(under(path, root.path) for path in seen)
        ):
            yield root.path


def _identity(path: str) -> tuple[int, int] | None:
    """Device and inode, cut to what SQLite's integers hold; None when there is nothing at `path`."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev & (2**63 - 1), found.st_ino & (2**63 - 1)


def _is_gone(path: str) -> bool:
    """Whether there is surely no file at `path`; False when that cannot be told (no permission)."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


# -- embedding -----------------------------------------------------------------------------------------------


def _encode(
    encoder: ImageTextEncoder, todo: list[Work], known: dict[bytes, int]
) -> Generator[tuple[Work, np.ndarray | BahumukhaError], None, None]:
    at_least = shortest_side(encoder)

    def load(work: Work) -> Image.Image:
        return load_picture(work, known, at_least)

    yield from encoder.encode_each(todo, load)


# -- committing ----------------------------------------------------------------------------------------------


class _Batch:
    """Results on their way into the ledger, a transaction for every BATCH of them or every BATCH_SECONDS."""

    def __init__(self, ledger: Ledger, encoder: ImageTextEncoder, report: IndexReport) -> None:
        self.ledger = ledger
        self.model = (encoder.name, encoder.fingerprint)
        self.report = report
        self.again: list[Work] = []
        self._results: list[tuple[Work, np.ndarray | BahumukhaError]] = []
        self._since = time.monotonic()

    def add(self, work: Work, outcome: np.ndarray | BahumukhaError) -> None:
        self._results.append((work, outcome))
        if len(self._results) >= BATCH or time.monotonic() - self._since > BATCH_SECONDS:
            self.commit()

    def commit(self) -> None:
        results, self._results = self._results, []
        if results:
            with self.ledger.writing():
                self.ledger.claim_model(*self.model)
                for work, outcome in results:
                    self._put(work, outcome)
        self._since = time.monotonic()

    def _put(self, work: Work, outcome: np.ndarray | BahumukhaError) -> None:
        if isinstance(outcome, SameContent):
            self._put_same(work, outcome.id)
        elif isinstance(outcome, BahumukhaError):
            self.report.failed.append((work.path, str(outcome)))
            if not isinstance(outcome, Unreadable):
                failure = Picture(content=work.picture.content, error=str(outcome))
                self.ledger.put(work.path, work.size, work.mtime_ns, failure)
        else:
            embedding = np.asarray(outcome, np.float32).astype("<f2").tobytes()
            fields = {name: getattr(work.picture, name) for name in Picture.__dataclass_fields__}
            self._count(work)
            self.ledger.put(work.path, work.size, work.mtime_ns, Picture(**{**fields, "embedding": embedding}))

    def _put_same(self, work: Work, id: int) -> None:
        """The content is in row `id`: the file itself (touched), its former path (moved), or a copy's."""
        assert work.picture.content is not None
        known = self.ledger.picture(id, work.picture.content)
        if known is None:
            # The row as it was listed may be what misled us; without it the next attempt must embed.
            row = replace(work.row, embedded=False) if work.row is not None else None
            self.again.append(replace(work, row=row))
            return
        path, picture = known
        if path == work.path:
            self.report.unchanged += 1
        elif work.row is None and self._has_moved(path):
            self.report.moved += 1
            self.ledger.move(id, work.path, work.size, work.mtime_ns)
            return
        else:
            self._count(work)
        self.ledger.put(work.path, work.size, work.mtime_ns, picture)

    def _has_moved(self, path: str) -> bool:
        """Whether the file that was at `path` is gone, other than with its whole root."""
        roots = [root.path for root in self.ledger.roots() if under(path, root.path)]
        return _is_gone(path) and all(os.path.exists(root) for root in roots)

    def _count(self, work: Work) -> None:
        if work.row is None:
            self.report.added += 1
        else:
            self.report.updated += 1


def _finish(ledger: Ledger, plan: _Plan, report: IndexReport) -> None:
    """Forget what is gone, and only then call the roots indexed."""
    for start in range(0, len(plan.gone), 1000):
        # The listing may be hours old by now, and a file back in its place.
        gone = [(id, path) for id, path in plan.gone[start : start + 1000] if _is_gone(path)]
        with ledger.writing():
            for id, path in gone:
                report.removed += ledger.remove(id, path)
    with ledger.writing():
        for scope in plan.scopes:
            identity = _identity(scope)
            if identity is not None and scope not in plan.absent:
                ledger.put_root(Root(scope, *identity, complete=True))
