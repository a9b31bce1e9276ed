"""What `bahu evaluate dalle` and `bahu evaluate unclip` share: what is asked for, and the figures of what is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from bahumukha.cli.output import check_drawn
from bahumukha.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

    from bahumukha.evaluate.drawn import Asked, Draw, Drawn
    from bahumukha.protocols import ImageCodec, ImageTextEncoder

T = TypeVar("T")

MOST_SHOWN = 60
"""Prompts on the sheet."""

# --- options ----------------------------------------------------------------------------------------------

Prompts = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Prompts, one a line; after a tab the caption to find it by.")
]
Captions = Annotated[
    Path | None, typer.Option(metavar="DIR_OR_FILE", help="Or the captions of pictures, as bahu evaluate clip.")
]
HeldOut = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="DIR",
        help="Or things in a style or colour that training keeps from them, of folders of captioned pictures (all "
        "that it was trained on) and of validation scenes. Repeatable.",
    ),
]
Language = Annotated[
    str | None, typer.Option(metavar="CODE", help="Of the prompts; the pictures are found by the English captions.")
]
Split = Annotated[str | None, typer.Option(metavar="NAME", help="Of --captions, as validation.")]
Scenes = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Composed scenes, of which those with two things are asked for.")
]
LearnFrom = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Other scenes, from which the judge learns what things look like.")
]
Validation = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", help="Real pictures for the Frechet distance; of captioned ones their validation."),
]
Training = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", help="What it was trained on: the nearest picture of it is shown beside each."),
]
Most = Annotated[int, typer.Option(metavar="N", min=2, help="Prompts at most, and scenes, evenly picked.")]
Each = Annotated[int, typer.Option(metavar="N", min=2, help="Pictures of every prompt.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Of the first picture.")]
Clip = Annotated[str, typer.Option(metavar="M", help="CLIP that ranks and judges.")]
Sheet = Annotated[
    Path | None,
    typer.Option(metavar="OUT.png", help="Pictures: the best of every prompt, and what was made of others."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]


@dataclass(frozen=True)
class Sources:
    """What is asked for, and what the answers are compared with. Raises UsageError for what does not go together."""

    prompts: Path | None
    captions: Path | None
    held_out: list[Path]
    language: str | None
    split: str | None
    scenes: Path | None
    learn_from: Path | None
    validation: list[Path]
    training: list[Path]
    most: int

    def __post_init__(self) -> None:
        given = [option for option, value in self._prompting().items() if value]
        if len(given) > 1:
            raise UsageError(f"give one of {', '.join(self._prompting())}, not {' and '.join(given)}")
        if (self.split and self.captions is None) or (self.language and self.captions is None and not self.held_out):
            raise UsageError("--language is about --captions and --held-out, --split about --captions; give these too")
        if (self.scenes is None) != (self.learn_from is None):
            raise UsageError("--scenes and --learn-from go together: the judge learns from other scenes than it judges")
        if (self.validation or self.training) and not given:
            raise UsageError(
                f"--validation and --training are about the pictures of {', '.join(self._prompting())}; give one"
            )

    def _prompting(self) -> dict[str, Any]:
        return {"--prompts": self.prompts, "--captions": self.captions, "--held-out": self.held_out}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be drawn."""
        return self.scenes is None and not any(self._prompting().values())

    def read(self) -> Given:
        """Before any model is. Raises UsageError."""
        asked = self._asked()
        real, known = of_split(self.validation, "validation"), of_split(self.training, "train")
        return Given(asked and some(asked, self.most), real, known)

    def _asked(self) -> list[Asked] | None:
        """Of the one source that is given; None for none."""
        from bahumukha.evaluate.drawn import kept_prompts, prompts_of, read_prompts

        if self.prompts is not None:
            return read_prompts(self.prompts)
        if self.captions is not None:
            return prompts_of(self.captions, language=self.language, split=self.split)
        return kept_prompts(self.held_out, self.language) if self.held_out else None


@dataclass(frozen=True)
class Given:
    """What sources hold."""

    asked: list[Asked] | None
    real: list[Path]
    """Pictures for the Frechet distance."""
    known: list[Path]
    """That it was trained on."""


