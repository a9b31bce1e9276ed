"""`bahu generate`: a sentence becomes a picture while one watches."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from bahumukha.cli.output import note_line
from bahumukha.errors import ModelError, UsageError
from bahumukha.runtime import stop_signals

STOPPING = "stopping after this step; once more to stop at once"

EXAMPLES = """
Examples:

  bahu generate "a red fox in the snow" --quality draft

  bahu generate "a teapot | blurry:-0.3" -n 4 --seed tea --out teapots

  bahu generate "a lighthouse" --drawer strokes --size 256x192 --video lighthouse.mp4

  bahu generate "a forest ^ a city" --set losses.tv=0.5 --set cutouts.count=16 --out city.png

  bahu generate "an oil painting" --frames walk.mp4 --video painted.mp4 --size widescreen

  bahu generate "a cave" --set camera.frames=90 --set camera.zoom=1.03 --video cave.mp4

  bahu generate --config city.png --seed 3        the same settings, another seed

  bahu generate --resume generated/a-teapot-tea.run

  bahu generate "a red fish above a blue car" --with dalle --style noto

  bahu generate "a cat" --with dalle -n 4 --set candidates=64 --set guidance=4 --video cats.mp4

  bahu generate "a cat" --with unclip -n 4 --steps 30 --set decoder.guidance=4 --set candidates=16

Ctrl-C keeps the best picture so far; --resume goes on exactly where it was.
"""

PAINTED, DRAWN = "vqgan-clip", {"dalle": "drawn", "unclip": "unclip"}
"""The system that paints, which is the usual one; those that draw candidates -> the module here with their work."""
SYSTEMS = (PAINTED, *DRAWN)
OF_OTHERS: dict[str, tuple[str, ...]] = {"steps": (PAINTED, "unclip")}
OF_OTHERS |= {name: (PAINTED,) for name in ("drawer", "quality", "frames", "resume", "save-every")}
"""Options that not every system takes -> those that do; `--style` is of those that draw."""


def register(app: typer.Typer) -> None:
    """Add `bahu generate`."""
    app.command("generate", epilog=EXAMPLES)(generate)


def generate(
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help="What to show: a | b:0.5 | c:-0.3, and a ^ b for one after another."),
    ] = None,
    with_: Annotated[
        str | None,
        typer.Option("--with", metavar="SYSTEM", help="vqgan-clip (the default), dalle or unclip."),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "-n", metavar="N", min=1, max=1000, help="How many pictures (default: 1; with dalle and unclip the best 9)."
        ),
    ] = None,
    seed: Annotated[str | None, typer.Option(metavar="SEED", help="A whole number or any text (default: 0).")] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Pixels, as 256x192; or square, widescreen, landscape, portrait, phone."),
    ] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Steps (default: the quality's; 20 a frame).")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR|FILE.png", help="Where the pictures go.")] = Path("generated"),
    drawer: Annotated[
        str | None, typer.Option(metavar="NAME", help="vqgan, fft, pixel, strokes or line (default: vqgan).")
    ] = None,
    quality: Annotated[
        str | None, typer.Option(metavar="TIER", help="draft, normal, better or best (default: normal).")
    ] = None,
    style: Annotated[str | None, typer.Option(metavar="NAME", help="Of --with dalle and unclip: the style.")] = None,
    frames: Annotated[
        Path | None, typer.Option(metavar="DIR|VIDEO", help="Paint over each of these frames, one after another.")
    ] = None,
    video: Annotated[
        Path | None, typer.Option(metavar="OUT.mp4", help="Also a video of the picture's becoming, or of the frames.")
    ] = None,
    save_every: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Also the picture at every N steps, and what to go on from.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with the run in this folder.")] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="SETTINGS", help="TOML file, or a PNG made by this command, with settings.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting. Repeatable.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a picture, nothing else on stdout.")] = False,
) -> None:
    """Make pictures of a sentence: painted, guided by CLIP; or drawn by the dozen, the best ones kept: with dalle token
    by token, with unclip out of a sketch under noise.

    Each PNG holds all its settings: --config PICTURE.png makes it again.
    """
    system = with_ or (config and work("pictures").system_of(config)) or PAINTED
    if system not in SYSTEMS:
        raise UsageError(f"--with {system}: it is one of {', '.join(SYSTEMS)}")
    given: dict[str, Any] = {"prompt": prompt, "seed": seed, "size": size}
    if system in DRAWN:
        of_others = {"drawer": drawer, "quality": quality, "frames": frames, "resume": resume, "save-every": save_every}
        _check_options(of_others | {"steps": steps}, system)
        drawn = work(DRAWN[system])
        settings = drawn.settings(said(given | {"steps": steps, "style": style, "pictures": count}), config, set_ or [])
        drawn.draw_pictures(settings, out, video, json, "generate")
        return
    if style is not None:
        raise UsageError(
            f"--style {style}: belongs to --with {' and '.join(DRAWN)}; here say it in the prompt, as '… in the style"
            " of a woodcut'"
        )
    guided = work("guided")
    given = said(given | {"steps": steps, "drawer": drawer})
    if frames is not None:
        given["animation"] = {"frames": frames.absolute()}
    if resume is not None:
        if given.keys() - {"steps"} or config is not None or set_ or (count or 1) > 1 or video is not None:
            raise UsageError("--resume goes on with the settings of its run; only --steps may be given besides")
        runs = [guided.resumed(resume, steps)]
    else:
        settings = guided.settings(given, quality or "normal", config, set_ or [])
        runs = guided.new_runs(settings, out, count or 1, video, save_every)
    with stop_signals(lambda: note_line(STOPPING)) as stop:
        guided.paint_runs(runs, stop, json)


def _check_options(given: dict[str, Any], system: str) -> None:
    """Raises UsageError for one that the system does not take."""
    for name in said(given):
        if system not in OF_OTHERS[name]:
            raise UsageError(f"--{name}: belongs to --with {' and '.join(OF_OTHERS[name])}; leave it out with {system}")


def said(options: dict[str, Any]) -> dict[str, Any]:
    """Those options that were given."""
    return {key: value for key, value in options.items() if value is not None}


def work(name: str, command: str = "bahu generate") -> Any:
    """The module of the command line that does what a command asks, with PyTorch. Raises ModelError without it."""
    try:
        return import_module(f"bahumukha.cli.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "bahumukha":
            raise
        needed = f"{command} needs {error.name}, of the extra [create]"
        raise ModelError(f"{needed}: pip install 'bahumukha[create]'") from error


def file_name(prompt: str, seed: int | str) -> str:
    """A prompt and a seed as a file's name without ending: `a-red-fox-0`; letters of any script stay."""
    words = re.sub(r"[\W_]+", "-", prompt).strip("-").lower()[:48].rstrip("-")
    number = re.sub(r"[^\w]+", "-", str(seed)).strip("-")[:32]
    return f"{words or 'picture'}-{number or 'seed'}"
