"""The command line `bahu`: one module for each group of commands, each with `register(app)`.

Modules here import at their top only what `--help` needs; a command imports its work when it is called.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import Annotated

import typer

from bahumukha.cli.output import error_line
from bahumukha.errors import BahumukhaError, Interrupted

STOPPED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells count."""

app = typer.Typer(
    name="bahu",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help starts in half the time
    pretty_exceptions_enable=False,  # a bug keeps its plain traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)


@cache
def commands() -> typer.Typer:
    """`app` with every group of commands registered, in the order of the help."""
    from bahumukha.cli import (
        classify,
        codec,
        complete,
        demo,
        evaluate,
        evaluate_dalle,
        evaluate_unclip,
        generate,
        models,
        search,
        serve,
        train,
        vary,
        weights,
    )

    making = (generate, complete, vary, evaluate, evaluate_dalle, evaluate_unclip, codec, train)
    for group in (classify, search, *making, models, weights, serve, demo):
        group.register(app)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave by SystemExit.

    Exit codes: 0 done, 1 a clear error on one line, 2 wrong usage, 130 stopped by Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        # File names may hold characters that the locale, or no encoding at all, can write.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    try:
        commands()(args=arguments, prog_name="bahu")
    except SystemExit as leaving:
        if leaving.code == STOPPED:  # Typer turned a KeyboardInterrupt into a silent exit
            error_line("stopped")
        raise
    except KeyboardInterrupt:
        error_line("stopped")
        sys.exit(STOPPED)
    except Interrupted as error:
        error_line(error)
        sys.exit(STOPPED)
    except BahumukhaError as error:
        error_line(error)
        sys.exit(1)


def _print_version(asked: bool) -> None:
    if asked:
        from bahumukha import __version__

        print(f"bahu {__version__}")
        raise typer.Exit


@app.callback()
def _bahu(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Words into pictures and pictures into words, offline, on a laptop."""
