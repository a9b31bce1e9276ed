"""`bahu demo`: all of it on photographs that ship, on one page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from bahumukha.cli.output import note_line, print_json

EXAMPLES = """Examples:

bahu demo

bahu demo --out ~/demo --open

bahu demo --no-create

bahu demo --out ~/demo --model ./my-clip --json"""


def register(app: typer.Typer) -> None:
    """Add this group's commands to `app`."""
    app.command("demo", epilog=EXAMPLES)(demo)


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder, or an earlier demo's.")] = Path(
        "demo-out"
    ),
    model: Annotated[str | None, typer.Option(metavar="M", help="Name or folder of a CLIP model.")] = None,
    create: Annotated[
        bool | None,
        typer.Option(
            "--create/--no-create",
            help="Also make pictures from sentences: a minute or two. Default: if PyTorch is there.",
        ),
    ] = None,
    open: Annotated[bool, typer.Option("--open/--no-open", help="Show the page in the browser.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")] = False,
) -> None:
    """Classify and search the photographs that ship, make some pictures, and write one page of it: DIR/index.html."""
    from bahumukha.demo import MAKINGS, can_make, shipped_photos, show, with_pictures
    from bahumukha.errors import BahumukhaError, UsageError
    from bahumukha.zoo import load

    if create and not can_make():
        raise UsageError("--create: pictures are made with PyTorch: pip install 'bahumukha[create]', or leave it out")

    start = time.perf_counter()
    # The commands on the page run in DIR: a model given as a folder must be found from there.
    encoder = load(str(Path(model).resolve()) if model is not None and Path(model).is_dir() else model)
    shown = show(shipped_photos(), encoder, out)
    if create or (create is None and can_make()):
        try:
            for further in with_pictures(shown, MAKINGS):
                shown = further
        except BahumukhaError as error:
            if create:
                raise
            note_line(f"{error}; the page goes without")
    seconds = time.perf_counter() - start
    if json:
        print_json(
            {
                "page": str(shown.page),
                "sheet": str(shown.sheet),
                "photos": len(shown.photos),
                "made": [str(picture) for made in shown.made for picture in made.pictures],
                "model": shown.model,
                "seconds": round(seconds, 3),
            }
        )
    else:
        made = sum(len(each.pictures) for each in shown.made)
        also = f", {made} pictures made" if made else ""
        print(f"{len(shown.photos)} photographs{also} in {seconds:.1f} s: {shown.page}")
        if create is None and not can_make():
            note_line("pictures from sentences were left out: they need pip install 'bahumukha[create]'")
    if open:
        _open_page(shown.page)


def _open_page(page: Path) -> None:
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        note_line(f"no browser was found; open {page} yourself")
