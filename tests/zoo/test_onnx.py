from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from bahumukha.errors import BahumukhaError, ImageError, ModelError
from bahumukha.protocols import ImageTextEncoder
from bahumukha.zoo.onnx import IMAGE_BATCH, LOOK_AHEAD, OnnxClip, in_order
from bahumukha.zoo.tokenizer import pad
from tests.tiny_models import CONTEXT, DIM, SIZE, make_clip_folder, save_graph, text_graph


@pytest.fixture(scope="module")
def encoder(tiny_clip: Path) -> OnnxClip:
    return OnnxClip(tiny_clip, threads=2)


@pytest.fixture
def folder(tiny_clip: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_clip, tmp_path / "copy"))


def noise(seed: int, size: tuple[int, int] = (50, 40)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


# --- the contract


def test_rows_are_unit_vectors(encoder: OnnxClip) -> None:
    assert isinstance(encoder, ImageTextEncoder)
    images = encoder.encode_images([noise(seed) for seed in range(11)])
    texts = encoder.encode_texts(["a cat", "పిల్లి", "🐈" * 40, "\udcff", " \n"])
    for rows, count in ((images, 11), (texts, 5)):
        assert rows.shape == (count, DIM)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_nothing_in_nothing_out(encoder: OnnxClip) -> None:
    assert encoder.encode_images([]).shape == (0, DIM)
    assert encoder.encode_texts([]).shape == (0, DIM)
    assert list(encoder.encode_each([], Image.open)) == []


def test_an_image_embedding_is_the_tower_on_preprocessed_pixels(encoder: OnnxClip, tiny_clip: Path) -> None:
    import onnxruntime

    image = noise(3)
    session = onnxruntime.InferenceSession(tiny_clip / "onnx/image.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"pixels": encoder.preprocess(image)[None]})
    np.testing.assert_allclose(
        encoder.encode_images([image]), expected / np.linalg.norm(expected), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_neither_threads_nor_neighbours_change_an_embedding(encoder: OnnxClip, tiny_clip: Path, threads: int) -> None:
    images = [noise(seed) for seed in range(2 * IMAGE_BATCH + 1)]
    together = OnnxClip(tiny_clip, threads=threads).encode_images(images)
    alone = np.concatenate([encoder.encode_images([image]) for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=70))
def test_neither_padding_nor_order_changes_a_text(encoder: OnnxClip, texts: list[str]) -> None:
    together = encoder.encode_texts(texts)
    alone = np.concatenate([encoder.encode_texts([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(texts[::-1])[::-1], together, atol=1e-5)


def test_a_long_text_is_cut_with_its_end_kept(encoder: OnnxClip) -> None:
    kept = CONTEXT - 2  # between <start> and <end>
    long, cut = encoder.encode_texts(["x" * 100 + "y", "x" * kept])
    np.testing.assert_allclose(long, cut, atol=1e-6)


def test_a_tower_without_mask_pads_by_the_tokenizers_pad(tmp_path: Path) -> None:
    encoder = OnnxClip(make_clip_folder(tmp_path / "maskless", mask=False))
    both = encoder.encode_texts(["a", "a longer text"])
    np.testing.assert_allclose(both[:1], encoder.encode_texts(["a"]), atol=1e-6)


def test_an_empty_text_without_special_tokens_has_one_pad(folder: Path) -> None:
    from tokenizers import Tokenizer, processors

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    tokenizer.save(str(folder / "tokenizer.json"))
    rows = OnnxClip(folder).encode_texts(["", "cat"])
    assert np.isfinite(rows).all()
    assert abs(rows[0] @ rows[1]) < 0.99


def test_one_text_instead_of_a_list_is_a_mistake(encoder: OnnxClip) -> None:
    with pytest.raises(TypeError, match="a list of texts"):
        encoder.encode_texts("cat")


def test_pad_puts_ones_where_tokens_are() -> None:
    ids, mask = pad([[5, 6, 7], [8]], pad_id=2)
    assert ids.tolist() == [[5, 6, 7], [8, 2, 2]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


# --- towers are loaded when used, and their faults are named


def test_a_text_never_opens_the_image_tower(folder: Path) -> None:
    (folder / "onnx/image.onnx").write_bytes(b"not a graph")
    encoder = OnnxClip(folder)
    assert encoder.encode_texts(["cat"]).shape == (1, DIM)
    with pytest.raises(ModelError, match=r"image\.onnx: ONNX Runtime cannot load it"):
        encoder.encode_images([noise(0)])


@pytest.mark.parametrize("name", ["onnx/text.onnx", "tokenizer.json"])
def test_a_missing_or_damaged_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("{}")
    with pytest.raises(ModelError, match=Path(name).name):
        OnnxClip(folder).encode_texts(["cat"])
    (folder / name).unlink()
    with pytest.raises(ModelError, match=rf"{Path(name).name}: missing"):
        OnnxClip(folder).encode_texts(["cat"])


def constant_graph(value: float, *, dim: int = DIM, main_input: str = "pixels") -> onnx.GraphProto:
    """Pixels (B, 3, S, S) -> `value` everywhere, (B, dim)."""
    nodes = [
        helper.make_node("ReduceMean", [main_input], ["mean"], keepdims=0, axes=[1, 2, 3]),
        helper.make_node("Mul", ["mean", "nothing"], ["zeros"]),
        helper.make_node("Add", ["zeros", "value"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "last"], ["column"]),
        helper.make_node("Expand", ["column", "shape"], ["embeddings"]),
    ]
    return helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info(main_input, TensorProto.FLOAT, ["B", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["B", dim])],
        [
            helper.make_tensor("nothing", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor("value", TensorProto.FLOAT, [], [value]),
            helper.make_tensor("last", TensorProto.INT64, [1], [1]),
            helper.make_tensor("shape", TensorProto.INT64, [2], [1, dim]),
        ],
    )


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ({"value": float("nan")}, "zero or not finite"),
        ({"value": float("inf")}, "zero or not finite"),
        ({"value": 0.0}, "zero or not finite"),
        ({"value": 1.0, "dim": DIM + 1}, r"of shape \(1, 17\), expected \(1, 16\)"),
        ({"value": 1.0, "main_input": "image"}, r"no input 'pixels', only \['image'\]"),
    ],
)
def test_a_tower_that_makes_nonsense_is_an_error(folder: Path, graph: dict[str, Any], message: str) -> None:

    made = helper.make_model(constant_graph(**graph), opset_imports=[helper.make_opsetid("", 13)], ir_version=10)
    onnx.save(made, folder / "onnx/image.onnx")
    with pytest.raises(ModelError, match=rf"image\.onnx: .*{message}"):
        OnnxClip(folder).encode_images([noise(0)])


def test_a_vocabulary_too_large_for_the_tower_is_an_error(folder: Path) -> None:
    graph = text_graph(np.random.default_rng(0))
    table = next(tensor for tensor in graph.initializer if tensor.name == "table")
    rows = np.frombuffer(table.raw_data, np.float32).reshape(-1, DIM)[:10]
    table.CopyFrom(helper.make_tensor("table", TensorProto.FLOAT, rows.shape, rows.tobytes(), raw=True))
    save_graph(folder / "onnx/text.onnx", graph)
    with pytest.raises(ModelError, match=r"text\.onnx: ONNX Runtime cannot run it"):
        OnnxClip(folder).encode_texts(["cat"])


# --- many pictures


def test_encode_each_keeps_order_and_reports_failures_in_place(encoder: OnnxClip) -> None:
    def load(seed: int) -> Image.Image:
        time.sleep(0.002 * (seed % 5))  # so that later pictures are ready before earlier ones
        if seed % 7 == 3:
            raise ImageError(f"{seed}: cannot be read")
        return noise(seed)

    results = list(encoder.encode_each(iter(range(40)), load))
    assert [item for item, _ in results] == list(range(40))
    for seed, embedding in results:
        if seed % 7 == 3:
            assert isinstance(embedding, ImageError)
            assert str(embedding).startswith(f"{seed}:")
        else:
            assert not isinstance(embedding, BahumukhaError)
            np.testing.assert_allclose(embedding, encoder.encode_images([noise(seed)])[0], atol=1e-5)


def test_a_batch_of_failures_is_no_trouble(encoder: OnnxClip) -> None:
    def load(item: int) -> Image.Image:
        raise ImageError(str(item))

    assert [str(error) for _, error in encoder.encode_each(range(9), load)] == [str(item) for item in range(9)]


def test_a_bug_in_load_propagates_and_ends_the_workers(encoder: OnnxClip) -> None:
    def load(item: int) -> Image.Image:
        if item == 20:
            raise ZeroDivisionError("a bug")
        return noise(item)

    seen = []
    with pytest.raises(ZeroDivisionError, match="a bug"):
        for item, _ in encoder.encode_each(range(1000), load):
            seen.append(item)
    assert seen == list(range(20))
    assert not workers()


def test_a_bug_in_items_propagates(encoder: OnnxClip) -> None:
    def items() -> Iterator[int]:
        yield from range(50)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(encoder.encode_each(items(), noise))
    assert not workers()


def test_the_look_ahead_is_bounded_and_closing_stops_the_loading(encoder: OnnxClip) -> None:
    loaded = []

    def load(item: int) -> Image.Image:
        loaded.append(item)
        return noise(item)

    each = encoder.encode_each(iter(range(10**9)), load)
    for _ in range(IMAGE_BATCH):  # the results of one batch
        next(each)
    time.sleep(0.2)
    ahead = LOOK_AHEAD * encoder.threads * IMAGE_BATCH
    assert len(loaded) <= ahead
    each.close()  # type: ignore[attr-defined]
    assert not workers()
    count = len(loaded)
    time.sleep(0.05)
    assert len(loaded) == count


def test_closing_waits_for_no_more_than_the_picture_at_hand(encoder: OnnxClip) -> None:
    def slowly(item: int) -> Image.Image:
        if item >= IMAGE_BATCH:
            time.sleep(0.4)
        return noise(item)

    each = encoder.encode_each(range(100), slowly)
    next(each)
    begin = time.perf_counter()
    each.close()  # type: ignore[attr-defined]
    assert time.perf_counter() - begin < 0.4 * IMAGE_BATCH - 0.1, "the rest of the batch was loaded"


def test_ctrl_c_in_the_consumer_ends_the_workers(encoder: OnnxClip) -> None:
    def items() -> Iterator[int]:
        yield from range(30)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(encoder.encode_each(items(), noise))
    assert not workers()


def test_workers_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=5)
    results = list(in_order(lambda item, stop: (meeting.wait(), item)[1], range(6), workers=2))
    assert results == list(range(6))


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("bahumukha")]
