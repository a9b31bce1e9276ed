"""Linear probe: how much of the classes do frozen embeddings hold? A logistic regression is trained on them.

Radford et al. (2021), section 3.2. With embeddings x_i (rows), classes y_i, weights W, biases b,

    minimise  C sum_i -log softmax(W x_i + b)[y_i] + 1/2 |W|^2

as scikit-learn's LogisticRegression has it (b is not penalised). C is chosen on a held-out part of the training
pictures, then all of them are used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bahumukha.data.folders import find_images
from bahumukha.data.imagenet import class_names
from bahumukha.errors import UsageError
from bahumukha.evaluate.answers import Answers
from bahumukha.evaluate.clip import WNID, pictures_by_folder, top_k_accuracy
from bahumukha.evaluate.pictures import Progress, embed, quiet
from bahumukha.protocols import ImageTextEncoder

STRENGTHS = tuple(float(10 ** (power / 2)) for power in range(-2, 9))
"""C from 0.1 to 10,000 in half decades: unit vectors need weak penalties."""
TEST_PART, HELD_OUT_PART = 0.25, 0.2
"""Of each class: for the score, where the folder has no test part of its own; of the rest, for choosing C."""
FEWEST = 4
"""Pictures of a class: one for the score, one for choosing C, two to learn from."""
TRAIN_FOLDERS = ("train", "training")
TEST_FOLDERS = ("test", "val", "validation", "valid")


@dataclass(frozen=True)
class ProbeScores:
    """Accuracy in [0, 1] on the test pictures; `strength` is the chosen C, `held_out` the accuracy it was chosen by."""

    train: int
    test: int
    classes: int
    top1: float
    top5: float
    strength: float
    held_out: float
    failed: list[tuple[str, str]] = field(default_factory=list)
    answers: Answers | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Logistic:
    """`weights` float64 (dim, classes), `biases` (classes,)."""

    weights: np.ndarray
    biases: np.ndarray

    def scores(self, x: np.ndarray) -> np.ndarray:
        """x (N, dim) -> logits (N, classes)."""
        return x @ self.weights + self.biases


def evaluate_probe(
    encoder: ImageTextEncoder,
    folder: Path,
    *,
    size: int | None = None,
    seed: int = 0,
    progress: Progress = quiet,
) -> ProbeScores:
    """Train on frozen embeddings of a folder's pictures and score on the pictures left out.

    The folder has a sub-folder for each class, or pictures named by WordNet ids; or `train` and `test` (or `val`)
    folders with such inside. Without those a quarter of each class, drawn with `seed`, is the test. Raises UsageError
    for fewer than two classes, or a class of fewer than four pictures.
    """
    labelled, tests = _labelled(folder)
    names = sorted(labelled)
    pictures = [((place, False), path) for place, name in enumerate(names) for path in labelled[name]]
    pictures += [((names.index(name), True), path) for name in tests for path in tests[name]]
    embedded = embed(encoder, pictures, option=f"--probe {folder}", size=size, progress=progress)
    x, y = embedded.rows, np.array([place for place, _ in embedded.keys])
    is_test = np.array([test for _, test in embedded.keys])
    random = np.random.default_rng(seed)
    if not is_test.any():
        is_test = stratified(y, TEST_PART, random)
    _check_counts(folder, y[~is_test], len(names), needed=FEWEST - 1)
    strength, held_out = chosen_strength(x[~is_test], y[~is_test], len(names), random, progress)
    scores = fit_logistic(x[~is_test], y[~is_test], len(names), strength).scores(x[is_test])
    top1, top5 = top_k_accuracy(scores, y[is_test], (1, 5))
    answers = Answers(tuple(names), y[is_test], scores.argmax(1))
    train, test = int((~is_test).sum()), int(is_test.sum())
    return ProbeScores(train, test, len(names), top1, top5, strength, held_out, embedded.failed, answers)


def chosen_strength(
    x: np.ndarray, y: np.ndarray, classes: int, random: np.random.Generator, progress: Progress = quiet
) -> tuple[float, float]:
    """The C of STRENGTHS that names most of a held-out part right (the smallest of equals), and that part in [0, 1]."""
    apart = stratified(y, HELD_OUT_PART, random)
    best, start = (0.0, -1.0), None
    with progress(len(STRENGTHS), "strengths of the penalty") as advance:
        for strength in STRENGTHS:
            start = fit_logistic(x[~apart], y[~apart], classes, strength, start=start)
            right = float((start.scores(x[apart]).argmax(1) == y[apart]).mean())
            if right > best[1]:
                best = strength, right
            advance()
    return best


def fit_logistic(
    x: np.ndarray,
    y: np.ndarray,
    classes: int,
    strength: float,
    *,
    start: Logistic | None = None,
    tolerance: float = 1e-6,
) -> Logistic:
    """Multinomial logistic regression of x (N, dim) on y int (N,) in [0, classes); `strength` is C.

    `start` speeds up a path over several C; `tolerance` bounds the largest slope, of the loss per picture.
    """
    rows, dim = x.shape
    x = np.concatenate([x, np.ones((rows, 1))], axis=1).astype(np.float64)
    penalised = np.ones((dim + 1, 1))
    penalised[-1] = 0
    scale = 1 / (strength * rows)  # the loss is C sum + 1/2 |W|^2 over C N: the same minimum, slopes near 1

    def loss_and_slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(dim + 1, classes)
        logits = x @ weights
        logits -= logits.max(axis=1, keepdims=True)
        powers = np.exp(logits)
        sums = powers.sum(axis=1, keepdims=True)
        loss = (np.log(sums[:, 0]) - logits[np.arange(rows), y]).mean()
        residual = powers / sums
        residual[np.arange(rows), y] -= 1
        slope = x.T @ residual / rows + scale * penalised * weights
        return float(loss + 0.5 * scale * (penalised * weights**2).sum()), slope.ravel()

    first = np.zeros((dim + 1) * classes)
    if start is not None:
        first = np.concatenate([start.weights, start.biases[None]]).ravel()
    found = minimised(loss_and_slope, first, tolerance).reshape(dim + 1, classes)
    return Logistic(found[:-1], found[-1])


def minimised(
    loss_and_slope: Callable[[np.ndarray], tuple[float, np.ndarray]],
    x: np.ndarray,
    tolerance: float = 1e-6,
    *,
    most: int = 2000,
    memory: int = 12,
) -> np.ndarray:
    """L-BFGS for a smooth convex function: x (n,) -> where no slope exceeds `tolerance`, or after `most` steps.

    Nocedal and Wright, "Numerical Optimization" (2006), algorithms 7.4 (two loops) and 3.1 (halving the step until
    the loss has fallen enough).
    """
    loss, slope = loss_and_slope(x)
    pairs: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=memory)
    for _ in range(most):
        if np.abs(slope).max() <= tolerance:
            break
        direction = -_inverse_hessian_times(slope, pairs)
        fall = slope @ direction
        step = 1.0 if pairs else 1 / max(1.0, float(np.linalg.norm(slope)))
        while True:
            new_loss, new_slope = loss_and_slope(x + step * direction)
            if new_loss <= loss + 1e-4 * step * fall:
                break
            step /= 2
            if step < 1e-10:  # as low as float64 can tell
                return x
        s, t = step * direction, new_slope - slope
        if s @ t > 1e-14 * (t @ t):  # only a pair of positive curvature keeps the direction one of descent
            pairs.append((s, t))
        x, loss, slope = x + s, new_loss, new_slope
    return x


def _inverse_hessian_times(slope: np.ndarray, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    q = slope.copy()
    used = []
    for s, t in reversed(pairs):
        alpha = (s @ q) / (s @ t)
        q -= alpha * t
        used.append(alpha)
    if pairs:
        s, t = pairs[-1]
        q *= (s @ t) / (t @ t)
    for (s, t), alpha in zip(pairs, reversed(used), strict=True):
        q += (alpha - (t @ q) / (s @ t)) * s
    return q


def stratified(y: np.ndarray, part: float, random: np.random.Generator) -> np.ndarray:
    """bool (N,): about `part` of each class, at least one of each that has two or more."""
    chosen = np.zeros(len(y), bool)
    for each in np.unique(y):
        rows = random.permutation(np.flatnonzero(y == each))
        if len(rows) > 1:
            chosen[rows[: max(1, round(part * len(rows)))]] = True
    return chosen


def _labelled(folder: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Pictures by class to learn from, and those of a test folder if there is one."""
    train = next((folder / name for name in TRAIN_FOLDERS if (folder / name).is_dir()), None)
    test = next((folder / name for name in TEST_FOLDERS if (folder / name).is_dir()), None)
    if train is None or test is None:
        return _by_class(folder), {}
    learned, tested = _by_class(train), _by_class(test)
    if unknown := sorted(set(tested) - set(learned)):
        raise UsageError(f"--probe {folder}: class {unknown[0]!r} is in {test.name} and not in {train.name}")
    return learned, tested


def _by_class(folder: Path) -> dict[str, list[Path]]:
    """By sub-folders, or by the WordNet ids that the names of the pictures start with."""
    names = dict(class_names())
    labelled: dict[str, list[Path]] = {}
    if folder.is_dir() and not any(p.is_dir() and not p.name.startswith(".") for p in folder.iterdir()):
        for path in find_images([folder]):
            if match := WNID.match(path.name):
                labelled.setdefault(names.get(match[1], match[1]), []).append(path)
        if len(labelled) < 2:
            raise UsageError(
                f"--probe {folder}: needs a sub-folder for each class, or pictures named by WordNet ids of two classes"
            )
        return labelled
    return {name: paths for name, paths in pictures_by_folder(folder, option="--probe").items() if paths}


def _check_counts(folder: Path, y: np.ndarray, classes: int, *, needed: int) -> None:
    if classes < 2:
        raise UsageError(f"--probe {folder}: pictures of {classes} class; at least two are needed")
    counts = np.bincount(y, minlength=classes)
    if (counts < needed).any():
        raise UsageError(
            f"--probe {folder}: {int((counts < needed).sum())} of {classes} classes have fewer than {needed} pictures "
            f"to learn from; give each class {FEWEST} or more"
        )
