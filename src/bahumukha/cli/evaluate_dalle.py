"""`bahu evaluate dalle`: do drawn pictures show what was asked for, composed as asked, and are they new?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bahumukha.cli import evaluate_drawn as shared
from bahumukha.cli.evaluate import group
from bahumukha.cli.generate import work
from bahumukha.errors import UsageError

EXAMPLES = """
Examples:

  bahu evaluate dalle --prompts prompts.txt --sheet drawn.png

  bahu evaluate dalle runs/mine/model --held-out pictures/noto --held-out pictures/twemoji --language te

  bahu evaluate dalle --scenes scenes-validation --learn-from scenes-train

  bahu evaluate dalle --prompts prompts.txt --validation pictures/noto --training pictures/noto --json
"""


def register(app: typer.Typer) -> None:
    """Add `bahu evaluate dalle` to the group, which `app` has already."""
    group.command("dalle", epilog=EXAMPLES)(evaluate_dalle)


def evaluate_dalle(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name or folder of a DALL-E.")] = "starter/dalle",
    prompts: shared.Prompts = None,
    captions: shared.Captions = None,
    held_out: shared.HeldOut = None,
    language: shared.Language = None,
    split: shared.Split = None,
    scenes: shared.Scenes = None,
    learn_from: shared.LearnFrom = None,
    validation: shared.Validation = None,
    training: shared.Training = None,
    most: shared.Most = 100,
    each: shared.Each = 8,
    seed: shared.Seed = 0,
    clip: shared.Clip = "starter/clip",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="temperature, top_k, top_p (0.8), guidance (3). Repeatable."),
    ] = None,
    sheet: shared.Sheet = None,
    json: shared.Json = False,
) -> None:
    """Measure pictures drawn of sentences that were kept from training.

    --prompts, --captions or --held-out: whether CLIP finds each picture's own caption among all. --scenes: whether both
    things are there, in their colours, where they should be, and how good the judge of that is on real scenes.
    """
    asking = (prompts, captions, held_out or [], language, split, scenes, learn_from)
    sources = shared.Sources(*asking, validation or [], training or [], most)
    if sources.is_empty:
        raise UsageError("give one of --prompts, --captions, --held-out, or --scenes")
    shared.check_sheet(sheet)
    drawn = work("drawn", "bahu evaluate dalle")
    from bahumukha.evaluate.dalle import by_dalle
    from bahumukha.generate.dalle import USUAL
    from bahumukha.nn.sampling import Sampling
    from bahumukha.train.config import from_table, overridden

    sampling = from_table(
        Sampling, overridden({"guidance": USUAL.guidance, "top_p": USUAL.top_p}, set_ or []), "--set", Path.cwd()
    )
    given = sources.read()
    models = drawn.models_of(model, clip)
    rows, columns = (side * models.codec.downsampling for side in models.dalle.model.config.grid)
    draw = by_dalle(models.dalle, models.codec, sampling)
    report = shared.Report(shared.Measured(draw, (columns, rows), models.codec, models.ranking), each, seed)
    report.measure(given, sources, clip)
    report.show(json, sheet, model)
