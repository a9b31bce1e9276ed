"""The tour: classify the photographs, ask for some by sentence, find those alike. Works with any encoder.

Everything is written into one folder: copies of the photographs, a picture index of its own (the user's is left
alone), the page and a contact sheet. The commands on the page give the same results in a terminal.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bahumukha.demo.making import Made, Making, make
from bahumukha.demo.photos import Photo
from bahumukha.errors import UsageError

if TYPE_CHECKING:
    from bahumukha.classify import Label
    from bahumukha.protocols import ImageTextEncoder
    from bahumukha.search import Match, PictureIndex

PAGE, SHEET, PHOTOS, LEDGER, LABELS = "index.html", "sheet.png", "photos", "demo.db", "labels.txt"
"""What the demo writes into its folder."""

GENERATOR = '<meta name="generator" content="Bahumukha demo">'
"""Marks a page as ours, and so its folder as one that may be written over."""


@dataclass(frozen=True)
class Tour:
    """What is asked. Photographs are named by their files; those that are not there are passed over."""

    labels: tuple[str, ...] = (
        *("cat", "dog", "horse", "cow", "sheep", "chicken", "duck", "owl", "kingfisher"),
        *("polar bear", "giant panda", "red panda", "kangaroo", "hedgehog", "moose", "giraffe", "crab", "bee"),
        *("fruit", "cup of coffee", "astronaut", "photographer", "rocket", "bridge", "tower", "mosque"),
        *("mountain", "dandelion", "penguin", "elephant", "fish", "car", "sailing boat", "guitar", "pizza"),
    )
    """One for each photograph, and some that none of them shows."""
    lesson: tuple[str, ...] = ("a penguin", "a bear", "a cat")
    lesson_photos: tuple[str, ...] = ("cat-gray-and-white.jpg", "polar-bear.jpg", "cat-kitten-playing.jpg")
    queries: tuple[str, ...] = (
        "a very fat gray cat",
        "a bird on a branch",
        "a bear",
        "something hot to drink",
        "animals on a farm",
        "a famous building",
        "city lights at night",
        "an electric guitar",
    )
    """The last one is answered by none of the photographs that ship."""
    similar_to: tuple[str, ...] = ("cat-ginger-tabby.jpg", "horses.jpg", "eiffel-tower.jpg")
    top: int = 5


@dataclass(frozen=True)
class Guess:
    """A photograph and its labels, best first."""

    photo: Photo
    labels: list[Label]


@dataclass(frozen=True)
class Search:
    """A sentence, the nearest photographs, and how many of them stand out (`--cutoff auto`)."""

    query: str
    found: list[tuple[Photo, float]]
    standing_out: int


@dataclass(frozen=True)
class Similar:
    """A photograph and those most like it, with cosines."""

    photo: Photo
    found: list[tuple[Photo, float]]


@dataclass(frozen=True)
class Demo:
    """All results, and where they are. Photographs' paths are those of the copies in `folder`."""

    folder: Path
    model: str
    tour: Tour
    photos: list[Photo]
    lesson: list[Guess]
    guesses: list[Guess]
    searches: list[Search]
    similar: list[Similar]
    made: list[Made] = field(default_factory=list)

    @property
    def page(self) -> Path:
        return self.folder / PAGE

    @property
    def sheet(self) -> Path:
        return self.folder / SHEET


def show(photos: Sequence[Photo], encoder: ImageTextEncoder, folder: Path, tour: Tour | None = None) -> Demo:
    """Take the tour and write its page and contact sheet into `folder`, new, empty, or of an earlier demo.

    Raises UsageError for a folder with other things in it or that cannot be written, and what the parts raise.
    """
    demo = take_tour(photos, encoder, folder, tour)
    _write_page(demo)
    _draw_sheet(demo)
    return demo


def with_pictures(demo: Demo, makings: Sequence[Making]) -> Iterator[Demo]:
    """The demo after each of the makings, its page written anew; what was made before is there if one fails.

    Raises what `make` raises.
    """
    for made in make(makings, demo.folder):
        demo = replace(demo, made=[*demo.made, made])
        _write_page(demo)
        yield demo


