"""`bahu index`, `bahu search`, `bahu similar`, `bahu duplicates`: the picture index at the command line."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from bahumukha.cli.output import check_drawn, error_line, note_line, print_json, progress
from bahumukha.errors import BahumukhaError, UsageError

if TYPE_CHECKING:
    from PIL import Image

    from bahumukha.search import Duplicates, IndexReport, Matches, PictureIndex
    from bahumukha.search.engines import Engine

Folders = Annotated[list[str], typer.Argument(metavar="FOLDER...", help="Folders of pictures.")]
MaybeFolders = Annotated[
    Optional[list[str]],  # noqa: UP045 (typer reads this one)
    typer.Argument(metavar="[FOLDER...]", help="Only in these folders; one never indexed is indexed first."),
]
Model = Annotated[
    str | None,
    typer.Option(metavar="M", help="A model's name or folder. [default: the index's own, or starter/clip]"),
]
Db = Annotated[Path | None, typer.Option(metavar="PATH", help="The index file. [default: one for each user]")]
Store = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="An index in a PostgreSQL database that many machines share, instead of a file. "
        "[default: BAHUMUKHA_STORE, where that is set]",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout, nothing else.")]
Top = Annotated[int | None, typer.Option(help="At most so many. [default: 10; with --cutoff, all above it]")]
Cutoff = Annotated[
    str | None,
    typer.Option(metavar="auto|NUMBER", help="Only what stands out for this query, or scores at least NUMBER."),
]
Sheet = Annotated[Path | None, typer.Option(metavar="OUT.png", help="Also draw the results as one picture.")]

INDEX_EXAMPLES = """Examples:

bahu index ~/Pictures

bahu index ~/Pictures /media/camera --json

bahu index ~/Pictures --model ./my-clip --rebuild

bahu index /media/old-drive --forget

bahu index /mnt/photos --store postgresql://bahu@db.local/pictures

bahu index "shards/train-{000..127}.tar" s3://bucket/photos --engine ray --address auto"""

SEARCH_EXAMPLES = """Examples:

bahu search "a very fat gray cat"

bahu search "a bird on a branch" ~/Pictures --top 20 --sheet birds.png

bahu search "a beach" --plus 0.5:sunset --minus people --cutoff auto

bahu search --image photo.jpg --plus snow --where "date >= 2021-05 and camera ~ canon" --json"""

SIMILAR_EXAMPLES = """Examples:

bahu similar photo.jpg

bahu similar photo.jpg ~/Pictures --cutoff auto --sheet alike.png"""

DUPLICATES_EXAMPLES = """Examples:

bahu duplicates ~/Pictures

bahu duplicates ~/Pictures /media/camera --near --json"""


def register(app: typer.Typer) -> None:
    """Add this group's commands to `app`."""
    app.command("index", epilog=INDEX_EXAMPLES)(index)
    app.command("search", epilog=SEARCH_EXAMPLES)(search)
    app.command("similar", epilog=SIMILAR_EXAMPLES)(similar)
    app.command("duplicates", epilog=DUPLICATES_EXAMPLES)(duplicates)


