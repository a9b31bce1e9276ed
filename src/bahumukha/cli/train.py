"""`bahu train`: train a model on one's own pictures, one command a kind of model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from bahumukha.train.clip_config import ClipTraining
    from bahumukha.train.loop import Report

EXAMPLES = """
Examples:

  bahu train clip clip.toml --out runs/mine

  bahu train clip clip.toml --init starter/clip --set optimisation.steps=500

  bahu train clip --resume runs/mine

  torchrun --nproc-per-node 2 -m bahumukha train clip clip.toml

The result stands in OUT/model, ready for bahu classify --model OUT/model.
"""


def register(app: typer.Typer) -> None:
    """Add `bahu train …`."""
    group = typer.Typer(help="Train a model on your own pictures.", no_args_is_help=True)
    group.command("clip", epilog=EXAMPLES)(train_clip)
    app.add_typer(group, name="train")


def train_clip(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="CONFIG", help="TOML file that says what to train on and how; not needed to resume."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override an option, as optimisation.steps=500. Repeatable."),
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="DIR", help="Go on with the run in this folder.")] = None,
    init: Annotated[str | None, typer.Option(metavar="MODEL", help="Start from this model's weights.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run (default: runs/ and the config's name).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line: the reports, then the model.")] = False,
) -> None:
    """Train a CLIP on pictures with captions: from nothing, from another model, or further.

    Ctrl-C writes a checkpoint; --resume goes on exactly where it was.
    """
    import torch

    from bahumukha.cli.output import print_json
    from bahumukha.runtime import thread_count
    from bahumukha.train import processes
    from bahumukha.train.clip import ClipRun

    settings, folder = _settings(config, set_ or [], resume, init, out)
    with processes.joined() as device:
        torch.set_num_threads(max(1, thread_count() // processes.count()))
        first = processes.rank() == 0
        run = ClipRun(settings, folder, resume=resume is not None, device=device)
        with _bar(settings.optimisation.steps if first else 0) as moved_to:
            for report in run.reports():
                moved_to(report.step)
                if first:
                    print_json(_as_dict(report)) if json else print(report, flush=True)
        model = run.export()
        if first:
            print_json({"model": str(model)}) if json else print(f"model: {model}")


def _settings(
    config: Path | None, overrides: list[str], resume: Path | None, init: str | None, out: Path | None
) -> tuple[ClipTraining, Path]:
    """The checked settings and the folder of the run. Raises UsageError."""
    from bahumukha.errors import UsageError
    from bahumukha.train.clip import RUN, read_run
    from bahumukha.train.clip_config import ClipTraining
    from bahumukha.train.config import from_table, overridden, read_table

    if resume is not None:
        if init is not None or (out is not None and out != resume):
            raise UsageError("--resume goes on in its own folder with its own weights; leave out --init and --out")
        stored = read_run(resume)["config"]
    elif config is None:
        raise UsageError("no CONFIG; give a TOML file, or --resume DIR to go on with a run")
    table, file = (read_table(config), config) if config is not None else (stored, resume / RUN)  # type: ignore[operator]
    if init is not None:
        table["model"] = {"init": init}
    settings = from_table(ClipTraining, overridden(table, overrides), str(file), file.parent)
    return settings, resume or out or Path("runs") / file.stem


def _as_dict(report: Report) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(report)


@contextmanager
def _bar(steps: int) -> Iterator[Any]:
    """Yields `moved_to(step)`; a bar of no steps, as of the processes after the first, is none.

    None either when the reports go to a file or a pipe: rich would send what is printed to the terminal instead.
    """
    import sys

    from bahumukha.cli.output import progress

    if not steps or not sys.stdout.isatty():
        yield lambda step: None
        return
    at = 0
    with progress(steps, "training") as advance:

        def moved_to(step: int) -> None:
            nonlocal at
            advance(step - at)
            at = step

        yield moved_to