def check_sheet(sheet: Path | None) -> None:
    """Raises UsageError."""
    if sheet is not None:
        check_drawn("--sheet", sheet)


# --- figures ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """What is measured."""

    draw: Draw
    size: tuple[int, int]
    """Width and height of its pictures, in pixels."""
    codec: ImageCodec | None
    """Whose codes it draws; None of a model that draws pixels."""
    encoder: ImageTextEncoder
    """That ranks and judges."""


@dataclass
class Report:
    """Figures for a script, lines for people, tiles for the sheet, as they come."""

    model: Measured
    each: int
    seed: int
    figures: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    tiles: list[tuple[Image.Image, str]] = field(default_factory=list)
    columns: int | None = None

    @property
    def size(self) -> int:
        """Pixels of the shorter side of what it draws."""
        return min(self.model.size)

    def measure(self, given: Given, sources: Sources, clip: str) -> None:
        """All that the sources ask for. Raises UsageError."""
        if given.asked is not None:
            pictures = self.prompts(given.asked)
            if given.real:
                self.frechet(pictures, given.real, clip)
            if given.known:
                self.nearest(pictures, given.asked, given.known, given.real)
        if sources.scenes is not None and sources.learn_from is not None:
            self.scenes(sources.scenes, sources.learn_from, sources.most)

    def draw(self, asked: Sequence[Asked], draw: Draw | None = None) -> Drawn:
        """Pictures of all that is asked, drawn as the model does, or another way."""
        from bahumukha.cli.output import progress
        from bahumukha.evaluate.drawn import draw_all

        options: dict[str, Any] = {"each": self.each, "seed": self.seed, "progress": progress}
        return draw_all(draw or self.model.draw, self.model.encoder, asked, **options)

    def prompts(self, asked: Sequence[Asked]) -> Drawn:
        """Draw, and have CLIP find the captions again."""
        from PIL import Image

        from bahumukha.evaluate.drawn import diversity, retrieval

        drawn = self.draw(asked)
        scores = retrieval(self.model.encoder, drawn, [one.caption for one in asked])
        spread = diversity(drawn.rows)
        self.figures |= {"prompts": scores.prompts, "each": scores.each, "r1_single": scores.single}
        self.figures |= {"r1_best": scores.best, "diversity": spread}
        self.figures["ranks"] = dict(zip([one.prompt for one in asked], scores.by_prompt, strict=True))
        self.lines += [
            f"{scores.prompts} prompts, {scores.each} pictures of each",
            f"own caption first    {scores.single:6.1%} of single pictures, {scores.best:6.1%} of the best ones",
            f"diversity            {spread:6.3f}  (mean of 1 - cosine between pictures of one prompt)",
        ]
        for one, rank, rgb in list(zip(asked, scores.by_prompt, drawn.best_pictures, strict=True))[:MOST_SHOWN]:
            self.tiles.append((Image.fromarray(rgb), f"{one.prompt}\n{'found' if rank == 1 else f'rank {rank}'}"))
        return drawn

    def frechet(self, drawn: Drawn, validation: Sequence[Path], clip: str) -> None:
        """The distance of clouds of features between drawn and real pictures."""
        distance, count = self.distance(drawn, validation, clip)
        self.figures |= {"frechet_efficientnet": distance, "frechet_pictures": count}
        self.lines.append(f"Frechet distance     {distance:6.1f}  ({count} drawn and {count} real; features of {clip})")

    def distance(self, drawn: Drawn, validation: Sequence[Path], clip: str) -> tuple[float, int]:
        """And the number of pictures of either kind."""
        from bahumukha.evaluate.drawn import frechet
        from bahumukha.evaluate.vqgan import trunk_features
        from bahumukha.zoo.perceptual import trunk_distance

        return frechet(trunk_features(trunk_distance(clip).trunk), drawn, validation, self.size)

    def nearest(
        self, drawn: Drawn, asked: Sequence[Asked], training: Sequence[Path], validation: Sequence[Path]
    ) -> None:
        """The training picture most like each of the best, and how near real ones that it never saw come to any."""
        from bahumukha.cli.output import progress
        from bahumukha.evaluate.drawn import embedded_files, nearest
        from bahumukha.images import open_image

        known = embedded_files(self.model.encoder, training, "--training", self.size, progress)
        found = nearest(drawn.best_rows, [one.prompt for one in asked], known)
        mean = sum(each.cosine for each in found) / len(found)
        self.figures["nearest"] = [{"prompt": n.prompt, "path": str(n.path), "cosine": n.cosine} for n in found]
        self.figures["nearest_mean"] = mean
        line = f"nearest in training  {mean:6.3f}  (mean cosine"
        if validation:
            real = embedded_files(
                self.model.encoder, some(list(validation), len(found)), "--validation", self.size, progress
            )
            usual = nearest(real.rows, [str(path) for path in real.keys], known)
            self.figures["nearest_mean_of_real"] = sum(each.cosine for each in usual) / len(usual)
            line += f"; of real pictures it never saw {self.figures['nearest_mean_of_real']:.3f}"
        self.lines.append(line + ")")
        beside = [
            (open_image(n.path, at_least=224), f"{n.path.stem}\ncosine {n.cosine:.3f}") for n in found[:MOST_SHOWN]
        ]
        self.tiles = [tile for pair in zip(self.tiles, beside, strict=True) for tile in pair]
        self.columns = 6

    def scenes(self, folder: Path, learn_from: Path, most: int) -> None:
        """Composition as asked, of the captions of real scenes."""
        from dataclasses import asdict

        from PIL import Image

        from bahumukha.cli.output import progress
        from bahumukha.evaluate.composed import askable, composed_scenes, learned_judge
        from bahumukha.evaluate.drawn import Asked, scene_scores

        width, height = self.model.size
        if width != height:
            raise UsageError(
                f"--scenes: scenes are square, and this model draws {width} x {height} pixels; leave it out"
            )
        wanted = askable(composed_scenes(folder))
        judge = learned_judge(composed_scenes(learn_from, "--learn-from"), self.size, progress)
        wanted = some([each for each in wanted if judge.knows(each.scene)], most)
        if not wanted:
            raise UsageError(
                f"--scenes {folder}: none shows two single things, each of a basic colour, that are in {learn_from} too"
            )
        drawn = self.draw([Asked(each.caption, each.caption) for each in wanted])
        scores = scene_scores(drawn, self.model.codec, judge, wanted, self.size)
        self.figures["scenes"] = asdict(scores)
        self.lines += _scene_lines(scores)
        for each, rgb in list(zip(wanted, drawn.best_pictures, strict=True))[:MOST_SHOWN]:
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
            save_image(contact_sheet(self.tiles, columns=self.columns, tile=160), sheet)
            note_line(f"pictures are in {sheet}")


