"""Composed scenes from four tiny drawings: what captions say is what the pixels show, and held-out stays out."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bahumukha.data import scene_captions, scene_words
from bahumukha.data.scene_captions import caption as spoken
from bahumukha.data.scene_captions import (
    captions,
    plain_caption,
    swapped_colours,
    wrong_colours,
    wrong_counts,
    wrong_relation,
)
from bahumukha.data.scene_colours import BASIC, COLOURS, Leading, distances, oklab, parsed, repainted, srgb
from bahumukha.data.scene_vectors import Concept, Library, measured_drawing
from bahumukha.data.scene_words import LANGUAGES, TONGUES, names_a_colour, plural, with_article
from bahumukha.data.scenes import (
    COLOURFUL,
    OPPOSITE,
    RELATIONS,
    SIZES,
    USUAL,
    Chances,
    Ground,
    Scene,
    SceneObject,
    draw_scene,
    is_held_out,
    render,
)
from bahumukha.errors import UsageError

FRAME = (0.0, 0.0, 32.0, 32.0)
BODIES = {
    "ball": '<circle cx="16" cy="16" r="13" fill="#e33"/><circle cx="12" cy="12" r="4" fill="#f77"/>',
    "box": '<path style="fill:rgb(46,165,60)" d="M4 4h24v24H4z"/><path fill="#28903a" d="M4 22h24v6H4z"/>',
    "egg": '<ellipse cx="16" cy="16" rx="10" ry="13" fill="#3366dd"/><circle cx="16" cy="16" r="2" fill="white"/>',
    "arch": '<path fill="gold" stroke="#a80" d="M3 29V16a13 13 0 0 1 26 0v13z"/>',
}


@pytest.fixture(scope="module")
def library() -> Library:
    concepts = {}
    for number in range(12):
        shape = list(BODIES)[number % 4]
        drawing = measured_drawing(BODIES[shape], FRAME)
        assert drawing is not None
        name = f"{shape} {'abc'[number // 4]}"
        names = {language: f"{language}-{name}" for language in LANGUAGES[1:]}
        concepts[str(number)] = Concept(str(number), name, plural(name), "things", names, "train", {"plain": drawing})
    return Library(concepts)


def scene_objects(library: Library, keys: str, **changes: object) -> tuple[SceneObject, ...]:
    made = []
    for place, key in enumerate(keys):
        each = library.concepts[key]
        natural = each.drawings["plain"].natural
        spots = ((0.25 + 0.5 * place, 0.5, 0.3),)
        thing = SceneObject(each.key, each.name, each.plural, "plain", natural, None, 1, "medium", spots, each.names)
        made.append(replace(thing, **changes))  # type: ignore[arg-type]
    return tuple(made)


WHITE = Ground(("white",), ((255, 255, 255),))


# --- colours


@given(st.lists(st.integers(0, 255), min_size=3, max_size=3))
def test_oklab_and_back(rgb: list[int]) -> None:
    assert np.abs(srgb(oklab(np.array(rgb))) - rgb).max() < 0.05


def test_oklab_of_known_colours() -> None:
    assert oklab(np.array([255, 255, 255])) == pytest.approx([1, 0, 0], abs=1e-4)
    assert oklab(np.array([255, 0, 0])) == pytest.approx([0.62796, 0.22486, 0.12585], abs=1e-4)  # Ottosson's table


def test_named_colours_are_well_apart() -> None:
    for name in COLOURS:
        nearest = list(distances(oklab(np.array(COLOURS[name])), tuple(COLOURS)).items())
        assert nearest[0][0] == name and nearest[1][1] > 0.12


@pytest.mark.parametrize(
    ("text", "rgb"),
    [
        ("#f80", (255, 136, 0)),
        ("#FF8800cc", (255, 136, 0)),
        ("rgb(10, 20,30)", (10, 20, 30)),
        ("rgb(100%,0%,50%)", (255, 0, 128)),
        ("hsl(120, 100%, 25%)", (0, 128, 0)),
        ("Tomato", (255, 99, 71)),
        ("currentColor", (0, 0, 0)),
        ("none", None),
        ("url", None),
    ],
)
def test_paints_are_read(text: str, rgb: tuple[int, int, int] | None) -> None:
    assert parsed(text) == rgb


def test_every_kind_of_paint_is_changed_and_nothing_else() -> None:
    svg = (
        '<g fill="#f00" stroke=\'red\' fill-rule="evenodd" id="fill"><stop stop-color="#ff000080"/>'
        '<path style="fill:rgb(255,0,0);stroke:none" fill="url(#a)"/><b color="rgba(255,0,0,.5)"/>'
        '<feColorMatrix values="0 0 0 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0.5 0"/></g>'
    )
    assert repainted(svg, lambda rgb: (0, 0, 255) if rgb == (255, 0, 0) else rgb) == (
        '<g fill="#0000ff" stroke=\'#0000ff\' fill-rule="evenodd" id="fill"><stop stop-color="#0000ff80"/>'
        '<path style="fill:#0000ff;stroke:none" fill="url(#a)"/><b color="rgba(0,0,255,.5)"/>'
        '<feColorMatrix values="0 0 0 0 0.0000 0 0 0 0 0.0000 0 0 0 0 1.0000 0 0 0 0.5 0"/></g>'
    )


@given(
    st.sampled_from(list(COLOURS)),
    st.lists(st.floats(0.2, 0.85), min_size=2, max_size=2),  # lighter, the screen's range takes their hue away
    st.floats(0.3, 0.8),
)
def test_recolouring_keeps_the_order_of_lightness(colour: str, lights: list[float], middle: float) -> None:
    leading = Leading(middle, 0.12, 30.0)
    paints = [np.clip(np.rint(srgb(np.array([light, 0.07, 0.04]))), 0, 255).astype(int) for light in sorted(lights)]
    dark, light = (leading.moved((int(r), int(g), int(b)), colour) for r, g, b in paints)
    assert oklab(np.array(dark))[0] <= oklab(np.array(light))[0] + 0.02  # the screen's range and rounding


def test_recolouring_leaves_other_hues_and_grays() -> None:
    leading = Leading(0.6, 0.2, 27.0)
    for rgb in ((0, 0, 0), (255, 255, 255), (120, 120, 124), (40, 90, 230)):
        assert leading.moved(rgb, "green") == rgb
    assert next(iter(distances(oklab(np.array(leading.moved((220, 40, 40), "green")))))) == "green"


def test_measured_drawings(library: Library) -> None:
    drawings = [library.concepts[key].drawings["plain"] for key in "0123"]
    assert [each.natural for each in drawings[:3]] == ["red", "green", "blue"]
    for each in drawings:
        assert set(BASIC) <= set(each.colours)
    left, top, width, height = drawings[0].box
    assert left == pytest.approx(3, abs=1) and width == pytest.approx(26, abs=2)  # a pixel of 72 is 0.44
    assert measured_drawing('<path d="M0 0h1v1z"/>', FRAME) is None


# --- words


def test_english_nouns() -> None:
    words = ["fox", "cherry", "key", "bus", "church", "dog"]
    assert [plural(w) for w in words] == ["foxes", "cherries", "keys", "buses", "churches", "dogs"]
    assert with_article("orange fox") == "an orange fox" and with_article("unicorn") == "a unicorn"
    assert with_article("hourglass") == "an hourglass" and with_article("umbrella") == "an umbrella"


def test_every_language_has_every_word() -> None:
    assert set(TONGUES) == set(LANGUAGES) - {"en"} and set(scene_words.COLOUR_STEMS) == set(LANGUAGES)
    for language, tongue in TONGUES.items():
        for forms in (tongue.colours, tongue.grounds):
            assert list(forms) == list(COLOURS) and len(set(forms.values())) == len(COLOURS), language
        assert "{noun}" in tongue.coloured and "{colour}" in tongue.coloured and "{colour}" in tongue.ground
        for template in (tongue.left_right, tongue.above_below, tongue.both):
            assert template.index("{a}") < template.index("{b}")
        # Our own words are recognised as naming a colour, so a recoloured thing is never called by another one.
        said = [tongue.coloured.format(noun="x", colour=form) for form in tongue.colours.values()]
        assert all(names_a_colour(text, language) for text in said), language


def test_names_with_colours_are_recognised() -> None:
    assert names_a_colour("manzana roja", "es") and names_a_colour("红苹果", "zh")
    assert not names_a_colour("manzana", "es") and not names_a_colour("పిల్లి", "te")


# --- captions


def test_plain_captions_and_their_opposites(library: Library) -> None:
    ball, box = scene_objects(library, "01")
    scene = Scene((ball, box), WHITE, "left of")
    assert plain_caption(scene) == "a red ball a to the left of a green box a"
    assert wrong_relation(scene) == "a red ball a to the right of a green box a"
    assert swapped_colours(scene) == "a green ball a to the left of a red box a"
    wrong = wrong_colours(scene)
    assert len(wrong) == 7 and plain_caption(scene) not in wrong
    assert wrong[0] == "an orange ball a to the left of a green box a"
    assert wrong_colours(scene, 1)[0] == "a red ball a to the left of a red box a"
    three = Scene(scene_objects(library, "0", count=3, spots=((0.2, 0.2, 0.1),) * 3), WHITE, "alone")
    assert plain_caption(three) == "three red ball as"
    assert wrong_counts(three)[0] == "a red ball a" and len(wrong_counts(three)) == 4


def test_uncounted_things_have_no_article(library: Library) -> None:
    scene = Scene(scene_objects(library, "0", name="scissors", plural=""), WHITE, "alone")
    assert plain_caption(scene) == "red scissors" and wrong_counts(scene) == []
    with pytest.raises(UsageError, match="cannot be counted"):
        replace(scene.objects[0], count=2, spots=((0.1, 0.1, 0.1),) * 2)


def test_foreign_captions(library: Library) -> None:
    scene = Scene(scene_objects(library, "01"), WHITE, "right of")
    rng = np.random.default_rng(0)
    french = captions(scene, rng, "fr", most=40)
    assert any(text == "à gauche : fr-box a de couleur verte, à droite : fr-ball a de couleur rouge" for text in french)
    without = Scene(scene_objects(library, "0", names={}), WHITE, "alone")
    assert captions(without, rng, "te") == [] and captions(without, rng, "en")
    with pytest.raises(UsageError, match="language 'xx'"):
        spoken(scene, rng, "xx")


def claims(text: str, scene: Scene) -> None:
    """Fail when an English caption says something that the scene does not show."""
    words = text.replace(",", " ").replace(":", " ").split()
    grounds = [w for part in (text.split(" on ")[1:] + text.split("against ")[1:]) for w in part.split()]
    shown = {each.colour for each in scene.objects} | set(scene.ground.names)
    assert {w for w in words if w in COLOURS} <= shown
    for each in scene.objects:
        at = text.find(each.name)
        if at < 0:
            continue
        before = text[:at].split()[-4:]
        if before and before[-1] in COLOURS:
            assert before[-1] == each.colour
            before.pop()
        if before and before[-1] in (*scene_captions.SMALL, *scene_captions.LARGE):
            assert (before[-1] in scene_captions.SMALL) == (each.size == "small")
            assert each.size != "medium"
            before.pop()
        assert before[-1] in (("a", "an") if each.count == 1 else (scene_words.NUMBERS[each.count],))
    if "gradient" in grounds:
        assert len(scene.ground.names) == 2
    for relation, ways in scene_captions.WAYS.items():
        for way in ways:
            if f" {way} " in text and len(scene.objects) == 2:
                first, second = text.split(f" {way} ", 1)
                (subject,) = (each for each in scene.objects if each.name in first)
                (other,) = (each for each in scene.objects if each.name in second)
                found = {(a.key, kind, b.key) for a, kind, b in scene.relations()}
                assert (subject.key, relation, other.key) in found or (
                    other.key,
                    OPPOSITE[relation],
                    subject.key,
                ) in found


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32 - 1))
def test_captions_say_only_what_is_true(library: Library, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng, library)
    for text in captions(scene, rng, "en", most=8):
        claims(text, scene)
    for language in LANGUAGES[1:]:
        for text in captions(scene, rng, language):
            assert all(each.names[language] in text for each in scene.objects)


# --- drawing at random


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32 - 1))
def test_drawn_scenes_are_as_described(library: Library, seed: int) -> None:
    scene = draw_scene(np.random.default_rng(seed), library)
    spots = [spot for each in scene.objects for spot in each.spots]
    for x, y, side in spots:
        assert side / 2 - 1e-3 <= min(x, y) and max(x, y) <= 1 - side / 2 + 1e-3
    for i, (x, y, side) in enumerate(spots):
        for u, v, other in spots[:i]:
            assert max(abs(x - u), abs(y - v)) >= (side + other) / 2 - 1e-3  # nothing covers anything
    for each in scene.objects:
        low, high = SIZES[each.size]
        assert all(low - 1e-3 <= side <= high + 1e-3 for _, _, side in each.spots)
    for a, relation, b in scene.relations():
        axis = 0 if relation in ("left of", "right of") else 1
        first, second = (a, b) if relation in ("left of", "above") else (b, a)
        ends = max(s[axis] + s[2] / 2 for s in first.spots)
        begins = min(s[axis] - s[2] / 2 for s in second.spots)
        assert ends < begins
        if a.count == b.count == 1:
            across, along = abs(a.place[1 - axis] - b.place[1 - axis]), abs(a.place[axis] - b.place[axis])
            assert across < along
    assert Scene.from_record(json.loads(json.dumps(scene.as_record()))) == scene


def test_held_out_combinations_never_leak(library: Library) -> None:
    rng = np.random.default_rng(0)
    train = [draw_scene(rng, library) for _ in range(300)]
    held = [draw_scene(rng, library, split="validation") for _ in range(60)]
    assert not any(scene.held_out() for scene in train) and all(scene.held_out() for scene in held)
    shown = set().union(*(scene.combinations() for scene in train))
    assert len(shown) > 100 and not any(map(is_held_out, shown))
    share = sum(is_held_out((str(i), colour)) for i in range(500) for colour in BASIC) / 4000
    assert 0.08 < share < 0.12


def test_colourful_scenes_hold_more_things_and_nearly_all_are_painted(library: Library) -> None:
    def drawn(**chances: Chances) -> tuple[float, float]:
        rng = np.random.default_rng(0)
        scenes = [draw_scene(rng, library, **chances) for _ in range(200)]
        things = [each for scene in scenes for each in scene.objects]
        can = [each for each in things if library.concepts[each.key].drawings[each.style].colours]
        return len(things) / len(scenes), sum(each.paint is not None for each in can) / len(can)

    usual, colourful = drawn(), drawn(chances=COLOURFUL)
    assert colourful[0] > usual[0] + 0.3
    assert usual[1] < 0.8 and colourful[1] > 0.88
    assert drawn(chances=USUAL) == usual


def test_a_relation_and_its_mirror_are_one_combination(library: Library) -> None:
    a, b = scene_objects(library, "01")
    pairs = {relation: Scene((a, b), WHITE, relation).combinations() for relation in RELATIONS}
    turned = {relation: Scene((b, a), WHITE, OPPOSITE[relation]).combinations() for relation in RELATIONS}
    assert pairs == turned and pairs["left of"] != pairs["right of"]


def test_draws_repeat_and_wrong_requests_are_told(library: Library) -> None:
    first, second = (draw_scene(np.random.default_rng(7), library) for _ in range(2))
    assert first == second
    with pytest.raises(UsageError, match="split 'test'"):
        draw_scene(np.random.default_rng(0), library, split="test")
    with pytest.raises(UsageError, match="nothing in the styles"):
        draw_scene(np.random.default_rng(0), library, styles=["noto"])
    with pytest.raises(UsageError, match="takes 2 things"):
        Scene(first.objects[:1], WHITE, "above")


# --- pixels


def parts(picture: np.ndarray, ground: tuple[int, int, int]) -> tuple[np.ndarray, int]:
    return ndimage.label(np.abs(picture.astype(int) - ground).sum(axis=-1) > 60)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_pixels_show_the_scene(library: Library, seed: int) -> None:
    """Count, place, size and colour of every thing, measured on the rendered picture."""
    scene = draw_scene(np.random.default_rng(seed), library)
    scene = replace(scene, ground=Ground(("black",), ((0, 0, 0),)))
    scene = replace(
        scene,
        objects=tuple(replace(o, paint="blue", colour="blue") if o.paint == "black" else o for o in scene.objects),
    )
    size = 200
    picture = np.asarray(render(scene, library, size))
    labels, found = parts(picture, (0, 0, 0))
    assert found == sum(each.count for each in scene.objects)
    boxes = ndimage.find_objects(labels)
    for each in scene.objects:
        for x, y, side in each.spots:
            label = labels[round(y * size), round(x * size)]
            assert label > 0
            rows, columns = boxes[label - 1]
            assert (columns.start + columns.stop) / 2 == pytest.approx(x * size, abs=3)
            assert (rows.start + rows.stop) / 2 == pytest.approx(y * size, abs=3)
            longer = max(rows.stop - rows.start, columns.stop - columns.start)
            assert longer == pytest.approx(side * size, rel=0.12, abs=4)
            if each.colour in BASIC:
                lab = oklab(picture[labels == label])
                coloured = lab[np.hypot(lab[:, 1], lab[:, 2]) > 0.05]
                assert next(iter(distances(coloured.mean(axis=0)))) == each.colour


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1))
def test_grounds_are_the_colours_they_are_called(library: Library, seed: int) -> None:
    ground = draw_scene(np.random.default_rng(seed), library).ground
    for name, paint in zip(ground.names, ground.paints, strict=True):
        lab = oklab(np.array(paint))
        assert next(iter(distances(lab, tuple(COLOURS)))) == name
        assert name not in ("black", "white", "gray") or np.hypot(lab[1], lab[2]) < 0.02


def test_grounds(library: Library) -> None:
    thing = scene_objects(library, "0", spots=((0.5, 0.5, 0.2),), size="small")
    red_to_blue = Ground(("red", "blue"), ((200, 0, 0), (0, 0, 200)), 0.0)
    picture = np.asarray(render(Scene(thing, red_to_blue, "alone"), library, 100)).astype(int)
    assert picture[5, 1, 0] > 190 and picture[5, -1, 2] > 190 and picture[5, 1, 2] < 10
    assert (np.diff(picture[5, :, 2]) >= 0).all()
    with pytest.raises(UsageError, match="16 or more"):
        render(Scene(thing, WHITE, "alone"), library, 8)


def test_a_library_is_one_file_and_keeps_layers(library: Library, tmp_path, monkeypatch) -> None:
    path = tmp_path / "library.json.gz"
    library.write(path)
    again = Library.read(path, tmp_path / "layers")
    assert again.concepts == library.concepts and again.styles() == ["plain"]
    layer = again.layer("0", "plain", "blue", 50)
    assert layer.mode == "RGBA" and max(layer.size) == 50
    assert [file.name for file in (tmp_path / "layers").iterdir()] == ["plain-0-blue-64.png"]
    monkeypatch.setattr("bahumukha.data.scene_vectors.drawn", None)  # from the folder now, not rendered anew
    assert Library.read(path, tmp_path / "layers").layer("0", "plain", "blue", 50).tobytes() == layer.tobytes()


def test_no_library_is_told(tmp_path) -> None:
    with pytest.raises(UsageError, match="recipes.pictograms.scenes"):
        Library.read(tmp_path / "missing.json.gz")
