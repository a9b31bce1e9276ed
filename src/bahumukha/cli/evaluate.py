"""`bahu evaluate`: the figures of a model, one command a kind of model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """
Examples:

  bahu evaluate clip --photos photos

  bahu evaluate clip --photos photos --classes ids.txt --json
"""


def register(app: typer.Typer) -> None:
    """Add `bahu evaluate …`."""
    group = typer.Typer(help="Measure how good a model is.", no_args_is_help=True)
    group.command("clip", epilog=EXAMPLES)(evaluate_clip)
    app.add_typer(group, name="evaluate")


def evaluate_clip(
    photos: Annotated[
        Path,
        typer.Option(help="Folder of pictures whose names start with a WordNet id, as n02123045_tabby.jpg."),
    ],
    classes: Annotated[
        Path | None,
        typer.Option(help="File with WordNet ids, one a line: only these names and photographs take part."),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(help="Sentence around a name, with {}; may be repeated (default: the model's own)."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model name or folder (default: starter/clip).")] = None,
    threads: Annotated[int | None, typer.Option(help="Worker threads (default: physical cores).")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")] = False,
) -> None:
    """Zero-shot accuracy over the 1,000 ImageNet names, and of fifteen coarser words, on photographs."""
    from dataclasses import asdict

    from bahumukha import zoo
    from bahumukha.cli.output import error_line, print_json
    from bahumukha.evaluate.clip import evaluate_photos

    ids = read_ids(classes) if classes else None
    scores = evaluate_photos(zoo.load(model, threads=threads), photos, classes=ids, templates=template)
    for path, reason in scores.failed:
        error_line(f"{path}: {reason}")
    if json:
        print_json(asdict(scores))
        return
    print(f"{scores.photos} photographs, {scores.names} names")
    print(f"top-1   {scores.top1:6.1%}\ntop-5   {scores.top5:6.1%}")
    if scores.coarse is not None:
        print(f"coarse  {scores.coarse:6.1%}   (hits among the first five / those that could be)")
        for word, score in scores.coarse_words.items():
            print(f"    {word:<24}{score:6.1%}")


def read_ids(file: Path) -> list[str]:
    """WordNet ids, one a line; blank lines and # comments skipped. Raises UsageError."""
    from bahumukha.errors import UsageError

    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--classes {file}: cannot be read as text ({error})") from error
    ids = [line.split("#")[0].strip() for line in lines]
    return [wnid for wnid in ids if wnid]
