"""One small CLIP, exported: PyTorch and ONNX Runtime must then give the same embeddings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from bahumukha.errors import ModelError
from bahumukha.images import Preprocess
from bahumukha.models.clip import Clip, ClipConfig, ImageTowerConfig, TextTowerConfig
from bahumukha.models.regions import RegionHeadConfig
from bahumukha.zoo.export import export_clip
from bahumukha.zoo.folder import fingerprint
from bahumukha.zoo.onnx import OnnxClip
from bahumukha.zoo.pytorch import TorchClip, load_clip
from bahumukha.zoo.small_tensors import quantize_rows
from bahumukha.zoo.storage import store_small

WORDS = "<pad> <start> <end> a photo of cat dog red blue the sea".split()
PREPROCESS = Preprocess(
    size=96, resize=110, mode="shortest", interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)


def word_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="the"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    return tokenizer


def exported(model: Clip, out: Path, **options: str) -> None:
    export_clip(
        model,
        out,
        name=out.name,
        tokenizer=word_tokenizer().to_str(),
        preprocess=PREPROCESS,
        templates=["a photo of a {}"],
        steps=7,
        **options,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    text = TextTowerConfig(vocabulary=400, context_length=16, width=64, layers=2, heads=4)
    head = RegionHeadConfig(width=32, heads=2, layers=1, queries=4, grid=3)
    image = ImageTowerConfig("tf_efficientnet_lite0", 96, head=head, classes=9)
    model = Clip(ClipConfig(32, image, text)).eval()
    torch.nn.init.normal_(model.image.head.projection.weight, std=0.1)  # it starts at zero, and would say nothing
    out = tmp_path_factory.mktemp("models") / "small"
    exported(model, out)
    return out


@pytest.fixture(scope="module")
def wide(folder, tmp_path_factory):
    """The same with a perceptron in its text tower, and the embeddings of its tokens in int8."""
    torch.manual_seed(1)
    old = load_clip(folder)
    model = Clip(replace(old.config, text=replace(old.config.text, projection_hidden=48))).eval()
    model.load_state_dict(old.state_dict(), strict=False)
    torch.nn.init.normal_(model.text.projection_mlp.outer.weight)
    out = tmp_path_factory.mktemp("models") / "wide"
    exported(model, out, text_storage="float32", words="int8")
    return out, model


def pictures(count: int = 5) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (120, 130, 3), np.uint8)).resize((200, 180)) for _ in range(count)]


def test_onnx_agrees_with_pytorch(folder):
    ours, theirs = OnnxClip(folder, threads=1), TorchClip(folder)
    images, texts = pictures(), ["a photo of a cat", "red", "the blue sea the blue sea the blue sea", ""]
    assert (ours.encode_images(images) * theirs.encode_images(images)).sum(1).min() > 0.9999
    assert (ours.encode_texts(texts) * theirs.encode_texts(texts)).sum(1).min() > 0.999  # int8 against float16
    assert ours.fingerprint == theirs.fingerprint == fingerprint(folder)


def test_a_perceptron_and_tokens_in_int8_are_the_same_in_both(folder, wide):
    out, model = wide
    texts = ["a photo of a cat", "red", "the blue sea the blue sea the blue sea", ""]
    theirs = TorchClip(out).encode_texts(texts)
    assert (OnnxClip(out, threads=1).encode_texts(texts) * theirs).sum(1).min() > 0.9999
    assert (OnnxClip(folder, threads=1).encode_texts(texts) * theirs).sum(
        1
    ).max() < 0.99  # the perceptron says something
    loaded = load_clip(out).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())
    stored = load_file(out / "model.safetensors")
    assert stored["text.token.weight"].dtype == torch.int8 and stored["text.token.weight.scale"].shape == (400, 1)
    before = load_clip(folder).text.token.weight
    assert (loaded["text.token.weight"] - before).abs().max() <= before.abs().max() / 127


@pytest.mark.parametrize("shape", [(110, 110), (200, 150), (97, 260)])
def test_encode_pixels_agrees_and_has_gradients(folder, shape):
    ours, theirs = OnnxClip(folder, threads=1), TorchClip(folder)
    coarse = np.random.default_rng(1).integers(0, 255, (7, 7, 3), np.uint8)
    picture = Image.fromarray(coarse).resize(shape)
    x = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 255
    x.requires_grad_(True)
    embedding = theirs.encode_pixels(x)
    assert float(embedding.detach()[0] @ torch.from_numpy(ours.encode_images([picture])[0])) > 0.99
    embedding[0, 0].backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert theirs.encode_pixels(torch.rand(2, 3, 150, 128), size=64).shape == (2, 32)
    with pytest.raises(ValueError, match="H, W >= 96"):
        theirs.encode_pixels(torch.rand(1, 3, 64, 128))


def test_open_clips_names(folder):
    clip = TorchClip(folder)
    with torch.inference_mode():
        image = clip.encode_image(clip.preprocess(pictures(1)[0])[None], normalize=True)
        text = clip.encode_text(clip.tokenizer(["a cat", "a photo of a dog"]), normalize=True)
    assert image.shape == (1, 32) and text.shape == (2, 32)
    assert np.allclose(text.numpy(), clip.encode_texts(["a cat", "a photo of a dog"]), atol=1e-5)


def test_config_says_how_to_rebuild(folder):
    config = json.loads((folder / "config.json").read_text())
    assert (config["kind"], config["dim"], config["steps"]) == ("clip", 32, 7)
    assert load_clip(folder).config.text.width == 64


def test_stored_small_and_says_nothing_of_the_machine(folder):
    stored = (folder / "onnx" / "text.onnx").read_bytes()
    model = onnx.load(folder / "onnx" / "text.onnx")
    assert sum(t.data_type == onnx.TensorProto.INT8 for t in model.graph.initializer) >= 8
    assert b".py" not in stored and not any(n.metadata_props or n.doc_string for n in model.graph.node)


def test_weights_of_another_architecture_are_refused(folder, tmp_path):
    import shutil

    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["architecture"]["text"]["width"] = 128
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="does not fit 'architecture'"):
        load_clip(other)


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([0, 1]), st.integers(0, 1000))
def test_rows_survive_int8(rows, columns, axis, seed):
    values = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    stored, scale = quantize_rows(values, axis)
    assert stored.dtype == np.int8 and np.abs(stored * scale - values).max() <= np.abs(values).max() / 127 / 2 + 1e-6


def test_zeros_survive_int8():
    stored, scale = quantize_rows(np.zeros((2, 3), np.float32), 1)
    assert not stored.any() and np.isfinite(scale).all()


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_storage_keeps_what_a_graph_computes(storage):
    rng = np.random.default_rng(0)
    table, matrix = rng.normal(size=(100, 64)).astype(np.float32), rng.normal(size=(64, 80)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["rows"]), helper.make_node("MatMul", ["rows", "matrix"], ["y"])],
        "g",
        [helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 80])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(matrix, "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    whole = len(model.SerializeToString())
    small = store_small(model, storage).SerializeToString()
    ids = np.array([3, 99, 0])
    (y,) = onnxruntime.InferenceSession(small, providers=["CPUExecutionProvider"]).run(None, {"ids": ids})
    expected = table[ids] @ matrix
    tolerance = {"float32": 1e-5, "float16": 2e-3, "int8": 2e-2}[storage]
    assert np.abs(y - expected).max() / np.abs(expected).max() < tolerance
    assert len(small) < whole * {"float32": 1.01, "float16": 0.55, "int8": 0.35}[storage]
