"""`bahu evaluate unclip`: the figures of `bahu evaluate dalle`, and those of what unCLIP alone can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bahumukha.cli import evaluate_drawn as shared
from bahumukha.cli.evaluate import group
from bahumukha.cli.generate import work
from bahumukha.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

    from bahumukha.evaluate.drawn import Asked
    from bahumukha.evaluate.unclip import UnclipEvaluation
    from bahumukha.generate.unclip import Unclip

EXAMPLES = """
Examples:

  bahu evaluate unclip --prompts prompts.txt --sheet drawn.png

  bahu evaluate unclip --prompts prompts.txt --validation pictures/noto --few 8

  bahu evaluate unclip --pictures pictures/noto --most 100 --sheet varied.png

  bahu evaluate unclip --edits recipes/evaluation/edits.txt --set strength=0.3

  bahu evaluate unclip --pairs pictures/noto --pairs pictures/twemoji --split validation --json
"""
MOST_BLENDS = 30
"""Pairs of pictures at most, and pictures that are inpainted: the bars are parts, and these take longer."""
SHOWN, COLUMNS = 12, 6
"""Of each kind on the sheet, at most; and its tiles in a row."""


def register(app: typer.Typer) -> None:
    """Add `bahu evaluate unclip` to the group, which `app` has already."""
    group.command("unclip", epilog=EXAMPLES)(evaluate_unclip)


def evaluate_unclip(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name or folder of an unCLIP.")] = "starter/unclip",
    prompts: shared.Prompts = None,
    captions: shared.Captions = None,
    held_out: shared.HeldOut = None,
    language: shared.Language = None,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="Of --captions and --pairs, as validation.")] = None,
    scenes: shared.Scenes = None,
    learn_from: shared.LearnFrom = None,
    validation: shared.Validation = None,
    training: shared.Training = None,
    few: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Also the Frechet distance in N steps beside that in many (50)."),
    ] = None,
    pictures: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Pictures that are varied, blended and inpainted, and folders of them."),
    ] = None,
    edits: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Edits, one a line: 'a red car', tab, 'a blue car'[, picture].")
    ] = None,
    pairs: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR_OR_FILE", help="Captioned pictures: how near the prior comes to their embeddings."),
    ] = None,
    most: Annotated[
        int, typer.Option(metavar="N", min=2, help="Prompts at most, scenes, pictures, edits; evenly picked.")
    ] = 100,
    each: shared.Each = 8,
    seed: shared.Seed = 0,
    clip: shared.Clip = "starter/clip",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="As decoder.steps=8, prior.guidance=2, strength=0.3. Repeatable."
        ),
    ] = None,
    sheet: shared.Sheet = None,
    json: shared.Json = False,
) -> None:
    """Measure pictures drawn of sentences that were kept from training, and what can be done with pictures.

    As bahu evaluate dalle; besides, --pictures: whether CLIP finds what a variation was made of, whether blends go
    evenly, whether inpainting leaves the rest. --edits: whether what was to change did, and the rest did not. --pairs:
    the prior's cosine beside the caption's own.
    """
    asking = (prompts, captions, held_out or [], language, None if captions is None else split, scenes, learn_from)
    sources = shared.Sources(*asking, validation or [], training or [], most)
    if sources.is_empty and not (pictures or edits or pairs):
        raise UsageError("give one of --prompts, --captions, --held-out, or --scenes, --pictures, --edits, --pairs")
    if split and captions is None and not pairs:
        raise UsageError("--split is about --captions and --pairs; give one of these too")
    if few is not None and not validation:
        raise UsageError("--few goes with --validation, the real pictures; give that too")
    shared.check_sheet(sheet)
    if sheet is not None and sources.is_empty and not (pictures or edits):
        raise UsageError(f"--sheet {sheet}: --pairs has no pictures to show; leave it out")
    unclip = work("unclip", "bahu evaluate unclip")
    from bahumukha.evaluate.unclip import UnclipEvaluation, by_unclip, read_edits
    from bahumukha.models.spaces import Latents
    from bahumukha.train.config import from_table, overridden

    config = from_table(UnclipEvaluation, overridden({"model": model}, set_ or []), "--set", Path.cwd())
    given = sources.read()
    paths = shared.some(shared.of_split(pictures or [], "validation"), most)
    wanted = shared.some(read_edits(edits), most) if edits is not None else []
    models = unclip.opened(config)
    side = models.size * unclip.factor_of(models, config)
    draw, encoder = by_unclip(models, config.sampling), unclip.ranked_by(models, clip)
    codec = models.space.codec if isinstance(models.space, Latents) else None
    report = shared.Report(shared.Measured(draw, (side, side), codec, encoder), each, seed)
    report.measure(given, sources, clip)
    more = _More(models, config, report, seed)
    if few is not None and given.asked is not None:
        more.few_steps(given.asked, given.real, clip, few)
    if paths:
        more.pictures(paths, given.asked or [])
    if wanted:
        more.edits(wanted)
    if pairs:
        more.pairs(pairs, split, most)
    report.show(json, sheet, model)


@dataclass
class _More:
    """What only unCLIP is asked; figures, lines and tiles go to the report."""

    unclip: Unclip
    config: UnclipEvaluation
    report: shared.Report
    seed: int

    def few_steps(self, asked: Sequence[Asked], real: Sequence[Path], clip: str, few: int) -> None:
        """The distance to real pictures in few steps and in many."""
        from bahumukha.evaluate.unclip import by_unclip, in_steps

        found = {}
        for steps in (few, self.config.many):
            drawn = self.report.draw(asked, by_unclip(self.unclip, in_steps(self.config.sampling, steps)))
            found[steps] = self.report.distance(drawn, real, clip)[0]
        part = found[few] / found[self.config.many] - 1 if found[self.config.many] else 0.0
        self.report.figures["steps"] = {"few": few, "many": self.config.many, "frechet_few": found[few]}
        self.report.figures["steps"] |= {"frechet_many": found[self.config.many], "more": part}
        self.report.lines.append(
            f"Frechet in {few} steps {found[few]:8.1f}  (in {self.config.many}: {found[self.config.many]:.1f}, so "
            f"{part:+.1%})"
        )

    def pictures(self, paths: Sequence[Path], asked: Sequence[Asked]) -> None:
        """Variations, blends, inpainting. Raises ImageError, UsageError."""
        from PIL import Image

        from bahumukha.classify import shortest_side
        from bahumukha.cli.output import progress
        from bahumukha.evaluate.unclip import blend_scores, inpaint_scores, variation_scores
        from bahumukha.images import open_image

        at_least = max(shortest_side(self.unclip.encoder) or 0, self.unclip.size)
        sources = [open_image(path, at_least=at_least) for path in paths]
        common: dict[str, Any] = {"config": self.config, "seed": self.seed, "progress": progress}
        varied, made = variation_scores(self.unclip, sources, **common)
        half = min(len(sources) // 2, MOST_BLENDS)
        ends = [(sources[k], sources[k + len(sources) // 2]) for k in range(half)]
        blended, strips = blend_scores(self.unclip, ends, **common)
        some = sources[:MOST_BLENDS]
        prompts = [asked[k % len(asked)].prompt if asked else paths[k].stem for k in range(len(some))]
        inpainted, shown = inpaint_scores(self.unclip, some, prompts, **common)
        self.report.figures |= {
            "variations": asdict(varied),
            "blends": asdict(blended),
            "inpainting": asdict(inpainted),
        }
        self.report.lines += [
            f"variations           {varied.own:6.3f}  (mean cosine with their source; with others {varied.other:.3f})",
            f"source found first   {varied.first:6.1%}  (of {varied.pictures}, among as many)",
            f"blends monotone      {blended.monotone:6.1%}  (of {blended.pairs} strips of {blended.strip}; "
            f"{blended.both:.1%} by either end)",
            f"inpainting exact     {inpainted.exact:6.1%}  (of {inpainted.pictures}; something drawn in "
            f"{inpainted.changed:.1%})",
        ]
        self._show(
            [
                [(source, "a picture"), (Image.fromarray(rgb), "varied")]
                for source, rgb in zip(sources, made, strict=True)
            ]
        )
        middles = [Image.fromarray(strip[len(strip) // 2]) for strip in strips]
        blends = zip(ends, middles, strict=True)
        self._show([[(pair[0], "first"), (middle, "half way"), (pair[1], "second")] for pair, middle in blends])
        boxes = zip(shown, prompts, strict=True)
        self._show([[(grey, "open in grey"), (drawn, f"inpainted\n{said}")] for (grey, drawn), said in boxes])

    def edits(self, wanted: Sequence[Any]) -> None:
        """One word changed. Raises ImageError, UsageError."""
        from PIL import Image

        from bahumukha.cli.output import progress
        from bahumukha.evaluate.unclip import edit_scores
        from bahumukha.images import open_image

        named = {each.picture: open_image(each.picture, at_least=224) for each in wanted if each.picture}
        scores, edited = edit_scores(self.unclip, wanted, named, self.config, self.seed, progress)
        self.report.figures["edits"] = asdict(scores)
        self.report.lines += [
            f"edits succeeded      {scores.succeeded:6.1%}  (of {scores.edits}: target preferred "
            f"{scores.preferred:.1%}, rest kept {scores.kept:.1%})",
            f"change of pixels     {scores.change:6.3f}  (of a new picture of the target {scores.fresh:.3f})",
        ]
        groups = []
        for k, each in enumerate(wanted):
            said = ", ".join(
                word for word, right in (("target", edited.preferred[k]), ("rest kept", edited.kept[k])) if right
            )
            after = (Image.fromarray(edited.after[k]), f"{each.target}\n{said or 'neither'}")
            groups.append([(Image.fromarray(edited.before[k]), each.source), after])
        self._show(groups)

    def pairs(self, folders: Sequence[Path], split: str | None, most: int) -> None:
        """How near the prior comes. Raises UsageError."""
        import torch

        from bahumukha.cli.output import progress
        from bahumukha.evaluate.captions import read_captioned
        from bahumukha.evaluate.pictures import embed
        from bahumukha.evaluate.unclip import prior_scores

        read = [each for folder in folders for each in read_captioned(folder, split=split, most=1)]
        pictures = [(each.captions[0], each.path) for each in shared.some(read, most)]
        found = embed(self.unclip.encoder, pictures, option="--pairs", progress=progress)
        text, true = self.unclip.read(found.keys), torch.from_numpy(found.rows)
        prior, sampling = self.unclip.loaded.prior.model, self.config.prior
        scores = prior_scores(prior, found.keys, text, true, sampling, self.seed)
        self.report.figures["prior"] = asdict(scores)
        self.report.lines.append(
            f"prior                {scores.near:6.3f}  (mean cosine with the true embedding of {scores.pictures}; the "
            f"caption's own {scores.caption:.3f}, the mean picture {scores.middle:.3f})"
        )
        if scores.same_caption is not None and scores.alike_near is not None:
            self.report.lines.append(
                f"  of captions that {scores.alike} share {scores.alike_near:.3f}  (the mean of the others with the "
                f"same caption {scores.same_caption:.3f})"
            )

    def _show(self, groups: Sequence[list[tuple[Image.Image, str]]]) -> None:
        """The first of them on the sheet, each side by side, in whole rows."""
        from PIL import Image

        tiles = [tile for group in groups[:SHOWN] for tile in group]
        blank = (Image.new("RGB", (1, 1), "white"), "")
        before = [blank] * (-len(self.report.tiles) % COLUMNS)
        self.report.tiles += before + tiles
        self.report.columns = COLUMNS
