"""Exact ranking, the files beside the ledger, and the graph's recall."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bahumukha.search import vectors as vectors_module
from bahumukha.search.store import Ledger, Picture
from bahumukha.search.vectors import (
    Vectors,
    ask_graph,
    best,
    build_graph,
    folder_of,
    load_graph,
    load_vectors,
)


def unit_rows(count: int, dim: int, seed: int = 0, clusters: int = 50) -> np.ndarray:
    """Rows in clusters, as embeddings of photographs are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((clusters, dim))
    rows = centres[rng.integers(0, clusters, count)] + 0.8 * rng.standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def fill(ledger: Ledger, rows: np.ndarray) -> None:
    with ledger.writing():
        for number, row in enumerate(rows):
            blob = row.astype("<f2").tobytes()
            ledger.put(f"/p/{number:06}.png", 1, 1, Picture(content=b"%032d" % number, embedding=blob))


@given(
    arrays(np.float32, st.integers(1, 200), elements=st.integers(-5, 5).map(lambda n: n / 8)),
    st.integers(0, 250),
)
def test_best_is_the_head_of_a_stable_sort(scores: np.ndarray, count: int) -> None:
    assert best(scores, count).tolist() == np.argsort(-scores, kind="stable")[:count].tolist()


def test_scores_are_cosines_the_first_time_and_later() -> None:
    rows = unit_rows(2000, 32)
    vectors = Vectors(np.arange(2000), rows.astype(np.float16), "s")
    for _ in range(3):
        np.testing.assert_allclose(vectors.scores(rows[7]), rows @ rows[7], atol=2e-3)


def test_restricted_keeps_ids_and_rows_together() -> None:
    rows = unit_rows(10, 8).astype(np.float16)
    vectors = Vectors(np.arange(0, 100, 10), rows, "s")
    part = vectors.restricted(np.array([90, 30, 31, 1000, 0]))
    assert part.ids.tolist() == [0, 30, 90]
    np.testing.assert_array_equal(part.matrix, rows[[0, 3, 9]])
    assert vectors.restricted(vectors.ids) is vectors
    assert len(vectors.restricted(np.array([], np.int64))) == 0


def test_file_beside_the_ledger_is_used_only_in_its_own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors_module, "CACHED_FROM", 10)
    rows = unit_rows(20, 16)
    with Ledger(tmp_path / "index.db", create=True) as ledger:
        fill(ledger, rows)
        first = load_vectors(ledger)
        assert not isinstance(first.matrix, np.memmap)
        second = load_vectors(ledger)
        assert isinstance(second.matrix, np.memmap)
        np.testing.assert_array_equal(first.matrix, second.matrix)
        np.testing.assert_array_equal(first.ids, second.ids)
        fill(ledger, unit_rows(21, 16, seed=1))
        third = load_vectors(ledger)
        assert len(third) == 21 and not isinstance(third.matrix, np.memmap)
        assert {path.name.split(".")[0] for path in folder_of(ledger.path).iterdir()} == {third.state}
        for age, name in ((100_000, "killed.part"), (0, "writing.part")):
            part = folder_of(ledger.path) / name
            part.touch()
            os.utime(part, (time.time() - age,) * 2)
        fill(ledger, unit_rows(22, 16, seed=2))
        third = load_vectors(ledger)
        assert [path.name for path in folder_of(ledger.path).glob("*.part")] == ["writing.part"]
        for path in folder_of(ledger.path).glob("*.f16.npy"):
            path.write_bytes(path.read_bytes()[:200])
        np.testing.assert_array_equal(load_vectors(ledger).matrix, third.matrix)


def test_no_room_beside_the_ledger_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors_module, "CACHED_FROM", 1)
    with Ledger(tmp_path / "index.db", create=True) as ledger:
        fill(ledger, unit_rows(5, 8))
        folder_of(ledger.path).write_text("in the way")
        assert len(load_vectors(ledger)) == 5


def test_graph_finds_what_exact_search_finds(tmp_path: Path) -> None:
    rows = unit_rows(4000, 64)
    vectors = Vectors(np.arange(1, 4001), rows.astype(np.float16), "state")
    build_graph(tmp_path / "index.db", vectors)
    graph = load_graph(tmp_path / "index.db", vectors)
    assert graph is not None
    found = 0
    for query in unit_rows(50, 64, seed=3):
        ids, scores = ask_graph(graph, query, 10)
        exact = best(vectors.scores(query), 10)
        found += len(set(ids) & set(vectors.ids[exact]))
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)
        assert scores[0] == pytest.approx(float(vectors.scores(query)[ids[0] - 1]), abs=5e-3)
    assert found >= 0.98 * 500


def test_graph_ranks_by_exact_cosines_what_int8_cannot_tell_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    centre = unit_rows(1, 64)[0]
    rows = centre + 0.01 * rng.standard_normal((1000, 64)).astype(np.float32)  # cosines of 0.994 to 0.998
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    vectors = Vectors(np.arange(5, 5005, 5), rows, "state")
    build_graph(tmp_path / "index.db", vectors)
    graph = load_graph(tmp_path / "index.db", vectors)
    assert graph is not None
    by_int8 = graph.index.search(centre, 10).keys
    ids, scores = ask_graph(graph, centre, 10)
    exact = best(vectors.scores(centre), 10)
    missed_by_int8 = set(vectors.ids[exact]) - {int(key) for key in by_int8}
    assert len(missed_by_int8) >= 2, "the test needs neighbours that int8 mistakes"
    assert len(set(ids) & set(vectors.ids[exact])) > 10 - len(missed_by_int8)
    np.testing.assert_allclose(scores, rows[ids // 5 - 1].astype(np.float32) @ centre, atol=1e-6)


def test_graph_answers_when_fewer_are_there_than_asked_for(tmp_path: Path) -> None:
    vectors = Vectors(np.arange(30), unit_rows(30, 16).astype(np.float16), "state")
    build_graph(tmp_path / "index.db", vectors)
    graph = load_graph(tmp_path / "index.db", vectors)
    assert graph is not None
    query = unit_rows(1, 16, seed=4)[0]
    ids, _ = ask_graph(graph, query, 100)
    assert ids.tolist() == best(vectors.scores(query), 100).tolist()


def test_graph_of_another_state_or_a_damaged_one_is_not_used(tmp_path: Path) -> None:
    vectors = Vectors(np.arange(100), unit_rows(100, 16).astype(np.float16), "old")
    build_graph(tmp_path / "index.db", vectors)
    assert load_graph(tmp_path / "index.db", Vectors(vectors.ids, vectors.matrix, "new")) is None
    path = folder_of(tmp_path / "index.db") / "old.usearch"
    path.write_bytes(path.read_bytes()[:50])
    assert load_graph(tmp_path / "index.db", vectors) is None
