"""Bringing the ledger up to date with the disk, with as little reading and embedding as that takes.

A file whose size and mtime are those of its row is not opened at all. Any other is read once; its hash tells
whether its content was in the ledger when the run began (touched, moved, copied), and only content that was
not gets decoded and embedded (of new copies that come in one run, each). Hashing, EXIF and decoding run beside
the embedding, in an engine's threads or on its machines (`engines`); only this process writes.

The order of commits makes a kill harmless: pictures are committed batch by batch, files that are gone are
forgotten after all that moved have been found, and a root or a pack counts as indexed only after all of its
pictures.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bahumukha.errors import BahumukhaError
from bahumukha.search.engines import Engine, embed_here
from bahumukha.search.listing import Plan, compare, find_scopes, identity, is_gone
from bahumukha.search.packed import End, Pack
from bahumukha.search.paths import is_url, under
from bahumukha.search.reading import SameContent, Unreadable, Work
from bahumukha.search.records import Picture, Root, Store
from bahumukha.search.report import IndexProgress, IndexReport

if TYPE_CHECKING:
    from bahumukha.protocols import ImageTextEncoder

BATCH = 32  # pictures a transaction: what a kill can cost
BATCH_SECONDS = 2.0  # or as many as are ready by then


def index_steps(
    ledger: Store,
    encoder: ImageTextEncoder,
    sources: Iterable[str | Path],
    *,
    rebuild: bool = False,
    engine: Engine = embed_here,
) -> Iterator[IndexProgress | IndexReport]:
    """Index `sources`, yielding progress and at last one IndexReport.

    sources: folders, single pictures, packs of pictures (`train-{000..012}.tar`, `a.parquet`), and URLs of such.
    rebuild: drop every embedding of the ledger and make them again with this encoder, for the sources given and all
      that is known; an encoder that does not work fails before anything is dropped.
    engine: where pictures are read and encoded.

    Raises ModelMismatch, PictureIndexError, and UsageError for a source that is nowhere. Closing the generator, or
    an interrupt, keeps what was finished.
    """
    start = time.perf_counter()
    report = IndexReport()
    scopes = find_scopes(ledger, sources, everything=rebuild)
    if rebuild:
        _try_out(encoder)
        ledger.start_rebuild(encoder.name, encoder.fingerprint)
    ledger.require_model(encoder.name, encoder.fingerprint)
    plan = Plan(scopes)
    yield IndexProgress(0, None, is_listing=True)
    yield from compare(ledger, plan, report)
    done = 0
    todo: list[Work | Pack] = [*plan.work, *plan.packs]
    total = None if plan.packs else len(plan.work)
    known = ledger.contents_of_sizes(work.size for work in plan.work)
    while todo:
        batch = _Batch(ledger, encoder, report, [each for each in todo if isinstance(each, Pack)])
        with closing(engine(encoder, todo, known)) as results:
            try:
                for work, outcome in results:
                    batch.add(work, outcome)
                    if isinstance(work, Work):
                        done += 1
                        yield IndexProgress(done, total)
                batch.commit()
            except (KeyboardInterrupt, GeneratorExit):
                batch.commit()
                raise
        # Content that left the ledger while we relied on it, through another process: embed it after all.
        todo, known, done = list(batch.again), {}, done - len(batch.again)
    _finish(ledger, plan, report)
    report.seconds = time.perf_counter() - start
    yield report


def _try_out(encoder: ImageTextEncoder) -> None:
    """Run both halves of the encoder once; a damaged model raises its own error here."""
    from PIL import Image

    encoder.encode_images([Image.new("RGB", (64, 64), "grey")])
    encoder.encode_texts(["a grey picture"])


# -- committing ----------------------------------------------------------------------------------------------


@dataclass
class _Pending:
    """A pack of which pictures are still to come: rows that none of them was yet, and what has arrived."""

    pack: Pack
    left: dict[str, int] = field(default_factory=dict)
    arrived: int = 0
    end: End | None = None
    is_true: bool = True  # of all that arrived the ledger holds what it should

    @property
    def is_over(self) -> bool:
        return self.end is not None and self.arrived == self.end.count


class _Batch:
    """Results on their way into the ledger, a transaction for every BATCH of them or every BATCH_SECONDS."""

    def __init__(
        self, ledger: Store, encoder: ImageTextEncoder, report: IndexReport, packs: Iterable[Pack] = ()
    ) -> None:
        self.ledger = ledger
        self.model = (encoder.name, encoder.fingerprint)
        self.report = report
        self.again: list[Work] = []
        self._results: list[tuple[Work | End, np.ndarray | BahumukhaError]] = []
        self._packs = {pack.path: _Pending(pack, {path: row.id for path, row in pack.rows.items()}) for pack in packs}
        self._since = time.monotonic()

    def add(self, work: Work | End, outcome: np.ndarray | BahumukhaError) -> None:
        self._results.append((work, outcome))
        if len(self._results) >= BATCH or time.monotonic() - self._since > BATCH_SECONDS:
            self.commit()

    def commit(self) -> None:
        results, self._results = self._results, []
        if results:
            with self.ledger.writing():
                self.ledger.claim_model(*self.model)
                for work, outcome in results:
                    if isinstance(work, Work):
                        self._put(work, outcome)
                    self._note(work, outcome)
        self._since = time.monotonic()

    def _note(self, work: Work | End, outcome: np.ndarray | BahumukhaError) -> None:
        """Keep count of a pack, and when all of it is there, put its own row: from then on it need not be opened."""
        pending = self._packs.get(work.pack or "")
        if pending is None:
            return
        if isinstance(work, End):
            pending.end = work
        else:
            pending.arrived += 1
            pending.left.pop(work.path, None)
            if isinstance(outcome, Unreadable) or (self.again and self.again[-1].path == work.path):
                pending.is_true = False
        if not pending.is_over:
            return
        pack, error = pending.pack, pending.end.error if pending.end else None
        del self._packs[pack.path]
        if error is not None:
            self.report.failed.append((pack.path, str(error)))
            return
        for path, id in pending.left.items():
            self.report.removed += self.ledger.remove(id, path)
        if pending.is_true:
            self.ledger.put(pack.path, pack.size, pack.mtime_ns, Picture(format=pack.format))

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
        return is_gone(path) and all(os.path.exists(root) for root in roots)

    def _count(self, work: Work) -> None:
        if work.row is None:
            self.report.added += 1
        else:
            self.report.updated += 1


def _finish(ledger: Store, plan: Plan, report: IndexReport) -> None:
    """Forget what is gone, and only then call the roots indexed."""
    for start in range(0, len(plan.gone), 1000):
        # The listing may be hours old by now, and a file back in its place.
        gone = [(id, path) for id, path in plan.gone[start : start + 1000] if is_url(path) or is_gone(path)]
        with ledger.writing():
            for id, path in gone:
                report.removed += ledger.remove(id, path)
    with ledger.writing():
        for scope in plan.scopes.folders:
            numbers = identity(scope)
            if numbers is not None and scope not in plan.absent:
                ledger.put_root(Root(scope, *numbers, complete=True))
        for url in plan.scopes.urls:
            if url not in plan.absent:
                ledger.put_root(Root(url, None, None, complete=True))
