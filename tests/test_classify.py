from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bahumukha.classify import (
    Label,
    best_labels,
    classify,
    classify_each,
    label_embeddings,
    probabilities,
    sentence,
    shortest_side,
    unique_labels,
)
from bahumukha.errors import BahumukhaError, ImageError, UsageError
from bahumukha.zoo.fake import COLOURS, ColourEncoder
from bahumukha.zoo.onnx import OnnxClip

PLAIN = {name: Image.new("RGB", (8, 8), colour) for name, colour in COLOURS.items() if name != "grey"}
NAMES = sorted(PLAIN)
names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=6)


def test_each_colour_is_called_by_its_name() -> None:
    results = classify([PLAIN[name] for name in NAMES], NAMES, model=ColourEncoder())
    assert [result[0].label for result in results] == NAMES
    assert all(isinstance(each, Label) for result in results for each in result)


@settings(deadline=None)
@given(pictures=names, labels=names)
def test_probabilities_are_a_distribution_best_first(pictures: list[str], labels: list[str]) -> None:
    for result in classify([PLAIN[name] for name in pictures], labels, model=ColourEncoder()):
        chances = [each.probability for each in result]
        assert sum(chances) == pytest.approx(1)
        assert all(0 <= chance <= 1 for chance in chances)
        assert chances == sorted(chances, reverse=True)
        assert {each.label for each in result} == set(labels)


@settings(deadline=None)
@given(pictures=names, labels=names, data=st.data())
def test_order_of_pictures_and_labels_is_of_no_matter(
    pictures: list[str], labels: list[str], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(pictures))))
    shuffled = data.draw(st.permutations(labels))
    straight = classify([PLAIN[name] for name in pictures], labels, model=ColourEncoder())
    turned = classify([PLAIN[pictures[place]] for place in order], shuffled, model=ColourEncoder())
    for place, result in zip(order, turned, strict=True):
        expected = {each.label: each.probability for each in straight[place]}
        assert {each.label: each.probability for each in result} == pytest.approx(expected)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20), st.floats(0.01, 1000))
def test_the_softmax_is_stable_and_that_of_the_paper(cosines: list[float], scale: float) -> None:
    targets = np.array(cosines, np.float32)[:, None]
    found = probabilities(np.ones(1, np.float32), targets, scale)
    assert found.sum() == pytest.approx(1)
    exact = np.exp(np.float128(scale) * np.float128(targets[:, 0]))
    np.testing.assert_allclose(found, (exact / exact.sum()).astype(np.float64), rtol=1e-6, atol=1e-12)


def test_top_keeps_the_probabilities() -> None:
    (everything,) = classify([PLAIN["red"]], NAMES, model=ColourEncoder())
    (best,) = classify([PLAIN["red"]], NAMES, model=ColourEncoder(), top=2)
    assert best == everything[:2]
    with pytest.raises(UsageError, match="top is 0; it must be at least 1"):
        classify([PLAIN["red"]], NAMES, model=ColourEncoder(), top=0)


def test_ties_keep_the_given_order() -> None:
    assert [each.label for each in best_labels(["b", "a", "c"], np.array([0.4, 0.4, 0.2]))] == ["b", "a", "c"]


def test_templates_are_averaged_and_renormalised(tiny_clip: Path) -> None:
    encoder = OnnxClip(tiny_clip)
    rows = label_embeddings(encoder, ["cat", "{}"], ["a {}", "{} and {}"])
    assert rows.shape == (2, encoder.dim)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    mean = encoder.encode_texts(["a cat", "cat and cat"]).mean(axis=0)
    np.testing.assert_allclose(rows[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_default_templates_are_the_models(tiny_clip: Path) -> None:
    encoder = OnnxClip(tiny_clip)
    ours = label_embeddings(encoder, ["cat"])
    np.testing.assert_array_equal(ours, label_embeddings(encoder, ["cat"], encoder.templates))
    assert not np.allclose(ours, label_embeddings(encoder, ["cat"], ["{}"]))


@pytest.mark.parametrize("templates", [[], ["a photo of a cat"], ["{}", "a {"]])
def test_templates_without_a_place_are_refused(templates: list[str]) -> None:
    with pytest.raises(UsageError, match="template"):
        label_embeddings(ColourEncoder(), ["cat"], templates)


def test_labels_count_once() -> None:
    assert unique_labels([" red", "blue", "red "]) == ["red", "blue"]
    (result,) = classify([PLAIN["red"]], ["red", "blue", "red"], model=ColourEncoder())
    assert [each.label for each in result] == ["red", "blue"]


@pytest.mark.parametrize("labels", [[], ["red", ""], [" "]])
def test_no_label_or_an_empty_one_is_refused(labels: list[str]) -> None:
    with pytest.raises(UsageError, match="label"):
        classify([PLAIN["red"]], labels, model=ColourEncoder())


def test_one_label_gets_everything_and_a_bare_text_is_a_mistake() -> None:
    assert classify([PLAIN["red"]], ["blue"], model=ColourEncoder()) == [[Label("blue", 1.0)]]
    with pytest.raises(TypeError, match="a list of texts"):
        classify([PLAIN["red"]], "red", model=ColourEncoder())


def test_paths_and_pictures_mix_and_a_model_may_be_a_folder(coloured_pictures: Path, tiny_clip: Path) -> None:
    red = coloured_pictures / "red.png"
    with Image.open(red) as picture:
        picture.load()
    by_path, by_name, by_picture = classify([red, str(red), picture], ["a", "b"], model=tiny_clip)
    assert by_path == by_name
    assert by_path[0].probability == pytest.approx(by_picture[0].probability, abs=1e-4)
    assert shortest_side(OnnxClip(tiny_clip)) == 32
    assert shortest_side(ColourEncoder()) is None


def test_no_pictures_no_results() -> None:
    assert classify([], ["red"], model=ColourEncoder()) == []


def test_a_bad_picture_stops_classify_but_not_classify_each(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"bad\.png"):
        classify([PLAIN["red"], bad], ["red", "blue"], model=ColourEncoder())

    def load(name: str) -> Image.Image:
        if name not in PLAIN:
            raise ImageError(f"{name}: cannot be read")
        return PLAIN[name]

    results = dict(classify_each(["red", "mauve", "blue"], load, ["red", "blue"], ColourEncoder(), top=1))
    assert isinstance(results["mauve"], BahumukhaError)
    assert [results[name][0].label for name in ("red", "blue")] == ["red", "blue"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("template", "label", "expected"),
    [
        ("a photo of a {}", "a penguin", "a photo of a penguin"),
        ("A {}", "the sea", "the sea"),
        ("a photo of a {}", "penguin", "a photo of a penguin"),
        ("a photo of a {}", "antelope", "a photo of a antelope"),
        ("a {} by {}", "a cat", "a cat by a cat"),
        ("the sea by {}", "a cat", "the sea by a cat"),
    ],
)
def test_a_label_with_an_article_takes_the_templates_place(template, label, expected):
    assert sentence(template, label) == expected
