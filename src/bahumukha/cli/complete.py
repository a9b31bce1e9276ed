"""`bahu complete`: one side of a picture stays, the rest is drawn anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bahumukha.cli.generate import said, work

EXAMPLES = """
Examples:

  bahu complete cat.png "a cat in a red hat"

  bahu complete cat.png "a cat and a dog" --side left --keep 0.5 -n 4 --out both

  bahu complete sky.png --side top --keep 0.4

  bahu complete --config completed/a-cat-0.png --seed 3        the same settings, another seed
"""


def register(app: typer.Typer) -> None:
    """Add `bahu complete`."""
    app.command("complete", epilog=EXAMPLES)(complete)


def complete(
    image: Annotated[Path | None, typer.Argument(metavar="IMAGE", help="The picture; its middle is taken.")] = None,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What the whole is to show; may be left out.")
    ] = None,
    side: Annotated[
        str | None, typer.Option(metavar="SIDE", help="What stays: top (the default), bottom, left or right.")
    ] = None,
    keep: Annotated[
        float | None, typer.Option(metavar="PART", help="How much of it, between 0 and 1 (default: 0.5).")
    ] = None,
    count: Annotated[
        int | None, typer.Option("-n", metavar="N", min=1, max=1000, help="How many pictures (default: the best 9).")
    ] = None,
    style: Annotated[str | None, typer.Option(metavar="NAME", help="The style to draw in.")] = None,
    seed: Annotated[str | None, typer.Option(metavar="SEED", help="A whole number or any text (default: 0).")] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Pixels (default: as many as the model was trained on).")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR|FILE.png", help="Where the pictures go.")] = Path("completed"),
    video: Annotated[Path | None, typer.Option(metavar="OUT.mp4", help="Also a video of the drawing.")] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="SETTINGS", help="TOML file, or a PNG made by this command, with settings.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting. Repeatable.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a picture, nothing else on stdout.")] = False,
) -> None:
    """Keep one side of a picture and let the rest be drawn, token by token, the best ones first.

    What stays is what the codec makes of it. The model draws in reading order: below the top it sees what stays; for
    the other sides many tries are made, and those taken that fit.
    """
    drawn = work("drawn", "bahu complete")
    given = said({"prompt": prompt, "style": style, "seed": seed, "size": size, "pictures": count})
    completion: dict[str, Any] = said({"side": side, "keep": keep})
    if image is not None:
        completion["picture"] = str(image.absolute())
    drawn.draw_pictures(drawn.settings(given, config, set_ or [], completion), out, video, json, "complete")
