"""Pictures that are there more than once: exact (the same bytes) and near (the same picture, saved
otherwise).

Embeddings alone cannot tell near duplicates: they are made to forget all but the meaning, so that two golden
retrievers on grass may be as close as one photograph and its smaller copy. A near duplicate must therefore
pass two independent tests: close in meaning (cosine) and alike in layout (a perceptual difference hash, after
N. Krawetz, "Kind of Like That", 2013). Resizing, recompression and another format pass both; another
photograph of the same thing does not, and neither does a strong crop.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bahumukha.search.paths import is_url, pack_of, within
from bahumukha.search.records import Store

if TYPE_CHECKING:
    from PIL import Image

MIN_COSINE = 0.9
"""Copies saved smaller or at low quality keep a cosine above this; it only needs to be sound, not sharp."""
MAX_BITS = 20
"""Differing bits of 128. Of 100 photographs, copies (a quarter the size, JPEG at quality 30, brighter, more
contrast) differ in at most 12 in 99 of 100 cases; different photographs in 64, give or take 8, never below 24.
"""
BLOCK = 2048  # rows compared at a time


@dataclass(frozen=True)
class Duplicates:
    """One group: `kind` is "exact" or "near", `similarity` the lowest cosine within it (1.0 when exact)."""

    kind: str
    paths: list[str]
    similarity: float


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    content: bytes
    dhash: bytes
    embedding: bytes


def difference_hash(image: Image.Image) -> bytes:
    """128 bits: whether brightness rises from each cell of a coarse grid to its right and to its lower
    neighbour.

    An RGB picture of any size -> 16 bytes. Cells are means over their area, so scale and format matter
    little.
    """
    from PIL import Image

    def grid(columns: int, rows: int) -> np.ndarray:
        cells = image.resize((columns, rows), Image.Resampling.BOX).convert("L")
        return np.asarray(cells, np.int16)

    rightwards = np.diff(grid(9, 8), axis=1) > 0
    downwards = np.diff(grid(8, 9), axis=0) > 0
    return np.packbits([rightwards.ravel(), downwards.ravel()]).tobytes()


def find_duplicates(ledger: Store, folders: Sequence[str], *, near: bool) -> tuple[list[Duplicates], int]:
    """Groups among the indexed files below `folders` (all when empty), exact ones first, largest first.

    Also returns how many files were left out because they are gone or changed since they were indexed: what
    is said of a file one may go on to delete must be true now. Of a picture in a pack, the pack must be as it
    was; an object store is not asked. Hard and symbolic links to one file count once. A picture of which
    there are exact copies stands in the near groups with its first path only.
    """
    files, stale = _present(ledger, folders)
    copies: dict[bytes, list[_File]] = defaultdict(list)
    for file in files:
        copies[file.content].append(file)
    exact = [Duplicates("exact", [f.path for f in group], 1.0) for group in copies.values() if len(group) > 1]
    groups = sorted(exact, key=lambda group: (-len(group.paths), group.paths))
    if near:
        groups += _near([group[0] for group in copies.values()])
    return groups, stale


def _present(ledger: Store, folders: Sequence[str]) -> tuple[list[_File], int]:
    condition, values = within(folders)
    rows = ledger.select(
        "SELECT path, content, dhash, embedding, size, mtime_ns FROM files "
        f"WHERE {condition} AND embedding IS NOT NULL ORDER BY path",
        values,
    )
    files, stale = [], 0
    inodes: set[tuple[int, int]] = set()
    for path, content, dhash, embedding, size, mtime_ns in rows:
        name = os.fsdecode(path)
        if is_url(name):  # to ask a store for each would take hours
            files.append(_File(name, content, dhash, embedding))
            continue
        pack = pack_of(name)
        try:
            found = os.stat(pack or name)
        except OSError:
            stale += 1
            continue
        if pack is not None and found.st_mtime_ns == mtime_ns:
            files.append(_File(name, content, dhash, embedding))
        elif (found.st_size, found.st_mtime_ns) != (size, mtime_ns):
            stale += 1
        elif (found.st_dev, found.st_ino) not in inodes:
            inodes.add((found.st_dev, found.st_ino))
            files.append(_File(name, content, dhash, embedding))
    return files, stale


def _near(files: list[_File]) -> list[Duplicates]:
    if len(files) < 2:
        return []
    embeddings = np.frombuffer(b"".join(file.embedding for file in files), "<f2").reshape(len(files), -1)
    hashes = np.frombuffer(b"".join(file.dhash for file in files), np.uint64).reshape(len(files), 2)
    pairs = close_pairs(embeddings.astype(np.float32), hashes)
    groups = complete_link(pairs)
    found = []
    for members in groups:
        similarity = min(pairs[a, b] for a in members for b in members if a < b)
        found.append(Duplicates("near", [files[i].path for i in members], round(min(similarity, 1.0), 4)))
    return sorted(found, key=lambda group: (-len(group.paths), group.paths))


def close_pairs(embeddings: np.ndarray, hashes: np.ndarray) -> dict[tuple[int, int], float]:
    """Pairs (i, j), i < j, that pass both tests -> their cosine.

    `embeddings` float32 (N, dim) of unit rows, `hashes` uint64 (N, 2). All pairs are compared, in blocks:
    matrix products that take about a minute for 100,000 pictures on two cores.
    """
    pairs: dict[tuple[int, int], float] = {}
    for top in range(0, len(embeddings), BLOCK):
        for left in range(top, len(embeddings), BLOCK):
            cosines = embeddings[top : top + BLOCK] @ embeddings[left : left + BLOCK].T
            i, j = np.nonzero(cosines >= MIN_COSINE)
            values = cosines[i, j]
            i, j = i + top, j + left
            bits = np.bitwise_count(hashes[i] ^ hashes[j]).sum(axis=1)
            keep = (i < j) & (bits <= MAX_BITS)
            for a, b, cosine in zip(i[keep].tolist(), j[keep].tolist(), values[keep].tolist(), strict=True):
                pairs[a, b] = cosine
    return pairs


def complete_link(pairs: dict[tuple[int, int], float]) -> list[list[int]]:
    """Groups in which every two members are a pair; the closest are joined first.

    Following the pairs from one to the next would chain a morning of photographs into one group, of which
    the first and the last show different things.
    """
    neighbours: dict[int, set[int]] = defaultdict(set)
    for a, b in pairs:
        neighbours[a].add(b)
        neighbours[b].add(a)
    group_of = {i: [i] for i in neighbours}
    for a, b in sorted(pairs, key=lambda pair: (-pairs[pair], pair)):
        one, other = group_of[a], group_of[b]
        if one is other or not all(neighbours[i].issuperset(other) for i in one):
            continue
        one.extend(other)
        for i in other:
            group_of[i] = one
    unique = {id(group): sorted(group) for group in group_of.values() if len(group) > 1}
    return list(unique.values())