def _scene_lines(scores: Any) -> list[str]:
    judge = scores.judge
    count = f"{scores.best.pictures} scenes of two things, {scores.each} pictures of each"
    lines = [
        f"{count}; the judge knows {judge.vocabulary} things",
        f"{'':<26}{'both there':>11}{'colours':>9}{'relation':>10}{'all':>7}",
    ]
    rows = {"single pictures": scores.single, "the best of each": scores.best}
    rows |= {"real ones, by the codec": scores.codec} if scores.codec is not None else {}
    for name, rates in rows.items():
        figures = f"{rates.present:>11.1%}{rates.colours:>9.1%}{rates.relation:>10.1%}{rates.all:>7.1%}"
        lines.append(f"{name:<26}{figures}")
    lines.append(f"{'judge: yes to what is':<26}{judge.present:>11.1%}{judge.colours:>9.1%}{judge.relation:>10.1%}")
    other = f"{judge.absent:>11.1%}{judge.other_colour:>9.1%}{judge.other_relation:>10.1%}"
    return [*lines, f"{'judge: no to what is not':<26}{other}"]


def some(items: list[T], most: int) -> list[T]:
    """At most so many, evenly picked."""
    return items if len(items) <= most else [items[i * len(items) // most] for i in range(most)]


def of_split(paths: Sequence[Path], split: str) -> list[Path]:
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