def take_tour(photos: Sequence[Photo], encoder: ImageTextEncoder, folder: Path, tour: Tour | None = None) -> Demo:
    """Copy the photographs into `folder`, index them there, and ask all that `tour` asks. Raises UsageError."""
    from bahumukha.classify import classify
    from bahumukha.search import PictureIndex

    tour = tour or Tour()
    if not photos:
        raise UsageError("the demo needs at least one photograph")
    _claim(folder)
    photos = _copy(photos, folder / PHOTOS)
    (folder / LABELS).write_text("\n".join(tour.labels) + "\n", encoding="utf-8")
    by_name = {photo.name: photo for photo in photos}
    shown = [by_name[name] for name in tour.lesson_photos if name in by_name]

    index = PictureIndex(folder / LEDGER, encoder)
    index.index([folder / PHOTOS], rebuild=(folder / LEDGER).exists())  # an earlier model's rows are replaced
    return Demo(
        folder=folder,
        model=encoder.name,
        tour=tour,
        photos=photos,
        # The lesson's labels are whole phrases: they are taken as they stand.
        lesson=_guesses(shown, classify(_paths(shown), tour.lesson, model=encoder, templates=["{}"])),
        guesses=_guesses(photos, classify(_paths(photos), tour.labels, model=encoder, top=3)),
        searches=[_search(index, by_name, query, tour.top) for query in tour.queries],
        similar=[
            Similar(by_name[name], _known(index.similar(by_name[name].path, top=tour.top), by_name))
            for name in tour.similar_to
            if name in by_name
        ],
    )


def _claim(folder: Path) -> None:
    """Make `folder`, or make sure that it is ours: nothing of the user's is ever written over."""
    try:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--out {folder}: is a file; give a folder")
        page = folder / PAGE
        if folder.exists() and any(folder.iterdir()):
            if not page.is_file() or GENERATOR not in page.read_text(encoding="utf-8", errors="replace"):
                raise UsageError(f"--out {folder}: holds other things than an earlier demo; give a new or empty folder")
        (folder / PHOTOS).mkdir(parents=True, exist_ok=True)
        page.write_text(f"<!doctype html>{GENERATOR}<p>The demo was stopped before its end.", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out {folder}: cannot be written ({error.strerror or error})") from error


def _copy(photos: Sequence[Photo], folder: Path) -> list[Photo]:
    copies = []
    for photo in photos:
        shutil.copyfile(photo.path, folder / photo.name)
        copies.append(replace(photo, path=folder / photo.name))
    return copies


def _paths(photos: Sequence[Photo]) -> list[Path]:
    return [photo.path for photo in photos]


def _guesses(photos: Sequence[Photo], labels: Sequence[list[Label]]) -> list[Guess]:
    return [Guess(photo, each) for photo, each in zip(photos, labels, strict=True)]


def _search(index: PictureIndex, by_name: dict[str, Photo], query: str, top: int) -> Search:
    nearest = _known(index.search(query, top=top), by_name)
    return Search(query, nearest, len(_known(index.search(query, top=top, cutoff="auto"), by_name)))


def _known(matches: Sequence[Match], by_name: dict[str, Photo]) -> list[tuple[Photo, float]]:
    named = [(Path(match.path).name, match.score) for match in matches]
    return [(by_name[name], score) for name, score in named if name in by_name]


def _write_page(demo: Demo) -> None:
    from bahumukha.demo.page import render

    demo.page.write_text(render(demo), encoding="utf-8")


def _draw_sheet(demo: Demo) -> None:
    from bahumukha.images import open_image, save_image
    from bahumukha.sheets import contact_sheet

    tiles = [
        (open_image(guess.photo.path), f"{guess.labels[0].label}\n{guess.labels[0].probability:.0%}")
        for guess in demo.guesses
    ]
    save_image(contact_sheet(tiles, title=f"bahu demo, {demo.model}"), demo.sheet)
