"""The tour on generated pictures with the colour encoder, the page it writes, and the photographs that ship."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from bahumukha.demo import Demo, Making, Photo, Tour, read_credits, shipped_photos, show, with_pictures
from bahumukha.errors import BahumukhaError, UsageError
from bahumukha.zoo.fake import ColourEncoder
from tests.search.pictures import draw

COLOURS = ("red", "green", "blue", "yellow")
NASTY = "<script>alert('&')</script> \" & 100%"

TOUR = Tour(
    labels=COLOURS,
    lesson=("something red", "something blue"),
    lesson_photos=("blue-1.jpg", "not there.jpg"),
    queries=("a red door", NASTY),
    similar_to=("red-1.jpg",),
    top=3,
)


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    """Two pictures of each colour, and one whose name and credit try to break the page."""
    folder = tmp_path / "source"
    folder.mkdir()
    named = {f"{colour}-{i}.jpg": draw(colour, seed=i) for colour in COLOURS for i in (1, 2)}
    named["a'b & #50%?.jpg"] = draw("purple")
    for name, picture in named.items():
        picture.save(folder / name)
    return [Photo(folder / name, f"Shows {NASTY}", NASTY, "CC0 1.0", NASTY, NASTY) for name in named]


@pytest.fixture
def demo(photos: list[Photo], tmp_path: Path) -> Demo:
    return show(photos, ColourEncoder(), tmp_path / "out", TOUR)


class Page(HTMLParser):
    """Collects elements, text, and whether every element that opens also closes in order."""

    VOID = frozenset({"meta", "img", "link", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


# --- the tour


def test_each_picture_gets_its_colour(demo: Demo) -> None:
    best = {guess.photo.name: guess.labels[0].label for guess in demo.guesses}
    for colour in COLOURS:
        assert best[f"{colour}-1.jpg"] == best[f"{colour}-2.jpg"] == colour
    assert all(len(guess.labels) == 3 for guess in demo.guesses)


def test_the_lesson_skips_what_is_not_there(demo: Demo) -> None:
    [guess] = demo.lesson
    assert guess.photo.name == "blue-1.jpg"
    assert [label.label for label in guess.labels] == ["something blue", "something red"]
    assert sum(label.probability for label in guess.labels) == pytest.approx(1)


def test_a_sentence_finds_its_pictures(demo: Demo) -> None:
    red = demo.searches[0]
    assert {photo.name for photo, _ in red.found[:2]} == {"red-1.jpg", "red-2.jpg"}
    assert len(red.found) == 3
    assert red.found == sorted(red.found, key=lambda found: -found[1])


def test_the_cutoff_ends_what_stands_out(tmp_path: Path) -> None:
    photos = []
    for i, colour in enumerate(["red"] * 2 + ["blue"] * 12):
        path = tmp_path / f"{colour}-{i}.png"
        draw(colour, seed=i).save(path)
        photos.append(Photo(path, "", "", "", "", ""))
    searches = show(photos, ColourEncoder(), tmp_path / "out", replace(TOUR, queries=("red",))).searches
    assert searches[0].standing_out == 2
    faded = Page((tmp_path / "out/index.html").read_text(encoding="utf-8")).all("figure")
    assert [figure.get("class") for figure in faded[:3]] == [None, None, "faded"]


def test_similar_leaves_out_the_picture_itself(demo: Demo) -> None:
    [similar] = demo.similar
    assert similar.photo.name == "red-1.jpg"
    assert [photo.name for photo, _ in similar.found][0] == "red-2.jpg"
    assert len(similar.found) == 3


def test_everything_is_written_into_its_folder(demo: Demo, data_home: Path) -> None:
    assert not data_home.exists()
    assert {path.name for path in demo.folder.iterdir()} >= {
        "index.html",
        "sheet.png",
        "photos",
        "demo.db",
        "labels.txt",
    }
    with Image.open(demo.sheet) as sheet:
        assert sheet.format == "PNG"
        assert min(sheet.size) > 500


def test_runs_again_in_its_own_folder_with_another_model(photos: list[Photo], demo: Demo) -> None:
    again = show(photos[:4], ColourEncoder(grid=3), demo.folder, TOUR)
    assert len(again.guesses) == 4
    assert {photo.name for search in again.searches for photo, _ in search.found} <= {
        photo.name for photo in photos[:4]
    }


def test_a_stopped_run_can_be_repeated(photos: list[Photo], tmp_path: Path) -> None:
    broken = replace(photos[0], path=tmp_path / "broken.jpg")
    broken.path.write_bytes(b"not a picture")
    with pytest.raises(BahumukhaError, match=r"broken\.jpg"):
        show([broken], ColourEncoder(), tmp_path / "out", TOUR)
    assert show(photos, ColourEncoder(), tmp_path / "out", TOUR).page.is_file()


def test_never_writes_over_other_things(photos: list[Photo], tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "index.html").write_text("<p>my own page")
    for out in (folder, folder / "index.html"):
        with pytest.raises(UsageError, match="--out"):
            show(photos, ColourEncoder(), out, TOUR)
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    assert (folder / "index.html").read_text() == "<p>my own page"


def test_no_photographs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one"):
        show([], ColourEncoder(), tmp_path / "out", TOUR)
    assert not (tmp_path / "out").exists()


# --- the page


def test_the_page_is_whole_and_its_pictures_are_there(demo: Demo) -> None:
    text = demo.page.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert page.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    images = page.all("img")
    assert len(images) == 1 + 2 * 3 + (1 + 3) + 9  # lesson, searches, similar, all photographs
    for image in images:
        assert (demo.folder / unquote(str(image["src"]))).is_file()
        assert image["alt"] == f"Shows {NASTY}"
    assert "prefers-color-scheme: dark" in text


def test_the_page_needs_no_network_and_runs_nothing(demo: Demo) -> None:
    page = Page(demo.page.read_text(encoding="utf-8"))
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        assert not re.match(r"(https?:)?//", str(attributes.get("src") or attributes.get("href") or ""))
    assert "url(" not in page.text
    assert "@import" not in page.text


def test_what_others_wrote_is_escaped(demo: Demo) -> None:
    text = demo.page.read_text(encoding="utf-8")
    assert "<script" not in text
    page = Page(text)
    assert page.text.count(NASTY) >= 4 * 9 + 1  # credits, and the query


def test_bars_are_as_long_as_their_numbers(demo: Demo) -> None:
    text = demo.page.read_text(encoding="utf-8")
    rows = re.findall(r'class="number">([\d.]+)%</span>.*?width:([\d.]+)%', text)
    assert len(rows) == 2 + 3 * 9
    assert all(number == width for number, width in rows)
    best = demo.lesson[0].labels[0].probability
    assert rows[0][0] == f"{100 * best:.1f}"


def test_faded_pictures_are_those_that_do_not_stand_out(demo: Demo) -> None:
    page = Page(demo.page.read_text(encoding="utf-8"))
    faded = [each for each in page.all("figure") if each.get("class") == "faded"]
    assert len(faded) == sum(len(search.found) - search.standing_out for search in demo.searches)


# --- what ships


def test_photographs_that_ship_are_credited_one_by_one() -> None:
    photos = shipped_photos()
    assert len(photos) >= 16
    folder = photos[0].path.parent
    assert {photo.name for photo in photos} == {path.name for path in folder.iterdir() if path.suffix != ".md"}
    for photo in photos:
        assert photo.licence in ("Public domain", "CC0 1.0"), photo.name
        assert re.search(r"public.domain|CC0", photo.statement, re.IGNORECASE), photo.name
        assert len(photo.shows) > 15, photo.name
    assert len({photo.shows for photo in photos}) == len(photos)


def test_photographs_that_ship_are_small_jpegs() -> None:
    photos = shipped_photos()
    assert sum(photo.path.stat().st_size for photo in photos) < 2.5e6
    for photo in photos:
        with Image.open(photo.path) as picture:
            assert (picture.format, picture.mode) == ("JPEG", "RGB")
            assert 400 <= max(picture.size) <= 640
            assert not picture.getexif()


def test_the_usual_tour_asks_about_photographs_that_ship() -> None:
    tour, names = Tour(), {photo.name for photo in shipped_photos()}
    assert {*tour.lesson_photos, *tour.similar_to} <= names
    assert tour.lesson == ("a penguin", "a bear", "a cat")
    assert "a very fat gray cat" in tour.queries
    assert len(tour.queries) == 8
    assert len(set(tour.labels)) == len(tour.labels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("## a.jpg\n- Shows: x\n- Author: y\n", "a.jpg has no line for From, Licence, Statement"),
        ("## b.jpg\n- Shows: x\n- Author: y\n- Licence: z\n- From: p\n- Statement: s\n", "no such file"),
        (None, "cannot be read"),
    ],
)
def test_gaps_in_the_credits_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    if text is not None:
        (tmp_path / "CREDITS.md").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read_credits(tmp_path)


def test_makes_pictures_by_the_commands_that_the_page_names(photos: list[Photo], tmp_path: Path) -> None:
    small = ("--size", "32x32", "--steps", "2", "--set", "cutouts.sizes=[96]", "--set", "cutouts.count=2")
    makings = [Making("a red & <b>apple</b>", "Painted.", small), Making("a car", "Two.", (*small, "-n", "2"))]
    folder = tmp_path / "a b"
    for _ in range(2):  # what an earlier demo made is replaced
        *_, demo = with_pictures(show(photos, ColourEncoder(), folder, TOUR), makings)
    assert [len(each.pictures) for each in demo.made] == [1, 2]
    made = [path for each in demo.made for path in each.pictures]
    assert sorted(made) == sorted((folder / "made").glob("*.png"))
    page = Page(demo.page.read_text(encoding="utf-8"))
    shown = {folder / unquote(attributes["src"] or "") for tag, attributes in page.elements if tag == "img"}
    assert set(made) <= shown
    assert all(each.making.command in page.text for each in demo.made) and "<b>apple</b>" in page.text


def test_a_making_that_fails_is_named_and_the_rest_is_there(photos: list[Photo], tmp_path: Path) -> None:
    makings = [Making("a car", "", ("--drawer", "crayon"))]
    with pytest.raises(BahumukhaError, match=r"bahu generate 'a car' --drawer crayon --out made: ended with 1"):
        list(with_pictures(show(photos, ColourEncoder(), tmp_path / "out", TOUR), makings))
    assert "a red door" in (tmp_path / "out/index.html").read_text(encoding="utf-8")
