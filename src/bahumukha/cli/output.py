"""What every command prints and writes: results on stdout, all else on stderr, progress on terminals only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bahumukha.errors import UsageError
from bahumukha.runtime import check_place


def print_json(obj: Any) -> None:
    """One JSON object on one line of stdout, flushed so that the next program in a pipe can start on it.

    Text stays readable (UTF-8, not \\u escapes), except where a file name holds bytes that are not text.
    """
    line = json.dumps(obj, ensure_ascii=False)
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:  # lone surrogates, which stand for the undecodable bytes of a file name
        line = json.dumps(obj)
    print(line, flush=True)


def error_line(message: object) -> None:
    """`bahu: message` on stderr, always as one line."""
    print("bahu:", " ".join(str(message).split()), file=sys.stderr, flush=True)


note_line = error_line
"""A notice rather than an error looks the same: one line on stderr, in no one's way."""


@contextmanager
def progress(total: int | None, description: str) -> Iterator[Callable[..., None]]:
    """A progress bar with items a second on stderr while the block runs; silent when stderr is not a terminal.

    Yields `advance(count=1)`. A `total` of None shows a moving bar and a count.
    """
    if not sys.stderr.isatty():
        yield lambda count=1: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Speed(), TimeRemainingColumn())
    # Lines printed below the bar go around it on a terminal; in a pipe or file they must stay on stdout.
    together = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=together) as bar:
        task = bar.add_task(description, total=total)
        yield lambda count=1: bar.update(task, advance=count)


def check_drawn(option: str, path: Path) -> None:
    """Before the work, that a picture can be written where an option says. Raises UsageError."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UsageError(f"{option} {path}: name it .png, .jpg or .webp")
    check_place(path, f"{option} {path}")
