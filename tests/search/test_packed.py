"""Pictures without a file of their own: in shards, in tables, in an object store; on one machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import fsspec
import pytest

from bahumukha.errors import ImageError, UsageError
from bahumukha.search import PictureIndex
from bahumukha.search.contents import read_packed
from bahumukha.search.packed import naming
from bahumukha.search.paths import pack_of, resolved, under, within
from bahumukha.search.reading import Unreadable, source_of
from bahumukha.search.store import Ledger
from bahumukha.zoo.fake import ColourEncoder
from tests.search.packs import named, write_parquet, write_tar
from tests.search.pictures import fill
from tests.search.test_index import CountingEncoder, counts, encoded


@pytest.fixture
def index(tmp_path: Path) -> PictureIndex:
    return PictureIndex(tmp_path / "home" / "index.db", CountingEncoder())


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "train-000.tar", named(range(12)))


def paths(index: PictureIndex) -> list[str]:
    with Ledger(index.path) as ledger:
        rows = ledger.select("SELECT path FROM files WHERE embedding IS NOT NULL ORDER BY path")
    return [os.fsdecode(path) for (path,) in rows]


def later(path: Path) -> None:
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1_000_000_000))


# --- shards


def test_shard_is_found_searched_and_not_opened_again(shard: Path, index: PictureIndex, monkeypatch) -> None:  # noqa: ANN001
    assert counts(index.index([shard])) == {"added": 12}
    assert paths(index) == sorted(f"{shard}/{name}" for name in named(range(12)))
    best = index.search("red", top=2)
    assert {match.path for match in best} == {f"{shard}/red-000.png", f"{shard}/red-008.png"}
    assert [m.path for m in index.search("red", [shard], top=1, where="name ~ 008")] == [f"{shard}/red-008.png"]
    monkeypatch.setattr("bahumukha.search.packed._opened", None)  # opening it would fail
    assert counts(index.index([shard])) == {"unchanged": 12}
    assert encoded(index) == 12


def test_rows_are_those_of_the_same_pictures_in_files(shard: Path, index: PictureIndex, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, data in named(range(12)).items():
        (folder / name).write_bytes(data)
    index.index([shard, folder])
    with Ledger(index.path) as ledger:
        rows = ledger.select(
            "SELECT folder, name, size, content, width, height, format, dhash, embedding FROM files "
            "WHERE embedding IS NOT NULL ORDER BY name, folder"
        )
    in_files, in_shard = rows[0::2], rows[1::2]
    assert [row[1:] for row in in_files] == [row[1:] for row in in_shard]
    groups, stale = index.duplicates()
    assert stale == 0 and len(groups) == 12
    assert all({pack_of(path) for path in group.paths} == {None, str(shard)} for group in groups)


def test_rewritten_shard_encodes_only_what_is_new(shard: Path, index: PictureIndex) -> None:
    index.index([shard])
    write_tar(shard, {**named(range(3, 15)), "red-000.png": named([40])["red-040.png"]})
    later(shard)
    assert counts(index.index([shard])) == {"added": 3, "updated": 1, "unchanged": 9, "removed": 2}
    assert encoded(index) == 16
    assert counts(index.index([shard])) == {"unchanged": 13}


def test_ranges_and_stars_stand_for_shards(tmp_path: Path, index: PictureIndex) -> None:
    for number in range(3):
        write_tar(tmp_path / f"part-{number:03}.tar", named(range(4 * number, 4 * number + 4)))
    several = f"{tmp_path}/part-{{000..001}}.tar"
    assert len(index.unindexed([several])) == 2
    assert counts(index.index([several])) == {"added": 8}
    assert index.unindexed([several]) == [] and len(index.search("red", [several], top=100)) == 8
    assert counts(index.index([f"{tmp_path}/part-*.tar"])) == {"added": 4, "unchanged": 8}
    assert len(index.search("red", [f"{tmp_path}/part-*.tar"], top=100)) == 12
    with pytest.raises(UsageError, match="part-003.tar"):
        index.index([f"{tmp_path}/part-{{000..003}}.tar"])


def test_stopped_within_a_shard_goes_on_there(shard: Path, index: PictureIndex) -> None:
    steps = index.index_steps([shard])
    while next(steps).done < 5:
        pass
    steps.close()
    assert 5 <= len(paths(index)) < 12
    assert index.unindexed([shard]) == [str(shard)]
    report = index.index([shard])
    assert report.added + report.unchanged == 12 and len(paths(index)) == 12
    assert encoded(index) < 12 + 5, "what the ledger held was encoded again"
    assert index.unindexed([shard]) == []


def test_bad_picture_and_cut_shard_are_named_and_the_rest_goes_on(shard: Path, index: PictureIndex) -> None:
    bad = write_tar(shard.with_name("bad.tar"), {**named(range(20, 24)), "broken.png": b"no picture"})
    cut = shard.with_name("cut.tar")
    cut.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    for _ in range(2):
        report = index.index([bad, cut, shard])
        failed = dict(report.failed)
        assert set(failed) == {f"{bad}/broken.png", str(cut)}
        assert "bytes" not in failed[f"{bad}/broken.png"] and "to its end" in failed[str(cut)]
    assert report.added == 0 and report.unchanged > 16


def test_headers_that_each_belong_to_the_next_are_trouble_with_that_shard_alone(
    shard: Path, index: PictureIndex
) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2
    headers = (header.tobuf(tarfile.GNU_FORMAT) + b"a".ljust(512, b"\0")) * 1500
    whole = write_tar(shard.with_name("deep.tar"), named([40])).read_bytes().rstrip(b"\0")
    deep, deeper = shard.with_name("deep.tar"), shard.with_name("deeper.tar")
    deep.write_bytes(whole + bytes(-len(whole) % 512) + headers + bytes(1024))
    deeper.write_bytes(headers + bytes(1024))
    report = index.index([deep, deeper, shard])
    assert report.added == 13
    assert [path for path, _ in report.failed] == [str(deep), str(deeper)]
    assert all("cannot be read to its end" in said for _, said in report.failed)
    assert read_packed(f"{deep}/red-040.png") == named([40])["red-040.png"]
    with pytest.raises(Unreadable, match="cannot be read to its end"):
        read_packed(f"{deeper}/red-000.png")


def test_folder_with_a_shard_in_it_leaves_the_shards_pictures_alone(shard: Path, index: PictureIndex) -> None:
    fill(shard.parent / "photos", 4)
    index.index([shard])
    assert counts(index.index([shard.parent])) == {"added": 4}
    assert len(paths(index)) == 16
    shard.unlink()
    assert index.search("red", top=20).vanished == 12
    assert index.index([shard.parent]).removed == 13  # with the shard's own row
    assert len(paths(index)) == 4


def test_forget_and_rebuild_know_shards(shard: Path, index: PictureIndex) -> None:
    other = write_tar(shard.with_name("other.tar"), named(range(30, 34)))
    index.index([shard, other])
    newer = PictureIndex(index.path, ColourEncoder(grid=3))
    assert counts(newer.index([other], rebuild=True)) == {"updated": 16}
    assert counts(newer.index([shard, other])) == {"unchanged": 16}
    assert newer.forget([shard]) == 13 and len(paths(index)) == 4


def test_folder_called_like_a_shard_is_a_folder(tmp_path: Path, index: PictureIndex) -> None:
    fill(tmp_path / "old.tar", 3)
    assert counts(index.index([tmp_path / "old.tar"])) == {"added": 3}
    (tmp_path / "old.tar" / "green-001.png").unlink()
    assert counts(index.index([tmp_path / "old.tar"])) == {"removed": 1, "unchanged": 2}


# --- tables


@pytest.mark.parametrize("as_struct", [False, True])
def test_table(tmp_path: Path, index: PictureIndex, as_struct: bool) -> None:
    pytest.importorskip("pyarrow")
    files = named(range(12))
    table = write_parquet(tmp_path / "a.parquet", files, as_struct=as_struct)
    assert counts(index.index([table])) == {"added": 12}
    names = [f"{i:06}" + (f"-{name}" if as_struct else "") for i, name in enumerate(files)]
    assert paths(index) == [f"{table}/{name}" for name in names]
    for name, data in zip(names, files.values(), strict=True):
        assert read_packed(f"{table}/{name}") == data
    assert index.search("green", top=1)[0].path == f"{table}/{names[1]}"
    assert counts(index.index([table])) == {"unchanged": 12}


def test_table_without_pictures_says_what_is_needed(tmp_path: Path, index: PictureIndex) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"url": ["http://a"], "caption": ["b"]}), tmp_path / "a.parquet")
    (failure,) = index.index([tmp_path / "a.parquet"]).failed
    assert "no column of pictures" in failure[1] and "url, caption" in failure[1]


def test_table_that_is_damaged_is_trouble_with_that_table_alone(tmp_path: Path, index: PictureIndex) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    day = pyarrow.array([2**31 - 1], pyarrow.int32()).view(pyarrow.date32())  # Python's dates end before
    image = pyarrow.StructArray.from_arrays([pyarrow.array([b"x"]), day], ["bytes", "day"])
    parquet.write_table(pyarrow.table({"image": image}), tmp_path / "a.parquet")
    table = write_parquet(tmp_path / "b.parquet", named(range(4)))
    report = index.index([tmp_path / "a.parquet", table])
    assert report.added == 4
    [(path, said)] = report.failed
    assert path == str(tmp_path / "a.parquet") and "cannot be read to its end" in said
    with pytest.raises(Unreadable, match="cannot be read to its end"):
        read_packed(f"{path}/000000")


@pytest.mark.parametrize("name", ["ArrowTypeError", "ArrowKeyError", "ArrowIndexError", "ArrowMemoryError"])
def test_what_pyarrow_raises_names_the_table(name: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    with pytest.raises(Unreadable, match=r"a\.parquet: cannot be read to its end: .+"), naming("a.parquet"):
        raise getattr(pyarrow.lib, name)()


# --- object stores


@pytest.fixture
def store():  # noqa: ANN201
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def test_object_store_is_followed_as_a_folder_is(store, index: PictureIndex, tmp_path: Path) -> None:  # noqa: ANN001
    files = named(range(6))
    for name, data in {**files, "notes.txt": b"none", ".hidden.png": b"none"}.items():
        store.pipe_file(f"/bucket/photos/{name}", data)
    assert counts(index.index(["memory://bucket/photos/"])) == {"added": 6}
    assert paths(index) == sorted(f"memory://bucket/photos/{name}" for name in files)
    assert counts(index.index(["memory://bucket/photos"])) == {"unchanged": 6}
    store.rm("/bucket/photos/red-000.png")
    store.pipe_file("/bucket/photos/green-001.png", named([50])["blue-050.png"])
    store.pipe_file("/bucket/photos/broken.png", b"no")
    assert counts(index.index(["memory://bucket/photos"])) == {"updated": 1, "removed": 1, "unchanged": 4, "failed": 1}
    found = index.similar("memory://bucket/photos/blue-002.png", top=1)
    assert found[0].path == "memory://bucket/photos/green-001.png"
    assert index.search("yellow", ["memory://bucket/photos"], top=1)[0].path.endswith("yellow-003.png")
    assert source_of("memory://bucket/photos/blue-002.png") == files["blue-002.png"]
    store.rm("/bucket", recursive=True)
    report = index.index(["memory://bucket/photos"])
    assert "kept" in report.notices[0] and len(paths(index)) == 5
    assert index.forget(["memory://bucket/photos"]) == 6


def test_shards_in_an_object_store(store, index: PictureIndex, tmp_path: Path) -> None:  # noqa: ANN001
    for number in range(2):
        shard = write_tar(tmp_path / "a.tar", named(range(4 * number, 4 * number + 4)))
        store.pipe_file(f"/bucket/s-{number}.tar", shard.read_bytes())
    assert counts(index.index(["memory://bucket/s-{0..1}.tar"])) == {"added": 8}
    assert counts(index.index(["memory://bucket/s-*.tar"])) == {"unchanged": 8}
    assert index.search("red", top=1)[0].path == "memory://bucket/s-0.tar/red-000.png"
    assert source_of("memory://bucket/s-0.tar/red-000.png") == named([0])["red-000.png"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("memory://nowhere", "no pictures here"),
        ("memory://nowhere/a.tar", "no such shard"),
        ("nothing://bucket", "nothing://bucket: no object store"),
        ("gone.tar", "gone.tar"),
    ],
)
def test_source_that_is_nowhere_is_one_clear_line(index: PictureIndex, source: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        index.index([source])


def test_missing_package_is_named(index: PictureIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UsageError, match=r"bahumukha\[scale\]"):
        index.index(["other://bucket/photos"])


def test_file_url_is_the_file(tmp_path: Path, index: PictureIndex) -> None:
    fill(tmp_path / "a b", 3)
    index.index([(tmp_path / "a b").as_uri()])
    assert counts(index.index([tmp_path / "a b"])) == {"unchanged": 3}


# --- paths


def test_paths_of_what_has_no_file(tmp_path: Path) -> None:
    assert resolved("s3://bucket/cats/") == "s3://bucket/cats"
    assert pack_of("s3://b/x.tar/a/b.jpg") == "s3://b/x.tar" and pack_of("s3://b/x/b.jpg") is None
    assert pack_of("/data/x.PARQUET") == "/data/x.PARQUET" and pack_of("/data/tar/b.jpg") is None
    assert under("s3://b/x.tar/a.jpg", "s3://b") and not under("s3://bc/a.jpg", "s3://b")
    assert within(["s3://b/"])[1] == [b"s3://b/", b"s3://b/", b"s3://b0"]


def test_read_packed_that_is_gone_names_the_picture(shard: Path) -> None:
    with pytest.raises(ImageError, match="nothing.png"):
        read_packed(f"{shard}/nothing.png")
    assert read_packed(f"{shard}/red-000.png") == named([0])["red-000.png"]


# --- without any of it


def test_index_and_search_of_folders_import_none_of_it(tiny_clip: Path, tmp_path: Path) -> None:
    fill(tmp_path / "photos", 4)
    script = (
        "import sys\n"
        "for name in ('ray', 'pyarrow', 'fsspec', 'pandas'): sys.modules[name] = None\n"  # importing raises ImportError
        "from bahumukha.cli import main\n"
        "main(sys.argv[1:])"
    )
    ledger = ("--db", str(tmp_path / "i.db"))

    def bahu(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, *arguments, *ledger]
        return subprocess.run(command, capture_output=True, text=True)

    for arguments in (("index", str(tmp_path / "photos"), "--model", str(tiny_clip)), ("search", "red")):
        ran = bahu(*arguments)
        assert ran.returncode == 0 and ran.stdout, ran.stderr
    for arguments in (("index", "s3://bucket/photos"), ("index", str(tmp_path / "photos"), "--engine", "ray")):
        ran = bahu(*arguments)
        assert ran.returncode == 1 and ran.stderr.count("\n") == 1
        assert "bahumukha[scale]" in ran.stderr
