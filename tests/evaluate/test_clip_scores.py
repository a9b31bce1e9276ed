"""The scores themselves, on embeddings whose ranking is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bahumukha.data.imagenet import class_names
from bahumukha.errors import UsageError
from bahumukha.evaluate.clip import coarse_scores, evaluate_photos, top_k_accuracy
from bahumukha.evaluate.imagenet import coarse_words


class Oracle:
    """Knows each class by name and each photograph by its colour: an encoder with a known score."""

    name, fingerprint, logit_scale, templates = "oracle", "0", 10.0, ("{}",)
    dim = 1000

    def __init__(self, wrong: tuple[str, ...] = ()):
        self.rows = {wnid: i for i, (wnid, _) in enumerate(class_names())}
        self.by_name = {name: i for i, (_, name) in enumerate(class_names())}
        self.wrong = wrong

    def encode_texts(self, texts):
        words = {w.word: [self.rows[c] for c in w.classes] for w in coarse_words()}
        out = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(out, texts, strict=True):
            row[words.get(text, [self.by_name.get(text, 0)])] = 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    def encode_each(self, items, load):
        for item in items:
            load(item)
            row = np.zeros(self.dim, np.float32)
            row[0 if item[0] in self.wrong else self.rows[item[0]]] = 1
            yield item, row


@pytest.fixture
def photos(tmp_path):
    for wnid in ("n02123045", "n02084071", "n01440764", "n02099601", "n03126707"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{wnid}_x.png")
    (tmp_path / "holiday.png").write_bytes(b"")
    return tmp_path


def test_names_are_a_thousand_and_no_two_alike():
    names = class_names()
    assert len(names) == 1000 == len({name.lower() for _, name in names}) == len({wnid for wnid, _ in names})
    assert [wnid for wnid, _ in names] == sorted(wnid for wnid, _ in names)
    given_names = dict(names)
    assert given_names["n02012849"] != given_names["n03126707"]  # the bird and the machine
    assert given_names["n03710637"] != given_names["n03710721"]  # the two maillots


def test_coarse_words_speak_of_classes():
    ids = {wnid for wnid, _ in class_names()}
    words = coarse_words()
    assert len(words) == 15 and all(w.classes and w.classes <= ids for w in words)
    assert len(next(w for w in words if w.word == "a dog").classes) == 118


def test_oracle_is_perfect(photos):
    scores = evaluate_photos(Oracle(), photos)
    # n02084071, dog, is no ImageNet class; holiday.png has no id: both are left out
    assert (scores.photos, scores.names, scores.top1, scores.top5) == (4, 1000, 1.0, 1.0)
    assert scores.coarse == 1.0 and set(scores.coarse_words) == {"a cat", "a dog", "a fish"}


def test_one_wrong_of_four(photos):
    assert evaluate_photos(Oracle(wrong=("n03126707",)), photos).top1 == 0.75


def test_classes_restrict_names_and_photographs(photos):
    scores = evaluate_photos(Oracle(), photos, classes=["n02123045", "n01440764", "n02100583"])
    assert (scores.photos, scores.names, scores.coarse) == (2, 3, None)


def test_unreadable_photograph_is_named(photos):
    class Real(Oracle):
        def encode_each(self, items, load):
            from bahumukha.errors import ImageError

            for item in items:
                try:
                    load(item)
                except ImageError as error:
                    yield item, error
                else:
                    yield item, np.eye(self.dim, dtype=np.float32)[self.rows[item[0]]]

    (photos / "n02123045_torn.png").write_bytes(b"\x89PNG torn")
    scores = evaluate_photos(Real(), photos)
    assert scores.photos == 4 and "n02123045_torn.png" in scores.failed[0][0]


def test_no_photograph_says_how_to_name_them(tmp_path):
    with pytest.raises(UsageError, match="n02123045_tabby.jpg"):
        evaluate_photos(Oracle(), tmp_path)


def test_unknown_class_id(photos):
    with pytest.raises(UsageError, match="n99999999"):
        evaluate_photos(Oracle(), photos, classes=["n99999999"])


def test_coarse_hits_are_counted_in_the_first_five():
    truths = ["n02123045"] * 2 + ["n01440764"] * 8
    embeddings = np.zeros((10, 1000), np.float32)
    rows = {wnid: i for i, (wnid, _) in enumerate(class_names())}
    for i, truth in enumerate(truths):
        embeddings[i, rows[truth]] = 1
    embeddings[1] = 0  # the second cat is seen by no one: one hit of min(5, 2)
    embeddings[1, rows["n03126707"]] = 1
    embeddings[2:8, rows["n02123045"]] = 0.5  # and six fish look a little like one
    scores = coarse_scores(Oracle(), truths, embeddings)
    assert scores["a cat"] == 0.5 and scores["a fish"] == 1.0


@given(st.integers(2, 12), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_top_k_by_sorting(names, photographs, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (photographs, names)).astype(np.float32)  # many ties
    truth = rng.integers(0, names, photographs)
    order = np.argsort(-scores, axis=1, kind="stable")
    expected = [float(np.mean([t in row[:k] for t, row in zip(truth, order, strict=True)])) for k in (1, 2)]
    assert top_k_accuracy(scores, truth, (1, 2)) == pytest.approx(expected)
