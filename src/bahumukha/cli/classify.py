"""`bahu classify`: which of these labels is in the picture?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from bahumukha.cli.output import check_drawn, error_line, note_line, print_json, progress
from bahumukha.errors import BahumukhaError, UsageError

if TYPE_CHECKING:
    from bahumukha.classify import Label
    from bahumukha.protocols import ImageTextEncoder

EXAMPLES = """Examples:

bahu classify photo.jpg --label "a penguin" --label "a bear" --label "a cat"

bahu classify holiday/ --labels animals.txt --top 3

bahu classify *.png --label cat --label dog --template "a drawing of a {}." --json

find . -name "*.jpg" -mtime -1 | bahu classify - --labels animals.txt

bahu classify photo.jpg --label "a cat" --label "a dog" --explain why.png

bahu classify photo.jpg --label "a cat" --label "a dog" --explain-label "a dog" --explain why.png"""

BAR = 24
"""Characters of a bar that stands for 100%."""
MOST_EXPLAINED = 36
"""Pictures on one page of --explain; each takes a second or two."""


class LabelsCommand(TyperCommand):
    """Lets one `--label` take several texts, as in `--label penguin bear cat`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        return super().parse_args(ctx, spread_labels(args))  # type: ignore[arg-type]


def register(app: typer.Typer) -> None:
    app.command("classify", cls=LabelsCommand, epilog=EXAMPLES)(classify)


def classify(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Pictures and folders; - reads paths from standard input, one a line."),
    ],
    label: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="A label to choose from. Repeatable.")] = None,
    labels: Annotated[Path | None, typer.Option(metavar="FILE", help="File of labels, one a line; # comments.")] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Sentence with {} in the label's place; several are averaged. Repeatable."),
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Labels to show for each picture.")] = 5,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Name or folder of a CLIP model.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line: path, labels best first.")] = False,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="OUT.png", help="Write a picture of the regions that speak for the best label."),
    ] = None,
    explain_label: Annotated[
        str | None, typer.Option(metavar="TEXT", help="With --explain: this label's regions, not the best one's.")
    ] = None,
) -> None:
    """Say which of your labels fits each picture best, and how probable each is.

    The probabilities compare the given labels with one another; nothing is trained. --explain hides one region after
    another and shows which ones the label depends on (red) and which speak against it (blue): about two seconds a
    picture.
    """
    chosen = _chosen_labels(label or [], labels)
    _check_explain(explain, explain_label, chosen)
    for text in template or []:
        if "{}" not in text:
            raise UsageError(f"--template {text!r} has no {{}} for the label; try 'a photo of a {{}}.'")
    pictures, missing = _find(_expanded(paths))
    if not pictures:
        raise UsageError("no pictures to classify" + ("" if missing else " in the folders given"))
    if explain is not None and len(pictures) > MOST_EXPLAINED:
        raise UsageError(f"--explain: {len(pictures)} pictures were given; it draws {MOST_EXPLAINED} at most")

    from bahumukha.classify import classify_each, shortest_side
    from bahumukha.images import open_image
    from bahumukha.zoo import load

    encoder = load(model)
    side = shortest_side(encoder)
    results = classify_each(
        pictures,
        lambda path: open_image(path, at_least=side),
        chosen,
        encoder,
        templates=template or None,
        top=top if explain is None else None,  # the label to explain may be none of the first
    )
    show = _print_result_json if json else _ResultPrinter(chosen)
    answers: list[tuple[Path, list[Label]]] = []
    with closing(results), progress(len(pictures), "classifying") as advance:
        for path, result in results:
            advance()
            if isinstance(result, BahumukhaError):
                error_line(result)
            else:
                show(path, result[:top])
                answers.append((path, result))
    if not answers:
        raise UsageError(f"none of the {len(pictures)} pictures could be read")
    if explain is not None:
        _draw_explained(explain, answers, explain_label, chosen, template or None, encoder)
        note_line(f"explained in {explain}")


def spread_labels(arguments: Sequence[str]) -> list[str]:
    """`--label a b c` -> `--label a --label b --label c`.

    A word after the first text stays a PATH when it names something that exists or looks like a file: `-`,
    a path with a separator, or the ending of a picture.
    """
    spread: list[str] = []
    awaited = following = False  # the text of a --label comes next; further texts may come
    for place, word in enumerate(arguments):
        if awaited:
            awaited, following = False, True
        elif word == "--":
            return spread + list(arguments[place:])
        elif word == "--label":
            awaited, following = True, False
        elif word.startswith("--label="):
            following = True
        elif following and not word.startswith("-") and not _looks_like_path(word):
            spread.append("--label")
        else:
            following = False
        spread.append(word)
    return spread


