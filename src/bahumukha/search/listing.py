"""What there is to do: folders, object stores and packs of pictures are listed, and held against the ledger's rows."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bahumukha.data.folders import find_images
from bahumukha.data.shards import expand_ranges, shard_paths
from bahumukha.errors import UsageError
from bahumukha.search import remote
from bahumukha.search.packed import Pack
from bahumukha.search.paths import is_url, pack_of, resolved, text_of, under, within
from bahumukha.search.reading import Work
from bahumukha.search.records import Root, Row, Store
from bahumukha.search.remote import Object
from bahumukha.search.report import IndexProgress, IndexReport


@dataclass(frozen=True)
class Scopes:
    """Sources as the ledger names them: folders and files of this machine, object stores, packs of pictures."""

    folders: list[str]
    urls: list[str]
    packs: list[Object]


@dataclass
class Plan:
    """What a listing of the sources, compared with the ledger, leaves to do."""

    scopes: Scopes
    absent: list[str] = field(default_factory=list)  # scopes and roots that are gone as a whole
    work: list[Work] = field(default_factory=list)
    packs: list[Pack] = field(default_factory=list)
    gone: list[tuple[int, str]] = field(default_factory=list)  # id and path of rows without a file


def find_scopes(ledger: Store, sources: Iterable[str | Path], *, everything: bool = False) -> Scopes:
    """Sort what the user gave; with `everything` also all that was ever indexed.

    A file that ends in .tar or .parquet is a pack; ranges (`a-{000..012}.tar`) and `*` stand for several. A folder is
    only looked through for pictures: a tar among them is somebody's backup. Raises UsageError for what is nowhere.
    """
    given = [os.fspath(source) for source in sources]
    if not given:
        raise UsageError("give at least one folder to index")
    roots = ledger.roots()
    names = [resolved(source) for source in given]
    packs: dict[str, Object] = {}
    places: list[str] = []
    for source, name in zip(given, names, strict=True):
        if pack_of(name) == name:
            packs.update((pack.path, pack) for pack in _packs(source, name))
            continue
        places.append(name)
        if not is_url(name) and not os.path.exists(name) and not _was_there(ledger, name, roots):
            raise UsageError(f"no such file or folder: {text_of(name)}")
    if everything:
        places += [root.path for root in roots]
        for path in ledger.packs():
            if path not in packs and (is_url(path) or os.path.isfile(path)):
                packs.update((pack.path, pack) for pack in _packs(path, path))
    places = outermost(places)
    urls = [place for place in places if is_url(place)]
    return Scopes([place for place in places if not is_url(place)], urls, list(packs.values()))


def _was_there(ledger: Store, name: str, roots: Sequence[Root]) -> bool:
    """Whether anything of what is indexed lay at or below a path that is no more."""
    if any(under(root.path, name) for root in roots):
        return True
    if not any(under(name, root.path) for root in roots):
        return False
    condition, values = within([name])
    return bool(ledger.select(f"SELECT 1 FROM files WHERE {condition} LIMIT 1", values))


def named(sources: Iterable[str | Path]) -> list[str]:
    """Folders, files and packs as the ledger has them; ranges and `*` stand for all packs that they fit.

    Raises UsageError where one of these is missing.
    """
    found: list[str] = []
    for source in sources:
        name = resolved(source)
        several = pack_of(name) == name and any(sign in name for sign in "{*")
        found += map(resolved, _expanded(os.fspath(source), name)) if several else [name]
    return found


def _expanded(source: str, name: str) -> list[str]:
    """What a name of packs stands for. Raises UsageError when one is missing on this machine."""
    if is_url(name):
        return expand_ranges(name)
    return [str(path) for path in shard_paths(Path(name if source.startswith("file://") else source))]


def _packs(source: str, name: str) -> Iterator[Object]:
    """The packs that a name with ranges and `*` stands for. Raises UsageError when one is missing."""
    for each in _expanded(source, name):
        if is_url(name):
            yield from remote.packs(each)
        else:
            found = os.stat(each)
            yield Object(os.path.realpath(each), found.st_size, found.st_mtime_ns)


def outermost(paths: Iterable[str]) -> list[str]:
    """The paths without those that lie below another of them."""
    kept: list[str] = []
    for path in sorted(set(paths), key=len):
        if not any(under(path, outer) for outer in kept):
            kept.append(path)
    return sorted(kept)


def compare(ledger: Store, plan: Plan, report: IndexReport) -> Iterator[IndexProgress]:
    """Fill in the plan: list what is there, and hold it against the rows."""
    yield from _compare_folders(ledger, plan, report)
    for url in plan.scopes.urls:
        _compare_store(ledger, url, plan, report)
        yield IndexProgress(len(plan.work), None, is_listing=True)
    for number, pack in enumerate(plan.scopes.packs, 1):
        _compare_pack(ledger, pack, plan, report)
        if number % 100 == 0:
            yield IndexProgress(number, None, is_listing=True)


def _compare_folders(ledger: Store, plan: Plan, report: IndexReport) -> Iterator[IndexProgress]:
    if not plan.scopes.folders:
        return
    rows = ledger.rows_within(plan.scopes.folders)
    seen: set[str] = set()
    for path in find_images([Path(scope) for scope in plan.scopes.folders if os.path.exists(scope)]):
        name = os.fspath(path)
        if name in seen:
            continue
        seen.add(name)
        _sort_in(name, rows.get(name), plan, report)
        if len(seen) % 500 == 0:
            yield IndexProgress(len(seen), None, is_listing=True)
    plan.absent = sorted(set(_absent(ledger, plan, seen)))
    for root in plan.absent:
        kept = [row for path, row in rows.items() if under(path, root) and pack_of(path) != path]
        if kept:
            report.notices.append(_notice(root, kept))
    for name, row in rows.items():
        if name not in seen and not any(under(name, root) for root in plan.absent) and is_gone(name):
            plan.gone.append((row.id, name))


def _compare_store(ledger: Store, url: str, plan: Plan, report: IndexReport) -> None:
    """Stores tell of an empty folder and of one that never was the same: nothing. What was there then is kept."""
    found = remote.pictures_below(url)
    rows = {path: row for path, row in ledger.rows_within([url]).items() if pack_of(path) is None}
    if not found:
        if not rows:
            raise UsageError(f"{url}: there are no pictures here")
        plan.absent.append(url)
        report.notices.append(_notice(url, list(rows.values())))
        return
    for each in found:
        row = rows.pop(each.path, None)
        _plan_work(Work(each.path, row, each.size, each.mtime_ns), plan, report)
    plan.gone += [(row.id, path) for path, row in rows.items()]


def _compare_pack(ledger: Store, pack: Object, plan: Plan, report: IndexReport) -> None:
    rows = ledger.rows_within([pack.path])
    own = rows.pop(pack.path, None)
    works = [Work(path, row, row.size, pack.mtime_ns) for path, row in rows.items()]
    if own is None or (own.size, own.mtime_ns) != (pack.size, pack.mtime_ns) or not all(w.is_settled for w in works):
        plan.packs.append(Pack(pack.path, pack.size, pack.mtime_ns, rows))
        return
    for work in works:
        _plan_work(work, plan, report)


def _plan_work(work: Work, plan: Plan, report: IndexReport) -> None:
    """To be read, unless its row is true of it."""
    if not work.is_settled:
        plan.work.append(work)
    elif work.row is not None and work.row.error is not None:
        report.failed.append((work.path, work.row.error))
    else:
        report.unchanged += 1


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


def _sort_in(path: str, row: Row | None, plan: Plan, report: IndexReport) -> None:
    try:
        found = os.stat(path)
    except OSError as error:
        report.failed.append((path, f"{text_of(path)}: {error.strerror}"))
        return
    if not stat.S_ISREG(found.st_mode):
        report.failed.append((path, f"{text_of(path)}: not a regular file"))
    else:
        _plan_work(Work(path, row, found.st_size, found.st_mtime_ns), plan, report)


def _absent(ledger: Store, plan: Plan, seen: set[str]) -> Iterator[str]:
    """Scopes and roots that are gone as a whole, as a drive is when it is not mounted.

    A mount point without its drive is still a folder, but another one: with other numbers, and empty.
    """
    yield from (scope for scope in plan.scopes.folders if not os.path.exists(scope))
    for root in ledger.roots():
        if not any(under(root.path, scope) for scope in plan.scopes.folders):
            continue
        numbers = identity(root.path)
        if numbers is None or (
            numbers != (root.device, root.inode) and not any(under(path, root.path) for path in seen)
        ):
            yield root.path


def identity(path: str) -> tuple[int, int] | None:
    """Device and inode, cut to what SQLite's integers hold; None when there is nothing at `path`."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev & (2**63 - 1), found.st_ino & (2**63 - 1)


def is_gone(path: str) -> bool:
    """Whether there is surely no picture at `path`; False when that cannot be told (no permission, a store, a pack)."""
    if is_url(path):
        return False
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return pack_of(path) is None
    except OSError:
        return False
