"""The front: searching by words, pictures and metadata, through the exact path and through the graph."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from bahumukha import zoo
from bahumukha.errors import ModelMismatch, PictureIndexError, UsageError
from bahumukha.search import PictureIndex
from bahumukha.search import vectors as vectors_module
from bahumukha.search.cutoff import auto_cutoff
from bahumukha.zoo.fake import ColourEncoder
from tests.search.pictures import draw, fill


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    fill(tmp_path / "photos", 24)
    return tmp_path / "photos"


@pytest.fixture
def index(photos: Path, tmp_path: Path) -> PictureIndex:
    index = PictureIndex(tmp_path / "index.db", ColourEncoder())
    index.index([photos])
    return index


def names(matches: list) -> list[str]:
    return [os.path.basename(match.path) for match in matches]


def colours(matches: list) -> set[str]:
    return {name.split("-")[0] for name in names(matches)}


def test_by_sentence(index: PictureIndex) -> None:
    matches = index.search("something blue", top=3)
    assert colours(matches) == {"blue"} and [match.rank for match in matches] == [1, 2, 3]
    assert 1 >= matches[0].score >= matches[1].score >= matches[2].score > 0.9
    assert len(index.search("red")) == 10


def test_by_picture_and_by_both(index: PictureIndex, tmp_path: Path) -> None:
    draw("green", 500).save(tmp_path / "query.png")
    assert colours(index.search(image=tmp_path / "query.png", top=3)) == {"green"}
    assert colours(index.search("red", plus=["green"], minus=["0.5:blue"], top=6)) <= {
        "brown",
        "yellow",
        "orange",
    }
    assert "green" not in colours(index.search("green", minus=["2:green", "blue"], plus=["red"], top=3))


def test_folders_filters_and_cutoffs_restrict(index: PictureIndex, photos: Path) -> None:
    everything = index.search("blue", top=100)
    assert len(everything) == 24
    below = index.search("blue", [photos / "sub"], top=100)
    assert names(below) == [name for name in names(everything) if (photos / "sub" / name).exists()]
    assert colours(index.search("blue", where="name ~ red")) == {"red"}
    assert index.search("blue", where="width > 5000") == []
    assert [name[:5] for name in names(index.search("green", cutoff="auto"))] == ["green"] * 3
    assert len(index.search("green", cutoff="auto", top=2)) == 2
    assert len(index.search("blue", cutoff=-1.0)) == 24
    assert index.search("blue", cutoff=1.5) == []


def test_through_the_graph_and_rebuilt_when_stale(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = PictureIndex(tmp_path / "graph.db", ColourEncoder(), approximate_above=20)
    index.index([photos])
    asked = []
    real = vectors_module.ask_graph
    monkeypatch.setattr(vectors_module, "ask_graph", lambda *given: asked.append(1) or real(*given))
    matches = index.search("blue", top=3)
    assert asked and colours(matches) == {"blue"}
    assert len(index.search("blue", top=100)) == 24
    asked.clear()
    assert colours(index.search("blue", where="name ~ red")) == {"red"} and not asked, "a filter needs exact ranking"
    draw("blue", 900).save(photos / "blue-new.png")
    PictureIndex(index.path, ColourEncoder()).index([photos])  # leaves the graph stale
    assert "blue-new.png" in names(index.search("blue", top=4)) and not asked
    index.index([photos])
    assert "blue-new.png" in names(index.search("blue", top=4)) and asked


def test_similar_leaves_itself_out(index: PictureIndex, photos: Path, tmp_path: Path) -> None:
    path = photos / "green-001.png"
    matches = index.similar(path, top=2)
    assert colours(matches) == {"green"} and "green-001.png" not in names(matches)
    outside = tmp_path / "outside.png"
    shutil.copy(path, outside)
    assert names(index.similar(outside, top=1)) == ["green-001.png"]
    draw("red", 300).save(path)  # its embedding in the index is of the former content
    assert colours(index.similar(path, top=2)) == {"red"}


def test_similar_leaves_links_to_itself_out(photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "target.png"
    target.parent.mkdir()
    draw("green", 700).save(target)
    (photos / "link.png").symlink_to(target)
    index = PictureIndex(tmp_path / "links.db", ColourEncoder())
    index.index([photos])
    for asked in (photos / "link.png", target):
        for cutoff in (None, "auto", -1.0):
            found = names(index.similar(asked, top=30, cutoff=cutoff))
            assert found[0].startswith("green-") and "link.png" not in found


def test_similar_with_a_cutoff_does_not_count_the_picture_itself(tmp_path: Path) -> None:
    """Three scores are too few to cut off at; with the picture's own they would be four, and it the only hit."""
    for seed in range(3):
        draw("red", seed).save(tmp_path / f"red-{seed}.png")
    draw("blue").save(tmp_path / "blue.png")
    index = PictureIndex(tmp_path / "reds.db", ColourEncoder())
    index.index([tmp_path])
    found = index.similar(tmp_path / "blue.png", cutoff="auto")
    assert sorted(names(found)) == ["red-0.png", "red-1.png", "red-2.png"]
    assert auto_cutoff(np.array([*(match.score for match in found), 1.0])) == 1.0


def test_files_that_are_gone_are_passed_over(index: PictureIndex, photos: Path) -> None:
    best = index.search("blue", top=3)
    Path(best[0].path).unlink()
    matches = index.search("blue", top=2)
    assert [match.path for match in matches] == [best[1].path, best[2].path]
    assert [match.rank for match in matches] == [1, 2] and matches.vanished == 1
    shutil.rmtree(photos)
    matches = index.search("blue", top=2)
    assert matches == [] and matches.vanished == 24


def test_nothing_indexed_and_folder_not_indexed(index: PictureIndex, tmp_path: Path) -> None:
    with pytest.raises(PictureIndexError, match="bahu index FOLDER"):
        PictureIndex(tmp_path / "new.db", ColourEncoder()).search("red")
    with pytest.raises(PictureIndexError, match="is not indexed"):
        index.search("red", [tmp_path])
    assert index.unindexed([tmp_path, tmp_path / "photos" / "sub"]) == [str(tmp_path)]
    with pytest.raises(ModelMismatch):
        PictureIndex(index.path, ColourEncoder(grid=3)).search("red")


@pytest.mark.parametrize(
    "wrong", [{"top": 0}, {"cutoff": "none"}, {"cutoff": float("nan")}, {"where": "x"}, {"query": ""}]
)
def test_wrong_arguments(index: PictureIndex, wrong: dict) -> None:
    with pytest.raises(UsageError):
        index.search(**{"query": "red", **wrong})


def test_default_ledger_and_its_own_model(photos: Path, data_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(zoo, "load", lambda name=None: asked.append(name) or ColourEncoder())
    PictureIndex().index([photos])
    assert (data_home / "index.db").is_file()
    assert colours(PictureIndex().search("red", top=3)) == {"red"}
    assert asked == [None, "fake/colours"]
