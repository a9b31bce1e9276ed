"""Folders of transformers, saved by transformers itself, as models of ours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from bahumukha.errors import ModelError
from bahumukha.zoo.importing import build, import_model
from bahumukha.zoo.onnx import OnnxClip
from bahumukha.zoo.pytorch import TorchClip
from bahumukha.zoo.sources import read_transformers
from bahumukha.zoo.tokenizer import TextTokenizer
from bahumukha.zoo.vocabulary import clip_tokenizer
from tests import public_models as public

TEXTS = ["a photo of a cat", "It's RED", "the sea " * 30]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    from transformers import CLIPImageProcessor, CLIPTokenizer

    folder = tmp_path_factory.mktemp("hf") / "clip"
    model = public.transformers_clip(vocabulary=public.WORDS, end=public.WORDS - 1)
    model.save_pretrained(folder)
    side = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 40}, crop_size=side).save_pretrained(folder)
    bpe = json.loads(clip_tokenizer())["model"]
    CLIPTokenizer(vocab=bpe["vocab"], merges=[tuple(pair) for pair in bpe["merges"]]).save_pretrained(folder)
    return folder, model


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    from transformers import SiglipImageProcessor

    folder = tmp_path_factory.mktemp("hf") / "siglip"
    model = public.transformers_siglip(vocabulary=60)
    model.save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    pieces = ["<pad>", "</s>", "<unk>", "▁", "▁a", "▁cat", "▁photo", *"abcdefghijklmnopqrstuvwxyz'"]
    made = Tokenizer(models.Unigram([(piece, -1.0 - place / 9) for place, piece in enumerate(pieces)], 2, False))
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    made.save(str(folder / "tokenizer.json"))
    described = {"tokenizer_class": "SiglipTokenizer", "pad_token": "</s>", "eos_token": {"content": "</s>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    return folder, model


def test_clip_of_transformers(clip: tuple[Path, Any], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder, theirs = clip
    read = read_transformers(folder, "mine", None)
    ours = build(read)
    path = tmp_path / "tokenizer.json"
    path.write_text(read.tokenizer, encoding="utf-8")
    tokenizer = TextTokenizer(path, read.config.text.context_length)
    ids, mask = (torch.from_numpy(array) for array in tokenizer.pad(tokenizer(TEXTS)))
    tokens = AutoTokenizer.from_pretrained(folder)(
        TEXTS, padding=True, truncation=True, max_length=16, return_tensors="pt"
    ).input_ids
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        texts = theirs.get_text_features(tokens).pooler_output
        assert (ours.encode_text(ids, mask) - texts).abs().max() < 1e-4
        images = theirs.get_image_features(pixels).pooler_output
        assert (ours.encode_image(pixels) - images).abs().max() < 1e-4
    p = read.preprocess
    assert (p.size, p.resize, p.mode, p.interpolation) == (32, 40, "shortest", "bicubic")


@pytest.mark.slow
def test_siglip_of_transformers_on_onnx_runtime(siglip: tuple[Path, Any]) -> None:
    from transformers import SiglipImageProcessor

    folder, theirs = siglip
    imported = import_model(str(folder), precision="float32")
    encoder, twin = OnnxClip(imported), TorchClip("siglip")
    assert imported.name == "siglip" and encoder.preprocess.mode == "squash"
    texts = ["A photo of a CAT!", "cat", ""]
    tokens = twin.tokenizer(texts)
    assert tokens.shape == (3, 16) and tokens[1].tolist() == [5] + [1] * 15
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)).resize((70, 50))
    pixels = torch.from_numpy(np.stack(SiglipImageProcessor.from_pretrained(folder)(picture)["pixel_values"]))
    with torch.inference_mode():
        words = torch.nn.functional.normalize(theirs.get_text_features(tokens).pooler_output, dim=-1).numpy()
        images = torch.nn.functional.normalize(theirs.get_image_features(pixels).pooler_output, dim=-1).numpy()
    assert np.abs(encoder.encode_texts(texts) - words).max() < 1e-4
    assert np.abs(twin.encode_texts(texts) - words).max() < 1e-4
    assert np.abs(encoder.encode_texts(["cat"]) - words[1:2]).max() < 1e-4, "padding counts, whatever the batch"
    assert (encoder.encode_images([picture]) * images).sum() > 0.999


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "has no weights; put model.safetensors there"),
        ("preprocessor_config.json", "has no preprocessor_config.json"),
        ("tokenizer.json", "has no tokenizer.json; put it there, or give --tokenizer FILE"),
    ],
)
def test_a_missing_file_is_named(siglip: tuple[Path, Any], tmp_path: Path, file: str, message: str) -> None:
    folder = shutil.copytree(siglip[0], tmp_path / "copy")
    (folder / file).unlink()
    with pytest.raises(ModelError, match=message):
        read_transformers(folder, "mine", None)


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="a model of type 'bert'; a folder of CLIPModel or SiglipModel"):
        read_transformers(tmp_path, "mine", None)


def test_weights_in_parts_are_put_together(clip: tuple[Path, Any], tmp_path: Path) -> None:
    folder, theirs = clip
    parts = tmp_path / "parts"
    theirs.save_pretrained(parts, max_shard_size="1MB")
    assert (parts / "model.safetensors.index.json").is_file()
    for file in ("preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(folder / file, parts / file)
    whole, put_together = read_transformers(folder, "a", None), read_transformers(parts, "b", None)
    assert whole.state.keys() == put_together.state.keys()
    assert all(torch.equal(whole.state[name], put_together.state[name]) for name in whole.state)