def _looks_like_path(word: str) -> bool:
    if "/" in word or os.sep in word or os.path.exists(word):
        return True
    suffix = os.path.splitext(word)[1].lower()
    if not suffix:
        return False
    from bahumukha.images import EXTENSIONS

    return suffix in EXTENSIONS


def _chosen_labels(texts: Sequence[str], file: Path | None) -> list[str]:
    """Labels of `--label` and `--labels`, each once; repeats and a lone label are noted."""
    if not texts and file is None:
        raise UsageError("no labels; give --label TEXT (once for each) or --labels FILE")
    given = [*texts, *(_read_labels(file) if file else [])]
    if not all(text.strip() for text in given):
        raise UsageError("--label is empty; each must hold some text")
    unique = list(dict.fromkeys(text.strip() for text in given))
    if len(unique) < len(given):
        repeated = sorted({text for text in unique if [g.strip() for g in given].count(text) > 1})
        note_line(f"labels given more than once count once: {', '.join(repeated)}")
    if len(unique) == 1:
        note_line(f"with one label, {unique[0]!r} gets 100% of every picture; give others to compare it with")
    return unique


def _read_labels(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UsageError(f"--labels {file}: cannot be read ({reason})") from error
    labels = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not labels:
        raise UsageError(f"--labels {file}: holds no labels; write one a line")
    return labels


def _expanded(paths: Iterable[str]) -> list[str]:
    """PATHs with `-` replaced by the lines of standard input."""
    expanded: list[str] = []
    for path in paths:
        # Names as the system has them, whatever their encoding; a line ends where `find` ends it.
        given = os.fsdecode(sys.stdin.buffer.read()).split("\n") if path == "-" else [path]
        expanded += [line for line in (each.removesuffix("\r") for each in given) if line]
    return expanded


def _find(paths: Sequence[str]) -> tuple[list[Path], int]:
    """The pictures under all paths, and how many paths do not exist; each of those is named on stderr."""
    from bahumukha.data.folders import find_images

    found: dict[Path, None] = {}  # a picture given twice, or once by its folder, is classified once
    missing = 0
    for path in paths:
        try:
            found |= dict.fromkeys(find_images([Path(path)]))
        except UsageError as error:
            error_line(error)
            missing += 1
    return list(found), missing


def _check_explain(out: Path | None, label: str | None, labels: Sequence[str]) -> None:
    """Before any work, that --explain and --explain-label can be done. Raises UsageError."""
    if out is None:
        if label is not None:
            raise UsageError("--explain-label is about the picture of --explain; give --explain OUT.png too")
        return
    check_drawn("--explain", out)
    if label is not None and label.strip() not in labels:
        raise UsageError(f"--explain-label {label!r} is not one of the labels: {', '.join(labels)}")


def _draw_explained(
    out: Path,
    answers: Sequence[tuple[Path, Sequence[Label]]],
    label: str | None,
    labels: Sequence[str],
    templates: Sequence[str] | None,
    encoder: ImageTextEncoder,
) -> None:
    """Write the page of maps, of `label` or of each picture's best one."""
    from bahumukha.explain import LARGEST, Explained, encodings, explain, explained_page
    from bahumukha.images import open_image, save_image

    pictures = [open_image(path, at_least=LARGEST) for path, _ in answers]
    explained = []
    with progress(sum(encodings(image.size, encoder) for image in pictures), "explaining") as advance:
        for image, (path, ranked) in zip(pictures, answers, strict=True):
            of = next(each for each in ranked if label is None or each.label == label.strip())
            values = explain(image, of.label, labels, model=encoder, templates=templates, advance=advance)
            explained.append(Explained(image, path.name, of.label, of.probability, values))
    save_image(explained_page(explained, encoder), out)


def _print_result_json(path: Path, labels: Sequence[Label]) -> None:
    ranked = [{"label": each.label, "probability": round(each.probability, 6)} for each in labels]
    print_json({"path": str(path), "labels": ranked})


class _ResultPrinter:
    """Prints a picture's name and its labels with bars and percents; columns fit the longest label."""

    def __init__(self, labels: Sequence[str]) -> None:
        from rich.cells import cell_len
        from rich.console import Console

        self.console: Any = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.cell_len = cell_len
        self.width = min(40, max(cell_len(label) for label in labels))

    def __call__(self, path: Path, labels: Sequence[Label]) -> None:
        from rich.text import Text

        self.console.print(Text(str(path), style="bold"))
        for place, each in enumerate(labels):
            bar = "█" * round(BAR * each.probability)
            name = each.label + " " * (self.width - self.cell_len(each.label))
            line = Text(f"  {name}  {each.probability:7.1%}  ")
            self.console.print(line.append(bar, style="green" if place == 0 else "cyan"))
