"""The ledger follows the disk: added, changed, touched, moved, copied, deleted, broken, unmounted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bahumukha.errors import ModelError, ModelMismatch, PictureIndexError, UsageError
from bahumukha.search import IndexProgress, IndexReport, PictureIndex
from bahumukha.search.store import Ledger
from bahumukha.zoo.fake import ColourEncoder
from tests.search.pictures import draw, fill


class CountingEncoder(ColourEncoder):
    """Counts the pictures that are really encoded."""

    encoded = 0

    def encode_each(self, items: Iterable, load: Callable) -> Iterator:
        for item, outcome in super().encode_each(items, load):
            self.encoded += isinstance(outcome, np.ndarray)
            yield item, outcome


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    fill(tmp_path / "photos", 12)
    return tmp_path / "photos"


@pytest.fixture
def index(tmp_path: Path) -> PictureIndex:
    return PictureIndex(tmp_path / "home" / "index.db", CountingEncoder())


def counts(report: IndexReport) -> dict[str, int]:
    names = ("added", "updated", "moved", "removed", "unchanged")
    return {name: value for name in names if (value := getattr(report, name))} | (
        {"failed": len(report.failed)} if report.failed else {}
    )


def encoded(index: PictureIndex) -> int:
    assert isinstance(index._encoder, CountingEncoder)
    return index._encoder.encoded


def rows(index: PictureIndex) -> dict[str, tuple]:
    with Ledger(index.path) as ledger:
        found = ledger.select("SELECT path, content, embedding, width, height, format FROM files")
    return {os.fsdecode(path): tuple(rest) for path, *rest in found}


def test_first_run_adds_and_second_reads_nothing(photos: Path, index: PictureIndex) -> None:
    steps = list(index.index_steps([photos]))
    assert counts(steps[-1]) == {"added": 12}
    progress = [step for step in steps if isinstance(step, IndexProgress) and step.total is not None]
    assert [step.done for step in progress] == list(range(1, 13))
    assert counts(index.index([photos])) == {"unchanged": 12}
    assert encoded(index) == 12


def test_rows_hold_what_the_files_are(photos: Path, index: PictureIndex) -> None:
    import hashlib

    index.index([photos])
    for path, (content, embedding, width, height, kind) in rows(index).items():
        assert content == hashlib.blake2b(Path(path).read_bytes(), digest_size=32).digest()
        assert (width, height, kind) == (48, 32, "PNG")
        stored = np.frombuffer(embedding, np.float16).astype(np.float32)
        fresh = ColourEncoder().encode_images([Image.open(path)])[0]
        assert stored @ fresh / np.linalg.norm(stored) > 0.9999


def test_touched_is_unchanged_and_changed_is_updated(photos: Path, index: PictureIndex) -> None:
    index.index([photos])
    os.utime(photos / "green-001.png", ns=(1, 1))
    draw("pink", seed=99).save(photos / "blue-002.png")
    assert counts(index.index([photos])) == {"updated": 1, "unchanged": 11}
    assert encoded(index) == 13
    assert counts(index.index([photos])) == {"unchanged": 12}


def test_moved_keeps_its_embedding(photos: Path, index: PictureIndex) -> None:
    index.index([photos])
    before = rows(index)
    old, new = photos / "green-001.png", photos / "elsewhere" / "renamed.png"
    new.parent.mkdir()
    old.rename(new)
    assert counts(index.index([photos])) == {"moved": 1, "unchanged": 11}
    after = rows(index)
    assert after[str(new)] == before[str(old)] and str(old) not in after
    assert encoded(index) == 12


def test_moved_between_roots_is_found_though_only_one_is_listed(photos: Path, index: PictureIndex) -> None:
    other = photos.parent / "other"
    fill(other, 2)
    index.index([photos, other])
    (photos / "green-001.png").rename(other / "green.png")
    taken = encoded(index)
    assert counts(index.index([other]))["moved"] == 1
    assert encoded(index) == taken
    assert len(rows(index)) == 14


def test_copies_share_the_embedding_and_both_stay(photos: Path, index: PictureIndex) -> None:
    index.index([photos])
    shutil.copy(photos / "green-001.png", photos / "copy.png")
    assert counts(index.index([photos])) == {"added": 1, "unchanged": 12}
    assert encoded(index) == 12
    assert len(rows(index)) == 13


def test_two_files_that_swap_names_swap_embeddings(photos: Path, index: PictureIndex) -> None:
    a, b = photos / "green-001.png", photos / "blue-002.png"
    index.index([photos])
    before = rows(index)
    a.rename(photos / "c.png")
    b.rename(a)
    (photos / "c.png").rename(b)
    os.utime(a, ns=(1, 1))
    os.utime(b, ns=(2, 2))
    index.index([photos])
    after = rows(index)
    assert after[str(a)] == before[str(b)] and after[str(b)] == before[str(a)]


def test_deleted_is_forgotten_but_only_below_what_was_listed(photos: Path, index: PictureIndex) -> None:
    index.index([photos])
    (photos / "green-001.png").unlink()
    (photos / "sub" / "red-000.png").unlink()
    assert counts(index.index([photos / "sub"])) == {"removed": 1, "unchanged": 3}
    assert len(rows(index)) == 11
    assert counts(index.index([photos])) == {"removed": 1, "unchanged": 10}


def test_all_pictures_deleted_are_forgotten(photos: Path, index: PictureIndex) -> None:
    index.index([photos])
    for path in photos.rglob("*.png"):
        path.unlink()
    assert counts(index.index([photos])) == {"removed": 12}


@pytest.mark.parametrize("mount_point_stays", [False, True])
def test_drive_that_is_away_keeps_its_rows(photos: Path, index: PictureIndex, mount_point_stays: bool) -> None:
    index.index([photos])
    away = photos.parent / "away"
    photos.rename(away)
    if mount_point_stays:
        photos.mkdir()
    report = index.index([photos])
    assert counts(report) == {} and len(rows(index)) == 12
    assert "kept" in report.notices[0] and str(photos) in report.notices[0]
    shutil.rmtree(photos, ignore_errors=True)
    away.rename(photos)
    assert counts(index.index([photos])) == {"unchanged": 12}


def test_drive_below_a_root_that_is_away_keeps_its_rows(photos: Path, index: PictureIndex) -> None:
    index.index([photos / "sub"])
    index.index([photos])
    (photos / "sub").rename(photos.parent / "away")
    report = index.index([photos])
    assert counts(report) == {"unchanged": 8} and len(report.notices) == 1
    assert len(rows(index)) == 12


def test_failures_are_named_each_time_and_retried_when_changed(photos: Path, index: PictureIndex) -> None:
    bad = photos / "bad.jpg"
    bad.write_bytes(b"no picture at all")
    for _ in range(2):
        report = index.index([photos])
        assert [path for path, _ in report.failed] == [str(bad)]
        assert "bad.jpg" in report.failed[0][1] and "bytes" not in report.failed[0][1]
    draw("red").save(bad, "JPEG")
    assert counts(index.index([photos])) == {"updated": 1, "unchanged": 12}
    bad.write_bytes(b"broken again")
    assert counts(index.index([photos])) == {"unchanged": 12, "failed": 1}
    assert rows(index)[str(bad)][1] is None, "the embedding of the former content must go"


def test_pipe_with_a_pictures_name_does_not_hang(photos: Path, index: PictureIndex) -> None:
    os.mkfifo(photos / "pipe.jpg")
    report = index.index([photos])
    assert counts(report) == {"added": 12, "failed": 1}
    assert "regular file" in report.failed[0][1]


def test_file_name_that_is_not_text(photos: Path, index: PictureIndex) -> None:
    name = os.fsdecode(bytes(photos) + b"/caf\xe9.png")
    draw("cyan", seed=77).save(name, "PNG")
    index.index([photos])
    assert name in rows(index)
    assert index.search("cyan", top=3, where="name ~ caf")[0].path == name


def test_other_model_is_refused_and_rebuild_embeds_all_roots(photos: Path, index: PictureIndex) -> None:
    other = photos.parent / "other"
    fill(other, 3)
    index.index([photos, other])
    newer = PictureIndex(index.path, ColourEncoder(grid=3))
    for act in (
        lambda: newer.index([photos]),
        lambda: newer.search("red"),
        lambda: newer.similar(other / "red.png"),
    ):
        with pytest.raises((ModelMismatch, UsageError)):
            act()
    with pytest.raises(ModelMismatch, match="--rebuild"):
        newer.index([photos])
    assert counts(newer.index([photos], rebuild=True)) == {"updated": 15}
    assert {len(row[1]) for row in rows(index).values()} == {2 * 28}
    with pytest.raises(ModelMismatch):
        index.index([photos])


def test_stopped_rebuild_goes_on_without_mixing(photos: Path, index: PictureIndex) -> None:
    index.index([photos])
    newer = PictureIndex(index.path, ColourEncoder(grid=3))
    steps = newer.index_steps([photos], rebuild=True)
    while (step := next(steps)).total is None or step.done < 4:
        pass
    steps.close()
    assert sum(row[1] is not None for row in rows(index).values()) == 4
    assert counts(newer.index([photos])) == {"updated": 8, "unchanged": 4}


def test_missing_folder_is_a_usage_error_and_makes_no_ledger(index: PictureIndex, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        index.index([tmp_path / "nowhere"])
    assert not index.path.exists()


def test_content_that_left_the_ledger_meanwhile_is_embedded_after_all(photos: Path, index: PictureIndex) -> None:
    """Another process may drop the row whose embedding a copy was to share."""
    index.index([photos])
    shutil.copy(photos / "green-001.png", photos / "copy.png")
    os.utime(photos / "copy.png")
    steps = index.index_steps([photos])
    next(steps)
    step = next(steps)
    assert step.total == 1  # read, and found to be known, but not yet committed
    with Ledger(index.path) as ledger, ledger.writing():
        ledger._db.execute("DELETE FROM files WHERE name = 'green-001.png'")
    report = list(steps)[-1]
    assert counts(report) == {"added": 1, "unchanged": 12}  # compared before it was dropped
    assert rows(index)[str(photos / "copy.png")][1] is not None


@pytest.mark.parametrize("change", ["DELETE FROM files", "UPDATE files SET embedding = NULL"])
def test_touched_file_whose_own_row_is_lost_meanwhile_is_embedded_again(
    photos: Path, index: PictureIndex, change: str
) -> None:
    index.index([photos])
    os.utime(photos / "green-001.png", ns=(1, 1))
    steps = index.index_steps([photos])
    next(steps)
    assert next(steps).total == 1  # read, and found to be its row's content, but not yet committed
    with Ledger(index.path) as ledger, ledger.writing():
        ledger._db.execute(f"{change} WHERE name = 'green-001.png'")
    rest = [step for step, _ in zip(steps, range(10), strict=False)]
    assert isinstance(rest[-1], IndexReport), "it goes round for ever"
    assert rows(index)[str(photos / "green-001.png")][1] is not None
    assert counts(index.index([photos])) == {"unchanged": 12}


class DamagedEncoder(ColourEncoder):
    """A model whose file can be named, but not run."""

    def __init__(self, broken: str) -> None:
        super().__init__(grid=3)
        self.broken = broken

    def encode_images(self, images: Sequence) -> np.ndarray:
        if self.broken == "images":
            raise ModelError("image.onnx is damaged")
        return super().encode_images(images)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        if self.broken == "texts":
            raise ModelError("text.onnx is damaged")
        return super().encode_texts(texts)


@pytest.mark.parametrize("broken", ["images", "texts"])
def test_rebuild_with_a_damaged_model_drops_nothing(photos: Path, index: PictureIndex, broken: str) -> None:
    index.index([photos])
    before = rows(index)
    with pytest.raises(ModelError, match="damaged"):
        PictureIndex(index.path, DamagedEncoder(broken)).index([photos], rebuild=True)
    assert rows(index) == before
    assert counts(index.index([photos])) == {"unchanged": 12}


def test_rebuild_tells_that_a_drive_that_is_away_lost_its_embeddings(photos: Path, index: PictureIndex) -> None:
    other = photos.parent / "other"
    fill(other, 3)
    index.index([photos, other])
    photos.rename(photos.parent / "away")
    assert "cannot be found" not in index.index([photos]).notices[0]
    (notice,) = index.index([other], rebuild=True).notices
    assert "12 cannot be found until it is back" in notice and "--forget" in notice
    (photos.parent / "away").rename(photos)
    assert counts(index.index([photos])) == {"updated": 12}


def test_file_that_came_back_after_the_listing_is_kept(photos: Path, index: PictureIndex) -> None:
    index.index([photos])
    path = photos / "green-001.png"
    draw("pink", seed=98).save(photos / "new.png")
    path.rename(photos.parent / "aside.png")
    steps = index.index_steps([photos])
    next(steps)
    assert next(steps).total == 1  # listed
    (photos.parent / "aside.png").rename(path)
    assert counts(list(steps)[-1]) == {"added": 1, "unchanged": 11}
    assert str(path) in rows(index)


def test_forget_drops_a_folder_that_is_gone_and_its_roots(photos: Path, index: PictureIndex) -> None:
    similar_name = photos.parent / "photos-too"
    fill(similar_name, 3)
    index.index([photos / "sub"])
    index.index([photos, similar_name])
    photos.rename(photos.parent / "renamed")
    assert index.forget([photos]) == 12
    with Ledger(index.path) as ledger:
        assert [root.path for root in ledger.roots()] == [str(similar_name)]
    assert len(rows(index)) == 3 and len(index.search("red", top=20)) == 3
    assert index.forget([photos]) == 0
    report = index.index([similar_name], rebuild=True)
    assert counts(report) == {"updated": 3} and not report.notices


def test_forget_means_the_folder_as_indexed_though_a_link_took_its_place(photos: Path, index: PictureIndex) -> None:
    renamed = photos.parent / "renamed"
    index.index([photos])
    photos.rename(renamed)
    shutil.copytree(renamed, photos.parent / "third")
    index.index([photos.parent / "third"])
    photos.symlink_to(photos.parent / "third")
    assert index.forget([photos]) == 12
    assert {Path(path).relative_to(photos.parent).parts[0] for path in rows(index)} == {"third"}


def test_forget_without_an_index(index: PictureIndex, photos: Path) -> None:
    with pytest.raises(PictureIndexError):
        index.forget([photos])
    assert not index.path.exists()
