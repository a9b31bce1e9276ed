"""One picture out of a pack, at a known place."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import fsspec
import pytest

from bahumukha.search import contents, remote
from bahumukha.search.contents import Contents, FileBytes, ObjectBytes
from bahumukha.search.packed import tar_pictures
from bahumukha.search.paths import is_url, pack_of
from bahumukha.search.reading import Unreadable
from tests.search.packs import named, write_parquet, write_tar


class Counted(FileBytes):
    """Counts walks over the whole pack, and bytes read of it otherwise."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.walks, self.bytes = 0, 0

    @contextmanager
    def stream(self) -> Iterator[BinaryIO]:
        self.walks += 1
        with super().stream() as stream:
            yield stream

    def part(self, start: int, size: int) -> bytes:
        found = super().part(start, size)
        self.bytes += len(found)
        return found


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "a.tar", named(range(12)))


def test_shard_is_walked_over_once_and_again_when_it_was_written_anew(shard: Path) -> None:
    files, kept = named(range(12)), Contents()
    with shard.open("rb") as file:
        data = Counted(file)
        assert all(kept.read("a.tar", name, data) == content for name, content in files.items())
        assert data.walks == 1 and data.bytes == sum(map(len, files.values()))
        with pytest.raises(Unreadable, match=r"a\.tar/none\.png: is not there any more"):
            kept.read("a.tar", "none.png", data)
        assert data.walks == 1
    write_tar(shard, {**named([900]), **files})  # each stands elsewhere now
    os.utime(shard, ns=(1, 1))
    with shard.open("rb") as file:
        data = Counted(file)
        assert kept.read("a.tar", "red-000.png", data) == files["red-000.png"] and data.walks == 1


