"""`bahu evaluate`: the figures of a model, one command a kind of model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bahumukha.cli import evaluate_guided
from bahumukha.cli.output import check_drawn
from bahumukha.errors import UsageError

if TYPE_CHECKING:
    from bahumukha.evaluate.answers import Answers, ClassScore
    from bahumukha.protocols import ImageTextEncoder

EXAMPLES = """
Examples:

  bahu evaluate clip --photos photos

  bahu evaluate clip --photos photos --templates openai80 --per-class --confusion confusion.png

  bahu evaluate clip --photos photos --classes ids.txt --size 160 --json

  bahu evaluate clip --photos photos --everyday

  bahu evaluate clip --classes-from-folders flowers --confusion flowers.png

  bahu evaluate clip --captions pictures/noto --split validation --language te

  bahu evaluate clip --captions captions.csv

  bahu evaluate clip --probe flowers --per-class

  bahu evaluate clip --scenes scenes
"""

SOURCES = {
    "--photos": {"--classes", "--template", "--templates", "--everyday", "--per-class", "--confusion", "--groups"},
    "--classes-from-folders": {"--template", "--templates", "--per-class", "--confusion"},
    "--captions": {"--language", "--split", "--captions-each"},
    "--probe": {"--per-class", "--confusion"},
    "--scenes": set(),
}
"""What is measured on -> the options that mean something there, besides those of every one."""
WITH_EVERYDAY = {"--everyday", "--per-class", "--language", "--template", "--templates"}


group = typer.Typer(help="Measure how good a model is.", no_args_is_help=True)
"""`bahu evaluate`; commands that need PyTorch are in modules of their own."""


def register(app: typer.Typer) -> None:
    """Add `bahu evaluate …`."""
    group.command("clip", epilog=EXAMPLES)(evaluate_clip)
    group.command("guided", epilog=evaluate_guided.EXAMPLES)(evaluate_guided.evaluate_guided)
    app.add_typer(group, name="evaluate")


def evaluate_clip(
    photos: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Pictures whose names start with a WordNet id, as n02123045_tabby.jpg."),
    ] = None,
    classes_from_folders: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of folders; a sub-folder's name is the label of its pictures."),
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR_OR_FILE",
            help="Captioned pictures: a folder with captions.jsonl, one with a .txt beside each picture, or a CSV "
            "with columns path and caption.",
        ),
    ] = None,
    probe: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder for each class (or train/ and test/ of such): linear probe."),
    ] = None,
    scenes: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Composed scenes with captions that are nearly right: colours, relations."),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="WordNet ids, one a line: only these names and photographs take part."),
    ] = None,
    everyday: Annotated[
        bool, typer.Option("--everyday", help="64 everyday things in sixteen languages instead of the 1,000 names.")
    ] = False,
    template: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Sentence around a name, with {}; repeatable (default: the model's own)."),
    ] = None,
    templates: Annotated[
        str | None,
        typer.Option(metavar="SET", help="openai80, openai7, model, or a file of templates, one a line."),
    ] = None,
    language: Annotated[
        str | None, typer.Option(metavar="CODE", help="Language of the captions, as te (default: en).")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only captioned pictures of this split, as validation.")
    ] = None,
    captions_each: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Captions a picture at most, the first ones (default: all).")
    ] = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="A table: each class, how many were right, the most frequent mistake.")
    ] = False,
    confusion: Annotated[
        Path | None, typer.Option(metavar="OUT.png", help="A picture of what is taken for what.")
    ] = None,
    groups: Annotated[
        bool, typer.Option("--groups", help="The picture by fifteen coarse groups (a dog, a tool…), not by class.")
    ] = False,
    size: Annotated[
        int | None, typer.Option(metavar="N", min=8, help="Shrink pictures to N pixels on the shortest side first.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model name or folder (default: starter/clip).")] = None,
    threads: Annotated[int | None, typer.Option(help="Worker threads (default: physical cores).")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")] = False,
) -> None:
    """Accuracy without training (ImageNet's names, everyday things, your own folders), retrieval, linear probe, scenes.

    Give one of --photos, --classes-from-folders, --captions, --probe and --scenes.
    """
    sources = {
        "--photos": photos,
        "--classes-from-folders": classes_from_folders,
        "--captions": captions,
        "--probe": probe,
        "--scenes": scenes,
    }
    given = {
        "--classes": classes,
        "--everyday": everyday,
        "--template": template,
        "--templates": templates,
        "--language": language,
        "--split": split,
        "--captions-each": captions_each,
        "--per-class": per_class,
        "--confusion": confusion,
        "--groups": groups,
    }
    source, folder = _source(sources, given)
    if confusion is not None:
        check_drawn("--confusion", confusion)
    around = _templates(template, templates)
    ids = read_ids(classes) if classes else None

    from bahumukha import zoo
    from bahumukha.cli.output import progress

    encoder = zoo.load(model, threads=threads)
    common: dict[str, Any] = {"size": size, "progress": progress}
    show = _Printer(json, per_class, confusion, groups)
    if everyday:
        if templates == "model":  # the default here is the bare name
            around = getattr(encoder, "templates", None)
        _everyday(encoder, folder, around, language, common, show)
    elif source == "--captions":
        _captions(encoder, folder, {"language": language, "split": split, "most": captions_each} | common, show)
    elif source == "--probe":
        _probe(encoder, folder, common, show)
    elif source == "--scenes":
        if size is not None:
            raise UsageError("--size has no meaning with --scenes")
        _scenes(encoder, folder, show)
    else:
        from bahumukha.evaluate.clip import evaluate_folders, evaluate_photos

        if source == "--photos":
            scores = evaluate_photos(encoder, folder, classes=ids, templates=around, **common)
        else:
            scores = evaluate_folders(encoder, folder, templates=around, **common)
        figures: dict[str, Any] = {
            "photos": scores.photos,
            "names": scores.names,
            "top1": scores.top1,
            "top5": scores.top5,
        }
        figures |= {"coarse": scores.coarse, "coarse_words": scores.coarse_words}
        lines = [f"{scores.photos} photographs, {scores.names} names", *_accuracy(scores)]
        if scores.coarse is not None:
            lines.append(f"coarse  {scores.coarse:6.1%}   (hits among the first five / those that could be)")
            lines += [f"    {word:<24}{score:6.1%}" for word, score in scores.coarse_words.items()]
        show(figures, lines, scores.failed, scores.answers)


def _everyday(
    encoder: ImageTextEncoder,
    folder: Path,
    templates: Sequence[str] | None,
    language: str | None,
    common: dict[str, Any],
    show: _Printer,
) -> None:
    from dataclasses import asdict

    from bahumukha.evaluate.everyday import evaluate_everyday, language_score

    scores = evaluate_everyday(encoder, folder, templates=templates, **common)
    of_table = language_score(scores, language or "en")
    figures = asdict(scores)
    figures.pop("failed")
    if not show.per_class:
        for each in figures["languages"]:
            each.pop("per_thing")
    lines = [
        f"{scores.photos} photographs of {scores.things} everyday things, all names in one language at a time",
        f"{'language':<10}{'top-1':>7}{'by thing':>10}{'/ English':>11}",
    ]
    for each in scores.languages:
        ratio = "-" if each.ratio is None else f"{each.ratio:.2f}"
        lines.append(f"{each.language:<10}{each.top1:>7.1%}{each.by_thing:>10.1%}{ratio:>11}")
    mean_ratio = "-" if scores.mean_ratio is None else f"{scores.mean_ratio:.2f}"
    lines.append(f"{'mean':<10}{scores.mean_top1:>7.1%}{'':>10}{mean_ratio:>11}   (the ratio: of the others)")
    if show.per_class:
        lines += ["", f"things, asked in {of_table.language}:", *table(of_table.per_thing)]
    show(figures, lines, scores.failed, None)


def _captions(encoder: ImageTextEncoder, source: Path, options: dict[str, Any], show: _Printer) -> None:
    from bahumukha.evaluate.retrieval import evaluate_captions

    scores = evaluate_captions(encoder, source, **options)
    both = {"text_to_image": scores.text_to_image, "image_to_text": scores.image_to_text}
    figures: dict[str, Any] = {"pictures": scores.image_to_text.questions, "captions": scores.text_to_image.questions}
    for name, way in both.items():
        figures[name] = {f"r{k}": value for k, value in way.at.items()} | {"median_rank": way.median_rank}
    lines = [f"{figures['pictures']} pictures, {figures['captions']} different captions"]
    for name, way in both.items():
        recalls = "".join(f"  R@{k} {value:6.1%}" for k, value in way.at.items())
        lines.append(f"{name.replace('_', ' '):<14}{recalls}   median rank {way.median_rank:g} of {way.answers}")
    show(figures, lines, scores.failed, None)


def _probe(encoder: ImageTextEncoder, folder: Path, common: dict[str, Any], show: _Printer) -> None:
    from bahumukha.evaluate.probe import evaluate_probe

    scores = evaluate_probe(encoder, folder, **common)
    names = ("train", "test", "classes", "top1", "top5", "strength", "held_out")
    lines = [
        f"linear probe: {scores.train} pictures to learn from, {scores.test} to score, {scores.classes} classes",
        *_accuracy(scores),
        f"C = {scores.strength:.3g}, by {scores.held_out:.1%} on a held-out part of the first",
    ]
    show({name: getattr(scores, name) for name in names}, lines, scores.failed, scores.answers)


def _scenes(encoder: ImageTextEncoder, folder: Path, show: _Printer) -> None:
    from dataclasses import asdict

    from bahumukha.evaluate.composition import composition_scores, scene_questions

    scores = composition_scores(encoder, scene_questions(folder))
    lines = [f"{'asked':<16}{'scenes':>7}{'right':>8}{'by chance':>11}"]
    lines += [f"{each.kind:<16}{each.items:>7}{each.right:>8.1%}{each.chance:>11.1%}" for each in scores]
    show({"scenes": [asdict(each) for each in scores]}, lines, [], None)


class _Printer:
    """Prints one result as --json, --per-class, --confusion and --groups ask."""

    def __init__(self, json: bool, per_class: bool, confusion: Path | None, groups: bool) -> None:
        self.json, self.per_class, self.confusion, self.groups = json, per_class, confusion, groups

    def __call__(
        self,
        figures: dict[str, Any],
        lines: Sequence[str],
        failed: Sequence[tuple[str, str]],
        answers: Answers | None,
    ) -> None:
        """`figures` for a script, `lines` for people; `answers` where there are classes."""
        from dataclasses import asdict

        from bahumukha.cli.output import error_line, note_line, print_json

        for path, reason in failed:
            error_line(reason if reason.startswith(path) else f"{path}: {reason}")
        figures = {**figures, "failed": [{"path": path, "reason": reason} for path, reason in failed]}
        lines = list(lines)
        if answers is not None and self.per_class:
            scores = answers.per_class()
            figures["per_class"] = [asdict(score) for score in scores]
            lines += ["", *table(scores)]
        if answers is not None and self.confusion is not None:
            _save_confusion(answers, self.confusion, self.groups)
            note_line(f"confusion picture: {self.confusion}")
        if self.json:
            print_json(figures)
        else:
            print("\n".join(lines))


def table(scores: Sequence[ClassScore]) -> list[str]:
    """Lines of a table, worst classes first: class, photographs, right, most frequent wrong answer."""
    from rich.cells import cell_len, set_cell_size

    width = min(36, max(cell_len("class"), *(cell_len(score.name) for score in scores)))
    lines = [f"{'class':<{width}}  photographs   right   most often mistaken for"]
    for score in sorted(scores, key=lambda each: (each.right / each.photographs, -each.photographs, each.name)):
        wrong = "" if score.mistaken_for is None else f"{score.mistaken_for} ({score.mistaken})"
        right = f"{score.right / score.photographs:7.1%}"
        lines.append(f"{set_cell_size(score.name, width)}  {score.photographs:>11} {right}   {wrong}".rstrip())
    return lines


def _accuracy(scores: Any) -> list[str]:
    return [f"top-1   {scores.top1:6.1%}", f"top-5   {scores.top5:6.1%}"]


def _save_confusion(answers: Answers, path: Path, groups: bool) -> None:
    from bahumukha.evaluate.answers import confusion_picture
    from bahumukha.evaluate.clip import coarse_groups
    from bahumukha.images import save_image

    save_image(confusion_picture(answers.grouped(coarse_groups(answers.names)) if groups else answers), path)


def _source(sources: dict[str, Path | None], given: dict[str, Any]) -> tuple[str, Path]:
    """The one source that was given, and that each other option means something there. Raises UsageError."""
    chosen = [(name, path) for name, path in sources.items() if path is not None]
    if len(chosen) != 1:
        what = "; both are given: " + ", ".join(name for name, _ in chosen) if chosen else ""
        raise UsageError(f"give one of {', '.join(sources)}{what}")
    (source, folder) = chosen[0]
    used = [option for option, value in given.items() if value]
    allowed = WITH_EVERYDAY if source == "--photos" and given["--everyday"] else SOURCES[source]
    for option in used:
        if option not in allowed:
            beside = "--everyday" if allowed is WITH_EVERYDAY else source
            raise UsageError(f"{option} has no meaning with {beside}; with it go {', '.join(sorted(allowed))}")
    if given["--groups"] and given["--confusion"] is None:
        raise UsageError("--groups is about the picture of --confusion; give --confusion OUT.png too")
    return source, folder


def _templates(texts: Sequence[str] | None, named: str | None) -> Sequence[str] | None:
    """Of --template or --templates; None is the model's own."""
    if texts and named:
        raise UsageError("give --template or --templates, not both")
    for text in texts or ():
        if "{}" not in text:
            raise UsageError(f"--template {text!r} has no {{}} for the name; try 'a photo of a {{}}.'")
    if named is None:
        return texts or None
    from bahumukha.evaluate.templates import read_templates

    return read_templates(named)


def read_ids(file: Path) -> list[str]:
    """WordNet ids, one a line; blank lines and # comments skipped. Raises UsageError."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--classes {file}: cannot be read as text ({error})") from error
    ids = [line.split("#")[0].strip() for line in lines]
    return [wnid for wnid in ids if wnid]
