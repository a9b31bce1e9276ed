from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bahumukha import zoo
from bahumukha.errors import ModelError
from bahumukha.zoo.cards import parse_card, read_card
from bahumukha.zoo.folder import available, find, fingerprint, read_config
from tests.tiny_models import PREPROCESS, make_clip_folder, save_graph, text_graph, write_config


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text("utf-8"))


@pytest.fixture
def folder(tiny_clip: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may change."""
    return Path(shutil.copytree(tiny_clip, tmp_path / "copy"))


# --- finding


def test_a_model_is_found_by_path_and_by_name_in_the_data_folder(tiny_clip: Path, data_home: Path) -> None:
    assert find(tiny_clip) == tiny_clip
    assert find(str(tiny_clip)) == tiny_clip
    mine = shutil.copytree(tiny_clip, data_home / "models/ViT-B-32/openai")
    assert find("ViT-B-32/openai") == mine
    assert "ViT-B-32/openai" in available()


def test_load_keeps_the_name_as_typed(tiny_clip: Path, data_home: Path) -> None:
    shutil.copytree(tiny_clip, data_home / "models/mine")
    assert zoo.load("mine").name == "mine"
    assert zoo.load(tiny_clip).name == str(tiny_clip)


def test_the_default_is_the_starter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bahumukha.zoo.folder.starter_home", lambda: tmp_path / "starter")
    made = make_clip_folder(tmp_path / "starter/clip")
    assert list(available()) == ["starter/clip"]
    assert zoo.load().folder == made  # type: ignore[attr-defined]


def test_an_unknown_model_lists_what_there_is(tiny_clip: Path, data_home: Path) -> None:
    shutil.copytree(tiny_clip, data_home / "models/mine")
    with pytest.raises(ModelError, match=r"no model 'yours'; available: .*\bmine\b.*model folder"):
        zoo.load("yours")


def test_a_folder_without_config_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model folder, it has no config.json"):
        find(tmp_path)


# --- config.json


def test_config_is_read(tiny_clip: Path) -> None:
    config = read_config(tiny_clip)
    assert (config.dim, config.logit_scale, config.context_length) == (16, 50.0, 12)
    assert config.templates == ("a photo of a {}.", "{}")
    assert config.preprocess.size == PREPROCESS["size"]


REQUIRED = ("format", "kind", "name", "dim", "logit_scale", "preprocess", "context_length", "templates")


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(folder: Path, key: str) -> None:
    config = config_of(folder)
    del config[key]
    write_config(folder, config)
    with pytest.raises(ModelError, match=rf"config\.json: '{key}' is missing"):
        read_config(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("format", "1"),
        ("kind", "vqgan"),
        ("kind", 3),
        ("name", ""),
        ("dim", 0),
        ("dim", 16.0),
        ("dim", True),
        ("logit_scale", 0),
        ("logit_scale", float("nan")),
        ("logit_scale", "50"),
        ("preprocess", []),
        ("preprocess", {**PREPROCESS, "mode": "stretch"}),
        ("preprocess", {key: value for key, value in PREPROCESS.items() if key != "size"}),
        ("context_length", -1),
        ("templates", []),
        ("templates", "a photo of a {}"),
        ("templates", ["a photo"]),
        ("fingerprint", 7),
        ("steps", -1),
        ("architecture", "big"),
    ],
)
def test_a_wrong_value_is_named(folder: Path, key: str, value: Any) -> None:
    write_config(folder, {**config_of(folder), key: value})
    with pytest.raises(ModelError, match=rf"config\.json: '?{key}\b") as caught:
        read_config(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '"clip"'])
def test_a_damaged_config_is_named(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json: (not JSON|must hold one JSON object)"):
        read_config(folder)


# --- fingerprint


def test_the_fingerprint_follows_what_decides_an_embedding(folder: Path, tiny_clip: Path) -> None:
    before = fingerprint(folder)
    assert before == fingerprint(tiny_clip)
    write_config(folder, {**config_of(folder), "name": "other", "logit_scale": 9.0, "templates": ["a {}"]})
    (folder / "card.md").unlink()
    assert fingerprint(folder) == before

    write_config(folder, {**config_of(folder), "preprocess": {**PREPROCESS, "std": [0.25] * 3}})
    changed = {before, fingerprint(folder)}
    (folder / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes() + b"\n")
    changed.add(fingerprint(folder))
    (folder / "model.safetensors").write_bytes(b"weights")
    changed.add(fingerprint(folder))
    (folder / "onnx/image.onnx").write_bytes(b"other weights")
    changed.add(fingerprint(folder))
    assert len(changed) == 5


def test_a_fingerprint_that_the_config_lacks_is_computed(tmp_path: Path) -> None:
    made = make_clip_folder(tmp_path / "plain", fingerprint=None)
    assert zoo.load(made).fingerprint == fingerprint(made)


def test_no_weights_no_fingerprint(folder: Path) -> None:
    shutil.rmtree(folder / "onnx")
    with pytest.raises(ModelError, match=r"no weights; expected model\.safetensors"):
        fingerprint(folder)


# --- cards


def test_a_card_is_front_matter_and_markdown(tiny_clip: Path) -> None:
    card = read_card(tiny_clip, "mine")
    assert (card.name, card.kind, card.licence, card.summary) == (
        "mine",
        "clip",
        "CC0-1.0",
        "Random weights.",
    )
    assert card.details == {"data": "none"}
    assert card.text.startswith("# Tiny")
    assert card.size == sum(path.stat().st_size for path in tiny_clip.rglob("*") if path.is_file())


def test_a_model_without_card_has_no_stated_licence(folder: Path) -> None:
    (folder / "card.md").unlink()
    assert read_card(folder).licence == "not stated"
    assert read_card(folder).name == "tiny"


def test_front_matter_keeps_colons_and_skips_comments() -> None:
    details, text = parse_card('---\n# note\nSummary: "one: two"\n\n---\nbody\n---\nmore\n')
    assert details == {"summary": "one: two"}
    assert text == "body\n---\nmore"
    assert parse_card("# only text") == ({}, "# only text")


@pytest.mark.parametrize("card", ["---\nlicence: MIT\n", "---\nno colon here\n---\n", "---\n: value\n---\n"])
def test_a_broken_card_names_the_file(folder: Path, card: str) -> None:
    (folder / "card.md").write_text(card)
    with pytest.raises(ModelError, match=r"card\.md: (line 2|the front matter)"):
        read_card(folder)


def test_a_changed_tower_is_another_model(folder: Path, tiny_clip: Path) -> None:
    import numpy as np

    save_graph(folder / "onnx/text.onnx", text_graph(np.random.default_rng(9)))
    assert fingerprint(folder) != fingerprint(tiny_clip)
