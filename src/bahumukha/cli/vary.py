"""`bahu vary`, `blend`, `edit`, `inpaint` and `explore`: what can be done with a picture once it is an embedding and
noise (unCLIP)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bahumukha.cli.generate import said, work
from bahumukha.errors import UsageError

VARY_EXAMPLES = """
Examples:

  bahu vary cat.png -n 9

  bahu vary cat.png --far 0.5 --seed 3 --out cats

  bahu vary --config varied/cat-3.png --set decoder.guidance=4        the same settings, but for one
"""
BLEND_EXAMPLES = """
Examples:

  bahu blend cat.png dog.png

  bahu blend cat.png dog.png -n 5 --own-noise --video blend.mp4

  bahu blend cat.png dog.png --set tries=1        the first noise, and not the one of four that changes most evenly
"""
EDIT_EXAMPLES = """
Examples:

  bahu edit cat.png "a cat" "a lion"

  bahu edit car.png "a red car" "a blue car" --strength 0.3 --strength 0.6 --out cars
"""
INPAINT_EXAMPLES = """
Examples:

  bahu inpaint cat.png mask.png "a cat in a red hat"

  bahu inpaint cat.png mask.png "a cat in a red hat" -n 1 --out hat.png
"""
EXPLORE_EXAMPLES = """
Examples:

  bahu explore cat.png

  bahu explore cat.png --keep 1 --keep 16 --keep 64

  bahu explore cat.png --axis 0 --amount=-2 --amount 2
