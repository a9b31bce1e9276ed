"""`bahu evaluate guided`: do painted pictures show what was asked for?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bahumukha.errors import ImageError, UsageError

if TYPE_CHECKING:
    from PIL import Image


EXAMPLES = """
Examples:

  bahu evaluate guided generated

  bahu evaluate guided generated/*.png --json
"""


def evaluate_guided(
    pictures: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="Pictures that bahu generate made, and folders of them.")
    ],
    model: Annotated[str | None, typer.Option(help="Model name or folder (default: starter/clip).")] = None,
    threads: Annotated[int | None, typer.Option(help="Worker threads (default: physical cores).")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")] = False,
) -> None:
    """Whether painted pictures show what was asked for.

    CLIP has to find each picture's own prompt, which its PNG holds, among those of all of them; and where a prompt
    names one of the eleven basic colours, that has to be the colour that most of the picture shows, background left
    out. Prompts of several parts and stories (with | or ^) are left out.
    """
    from dataclasses import asdict

    from bahumukha import zoo
    from bahumukha.cli.output import note_line, print_json
    from bahumukha.evaluate.guided import as_pictogram, colourfulness, first_among, judge_pictograms

    found, left_out = _read(pictures)
    if left_out:
        note_line(f"left out, as they hold no plain prompt: {left_out}")
    if not found:
        raise UsageError(f"no pictures of bahu generate in {', '.join(map(str, pictures))}")
    encoder = zoo.load(model, threads=threads)
    prompts = list(dict.fromkeys(prompt for _, prompt, _ in found))
    images = [image for _, _, image in found]
    scores = judge_pictograms(images, [as_pictogram(prompt) for _, prompt, _ in found], encoder, prompts)
    rows = [
        {"path": str(path)} | asdict(score) | asdict(colourfulness(image))
        for (path, _, image), score in zip(found, scores, strict=True)
    ]
    coloured = [score.colour_is_right for score in scores if score.colour_is_right is not None]
    rates: dict[str, Any] = {
        "pictures": len(scores),
        "prompts": len(prompts),
        "retrieved": first_among([score.rank for score in scores], 1),
        "colour": sum(coloured) / len(coloured) if coloured else None,
    }
    if json:
        print_json(rates | {"scores": rows})
        return
    print(f"{'rank':>4}  {'colour':<14}{'chroma':>7}  picture")
    for row, score in zip(rows, scores, strict=True):
        mark = " !" if score.colour_is_right is False else ""
        wrong = "" if score.rank == 1 else f"  taken for: {score.retrieved}"
        print(f"{score.rank:>4}  {score.colour + mark:<14}{row['chroma']:>7.1f}  {row['path']}: {score.prompt}{wrong}")
    colour = "-" if rates["colour"] is None else f"{rates['colour']:.1%} of {len(coloured)}"
    print(f"retrieved {rates['retrieved']:.1%} of {len(scores)} among {len(prompts)} prompts; colour right {colour}")


def _read(paths: list[Path]) -> tuple[list[tuple[Path, str, Image.Image]], int]:
    """(path, prompt, picture) of those with a plain prompt, and how many are left out; broken ones are told."""
    from bahumukha.cli.output import error_line
    from bahumukha.data.folders import find_images
    from bahumukha.evaluate.guided import prompt_in
    from bahumukha.images import open_image

    found, left_out = [], 0
    for path in dict.fromkeys(find_images(paths)):
        try:
            prompt = prompt_in(path)
            if prompt is None or set(prompt) & set("|^"):
                left_out += 1
            else:
                found.append((path, prompt, open_image(path)))
        except ImageError as error:
            error_line(error)
    return found, left_out
