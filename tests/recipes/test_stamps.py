"""Stamps and clip art, on small files in the packages' exact layouts; no network."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from recipes import fetch
from recipes.captioned import read_listing
from recipes.clipart import openclipart, stamps
from recipes.clipart.openclipart import Metadata
from recipes.clipart.titles import (
    cleaned,
    description_caption,
    file_caption,
    flag_caption,
    keyword_captions,
    special_caption,
    title_caption,
    without_author,
)

WORDS = frozenset(
    """green pear lime half arrow purple up round point shovel a of two red apple apples with mammal horse animal bird
    pizza cheese slice black and white flag simple customs face man straw tote fruit food hat clothing""".split()
)
STAMP = """A red apple.
de.utf8=Ein roter Apfel.
en_GB.utf8=A red apple.
pt_BR.utf8=Uma maçã.
ca@valencia.utf8=Una poma.
th.utf8=
"""
SVG = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:rdf="r" xmlns:cc="c" xmlns:dc="d" width="40pt" height="20pt">
<metadata><rdf:RDF><cc:Work rdf:about="">
<dc:title>{title}</dc:title><dc:description>{description}</dc:description>
<dc:subject><rdf:Bag><rdf:li></rdf:li><rdf:li>hash(0x8a393fc)</rdf:li>
<rdf:li>fruit</rdf:li><rdf:li>green_pear</rdf:li></rdf:Bag></dc:subject>
<dc:publisher><cc:Agent><dc:title>Open Clip Art Library</dc:title></cc:Agent></dc:publisher>
<dc:creator><cc:Agent><dc:title>{author}</dc:title></cc:Agent></dc:creator>
</cc:Work></rdf:RDF></metadata><path fill="#0a0" d="M2 2h20v10H2z"/></svg>"""


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def unpacked(cache, name):
    return cache / "unpacked" / fetch.read_sources()[name].label


@pytest.fixture
def cache(tmp_path):
    """A cache in which the packages are unpacked already."""
    root = unpacked(tmp_path, "tuxpaint-stamps-default") / "usr/share/tuxpaint/stamps"
    write(root / "food/fruit/apple.txt", STAMP)
    picture = Image.new("RGBA", (400, 300), (0, 0, 0, 0))
    picture.paste((200, 0, 0, 255), (50, 50, 350, 250))
    picture.save(root / "food/fruit/apple.png")
    write(root / "food/fruit/apple.svg", SVG.format(title="", description="", author=""))
    picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / "food/fruit/apple_mirror.png")
    write(root / "town/cartoon/house.txt", "The town hall.\n")
    Image.new("RGBA", (30, 30), "blue").save(root / "town/cartoon/house.png")
    write(root / "town/broken.txt", "A ruin.\n")
    write(root / "town/broken.png", "not a picture")
    for kind in ("svg", "png"):
        (unpacked(tmp_path, f"openclipart-{kind}") / "usr/share/openclipart" / kind).mkdir(parents=True)
    return tmp_path


def test_stamps(cache, tmp_path, capsys):
    stamps.main(["--cache", str(cache), "--out", str(tmp_path / "out")])
    rows = {record.file: record for record in read_listing(tmp_path / "out" / "stamps")}
    assert set(rows) == {"food/fruit/apple.png", "town/cartoon/house.png"}
    apple = rows["food/fruit/apple.png"]
    assert apple.captions == {
        "en": ["A red apple."],
        "de": ["Ein roter Apfel."],
        "pt-BR": ["Uma maçã."],
        "ca-valencia": ["Una poma."],
    }
    assert (apple.style, apple.key, apple.category) == ("photo", "red-apple", "food/fruit")
    assert rows["town/cartoon/house.png"].style == "drawing"
    with Image.open(tmp_path / "out/stamps/food/fruit/apple.png") as picture:
        assert picture.mode == "RGBA" and picture.size == (288, 192)  # the empty rim is off
    assert "town/broken.png" in capsys.readouterr().err


