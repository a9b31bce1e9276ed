"""A ledger of 100,000 rows answers as a plain computation over all of them does."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bahumukha.search import PictureIndex
from bahumukha.search.store import Ledger, Picture, Root
from bahumukha.zoo.fake import ColourEncoder

COUNT = 100_000


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    rows = np.random.default_rng(0).standard_normal((COUNT, ColourEncoder().dim)).astype(np.float32)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, rows: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("scale") / "index.db"
    encoder = ColourEncoder()
    with Ledger(path, create=True) as ledger, ledger.writing():
        ledger.claim_model(encoder.name, encoder.fingerprint)
        ledger.put_root(Root("/p", 1, 1, complete=True))
        for i in range(COUNT):
            picture = Picture(
                content=b"%032d" % i, width=i, taken=f"{2000 + i % 20}-06-01", embedding=rows[i].tobytes()
            )
            ledger.put(place(i), 1, 1, picture)
    return path


def place(i: int) -> str:
    return f"/p/{i % 10}/{i:06}.jpg"


@pytest.mark.parametrize("approximate_above", [10**9, 10])
@pytest.mark.parametrize(
    ("folders", "where", "fits"),
    [
        ([], None, lambda i: i >= 0),
        ([], "date = 2003 and width > 50000", lambda i: (i % 20 == 3) & (i > 50_000)),
        (["/p/3", "/p/7"], None, lambda i: (i % 10 == 3) | (i % 10 == 7)),
        (["/p/3"], "width = 99993", lambda i: i == 99_993),
        (["/p/3"], "width = 99994", lambda i: i < 0),
    ],
)
def test_filter_then_rank(
    database: Path,
    rows: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    folders: list,
    where,
    fits,
    approximate_above,
) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: True)  # these pictures are rows only
    index = PictureIndex(database, ColourEncoder(), approximate_above=approximate_above)
    query = ColourEncoder().encode_texts(["blue"])[0]
    numbers = np.flatnonzero(fits(np.arange(COUNT)))
    scores = rows[numbers].astype(np.float32) @ query
    expected = numbers[np.argsort(-scores, kind="stable")[:20]]
    for _ in range(2):  # through the streamed matrix, then through its float32 copy
        matches = index.search("blue", folders, where=where, top=20)
        assert [match.path for match in matches] == [place(i) for i in expected]
        assert [match.rank for match in matches] == list(range(1, len(expected) + 1))
