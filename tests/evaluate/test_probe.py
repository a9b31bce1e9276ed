"""The linear probe against scikit-learn's logistic regression, and on folders of colours."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from bahumukha.errors import UsageError
from bahumukha.evaluate.probe import chosen_strength, evaluate_probe, fit_logistic, minimised, stratified
from bahumukha.zoo.fake import ColourEncoder


def clouds(seed: int, rows: int = 150, dim: int = 8, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clouds of unit vectors, float32 (rows, dim), and their classes."""
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, rows)
    x = random.normal(size=(classes, dim))[y] + random.normal(size=(rows, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), y


@pytest.mark.parametrize("strength", [0.1, 3.0, 300.0])
def test_weights_are_those_of_scikit_learn(strength: float) -> None:
    x, y = clouds(0)
    ours = fit_logistic(x, y, 4, strength, tolerance=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        theirs = LogisticRegression(C=strength, tol=1e-9, max_iter=10_000).fit(x.astype(np.float64), y)
    assert ours.weights.T == pytest.approx(theirs.coef_, abs=2e-4 * max(1, np.abs(theirs.coef_).max()))
    # a shift of all the biases changes nothing
    mine, other = ours.biases - ours.biases.mean(), theirs.intercept_ - theirs.intercept_.mean()
    assert mine == pytest.approx(other, abs=2e-4 * max(1, np.abs(other).max()))
    assert (ours.scores(x).argmax(1) == theirs.predict(x)).all()


def test_two_classes_that_lie_apart_still_end() -> None:
    x = np.float32([[1, 0], [1, 0.1], [-1, 0], [-1, 0.1]])
    scores = fit_logistic(x, np.array([0, 0, 1, 1]), 2, 1e4).scores(x)
    assert (scores.argmax(1) == [0, 0, 1, 1]).all() and np.isfinite(scores).all()


def test_a_start_changes_the_way_not_the_end() -> None:
    x, y = clouds(1)
    start = fit_logistic(x, y, 4, 0.3)
    again = fit_logistic(x, y, 4, 30.0, start=start, tolerance=1e-8)
    assert again.weights == pytest.approx(fit_logistic(x, y, 4, 30.0, tolerance=1e-8).weights, abs=1e-3)


def test_minimum_of_a_stretched_bowl() -> None:
    scales = np.array([1.0, 100.0, 1e4])
    wanted = np.array([3.0, -2.0, 1.0])
    found = minimised(lambda x: (float(scales @ (x - wanted) ** 2), 2 * scales * (x - wanted)), np.zeros(3), 1e-8)
    assert found == pytest.approx(wanted, abs=1e-6)


def test_noise_wants_a_strong_penalty_and_signal_a_weak_one() -> None:
    random = np.random.default_rng(0)
    x, y = clouds(2, rows=300)
    separable = np.eye(4)[y] * 0.02 + 1  # classes a hair apart: only large weights tell them
    weak, right = chosen_strength(separable, y, 4, random)
    assert right == 1.0 and weak >= 10
    strong, _ = chosen_strength(x, random.permutation(y), 4, random)
    assert strong < weak


def test_stratified_takes_of_each_class() -> None:
    y = np.array([0] * 40 + [1] * 3 + [2])
    chosen = stratified(y, 0.25, np.random.default_rng(0))
    assert [int(chosen[y == c].sum()) for c in range(3)] == [10, 1, 0]


def paint(folder: Path, colour: tuple[int, int, int], count: int, seed: int, name: str = "{}.png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for i in range(count):
        noisy = np.clip(np.array(colour) + random.normal(0, 12, (8, 8, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / name.format(i))


def test_folders_by_class(tmp_path: Path) -> None:
    paint(tmp_path / "brick", (180, 40, 40), 12, 0)
    paint(tmp_path / "sea", (40, 60, 190), 8, 1)
    (tmp_path / "sea" / "torn.png").write_bytes(b"no")
    scores = evaluate_probe(ColourEncoder(), tmp_path)
    assert (scores.train, scores.test, scores.classes) == (15, 5, 2)
    assert scores.top1 == scores.top5 == scores.held_out == 1.0
    assert scores.answers is not None and scores.answers.names == ("brick", "sea")
    assert "torn.png" in scores.failed[0][0]
    assert evaluate_probe(ColourEncoder(), tmp_path, seed=0).top1 == scores.top1


def test_train_and_test_folders_are_kept_apart(tmp_path: Path) -> None:
    for place, (name, colour) in enumerate({"a": (200, 30, 30), "b": (30, 30, 200)}.items()):
        paint(tmp_path / "train" / name, colour, 5, place)
    paint(tmp_path / "val" / "b", (200, 30, 30), 3, 7)  # red, though their class was blue
    paint(tmp_path / "val" / "a", (200, 30, 30), 1, 8)
    scores = evaluate_probe(ColourEncoder(), tmp_path)
    assert (scores.train, scores.test, scores.top1) == (10, 4, 0.25)
    paint(tmp_path / "val" / "c", (0, 0, 0), 1, 9)
    with pytest.raises(UsageError, match="class 'c' is in val and not in train"):
        evaluate_probe(ColourEncoder(), tmp_path)


def test_pictures_named_by_wordnet_ids(tmp_path: Path) -> None:
    paint(tmp_path, (200, 30, 30), 5, 0, "n02123045_{}.png")
    paint(tmp_path, (30, 30, 200), 5, 1, "n01443537_{}.png")
    scores = evaluate_probe(ColourEncoder(), tmp_path)
    assert scores.answers is not None and scores.answers.names == ("goldfish", "tabby cat") and scores.top1 == 1.0


def test_too_few(tmp_path: Path) -> None:
    paint(tmp_path, (200, 30, 30), 2, 0, "n02123045_{}.png")
    with pytest.raises(UsageError, match="a sub-folder for each class, or pictures named by WordNet ids"):
        evaluate_probe(ColourEncoder(), tmp_path)
    paint(tmp_path, (30, 30, 200), 9, 1, "n01443537_{}.png")
    with pytest.raises(UsageError, match="1 of 2 classes have fewer than 3 pictures to learn from; give .* 4 or more"):
        evaluate_probe(ColourEncoder(), tmp_path)
