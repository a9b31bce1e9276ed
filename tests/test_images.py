from __future__ import annotations

import io
import itertools
import os
import pickle
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from bahumukha import images
from bahumukha.errors import ImageError, UsageError
from bahumukha.images import (
    Preprocess,
    open_image,
    read_info,
    save_image,
    to_float01,
    to_float11,
    to_uint8,
)
from tests.odd_pictures import OddPicture, bare_png, encoded, make_odd_pictures, quartered


@pytest.fixture(scope="module")
def odd_pictures(tmp_path_factory: pytest.TempPathFactory) -> list[OddPicture]:
    return make_odd_pictures(tmp_path_factory.mktemp("odd"))


def _noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def _quarters(image: Image.Image) -> np.ndarray:
    width, height = image.size
    places = itertools.product((height // 4, height * 3 // 4), (width // 4, width * 3 // 4))
    return np.array([image.getpixel((x, y)) for y, x in places])


# -- Opening -------------------------------------------------------------------------------------------------


def test_odd_pictures_are_read_well_or_fail_by_name(
    odd_pictures: list[OddPicture], capfd: pytest.CaptureFixture[str]
) -> None:
    assert len(odd_pictures) >= 60
    wrong = []
    for odd in odd_pictures:
        # The large one is read at a smaller scale: 91 million pixels in RGB are not for a test.
        at_least = 64 if odd.path.name.startswith("large") else None
        try:
            image = open_image(odd.path, at_least=at_least)
            info = read_info(odd.path)
        except ImageError as error:
            message = str(error)
            if odd.error is None or odd.error not in message or images.shown(odd.path) not in message:
                wrong.append(message)
            if "\n" in message:
                wrong.append(f"several lines: {message!r}")
            continue
        size = image.size if at_least is None else (info.width, info.height)
        close = odd.quarters is None or np.abs(_quarters(image) - odd.quarters).max() <= 24
        readable = odd.error is None and image.mode == "RGB" and not image.info
        if not (readable and close and odd.size in (None, size) and size == (info.width, info.height)):
            wrong.append(f"{odd.path.name}: {image}, {_quarters(image).tolist()}, {info}")
    assert not wrong, "\n".join(wrong)
    assert capfd.readouterr() == ("", "")  # the C libraries stay silent too


def test_warnings_stay_silent_in_threads_and_elsewhere_are_left_alone(odd_pictures: list[OddPicture]) -> None:
    warned = threading.Event()
    stop = threading.Event()
    caught: list[str] = []

    def warn_elsewhere() -> None:
        while not stop.is_set():
            try:
                warnings.warn("another thread's own", UserWarning, stacklevel=1)
            except UserWarning:
                warned.set()
            else:
                caught.append("a warning of another thread was dropped")

    def read(odd: OddPicture) -> None:
        try:
            open_image(odd.path, at_least=32)
        except ImageError as error:
            if isinstance(error.__cause__, Warning):
                caught.append(str(error))

    other = threading.Thread(target=warn_elsewhere)
    other.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            small = [odd for odd in odd_pictures if not odd.path.name.startswith(("large", "locked"))]
            list(pool.map(read, small))
    finally:
        stop.set()
        other.join()
    assert warned.is_set()
    assert not caught
    with pytest.raises(UserWarning):
        warnings.warn("this thread's own, after reading", UserWarning, stacklevel=1)


def test_pillows_globals_are_not_touched() -> None:
    # In a fresh process, as other tests may have imported and registered anything.
    program = """
import io, sys
from PIL import Image, ImageFile
before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
from bahumukha.images import open_image
stream = io.BytesIO()
Image.new("RGB", (9, 9)).save(stream, "JPEG")
assert open_image(stream.getvalue()).size == (9, 9)
assert "pillow_heif" not in sys.modules and "PIL.ImageCms" not in sys.modules
assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == before
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
    assert "HEIF" not in Image.OPEN
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_every_kind_of_source(tmp_path: Path) -> None:
    data = encoded(_noise(20, 10), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)

    class Pipe(io.RawIOBase):  # cannot seek
        def readall(self) -> bytes:
            return data

        def read(self, size: int = -1) -> bytes:
            return data

    expected = np.asarray(_noise(20, 10))
    with open(path, "rb") as file:
        for source in (path, str(path), data, io.BytesIO(data), file, Pipe()):
            np.testing.assert_array_equal(np.asarray(open_image(source)), expected)  # type: ignore[arg-type]
        assert not file.closed


def test_failures_of_sources_without_a_name() -> None:
    with pytest.raises(ImageError, match="the picture given as bytes: not a picture"):
        open_image(b"nothing")
    with pytest.raises(ImageError, match="the picture given as a stream: damaged or cut off"):
        open_image(io.BytesIO(encoded(_noise(50, 50), "PNG")[:-100]))


def test_missing_files_and_strange_names(tmp_path: Path) -> None:
    for read in (open_image, read_info):
        with pytest.raises(ImageError, match="nowhere.jpg: there is no such file"):
            read(tmp_path / "nowhere.jpg")
        with pytest.raises(ImageError, match=r"a\\x00b"):
            read("a\0b")


@pytest.mark.parametrize("limit", [200, 199])
def test_the_limit_of_pixels_is_a_parameter(limit: int) -> None:
    data = encoded(_noise(20, 10), "PNG")
    if limit >= 200:
        assert open_image(data, max_pixels=limit).size == (20, 10)
    else:
        with pytest.raises(ImageError, match="20 x 10 pixels are more than the 199 allowed"):
            open_image(data, max_pixels=limit)


def test_the_limit_may_be_above_pillows_own() -> None:
    data = bare_png(20000, 10001, 1, 0, b"")
    with pytest.raises(ImageError, match="20000 x 10001 pixels are more"):
        open_image(data)
    with pytest.raises(ImageError, match="damaged or cut off"):  # now only its missing pixels are in the way
        open_image(data, max_pixels=20000 * 10001)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 700), st.integers(1, 700)),
    at_least=st.integers(1, 200),
    kind=st.sampled_from(["JPEG", "PNG"]),
)
def test_reduced_scale_keeps_twice_what_is_needed(size: tuple[int, int], at_least: int, kind: str) -> None:
    image = open_image(encoded(Image.new("RGB", size, (9, 99, 200)), kind), at_least=at_least)
    assert min(image.size) >= min(2 * at_least, min(size))
    assert image.width <= size[0] and image.height <= size[1]
    if min(size) >= 32 * at_least:
        assert min(image.size) < min(size)
    assert abs(image.width / size[0] - image.height / size[1]) <= 1 / min(size)  # rounded up to whole pixels
    assert np.abs(np.asarray(image).astype(int) - (9, 99, 200)).max() <= 4


def test_large_pictures_do_come_out_reduced() -> None:
    for kind, side in (("JPEG", 250), ("PNG", 200), ("WEBP", 200)):  # JPEG's scales are powers of two
        image = open_image(encoded(quartered().resize((3000, 2000)), kind), at_least=100)
        assert min(image.size) == side
        assert np.abs(_quarters(image) - _quarters(quartered())).max() <= 8


# -- Metadata ------------------------------------------------------------------------------------------------


def _with_exif(tags: dict[int, object], details: dict[int, object], place: dict[int, object]) -> bytes:
    exif = Image.Exif()
    exif.update(tags)
    exif.get_ifd(0x8769).update(details)
    exif.get_ifd(0x8825).update(place)
    return encoded(quartered(), "JPEG", exif=exif)


def _info(tmp_path: Path, tags: dict | None = None, details: dict | None = None, place: dict | None = None):  # type: ignore[no-untyped-def, type-arg]
    path = tmp_path / "a.jpg"
    path.write_bytes(_with_exif(tags or {}, details or {}, place or {}))
    return read_info(path)


def test_date_camera_and_place_are_read(tmp_path: Path) -> None:
    info = _info(
        tmp_path,
        {0x010F: "Apple", 0x0110: "iPhone 15", 0x0132: "2024:01:01 00:00:00", 0x0112: 6},
        {0x9003: "2023:07:14 18:30:05", 0x9004: "2023:07:15 00:00:00"},
        {1: "N", 2: (17.0, 23.0, 6.0), 3: "W", 4: (78.0, 30.0, 0.0)},
    )
    assert info == images.ImageInfo(64, 96, datetime(2023, 7, 14, 18, 30, 5), "Apple iPhone 15", 17.385, -78.5, "JPEG")


@pytest.mark.parametrize(
    ("maker", "model", "camera"),
    [
        ("Canon", "Canon EOS R5", "Canon EOS R5"),
        ("NIKON CORPORATION", "NIKON Z 6", "NIKON CORPORATION NIKON Z 6"),
        ("", "X100", "X100"),
        ("Sony", "", "Sony"),
        ("  Pad\0ded \n", "\0", "Pad ded"),
        ("", "", None),
    ],
)
def test_camera_is_maker_and_model_once(tmp_path: Path, maker: str, model: str, camera: str | None) -> None:
    assert _info(tmp_path, {0x010F: maker, 0x0110: model}).camera == camera


def test_the_next_best_date_is_taken_and_impossible_ones_are_not(tmp_path: Path) -> None:
    good = {0x0132: "2020:02:03 04:05:06"}
    for bad in ("0000:00:00 00:00:00", "2023:13:45 99:00:00", "yesterday", "    :  :     :  :  ", ""):
        assert _info(tmp_path, good, {0x9003: bad}).taken == datetime(2020, 2, 3, 4, 5, 6)
        assert _info(tmp_path, {0x0132: bad}).taken is None


@pytest.mark.parametrize(
    "place",
    [
        {1: "N", 2: (91.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},
        {1: "N", 2: (17.0, 0.0, 0.0)},
        {3: "E", 4: (17.0, 0.0, 0.0)},
        {},
    ],
)
def test_a_place_is_whole_and_on_earth_or_none(tmp_path: Path, place: dict[int, object]) -> None:
    info = _info(tmp_path, place=place)
    assert info.latitude is None and info.longitude is None


def test_info_decodes_no_pixel(tmp_path: Path) -> None:
    data = encoded(_noise(300, 200), "PNG")
    (tmp_path / "cut.png").write_bytes(data[:2000])
    info = read_info(tmp_path / "cut.png")
    assert (info.width, info.height, info.format) == (300, 200, "PNG")


# -- Preprocessing -------------------------------------------------------------------------------------------


def _torchvision(preprocess: Preprocess, image: Image.Image) -> np.ndarray:
    """uint8 (size, size, 3), as torchvision makes it."""
    transforms = pytest.importorskip("torchvision.transforms")
    mode = {"bicubic": "BICUBIC", "bilinear": "BILINEAR"}[preprocess.interpolation]
    side: object = preprocess.resize if preprocess.mode == "shortest" else (preprocess.resize, preprocess.resize)
    resize = transforms.Resize(side, getattr(transforms.InterpolationMode, mode), antialias=True)
    return np.asarray(transforms.CenterCrop(preprocess.size)(resize(image)))


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    size=st.integers(1, 96),
    extra=st.integers(0, 40),
    mode=st.sampled_from(["shortest", "squash"]),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
)
def test_preprocessing_agrees_with_torchvision(
    width: int, height: int, size: int, extra: int, mode: str, interpolation: str
) -> None:
    preprocess = Preprocess(size, size + extra, mode, interpolation)
    image = _noise(width, height, seed=width * height)
    ours, theirs = preprocess.to_array(image), _torchvision(preprocess, image)
    assert ours.shape == theirs.shape == (size, size, 3)
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_the_whole_chain_agrees_with_torchvision() -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    preprocess = Preprocess(224, 256, interpolation="bilinear")
    image = _noise(501, 377)
    chain = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BILINEAR, antialias=True),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(preprocess.mean, preprocess.std),
        ]
    )
    ours = preprocess(image)
    assert ours.dtype == np.float32 and ours.shape == (3, 224, 224) and ours.flags.c_contiguous
    difference = np.abs(ours - chain(image).numpy()) * np.array(preprocess.std)[:, None, None]
    assert difference.max() <= 1 / 255 + 1e-6


def test_normalising_is_exact_where_nothing_is_resized() -> None:
    preprocess = Preprocess(16, 16, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    image = _noise(16, 16)
    expected = (np.asarray(image) / 255 - preprocess.mean) / preprocess.std
    np.testing.assert_allclose(preprocess(image), expected.transpose(2, 0, 1), atol=1e-6)


def test_a_thin_picture_costs_no_memory() -> None:
    out = Preprocess(224, 256)(Image.new("RGB", (1, 50_000), (10, 20, 30)))  # whole: 3 billion pixels
    assert np.allclose(out, out[:, :1, :1], atol=0.03)


def test_preprocess_survives_json_and_pickle() -> None:
    preprocess = Preprocess(260, 260, "squash", "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    preprocess(_noise(10, 10))
    assert Preprocess.from_dict(preprocess.to_dict()) == preprocess
    assert isinstance(preprocess.to_dict()["mean"], list)
    assert pickle.loads(pickle.dumps(preprocess)) == preprocess
    assert preprocess.shortest_side == 260


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"size": 0, "resize": 5}, "size"),
        ({"size": 4.5, "resize": 5}, "size"),
        ({"size": True, "resize": 5}, "size"),
        ({"size": 8, "resize": 5}, "resize"),
        ({"size": 8}, "resize"),
        ({"size": 8, "resize": 8, "mode": "crop"}, "mode"),
        ({"size": 8, "resize": 8, "interpolation": "nearest"}, "interpolation"),
        ({"size": 8, "resize": 8, "mean": [0.5]}, "mean"),
        ({"size": 8, "resize": 8, "mean": None}, "mean"),
        ({"size": 8, "resize": 8, "std": [0.5, 0, 0.5]}, "std"),
        ({"size": 8, "resize": 8, "std": [0.5, float("nan"), 0.5]}, "std"),
        ({"size": 8, "resize": 8, "crop": 1}, "crop"),
    ],
)
def test_wrong_preprocessing_is_named(values: dict[str, object], field: str) -> None:
    with pytest.raises(UsageError, match=f"preprocess.{field}"):
        Preprocess.from_dict(values)


# -- Ranges --------------------------------------------------------------------------------------------------


def test_ranges_and_back_are_exact() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for convert, low in ((to_float01, 0.0), (to_float11, -1.0)):
        floats = convert(values)
        assert floats.dtype == np.float32
        assert floats.min() == low and floats.max() == pytest.approx(1, abs=1e-6) and floats.max() <= 1 + 1e-6
        np.testing.assert_array_equal(to_uint8(floats, low=low), values)


def test_pictures_become_arrays_with_channels_last() -> None:
    assert to_float01(_noise(6, 4)).shape == (4, 6, 3)
    assert to_float11(Image.new("L", (6, 4), 255)).shape == (4, 6, 3)
    assert to_float11(Image.new("L", (6, 4), 255)).min() == pytest.approx(1)


def test_floats_are_rounded_and_clipped() -> None:
    values = np.array([-5, -0.001, 0.5 / 255 + 1e-4, 1.2, np.nan, np.inf, -np.inf])
    np.testing.assert_array_equal(to_uint8(values), [0, 0, 1, 255, 0, 255, 0])
    np.testing.assert_array_equal(to_uint8(np.array([-1.0, 0.0, 1.0]), low=-1), [0, 128, 255])


def test_wrong_ranges_are_named() -> None:
    with pytest.raises(UsageError, match="float64"):
        to_float01(np.zeros(3))
    with pytest.raises(UsageError, match="low"):
        to_uint8(np.zeros(3), low=0.5)


# -- Saving --------------------------------------------------------------------------------------------------


def test_a_saved_png_carries_its_text(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.png"
    metadata = {"prompt": "a fat gray cat", "title": "లావు పిల్లి\n猫", "seed": "0"}
    save_image(_noise(8, 8), path, metadata)
    with Image.open(path) as image:
        assert image.text == metadata  # type: ignore[attr-defined]
        np.testing.assert_array_equal(np.asarray(image), np.asarray(_noise(8, 8)))
    assert os.listdir(path.parent) == ["a.png"]
    if sys.platform != "win32":
        umask = os.umask(0)
        os.umask(umask)
        assert path.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "A.PNG", "a.tiff"])
def test_the_ending_names_the_format(tmp_path: Path, name: str) -> None:
    save_image(quartered(), tmp_path / name)
    image = open_image(tmp_path / name)
    assert np.abs(_quarters(image) - _quarters(quartered())).max() <= 12


@pytest.mark.parametrize("name", ["a", "a.txt", "a.xyz"])
def test_unknown_endings_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: .* cannot be written; try .png"):
        save_image(quartered(), tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_text_is_not_lost_in_silence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only .png"):
        save_image(quartered(), tmp_path / "a.jpg", {"prompt": "x"})
    with pytest.raises(UsageError, match="metadata"):
        save_image(quartered(), tmp_path / "a.png", {"k" * 80: "x"})
    assert os.listdir(tmp_path) == []


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    save_image(_noise(8, 8), path)
    before = path.read_bytes()

    def disk_full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", disk_full)
    with pytest.raises(UsageError, match="a.png: cannot be written .No space left on device"):
        save_image(_noise(8, 8, seed=1), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        save_image(quartered(), tmp_path / "file" / "a.png")