"""

Picture = Annotated[Path | None, typer.Argument(metavar="IMAGE", help="The picture.")]
Count = Annotated[int | None, typer.Option("-n", metavar="N", help="How many pictures (default: 4).")]
Seed = Annotated[str | None, typer.Option(metavar="SEED", help="A whole number or any text (default: 0).")]
Steps = Annotated[int | None, typer.Option(metavar="N", help="Steps of the decoder (default: 20).")]
Video = Annotated[Path | None, typer.Option(metavar="OUT.mp4", help="Also a video of the drawing.")]
Config = Annotated[
    Path | None, typer.Option(metavar="SETTINGS", help="TOML file, or a PNG made by this command, with settings.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting. Repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a picture, nothing else on stdout.")]
PLACE = "Where the pictures go."


def register(app: typer.Typer) -> None:
    """Add the five commands."""
    app.command("vary", epilog=VARY_EXAMPLES)(vary)
    app.command("blend", epilog=BLEND_EXAMPLES)(blend)
    app.command("edit", epilog=EDIT_EXAMPLES)(edit)
    app.command("inpaint", epilog=INPAINT_EXAMPLES)(inpaint)
    app.command("explore", epilog=EXPLORE_EXAMPLES)(explore)


def vary(
    image: Picture = None,
    far: Annotated[
        float | None,
        typer.Option(metavar="PART", help="0 the picture itself, 1 only what it shows, drawn anew (default: 1)."),
    ] = None,
    count: Count = None,
    seed: Seed = None,
    steps: Steps = None,
    out: Annotated[Path, typer.Option(metavar="DIR|FILE.png", help=PLACE)] = Path("varied"),
    video: Video = None,
    config: Config = None,
    set_: Overrides = None,
    json: Json = False,
) -> None:
    """Other pictures of what a picture shows.

    A score is how like the given picture CLIP finds it. Each PNG holds all its settings: --config makes it again.
    """
    given = {"picture": image, "far": far, "pictures": count, "seed": seed, "steps": steps}
    _change("vary", given, out, video, config, set_, json)


def blend(
    a: Annotated[Path | None, typer.Argument(metavar="A", help="The picture it begins with.")] = None,
    b: Annotated[Path | None, typer.Argument(metavar="B", help="The picture it ends with.")] = None,
    count: Annotated[int | None, typer.Option("-n", metavar="N", help="Pictures of the strip (default: 7).")] = None,
    own_noise: Annotated[
        bool, typer.Option("--own-noise", help="Ends that look like the pictures; the strip changes less evenly.")
    ] = False,
    seed: Seed = None,
    steps: Steps = None,
    out: Annotated[Path, typer.Option(metavar="DIR|FILE.png", help=PLACE)] = Path("blended"),
    video: Video = None,
    config: Config = None,
    set_: Overrides = None,
    json: Json = False,
) -> None:
    """A strip of pictures from one to another, by what they show.

    "likeness" says how like either CLIP finds each.
    """
    given = {"first": a, "second": b, "pictures": count, "own_noise": own_noise or None, "seed": seed, "steps": steps}
    _change("blend", given, out, video, config, set_, json)


def edit(
    image: Picture = None,
    source: Annotated[str | None, typer.Argument(metavar="FROM", help="What it shows, as 'a cat'.")] = None,
    target: Annotated[str | None, typer.Argument(metavar="TO", help="What it is to show, as 'a lion'.")] = None,
    strength: Annotated[
        list[float] | None,
        typer.Option(metavar="PART", help="How far, from 0 to 1; a picture each (default: 0.25, 0.4, 0.55 and 0.7)."),
    ] = None,
    seed: Seed = None,
    steps: Steps = None,
    out: Annotated[Path, typer.Option(metavar="DIR|FILE.png", help=PLACE)] = Path("edited"),
    video: Video = None,
    config: Config = None,
    set_: Overrides = None,
    json: Json = False,
) -> None:
    """Change a picture by two captions: what the first says becomes what the second says, the rest about stays.

    A score is how well CLIP finds that the second fits.
    """
    given = {"picture": image, "source": source, "target": target, "strengths": strength, "seed": seed, "steps": steps}
    _change("edit", given, out, video, config, set_, json)


def inpaint(
    image: Picture = None,
    mask: Annotated[
        Path | None,
        typer.Argument(metavar="MASK", help="Of the picture's size; what is white or transparent is drawn."),
    ] = None,
    prompt: Annotated[str | None, typer.Argument(metavar="PROMPT", help="What the whole is to show.")] = None,
    count: Count = None,
    seed: Seed = None,
    steps: Steps = None,
    out: Annotated[Path, typer.Option(metavar="DIR|FILE.png", help=PLACE)] = Path("inpainted"),
    video: Video = None,
    config: Config = None,
    set_: Overrides = None,
    json: Json = False,
) -> None:
    """Draw a part of a picture anew; all other pixels stay exactly as they are.

    A score is how well CLIP finds that the prompt fits the whole.
    """
    given = {"picture": image, "mask": mask, "prompt": prompt, "pictures": count, "seed": seed, "steps": steps}
    _change("inpaint", given, out, video, config, set_, json)


def explore(
    image: Picture = None,
    keep: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Axes kept; a picture each (default: 4, 8, 16, 32 and 64). Repeatable."),
    ] = None,
    axis: Annotated[int | None, typer.Option(metavar="K", help="Move along this axis instead; 0 is the first.")] = None,
    amount: Annotated[
        list[float] | None,
        typer.Option(metavar="X", help="How far along it, in standard deviations (default: -3 to 3). Repeatable."),
    ] = None,
    seed: Seed = None,
    steps: Steps = None,
    out: Annotated[Path, typer.Option(metavar="DIR|FILE.png", help=PLACE)] = Path("explored"),
    video: Video = None,
    config: Config = None,
    set_: Overrides = None,
    json: Json = False,
) -> None:
    """What the principal axes of a picture's embedding say: drawn by the first few of them, or moved along one."""
    if amount and axis is None and config is None:
        raise UsageError("--amount goes with --axis, which says along what; give that too")
    given = {"picture": image, "keep": keep, "axis": axis, "amounts": amount, "seed": seed, "steps": steps}
    _change("explore", given, out, video, config, set_, json)


def _change(
    command: str,
    given: dict[str, Any],
    out: Path,
    video: Path | None,
    config: Path | None,
    overrides: list[str] | None,
    json: bool,
) -> None:
    """Files on the command line are relative to where one is."""
    changed = work("changed", f"bahu {command}")
    said_ = {name: str(value.absolute()) if isinstance(value, Path) else value for name, value in said(given).items()}
    settings = changed.settings(command, {n: v for n, v in said_.items() if v != []}, config, overrides or [])
    changed.change(settings, out, video, json, command)