def test_many_threads_walk_over_a_shard_once(shard: Path) -> None:
    kept, walks, found = Contents(), [], []

    def read(name: str) -> None:
        with shard.open("rb") as file:
            data = Counted(file)
            found.append(kept.read("a.tar", name, data))
            walks.append(data.walks)

    threads = [threading.Thread(target=read, args=(name,)) for name in named(range(12))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(walks) == 1 and sorted(found) == sorted(named(range(12)).values())


def test_of_a_long_shard_the_rest_is_walked_over_each_time(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MOST_NAMES", 5)
    kept = Contents()
    with shard.open("rb") as file:
        data = Counted(file)
        for name, content in named(range(12)).items():
            assert kept.read("a.tar", name, data) == content
        assert data.walks == 1 + 7
        with pytest.raises(Unreadable):
            kept.read("a.tar", "none.png", data)


def test_what_is_remembered_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "KEPT_NAMES", 12)
    kept, walks = Contents(), 0
    for number in (0, 1, 2, 2, 0):
        path = tmp_path / f"{number}.tar"
        if not path.exists():
            write_tar(path, named(range(number, number + 4)))
        with path.open("rb") as file:
            data = Counted(file)
            kept.read(str(path), next(iter(named([number]))), data)
            walks += data.walks
    assert walks == 4, "the first was forgotten for the third"


def test_table_gives_neighbours_from_one_read(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    files, kept = named(range(12)), Contents()
    table = write_parquet(tmp_path / "a.parquet", files, as_struct=True)
    with table.open("rb") as file:
        data = Counted(file)
        for number, (name, content) in enumerate(files.items()):
            assert kept.read("a.parquet", f"{number:06}-{name}", data) == content
        assert data.walks == 3, "one for each row group"
        for wrong in ("000000-blue-002.png", "000012-x.png", "99999999999999999999", "²", "-1", "", "../a"):
            with pytest.raises(Unreadable, match="not there"):
                kept.read("a.parquet", wrong, data)


def test_too_large_ones_are_refused_unread(shard: Path) -> None:
    with shard.open("rb") as file:
        data = Counted(file)
        with pytest.raises(Unreadable, match="more than the 10 allowed"):
            Contents().read("a.tar", "red-000.png", data, at_most=10)
        assert data.bytes == 0


def test_object_is_read_by_its_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = named(range(4))
    store = fsspec.filesystem("memory")
    store.pipe_file("/contents/a.tar", write_tar(tmp_path / "a.tar", files).read_bytes())
    try:
        kept, url = Contents(), "memory://contents/a.tar"
        assert kept.read(url, "red-000.png", ObjectBytes(url)) == files["red-000.png"]
        monkeypatch.setattr(remote, "open_stream", None)  # walking over it would fail
        assert kept.read(url, "blue-002.png", ObjectBytes(url)) == files["blue-002.png"]
    finally:
        store.rm("/contents", recursive=True)
    with pytest.raises(Unreadable, match="cannot be read"):
        ObjectBytes(url)


class Hanging:
    """A pack in a store that does not answer before it may."""

    version = None

    def __init__(self) -> None:
        self.was_asked, self.may_answer = threading.Event(), threading.Event()

    @contextmanager
    def stream(self) -> Iterator[BinaryIO]:
        self.was_asked.set()
        self.may_answer.wait(120)
        yield io.BytesIO()

    def part(self, start: int, size: int) -> bytes:
        raise AssertionError("nothing was found")


@pytest.mark.parametrize("url", ["s3://bucket/a.tar", "s3://bucket/a.parquet"])
def test_a_store_that_hangs_keeps_no_pack_of_this_machine_waiting(
    shard: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "TURNS", 1)  # as if both had the same
    kept, far = Contents(), Hanging()
    with ThreadPoolExecutor(2) as threads, shard.open("rb") as file:
        asked = threads.submit(kept.read, url, "000000", far)
        try:
            assert far.was_asked.wait(20)
            near = threads.submit(kept.read, "a.tar", "red-000.png", FileBytes(file))
            assert near.result(20) == named([0])["red-000.png"]
        finally:
            far.may_answer.set()
        assert isinstance(asked.exception(), Unreadable)


def test_cut_shard_gives_what_is_whole(shard: Path) -> None:
    files = named(range(12))
    shard.write_bytes(shard.read_bytes()[:3000])
    with shard.open("rb") as file:
        assert Contents().read("a.tar", "red-000.png", FileBytes(file)) == files["red-000.png"]
        with pytest.raises(Unreadable):
            Contents().read("a.tar", "brown-007.png", FileBytes(file))
    shard.write_bytes(b"no shard" * 100)
    with shard.open("rb") as file, pytest.raises(Unreadable, match="cannot be read"):
        Contents().read("a.tar", "red-000.png", FileBytes(file))


def raw(name: str, size: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    header = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    header[124:136], header[156:157] = size, kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize(
    "size",
    [
        b"\xff" * 10 + b"\xfc\x00",  # -1024 in base 256: tarfile would read the same headers for ever
        b"\xff" * 10 + b"\xfe\x00",  # -512
        b"\x80" + b"\x7f" * 11,  # more than any disk has
        b"\x80" + b"\0" * 6 + b"\x7f" * 5,  # and than this file
    ],
)
def test_sizes_that_lie_are_told(tmp_path: Path, size: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(raw("b.png", b"00000000000\0") + raw("a.png", size) + b"\0" * 2048)
    with (tmp_path / "a.tar").open("rb") as file:
        assert Contents().read("a.tar", "b.png", FileBytes(file)) == b""
        with pytest.raises(Unreadable):
            Contents().read("a.tar", "a.png", FileBytes(file), at_most=1 << 20)
        with pytest.raises(Unreadable):
            Contents().read("a.tar", "a.png", FileBytes(file))


def test_links_pipes_and_folders_are_no_pictures() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            header = tarfile.TarInfo(f"{kind.decode()}.png")
            header.type, header.linkname = kind, "../../etc/passwd"
            tar.addfile(header)
        tar.addfile(tarfile.TarInfo("a.png"))
    stream.seek(0)
    assert [name for name, _, _ in tar_pictures(stream)] == ["a.png"]


def test_a_members_name_is_never_a_url() -> None:
    path = "/data/a.tar/http://127.0.0.1/a.png"
    assert not is_url(path) and pack_of(path) == "/data/a.tar"
    assert is_url("s3://b/a.tar/http://c/d.png") and is_url("simplecache::s3://b/a")
