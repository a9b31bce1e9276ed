"""`bahu evaluate dalle`: do drawn pictures show what was asked for, composed as asked, and are they new?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from bahumukha.cli.evaluate import group
from bahumukha.cli.generate import work
from bahumukha.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

    from bahumukha.evaluate.dalle import Asked, Drawn
    from bahumukha.models.vqgan import Codec
    from bahumukha.nn.sampling import Sampling
    from bahumukha.protocols import ImageTextEncoder
    from bahumukha.zoo.dalle import LoadedDalle

T = TypeVar("T")

EXAMPLES = """
Examples:

  bahu evaluate dalle --prompts prompts.txt --sheet drawn.png

  bahu evaluate dalle runs/mine/model --held-out pictures/noto --held-out pictures/twemoji --language te

  bahu evaluate dalle --scenes scenes-validation --learn-from scenes-train

  bahu evaluate dalle --prompts prompts.txt --validation pictures/noto --training pictures/noto --json
"""
MOST_SHOWN = 60
"""Prompts on the sheet."""


def register(app: typer.Typer) -> None:
    """Add `bahu evaluate dalle` to the group, which `app` has already."""
    group.command("dalle", epilog=EXAMPLES)(evaluate_dalle)


def evaluate_dalle(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name or folder of a DALL-E.")] = "starter/dalle",
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Prompts, one a line; after a tab the caption to find it by.")
    ] = None,
    captions: Annotated[
        Path | None, typer.Option(metavar="DIR_OR_FILE", help="Or the captions of pictures, as bahu evaluate clip.")
    ] = None,
    held_out: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Or things in a style or colour that training keeps from them, of folders of captioned pictures (all "
            "that it was trained on) and of validation scenes. Repeatable.",
        ),
    ] = None,
    language: Annotated[
        str | None, typer.Option(metavar="CODE", help="Of the prompts; the pictures are found by the English captions.")
    ] = None,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="Of --captions, as validation.")] = None,
    scenes: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Composed scenes, of which those with two things are asked for.")
    ] = None,
    learn_from: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Other scenes, from which the judge learns what things look like."),
    ] = None,
    validation: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH", help="Real pictures for the Frechet distance; of captioned ones their validation."
        ),
    ] = None,
    training: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="What it was trained on: the nearest picture of it is shown beside each."),
    ] = None,
    most: Annotated[int, typer.Option(metavar="N", min=2, help="Prompts at most, and scenes, evenly picked.")] = 100,
    each: Annotated[int, typer.Option(metavar="N", min=2, help="Pictures of every prompt.")] = 8,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the first picture.")] = 0,
    clip: Annotated[str, typer.Option(metavar="M", help="CLIP that ranks and judges.")] = "starter/clip",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="temperature, top_k, top_p, guidance (3). Repeatable."),
    ] = None,
    sheet: Annotated[Path | None, typer.Option(metavar="OUT.png", help="The best picture of every prompt.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")] = False,
) -> None:
    """Measure pictures drawn of sentences that were kept from training.

    --prompts, --captions or --held-out: whether CLIP finds each picture's own caption among all. --scenes: whether both
    things are there, in their colours, where they should be, and how good the judge of that is on real scenes.
    """
    sources = {"--prompts": prompts, "--captions": captions, "--held-out": held_out}
    given = [option for option, value in sources.items() if value]
    if len(given) > 1:
        raise UsageError(f"give one of {', '.join(sources)}, not {' and '.join(given)}")
    if not given and scenes is None:
        raise UsageError(f"give one of {', '.join(sources)}, or --scenes")
    if (split and captions is None) or (language and captions is None and not held_out):
        raise UsageError("--language is about --captions and --held-out, --split about --captions; give these too")
    if (scenes is None) != (learn_from is None):
        raise UsageError("--scenes and --learn-from go together: the judge learns from other scenes than it judges")
    if (validation or training) and not given:
        raise UsageError(f"--validation and --training are about the pictures of {', '.join(sources)}; give one")
    if sheet is not None and sheet.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UsageError(f"--sheet {sheet}: name it .png, .jpg or .webp")
    drawn = work("drawn", "bahu evaluate dalle")
    from bahumukha.nn.sampling import Sampling
    from bahumukha.train.config import from_table, overridden

    sampling = from_table(Sampling, overridden({"guidance": 3.0}, set_ or []), "--set", Path.cwd())
    asked = _asked(prompts, captions, held_out or [], language, split)
    real, known = _of_split(validation or [], "validation"), _of_split(training or [], "train")
    models = drawn.models_of(model, clip)
    report = _Report(models.dalle, models.codec, models.ranking, sampling, each, seed)
    if asked is not None:
        asked = _some(asked, most)
        pictures = report.prompts(asked)
        if real:
            report.frechet(pictures, real, clip)
        if known:
            report.nearest(pictures, asked, known, real)
    if scenes is not None and learn_from is not None:
        report.scenes(scenes, learn_from, most)
    report.show(json, sheet, model)


@dataclass
class _Report:
    """Figures for a script, lines for people, tiles for the sheet, as they come."""

    dalle: LoadedDalle
    codec: Codec
    encoder: ImageTextEncoder
    sampling: Sampling
    each: int
    seed: int
    figures: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    tiles: list[tuple[Image.Image, str]] = field(default_factory=list)
    columns: int | None = None

    @property
    def size(self) -> int:
        """Pixels of the shorter side of what it draws."""
        return min(self.dalle.model.config.grid) * self.codec.downsampling

    def _drawn(self, asked: Sequence[Asked]) -> Drawn:
        from bahumukha.cli.output import progress
        from bahumukha.evaluate.dalle import draw_all

        options: dict[str, Any] = {"each": self.each, "sampling": self.sampling, "seed": self.seed}
        return draw_all(self.dalle, self.codec, self.encoder, asked, progress=progress, **options)

    def prompts(self, asked: Sequence[Asked]) -> Drawn:
        """Draw, and have CLIP find the captions again."""
        from PIL import Image

        from bahumukha.evaluate.dalle import diversity, retrieval

        drawn = self._drawn(asked)
        scores = retrieval(self.encoder, drawn, [one.caption for one in asked])
        spread = diversity(drawn.rows)
        self.figures |= {"prompts": scores.prompts, "each": scores.each, "r1_single": scores.single}
        self.figures |= {"r1_best": scores.best, "diversity": spread}
        self.figures["ranks"] = dict(zip([one.prompt for one in asked], scores.by_prompt, strict=True))
        self.lines += [
            f"{scores.prompts} prompts, {scores.each} pictures of each",
            f"own caption first    {scores.single:6.1%} of single pictures, {scores.best:6.1%} of the best ones",
            f"diversity            {spread:6.3f}  (mean of 1 - cosine between pictures of one prompt)",
        ]
        for one, rank, rgb in zip(asked, scores.by_prompt, drawn.best_pictures, strict=True):
            self.tiles.append((Image.fromarray(rgb), f"{one.prompt}\n{'found' if rank == 1 else f'rank {rank}'}"))
        return drawn

    def frechet(self, drawn: Drawn, validation: Sequence[Path], clip: str) -> None:
        """The distance of clouds of features between drawn and real pictures."""
        from bahumukha.evaluate.dalle import frechet
        from bahumukha.evaluate.vqgan import trunk_features
        from bahumukha.zoo.perceptual import trunk_distance

        distance, count = frechet(trunk_features(trunk_distance(clip).trunk), drawn, validation, self.size)
        self.figures |= {"frechet_efficientnet": distance, "frechet_pictures": count}
        self.lines.append(f"Frechet distance     {distance:6.1f}  ({count} drawn and {count} real; features of {clip})")

    def nearest(
        self, drawn: Drawn, asked: Sequence[Asked], training: Sequence[Path], validation: Sequence[Path]
    ) -> None:
        """The training picture most like each of the best, and how near real ones that it never saw come to any."""
        from bahumukha.cli.output import progress
        from bahumukha.evaluate.dalle import embedded_files, nearest
        from bahumukha.images import open_image

        known = embedded_files(self.encoder, training, "--training", self.size, progress)
        found = nearest(drawn.best_rows, [one.prompt for one in asked], known)
        mean = sum(each.cosine for each in found) / len(found)
        self.figures["nearest"] = [{"prompt": n.prompt, "path": str(n.path), "cosine": n.cosine} for n in found]
        self.figures["nearest_mean"] = mean
        line = f"nearest in training  {mean:6.3f}  (mean cosine"
        if validation:
            real = embedded_files(
                self.encoder, _some(list(validation), len(found)), "--validation", self.size, progress
            )
            usual = nearest(real.rows, [str(path) for path in real.keys], known)
            self.figures["nearest_mean_of_real"] = sum(each.cosine for each in usual) / len(usual)
            line += f"; of real pictures it never saw {self.figures['nearest_mean_of_real']:.3f}"
        self.lines.append(line + ")")
        beside = [(open_image(n.path, at_least=224), f"{n.path.stem}\ncosine {n.cosine:.3f}") for n in found]
        self.tiles = [tile for pair in zip(self.tiles, beside, strict=True) for tile in pair]
        self.columns = 6

    def scenes(self, folder: Path, learn_from: Path, most: int) -> None:
        """Composition as asked, of the captions of real scenes."""
        from dataclasses import asdict

        from PIL import Image

        from bahumukha.cli.output import progress
        from bahumukha.evaluate.composed import askable, composed_scenes, learned_judge
        from bahumukha.evaluate.dalle import Asked, scene_scores

        rows, columns = self.dalle.model.config.grid
        if rows != columns:
            raise UsageError(
                f"--scenes: scenes are square, and this model draws {columns} x {rows} tokens; leave it out"
            )
        wanted = askable(composed_scenes(folder))
        judge = learned_judge(composed_scenes(learn_from, "--learn-from"), self.size, progress)
        wanted = _some([each for each in wanted if judge.knows(each.scene)], most)
        if not wanted:
            raise UsageError(
                f"--scenes {folder}: none shows two single things, each of a basic colour, that are in {learn_from} too"
            )
        drawn = self._drawn([Asked(each.caption, each.caption) for each in wanted])
        scores = scene_scores(drawn, self.codec, judge, wanted, self.size)
        self.figures["scenes"] = asdict(scores)
        self.lines += _scene_lines(scores)
        for each, rgb in zip(wanted, drawn.best_pictures, strict=True):
            self.tiles.append((Image.fromarray(rgb), each.caption))

    def show(self, json: bool, sheet: Path | None, model: str) -> None:
        """Print, and save the sheet."""
        from bahumukha.cli.output import note_line, print_json
        from bahumukha.images import save_image
        from bahumukha.sheets import contact_sheet

        if json:
            print_json({"model": model} | self.figures)
        else:
            print("\n".join(self.lines))
        if sheet is not None:
            shown = self.tiles[: MOST_SHOWN * (2 if self.columns else 1)]
            save_image(contact_sheet(shown, columns=self.columns, tile=160), sheet)
            note_line(f"the best picture of every prompt is in {sheet}")


def _scene_lines(scores: Any) -> list[str]:
    judge = scores.judge
    count = f"{scores.best.pictures} scenes of two things, {scores.each} pictures of each"
    lines = [
        f"{count}; the judge knows {judge.vocabulary} things",
        f"{'':<26}{'both there':>11}{'colours':>9}{'relation':>10}{'all':>7}",
    ]
    rows = {"single pictures": scores.single, "the best of each": scores.best}
    rows["real ones, by the codec"] = scores.codec
    for name, rates in rows.items():
        figures = f"{rates.present:>11.1%}{rates.colours:>9.1%}{rates.relation:>10.1%}{rates.all:>7.1%}"
        lines.append(f"{name:<26}{figures}")
    lines.append(f"{'judge: yes to what is':<26}{judge.present:>11.1%}{judge.colours:>9.1%}{judge.relation:>10.1%}")
    other = f"{judge.absent:>11.1%}{judge.other_colour:>9.1%}{judge.other_relation:>10.1%}"
    return [*lines, f"{'judge: no to what is not':<26}{other}"]


def _asked(
    prompts: Path | None, captions: Path | None, held_out: Sequence[Path], language: str | None, split: str | None
) -> list[Asked] | None:
    """Of the one source that is given; None for none."""
    from bahumukha.evaluate.dalle import kept_prompts, prompts_of, read_prompts

    if prompts is not None:
        return read_prompts(prompts)
    if captions is not None:
        return prompts_of(captions, language=language, split=split)
    return kept_prompts(held_out, language) if held_out else None


def _some(items: list[T], most: int) -> list[T]:
    """At most so many, evenly picked."""
    return items if len(items) <= most else [items[i * len(items) // most] for i in range(most)]


def _of_split(paths: Sequence[Path], split: str) -> list[Path]:
    """Pictures of files and folders; of a folder with captions.jsonl those of the split. Raises UsageError."""
    from bahumukha.data.folders import find_images
    from bahumukha.evaluate.captions import LISTING, read_captioned

    found: dict[Path, None] = {}
    for path in paths:
        if (path / LISTING).is_file():
            found |= dict.fromkeys(each.path for each in read_captioned(path, split=split))
        else:
            found |= dict.fromkeys(find_images([path]))
    if paths and not found:
        raise UsageError(f"no pictures in {', '.join(map(str, paths))}")
    return list(found)
