"""Prototypes for nouns that no picture was labelled with, from the dictionary alone.

A class of ImageNet has a prototype p_c (its classifier's weight vector, centred, of norm 1). For any other noun s

    p_s = m + k(s, C) (k(C, C) + r I)^-1 (P - m),   k(s, c) = exp(<n_s, n_c> + <d_s, d_c> + <t_s, t_c> - 2)

kernel ridge regression from the classes C, with the teacher's vectors of name n, definition d and taxonomy t. With
100 of the classes left out it names the right one of those 100 for 55% of photographs (mean of 20 draws, Lite2
features; ridge on MiniLM's vectors of the names alone: 33%).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recipes.clip.teacher import taxonomy_incidence
from recipes.clip.wordnet import WordNet

RIDGE = 0.5


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to norm 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def first_names(wordnet: WordNet, teacher: dict[str, np.ndarray], offsets: Sequence[int]) -> list[int]:
    """The row of each noun's first word in `teacher["name"]`."""
    row = {str(name): i for i, name in enumerate(teacher["names"])}
    return [row[wordnet[offset].lemmas[0].lower()] for offset in offsets]


def guess_prototypes(
    wordnet: WordNet, teacher: dict[str, np.ndarray], classes: Sequence[int], prototypes: np.ndarray
) -> np.ndarray:
    """Class offsets (C,) and their prototypes (C, width) -> float32 (N, width) for all `teacher["offsets"]`.

    The classes themselves get their own prototype, exactly. All rows have norm 1.
    """
    offsets = [int(o) for o in teacher["offsets"]]
    position = {o: i for i, o in enumerate(offsets)}
    rows = np.array([position[c] for c in classes])
    names = teacher["name"][first_names(wordnet, teacher, offsets)].astype(np.float32)
    definitions = teacher["definition"].astype(np.float32)
    incidence = taxonomy_incidence(wordnet, offsets)

    similarity = names @ names[rows].T + definitions @ definitions[rows].T + (incidence @ incidence[rows].T).toarray()
    kernel = np.exp(similarity - 2)
    targets = unit(prototypes)
    mean = targets.mean(0)
    weights = np.linalg.solve(kernel[rows] + RIDGE * np.eye(len(rows)), targets - mean)
    guesses = unit(kernel @ weights + mean)
    guesses[rows] = targets
    return guesses.astype(np.float32)
