"""Paths as the user typed them -> the pictures in them, in an order that does not change from run to run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from bahumukha.errors import UsageError
from bahumukha.images import EXTENSIONS, shown

logger = logging.getLogger(__name__)


def find_images(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Yield the pictures of files and folders, folders recursively and sorted by name.

    A file that is named is yielded whatever its ending; in folders, only those whose ending is in
    `images.EXTENSIONS`, also when they turn out to be broken links or pipes, so that opening them names them.
    Hidden files and folders (`.name`) inside a folder are skipped. No folder is walked twice, so links that
    form a loop end; a link to a folder within the same tree yields nothing, as that folder is walked itself.

    Raises UsageError before the first picture when a path is missing or a folder given cannot be listed.
    """
    given = [Path(path) for path in paths]
    for path in given:
        if not os.path.lexists(path):
            raise UsageError(f"{shown(path)}: there is no such file or folder; check the spelling")
        if path.is_dir() and not os.access(path, os.R_OK | os.X_OK):
            raise UsageError(f"{shown(path)}: this folder may not be listed; give yourself permission to read it")
    return _pictures(given)


def _pictures(given: list[Path]) -> Iterator[Path]:
    roots = [Path(os.path.realpath(path)) for path in given if path.is_dir()]
    walked: set[tuple[int, int]] = set()
    files: set[Path] = set()
    for path in given:
        if path.is_dir():
            yield from _walk(path, roots, walked)
        elif path not in files:
            files.add(path)
            yield path


def _walk(root: Path, roots: list[Path], walked: set[tuple[int, int]]) -> Iterator[Path]:
    pending = [(root, True)]  # a stack, not recursion: folders may nest deeper than Python's calls
    while pending:
        path, is_folder = pending.pop()
        if not is_folder:
            yield path
            continue
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) not in walked:
                walked.add((status.st_dev, status.st_ino))
                pending += sorted(_children(path, roots), reverse=True)  # the first name goes on top
        except OSError as error:
            logger.warning("%s: cannot be listed, so it is left out (%s)", shown(path), error.strerror)


def _children(folder: Path, roots: list[Path]) -> Iterator[tuple[Path, bool]]:
    """Folders to walk (True) and files that end as pictures do (False)."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                if not (entry.is_symlink() and _is_walked_anyway(entry.path, roots)):
                    yield folder / entry.name, True
            elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
                yield folder / entry.name, False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_walked_anyway(link: str, roots: list[Path]) -> bool:
    """Whether a linked folder lies inside a folder that was given, not hidden there.

    Left to itself, a link that sorts before its target would decide by which path the pictures are known.
    """
    target = Path(os.path.realpath(link))
    inside = [target.relative_to(root) for root in roots if target.is_relative_to(root)]
    return any(not any(part.startswith(".") for part in relative.parts) for relative in inside)
