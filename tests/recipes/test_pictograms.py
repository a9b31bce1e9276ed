"""The pictogram recipe on small packages in the exact layout of Iconify's and CLDR's; no network."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from PIL import Image

from recipes.captioned import CaptionedPicture, Listing, fitted, png_bytes, read_listing, slug, split_of
from recipes.pictograms.captions import Annotations, CodePoints, IconSet, captions_of, name_in_words, spoken
from recipes.pictograms.render import HELD_OUT_SET, records, render_set, rendered, svg_of
from recipes.pictograms.statistics import in_both_splits, sample_sheet, summary
from recipes.vocabulary import is_english, segmented

WORDS = frozenset(
    "red apple bear face cat wave hand heart admission ticket flag of nut and bolt dark animal fruit".split()
)
CIRCLE = '<circle cx="8" cy="8" r="7" fill="red"/>'
SQUARE = '<path fill="#00f" d="M1 1h14v14H1z"/>'


def package(folder, prefix, icons, chars=None, aliases=None, categories=None):
    """An unpacked @iconify-json package."""
    folder.mkdir(parents=True)
    content = {
        "icons": {"prefix": prefix, "icons": icons, "aliases": aliases or {}, "width": 16, "height": 16},
        "chars": chars or {},
        "metadata": {"categories": categories or {}},
        "info": {"prefix": prefix, "license": {"title": "MIT", "spdx": "MIT"}},
    }
    for name, entry in content.items():
        (folder / f"{name}.json").write_text(json.dumps(entry))
    return IconSet.read(folder)


@pytest.fixture
def noto(tmp_path):
    return package(
        tmp_path / "noto",
        "noto",
        {
            "red-apple": {"body": CIRCLE},
            "waving-hand": {"body": SQUARE},
            "waving-hand-dark-skin-tone": {"body": SQUARE},
            "red-heart": {"body": SQUARE, "width": 32},
            "bear": {"body": CIRCLE},
        },
        chars={
            "1f34e": "red-apple",
            "1f44b": "waving-hand",
            "2764-fe0f": "red-heart",
            "1f44b-1f3ff": "waving-hand-dark-skin-tone",
        },
        categories={"Food & Drink": ["red-apple"]},
    )


@pytest.fixture
def emojione(tmp_path):
    return package(
        tmp_path / "emojione",
        "emojione",
        {
            "bear-face": {"body": SQUARE},
            "apple-red": {"body": CIRCLE},
            "waving-hand-dark": {"body": CIRCLE},
            "waving-hand": {"body": CIRCLE},
        },
        aliases={"bear": {"parent": "bear-face"}, "mirrored": {"parent": "apple-red", "hFlip": True}},
    )


@pytest.fixture
def annotations(tmp_path):
    texts = {
        "annotations/en": {
            "🍎": {"default": ["apple", "fruit", "lol", "143", "xqz"], "tts": ["red apple"]},
            "👋": {"default": ["hand", "wave"], "tts": ["waving hand"]},
            "🐻": {"default": ["animal", "bear"], "tts": ["bear"]},
            "❤️": {"default": ["heart"], "tts": ["red heart"]},
        },
        "annotations/te": {"🍎": {"default": ["పండు", "యాపిల్"], "tts": ["ఎరుపు యాపిల్"]}},
        "annotations/en-001": {"🍎": {"default": ["↑↑↑"], "tts": ["↑↑↑"]}},
        "annotationsDerived/en": {"🇮🇳": {"default": ["flag"], "tts": ["flag: India"]}},
    }
    for folder, entries in texts.items():
        path = tmp_path / "cldr" / folder / "annotations.json"
        path.parent.mkdir(parents=True)
        root = folder.split("/")[0]
        path.write_text(json.dumps({root: {"identity": {"language": "x"}, "annotations": entries}}, ensure_ascii=False))
    return Annotations.read(tmp_path / "cldr")


def test_annotations_by_language(annotations):
    assert annotations.names["te"]["1f34e"] == "ఎరుపు యాపిల్"
    assert annotations.names["en"]["2764"] == "red heart"  # without the variation selector
    assert "1f34e" not in annotations.names["en-001"]
    assert spoken(annotations.names["en"]["1f1ee-1f1f3"]) == "flag of India"


def test_captions_are_names_then_keywords_without_chat(annotations):
    captions = annotations.captions("1f34e", WORDS)
    assert captions["en"] == ["red apple", "apple", "fruit"]
    assert captions["te"] == ["ఎరుపు యాపిల్", "పండు", "యాపిల్"]


def test_icons_of_all_sets_meet_in_their_code_points(noto, emojione, annotations):
    points = CodePoints([noto, emojione], annotations)
    assert points.of(noto, "red-heart") == "2764"
    assert points.of(emojione, "bear-face") == "1f43b"  # through its alias and CLDR's name
    assert points.of(emojione, "apple-red") is None
    side = IconSet("fxemoji", "Apache-2.0", {"bearside": {}}, 16, 16)
    assert points.of(side, "bearside") == "1f43b"
    assert captions_of(emojione, "bear-face", "1f43b", annotations, WORDS)["en"][:2] == ["bear", "bear face"]


def test_skin_tones_are_left_out_and_mirrored_aliases_ignored(noto, emojione, annotations):
    points = CodePoints([noto, emojione], annotations)
    names = [icon for icon, _ in records(noto, points, annotations, WORDS)]
    assert names == ["red-apple", "waving-hand", "red-heart", "bear"]
    assert emojione.is_skin_tone("waving-hand-dark") and not emojione.is_skin_tone("bear-face")
    assert "mirrored" not in emojione.names("apple-red")


def test_held_out_style_is_never_for_training(emojione, noto, annotations):
    points = CodePoints([noto, emojione], annotations)
    assert emojione.prefix == HELD_OUT_SET
    rows = [record for _, record in records(emojione, points, annotations, WORDS)]
    assert rows and {record.split for record in rows} == {"held-out-style"}


def test_rendering_writes_pictures_and_merges_doubles(noto, annotations, tmp_path):
    pytest.importorskip("resvg_py")
    rows = list(records(noto, CodePoints([noto], annotations), annotations, WORDS))
    listing = render_set(noto, rows, tmp_path / "out", size=48, workers=1)
    found = {record.file: record for record in read_listing(tmp_path / "out" / "noto")}
    assert set(found) == {"red-apple.png", "waving-hand.png", "red-heart.png"} and listing.duplicates == 1
    assert {"red apple", "bear"} <= set(found["red-apple.png"].captions["en"])  # the same circle
    assert found["red-apple.png"].key == "1f34e" and found["red-apple.png"].category == "food & drink"
    with Image.open(tmp_path / "out" / "noto" / "red-apple.png") as picture:
        assert picture.size == (48, 48) and picture.mode == "RGBA"
        assert picture.getpixel((0, 0))[3] == 0 and picture.getpixel((24, 24)) == (255, 0, 0, 255)
    with Image.open(tmp_path / "out" / "noto" / "red-heart.png") as picture:
        assert picture.size == (48, 24)


def test_near_doubles_are_one_picture(tmp_path):
    listing = Listing(tmp_path, nearest=2.0)
    for name, colour in (("reunion", (200, 0, 0)), ("réunion", (201, 0, 0)), ("paris", (200, 0, 9))):
        listing.add(png_bytes(Image.new("RGBA", (40, 40), colour)), replace(record(name), file=f"{name}.png"))
    kept = {each.file: each.captions["en"] for each in listing.records.values()}
    assert kept == {"reunion.png": ["reunion", "réunion"], "paris.png": ["paris"]} and listing.duplicates == 1
    assert not (tmp_path / "réunion.png").exists()


def test_points_as_units_render():
    pytest.importorskip("resvg_py")
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="60pt" height="30pt"><path d="M0 0h40v40H0z"/></svg>'
    with Image.open(io.BytesIO(rendered(svg, 32))) as picture:
        assert picture.size == (32, 16)


def test_svg_has_the_icons_own_box(noto):
    assert 'viewBox="0 0 32 16"' in svg_of(noto, "red-heart")


def test_names_without_code_points_become_words():
    assert name_in_words("nut-and-bolt2", WORDS) == "nut and bolt"
    assert name_in_words("admissiontickets", WORDS) == "admission tickets"
    assert name_in_words("flag-for-flag-india", WORDS) == "flag of india"
    assert name_in_words("alabama-flag", WORDS) == "flag of alabama"
    assert name_in_words("white-flag", WORDS) == "white flag"
    assert name_in_words("xqzzy", WORDS) is None and name_in_words("cjk-a", WORDS) is None
    assert name_in_words("regionalindicatorb", WORDS) == "letter b"
    assert segmented("catface", WORDS) == "cat face" and segmented("catfacq", WORDS) is None
    assert segmented("smallsmile", frozenset({"small", "smile", "mile"})) == "small smile"
    assert is_english("the red apples", WORDS | {"the"}) and not is_english("mela rossa", WORDS)


def test_a_concept_has_one_split_in_every_wording():
    assert split_of("A red apple.") == split_of("red apple") == split_of("Red Apple!")
    assert slug("A red apple.") == "red-apple"
    share = sum(split_of(f"concept {i}") == "validation" for i in range(4000)) / 4000
    assert 0.035 < share < 0.065


def record(name, split="train"):
    return CaptionedPicture(f"{slug(name)}.png", "s", "s", slug(name), {"en": [name]}, "c", "MIT", split)


def test_statistics_and_sheet(tmp_path):
    listing = Listing(tmp_path / "s")
    for name, colour in (("red apple", "red"), ("blue sea", "blue")):
        listing.add(png_bytes(Image.new("RGBA", (20, 20), colour)), record(name))
    listing.write()
    rows = read_listing(tmp_path / "s")
    counts = summary(rows)
    assert counts["pictures"] == counts["concepts"] == 2 and counts["splits"] == {"train": 2}
    assert in_both_splits([rows, [record("A red apple.", "validation")]]) == {"red-apple"}
    assert sample_sheet({tmp_path / "s": rows}, each=2, seed=0).width > 40


def test_fitted_crops_the_empty_rim_and_never_enlarges():
    picture = Image.new("RGBA", (100, 60), (0, 0, 0, 0))
    picture.paste((0, 128, 0, 255), (10, 10, 30, 50))
    assert fitted(picture, 288).size == (20, 40)
    assert fitted(picture, 20).size == (10, 20)
