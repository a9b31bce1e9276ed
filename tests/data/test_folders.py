from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from bahumukha.data.folders import find_images
from bahumukha.errors import UsageError
from tests.odd_pictures import make_odd_pictures


def _touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def _names(folder: Path, *paths: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_images(paths or [folder])]


def test_folders_are_walked_in_order_of_names(tmp_path: Path) -> None:
    _touch(tmp_path, "b.png", "a/z.JPG", "a/b/c.heic", "c.gif", "a.webp", "notes.txt", "no_ending", "film.mp4")
    assert _names(tmp_path) == ["a/b/c.heic", "a/z.JPG", "a.webp", "b.png", "c.gif"]


def test_hidden_names_are_skipped_inside_but_not_when_given(tmp_path: Path) -> None:
    _touch(tmp_path, ".thumbnails/a.jpg", "._b.jpg", ".c.png", "d.png")
    assert _names(tmp_path) == ["d.png"]
    assert _names(tmp_path, tmp_path / ".thumbnails", tmp_path / ".c.png") == [".thumbnails/a.jpg", ".c.png"]


def test_a_file_that_is_given_needs_no_ending_and_comes_once(tmp_path: Path) -> None:
    _touch(tmp_path, "scan", "b.png", "a.png")
    assert _names(tmp_path, *(tmp_path / n for n in ("scan", "b.png", "scan", "a.png"))) == [
        "scan",
        "b.png",
        "a.png",
    ]


def test_overlapping_folders_are_walked_once(tmp_path: Path) -> None:
    _touch(tmp_path, "a/b/x.png", "a/y.png")
    assert _names(tmp_path, tmp_path / "a" / "b", tmp_path, tmp_path / "a") == ["a/b/x.png", "a/y.png"]


def test_relative_paths_stay_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path, "a/x.png")
    monkeypatch.chdir(tmp_path)
    assert list(find_images(["a"])) == [Path("a/x.png")]
    assert list(find_images([Path(".")])) == [Path("a/x.png")]


def test_links_are_followed_without_loops_or_doubles(tmp_path: Path) -> None:
    _touch(tmp_path, "root/m/x.png", "root/.hidden/h.png", "outside/o.png")
    root = tmp_path / "root"
    for name, target in (
        ("a_loop", "."),
        ("a_link_that_sorts_first", "m"),
        ("m/up", "../.."),
        ("to_hidden", ".hidden"),
        ("to_outside", "../outside"),
        ("to_outside_again", "../outside"),
    ):
        (root / name).symlink_to(target)
    # `m/up` leads to the folder above, from where `outside` is reached first.
    assert _names(root) == ["m/up/outside/o.png", "m/x.png", "to_hidden/h.png"]


def test_a_deep_tree_needs_no_deep_stack(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(300):
        folder = folder / "d"
    _touch(folder, "x.png")
    assert len(list(find_images([tmp_path]))) == 1


@pytest.mark.parametrize("name", ["nowhere", "nowhere/x.png"])
def test_a_missing_path_is_named_before_anything_is_found(tmp_path: Path, name: str) -> None:
    _touch(tmp_path, "x.png")
    with pytest.raises(UsageError, match=f"{name}: there is no such file or folder"):
        find_images([tmp_path, tmp_path / name])


def test_a_folder_that_cannot_be_listed_is_logged_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _touch(tmp_path, "a.png", "locked/x.png", "z.png")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with caplog.at_level(logging.WARNING):
        assert _names(tmp_path) == ["a.png", "z.png"]
    assert "locked: cannot be listed, so it is left out (Permission denied)" in caplog.text


def test_odd_pictures_are_found_so_that_opening_them_can_name_them(tmp_path: Path) -> None:
    odd = make_odd_pictures(tmp_path)
    found = list(find_images([tmp_path]))
    assert sorted(found) == sorted(picture.path for picture in odd if picture.found)
    assert len(found) == len(set(found))