def index(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders of pictures, WebDataset shards (.tar), Parquet files, or URLs of such in an object store.",
        ),
    ],
    model: Model = None,
    db: Db = None,
    store: Store = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Embed all indexed folders anew, as another --model needs.")
    ] = False,
    forget: Annotated[
        bool,
        typer.Option("--forget", help="Only forget these folders, which need not exist any more; files stay."),
    ] = False,
    engine: Annotated[
        str, typer.Option(metavar="local|ray", help="Embed on this machine, or on the machines of a Ray cluster.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="A", help="With --engine ray: HOST:PORT of the cluster, or auto. [default: one on this machine]"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make pictures searchable: add new ones, update changed ones, forget what is gone. Resumable."""
    if forget and rebuild:
        raise UsageError("--forget and --rebuild exclude each other; give one of them")
    embed = _engine(engine, address)
    pictures = _open(model, db, store)
    report = _forget(pictures, sources) if forget else _index(pictures, sources, rebuild=rebuild, engine=embed)
    if json:
        print_json(report.to_json())
    else:
        print(_summary(report))
    done = report.added + report.updated + report.moved + report.removed + report.unchanged
    if report.failed and not done:
        raise typer.Exit(1)


def search(
    query: Annotated[str | None, typer.Argument(help="What to look for, in words.")] = None,
    folders: MaybeFolders = None,
    image: Annotated[Path | None, typer.Option(metavar="FILE", help="Look for pictures like this one.")] = None,
    plus: Annotated[
        list[str] | None,
        typer.Option(metavar="X", help="More of this sentence or picture file; 0.5:snow counts half. Repeatable."),
    ] = None,
    minus: Annotated[
        list[str] | None, typer.Option(metavar="X", help="Less of this sentence or picture file. Repeatable.")
    ] = None,
    top: Top = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="EXPR",
            help="Only pictures whose date, width, height, folder, camera, name or type fit: "
            "'date = 2021-05..2022 and not (camera ~ canon or width < 1000)'.",
        ),
    ] = None,
    cutoff: Cutoff = None,
    sheet: Sheet = None,
    model: Model = None,
    db: Db = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Find pictures by a sentence, a picture, or both."""
    folders = folders or []
    if query is not None and (image or plus) and _is_folder(query):
        folders = [query, *folders]
        query = None
    pictures = _open(model, db, store)
    _check_sheet(sheet)
    limit = _cutoff(top, cutoff)
    _check(query, image, plus or [], minus or [], where)
    _index_if_new(pictures, folders)
    matches = pictures.search(
        query, folders, image=image, plus=plus or [], minus=minus or [], top=top, where=where, cutoff=limit
    )
    _show(matches, json=json, sheet=sheet, title=query, limited=limit is not None)


def similar(
    image: Annotated[str, typer.Argument(help="A picture file, indexed or not.")],
    folders: MaybeFolders = None,
    top: Top = None,
    cutoff: Cutoff = None,
    sheet: Sheet = None,
    model: Model = None,
    db: Db = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Find pictures like a given one."""
    from bahumukha.search import check_picture

    pictures = _open(model, db, store)
    _check_sheet(sheet)
    limit = _cutoff(top, cutoff)
    check_picture(image)
    _index_if_new(pictures, folders or [])
    matches = pictures.similar(image, folders or [], top=top, cutoff=limit)
    _show(matches, json=json, sheet=sheet, title=os.path.basename(image), limited=limit is not None)


def duplicates(
    folders: Folders,
    near: Annotated[
        bool, typer.Option("--near", help="Also the same picture in another size, format or quality.")
    ] = False,
    model: Model = None,
    db: Db = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """List groups of copies: exact ones hold the same bytes, near ones show the same picture."""
    pictures = _open(model, db, store)
    _index_if_new(pictures, folders)
    groups, stale = pictures.duplicates(folders, near=near)
    if stale:
        note_line(f"{stale} files are gone or changed since they were indexed and were left out; run `bahu index`")
    for number, group in enumerate(groups):
        if json:
            print_json({"kind": group.kind, "paths": group.paths, "similarity": group.similarity})
        else:
            print(_group_text(group, first=number == 0))
    if not groups:
        note_line("no duplicates found")


# -- steps ---------------------------------------------------------------------------------------------------


def _open(model: str | None, db: Path | None, store: str | None) -> PictureIndex:
    from bahumukha.search import PictureIndex
    from bahumukha.search.places import place_of

    # The ledger remembers the model by this name, and must find it again from another working folder.
    if model is not None and Path(model).is_dir():
        model = str(Path(model).resolve())
    return PictureIndex(place_of(db, store), model)


def _engine(name: str, address: str | None) -> Engine | None:
    """None is this machine. Raises UsageError when the engine is not there, before anything is opened."""
    if name not in ("local", "ray"):
        raise UsageError(f"--engine {name}: give local or ray")
    if name == "local":
        if address is not None:
            raise UsageError("--address says where a Ray cluster is; it goes with --engine ray")
        return None
    from bahumukha.search.engines.ray import RayEngine

    return RayEngine(address)


def _index(
    pictures: PictureIndex, sources: Sequence[str], *, rebuild: bool = False, engine: Engine | None = None
) -> IndexReport:
    """Index with a progress bar, then say on stderr what failed and what should be known."""
    from bahumukha.search import IndexProgress, IndexReport
    from bahumukha.search.engines import embed_here

    steps = pictures.index_steps(sources, rebuild=rebuild, engine=engine or embed_here)
    with progress(None, "Looking for pictures") as advance:
        step, seen = next(steps), 0
        while isinstance(step, IndexProgress) and step.is_listing:
            advance(step.done - seen)
            seen = step.done
            step = next(steps)
    if isinstance(step, IndexProgress):
        with progress(step.total, "Indexing") as advance:
            done = 0
            while isinstance(step, IndexProgress):
                advance(step.done - done)
                done = step.done
                step = next(steps)
    assert isinstance(step, IndexReport)
    steps.close()
    for path, error in step.failed:
        error_line(error if path in error else f"{path}: {error}")
    for notice in step.notices:
        note_line(notice)
    return step


def _forget(pictures: PictureIndex, folders: Sequence[str]) -> IndexReport:
    from bahumukha.search import IndexReport

    start = time.perf_counter()
    report = IndexReport(removed=pictures.forget(folders))
    report.seconds = time.perf_counter() - start
    if not report.removed:
        note_line("no picture at or below these folders was in the index")
    return report


def _index_if_new(pictures: PictureIndex, folders: Sequence[str]) -> None:
    """A folder asked for but never indexed is indexed now; what is indexed already is not looked at again."""
    new = pictures.unindexed(folders)
    if new:
        _index(pictures, new)


def _check(query: str | None, image: Path | None, plus: list[str], minus: list[str], where: str | None) -> None:
    """Complain of a wrong option before hours of indexing, not after."""
    from bahumukha.search.query import parse_query
    from bahumukha.search.where import compile_where

    parse_query(query, image=image, plus=plus, minus=minus)
    if where is not None:
        compile_where(where)


def _cutoff(top: int | None, text: str | None) -> str | float | None:
    """The lowest score to show; it and `top` are checked before hours of indexing too."""
    from bahumukha.search import check_limits

    try:
        cutoff = text if text is None or text == "auto" else float(text)
    except ValueError:
        raise UsageError(f"--cutoff {text}: give auto, or the lowest score to show, such as 0.25") from None
    check_limits(top, cutoff)
    return cutoff


def _is_folder(text: str) -> bool:
    """Whether a word in QUERY's place is a folder: written as a path, since `cats` may be both."""
    try:
        return (text in (".", "..") or "/" in text or "\\" in text) and Path(text).is_dir()
    except (OSError, ValueError):
        return False


# -- output --------------------------------------------------------------------------------------------------


def _summary(report: IndexReport) -> str:
    counts = {
        "added": report.added,
        "updated": report.updated,
        "moved": report.moved,
        "removed": report.removed,
        "unchanged": report.unchanged,
        "failed": len(report.failed),
    }
    named = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "no pictures found"
    new = report.added + report.updated
    speed = f" ({new / report.seconds:.0f} pictures/s)" if new and report.seconds else ""
    return f"{named} in {report.seconds:.1f} s{speed}"


def _show(matches: Matches, *, json: bool, sheet: Path | None, title: str | None, limited: bool) -> None:
    if matches.vanished:
        note_line(
            f"{matches.vanished} pictures that would be listed are gone; `bahu index FOLDER` forgets them, and "
            "`bahu index FOLDER --forget` a FOLDER that is gone itself"
        )
    if json:
        for match in matches:
            print_json({"rank": match.rank, "path": match.path, "score": round(match.score, 6)})
    elif matches:
        _print_table(matches)
    if not matches:
        note_line(
            "nothing stands out for this query; without --cutoff the nearest are listed"
            if limited
            else "no picture fits; look at --where and FOLDER, or index more"
        )
    if sheet is not None and matches:
        _draw_sheet(matches, sheet, title)


def _print_table(matches: Matches) -> None:
    """A table on a terminal; elsewhere tab-separated lines, which a table's width would cut."""
    from bahumukha.search.paths import text_of

    if not sys.stdout.isatty():
        for match in matches:
            print(f"{match.rank}\t{match.score:.4f}\t{text_of(match.path)}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("rank", "score", "path", box=None)
    for match in matches:
        table.add_row(str(match.rank), f"{match.score:.3f}", Text(text_of(match.path), overflow="fold"))
    Console().print(table)


def _group_text(group: Duplicates, *, first: bool) -> str:
    from bahumukha.search.paths import text_of

    title = f"{group.kind}, {len(group.paths)} files"
    if group.kind == "near":
        title += f", similarity {group.similarity:.3f}"
    return "\n".join([("" if first else "\n") + title, *(f"  {text_of(path)}" for path in group.paths)])


def _check_sheet(sheet: Path | None) -> None:
    if sheet is None:
        return
    check_drawn("--sheet", sheet)
    if not sheet.absolute().parent.is_dir():
        raise UsageError(f"--sheet {sheet}: there is no folder {sheet.absolute().parent}")


def _draw_sheet(matches: Matches, sheet: Path, title: str | None) -> None:
    """All matches in one picture; one that can no longer be read is named and left out."""
    from bahumukha.images import open_image, save_image
    from bahumukha.search.paths import text_of
    from bahumukha.search.reading import source_of
    from bahumukha.sheets import contact_sheet

    tiles: list[tuple[Image.Image, str]] = []
    for match in matches:
        try:
            picture = open_image(source_of(match.path), at_least=256)
        except BahumukhaError as error:
            error_line(error)
            continue
        picture.thumbnail((512, 512))
        tiles.append((picture, f"{match.rank}. {match.score:.3f} {text_of(Path(match.path).name)}"))
    if tiles:
        save_image(contact_sheet(tiles, title=title), sheet)
