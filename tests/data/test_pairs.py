"""Every form of captioned pictures gives the same 64 pairs; what is odd is said."""

from __future__ import annotations

import json
import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bahumukha.data.pairs import SourceConfig, choose_caption, normal_captions, open_source
from bahumukha.errors import ImageError, UsageError
from tests.train.shapes import SIDE, WRITERS, all_shapes, write_folder, write_parquet, write_shards


@pytest.mark.parametrize("form", WRITERS)
def test_every_form_gives_the_same_pairs(tmp_path: Path, form: str) -> None:
    source = open_source(SourceConfig(WRITERS[form](tmp_path)))
    expected = {caption: png for _, caption, png in all_shapes()}
    assert len(source) == 64
    for index in range(len(source)):
        captions = source.captions(index)
        caption = captions["en" if form == "listing" else ""][0]
        import io

        with Image.open(io.BytesIO(expected.pop(caption))) as picture:
            assert np.array_equal(np.asarray(source.open(index, SIDE)), np.asarray(picture.convert("RGB")))
    assert not expected
    assert (form == "listing") == ("es" in source.captions(0))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves its files to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_shards_hold_the_samples_that_webdataset_reads(tmp_path: Path) -> None:
    import gc

    import webdataset

    pattern = write_shards(tmp_path / "w", 3)
    theirs = webdataset.WebDataset(str(pattern), shardshuffle=False, empty_check=False)
    expected = [(sample["__key__"], sample["txt"].decode()) for sample in theirs]
    source = open_source(SourceConfig(pattern))
    mine = [(source._places[i].key, source.captions(i)[""][0]) for i in range(len(source))]  # type: ignore[attr-defined]
    assert mine == expected and len(mine) == 64
    del theirs
    gc.collect()
    starred = open_source(SourceConfig(pattern.with_name("shapes-*.tar")))
    assert [starred.captions(i) for i in range(64)] == [source.captions(i) for i in range(64)]


def test_shards_with_json_captions_and_several_endings(tmp_path: Path) -> None:
    import io
    import tarfile

    png = all_shapes()[0][2]
    captions = {"caption": {"en": "a shape", "te": ["ఆకారం"]}}
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        files = {"d/a.b.json": b"{}", "d/k.seg.png": png, "d/k.JPG": png, "d/k.json": json.dumps(captions).encode()}
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    source = open_source(SourceConfig(tmp_path / "s.tar"))
    assert len(source) == 1 and source.captions(0) == {"en": ("a shape",), "te": ("ఆకారం",)}
    assert source.open(0, SIDE).size == (SIDE, SIDE)


def test_columns_languages_split_and_root(tmp_path: Path) -> None:
    write_folder(tmp_path / "pictures")
    rows = "where,en,te,split\nred-circle.png,a red disc,ఎర్ర,train\nred-bar.png,a bar,,train\nblue-bar.png,b,,test\n"
    (tmp_path / "t.csv").write_text(rows, encoding="utf-8-sig")
    config = SourceConfig(
        tmp_path / "t.csv",
        image="where",
        captions={"en": "en", "te": "te"},
        root=tmp_path / "pictures",
        split="train",
    )
    source = open_source(config)
    assert [source.captions(i) for i in range(len(source))] == [
        {"en": ("a red disc",), "te": ("ఎర్ర",)},
        {"en": ("a bar",)},
    ]
    assert source.open(1, SIDE).size == (SIDE, SIDE)


def test_rows_of_one_picture_are_its_captions(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("image\tcaption\na.png\tone\na.png\ttwo\nb.png\t \n", encoding="utf-8")
    source = open_source(SourceConfig(tmp_path / "t.tsv", language="en"))
    assert len(source) == 1 and source.captions(0) == {"en": ("one", "two")}


def test_pictures_without_captions_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_folder(tmp_path / "f")
    (folder / "red-bar.txt").write_text("\n \n")
    (folder / "red-post.txt").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(open_source(SourceConfig(folder))) == 62
    assert "1 pictures without a caption" in caplog.text


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "x,y\n1,2\n", "none of the columns image.*it has x, y"),
        ("a.csv", "image,y\n1,2\n", "none of the columns captions, caption"),
        ("a.jsonl", "{]\n", "line 1 is not JSON"),
        ("a.jsonl", '{"file": "a", "captions": 3}\n', "caption of row 1"),
        ("a.csv", "", "no pictures with captions"),
        ("a.doc", "", "neither a folder"),
        ("a.parquet", "no", "not a Parquet file"),
        ("a.tar", "no" * 600, "not a tar file"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=message) as raised:
        open_source(SourceConfig(tmp_path / name))
    assert name in str(raised.value) and "\n" not in str(raised.value)


def test_a_shard_of_headers_that_each_belong_to_the_next_is_named(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2
    block = header.tobuf(tarfile.GNU_FORMAT) + b"a".ljust(512, b"\0")
    (tmp_path / "deep.tar").write_bytes(block * 1500 + bytes(1024))
    with pytest.raises(UsageError, match="deep.tar: not a tar file that can be read"):
        open_source(SourceConfig(tmp_path / "deep.tar"))


@pytest.mark.parametrize("name", ["missing", "missing.csv", "s-{0..2}.tar", "s-*.tar", "s-{3..1}.tar"])
def test_what_is_missing_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="s-|missing"):
        open_source(SourceConfig(tmp_path / name))


def test_a_broken_picture_is_named_where_it_lies(tmp_path: Path) -> None:
    import io
    import tarfile

    import pyarrow
    from pyarrow import parquet

    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, data in {"k7.png": b"broken", "k7.txt": b"a caption"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with pytest.raises(ImageError, match=r"s\.tar: k7: not a picture"):
        open_source(SourceConfig(tmp_path / "s.tar")).open(0, 8)
    parquet.write_table(pyarrow.table({"image": [b"broken"], "text": ["a"]}), tmp_path / "p.parquet")
    with pytest.raises(ImageError, match=r"p\.parquet: picture 0: not a picture"):
        open_source(SourceConfig(tmp_path / "p.parquet")).open(0, 8)


def test_a_parquet_file_of_bytes_needs_no_files(tmp_path: Path) -> None:
    source = open_source(SourceConfig(write_parquet(tmp_path / "p.parquet")))
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"] and source.open(63, SIDE).size == (SIDE, SIDE)


# --- captions


def test_languages_are_drawn_by_their_share() -> None:
    captions = normal_captions({"en": ["a", "b"], "te": "c", "fr": "d"})
    random = np.random.default_rng(0)
    drawn = [choose_caption(captions, {"en": 3, "te": 1}, random) for _ in range(4000)]
    shares = {text: drawn.count(text) / 4000 for text in "abcd"}
    assert shares["d"] == 0
    assert abs(shares["a"] - 0.375) < 0.03 and abs(shares["b"] - 0.375) < 0.03 and abs(shares["c"] - 0.25) < 0.03
    alike = [choose_caption(captions, {}, random) for _ in range(3000)]
    assert abs(alike.count("d") / 3000 - 1 / 3) < 0.04
    assert choose_caption({"hi": ("x",)}, {"en": 1}, random) == "x"  # no other language than one left out


def test_captions_are_tidied() -> None:
    assert normal_captions(["  a \n b ", "", "a b"]) == {"": ("a b",)}
    assert normal_captions('{"en": "x", "te": null}') == {"en": ("x",)}
    with pytest.raises(TypeError):
        normal_captions([1])


def test_weight_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match="weight is 0"):
        SourceConfig(Path("x"), weight=0)