def test_openclipart(cache, tmp_path, monkeypatch):
    pytest.importorskip("resvg_py")
    svgs = unpacked(cache, "openclipart-svg") / "usr/share/openclipart/svg"
    pngs = unpacked(cache, "openclipart-png") / "usr/share/openclipart/png"
    write(svgs / "food/fruit/green_pear_01.svg", SVG.format(title="Green Pear", description="", author="Jane Doe"))
    write(svgs / "special/gradients/red.svg", SVG.format(title="red", description="", author=""))
    write(
        svgs / "shapes/stars/star_05pt02step.svg",
        SVG.format(title="gramastar", description="", author="").replace("0a0", "00a"),
    )
    write(svgs / "shapes/stars/star_99pt02step.svg", SVG.format(title="gramastar", description="", author=""))
    pngs.joinpath("food/fruit").mkdir(parents=True)
    Image.linear_gradient("L").convert("RGBA").resize((400, 200)).save(pngs / "food/fruit/green_pear_01.png")
    monkeypatch.setattr(openclipart, "english_words", lambda cache: WORDS)
    openclipart.main(["--cache", str(cache), "--out", str(tmp_path / "out"), "--workers", "1"])
    rows = {record.file: record for record in read_listing(tmp_path / "out" / "openclipart")}
    assert set(rows) == {"food/fruit/green_pear_01.png", "shapes/stars/star_05pt02step.png"}
    assert rows["food/fruit/green_pear_01.png"].captions == {"en": ["green pear", "fruit", "food"]}
    assert rows["shapes/stars/star_05pt02step.png"].captions["en"][0] == "5-pointed star"
    with Image.open(tmp_path / "out/openclipart/food/fruit/green_pear_01.png") as picture:
        assert picture.size == (288, 144)  # the package's PNG
    with Image.open(tmp_path / "out/openclipart/shapes/stars/star_05pt02step.png") as picture:
        assert picture.mode == "RGBA"  # none in the package: drawn from the SVG


def test_frames_are_left_out_and_flowers_kept():
    assert not openclipart.is_wanted(Path("shapes/coke_upper_left_corner_j_.svg"))
    assert not openclipart.is_wanted(Path("shapes/orleans_express_lower_r_.svg"))
    assert openclipart.is_wanted(Path("plants/flowers/flower_01.svg"))


def test_metadata_reads_the_work_and_not_its_agents():
    found = Metadata.read(
        SVG.format(title="Lime &amp;amp; Co", description="A  lime", author="Architetto Francesco Rollandin")
    )
    assert (found.title, found.description, found.language) == ("Lime & Co", "A lime", "it")
    assert found.keywords[-1] == "green_pear"


@pytest.mark.parametrize(
    ("title", "caption"),
    [
        ("Green Pear", "green pear"),
        ("arrow-up-purple", "purple arrow up"),
        ("RoundPointShovel2", "round point shovel"),
        ("Lime (Half)", "lime half"),
        ("Cheese Pizza Slice (B and W)", "black and white cheese pizza slice"),
        ("Part of the Flat Icon Collection (Wed Aug 25)", None),
        ("Clipart by Nicu Buculei - pear", None),
        ("Cavallo", None),
        ("", None),
    ],
)
def test_titles(title, caption):
    assert title_caption(title, WORDS) == caption


def test_file_names_lose_their_authors():
    assert without_author("straw_tote_linda_kim_01", "Linda Kim") == "straw_tote"
    assert without_author("green_pear_benji_pa_01", "Benji Park") == "green_pear"
    assert file_caption("aiga_customs_", "", WORDS) == "customs sign"
    assert file_caption("zazou_01", "", WORDS) is None
    assert cleaned("horse#1") == "horse"


def test_families_of_drawings():
    assert special_caption("recreation/games/cards/white", "white_h_10", "card") == "ten of hearts, a playing card"
    assert special_caption("signs_and_symbols/flags/africa", "algeria", " algeria ") == "flag of Algeria"
    assert flag_caption("Clipart by Steve Hall - United States - Arkansas") == "flag of Arkansas"
    assert flag_caption("congo-brazzaville") == "flag of Congo-Brazzaville"
    assert flag_caption("Canada Northwest Territories", "canada") == "flag of Northwest Territories"
    assert special_caption("animals", "horse", "Horse") is None


def test_keywords_and_descriptions():
    words = keyword_captions(
        ["animal", "horse", "hash(0x8)", "unsorted", "flat_theme", "apples", "apple", "xqz"], WORDS
    )
    assert words == ["horse", "apple", "animal"]
    assert description_caption("This is a green pear with two apples.", WORDS) == "a green pear with two apples"
    assert description_caption("EPS converted from  http://aiga.org", WORDS) is None
