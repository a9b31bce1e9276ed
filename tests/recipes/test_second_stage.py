"""The second stage on a tiny codec: it trains, says what a picture costs, and leaves a model and two sheets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from bahumukha.models.vqgan import build_codec
from bahumukha.zoo.codecs import save_codec
from bahumukha.zoo.tokens import load_tokens
from recipes import second_stage as recipe

CODEC = {"kind": "vit", "width": 32, "heads": 2, "fine_width": 16, "encoder_layers": 1, "decoder_layers": 1}


def test_it_trains_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    save_codec(build_codec(CODEC | {"quantizer": {"kind": "fsq", "levels": [5, 5]}}), tmp_path / "codec", "tiny", 1)
    monkeypatch.setattr(recipe, "TRAINING_SETS", ("noto", "twemoji"))
    monkeypatch.setattr(recipe, "EACH", 2)
    monkeypatch.setattr(recipe, "WAYS", 2)
    monkeypatch.setattr(recipe, "SHOWN", 2)
    for style, paint in (("noto", "red"), ("twemoji", "blue")):
        folder = tmp_path / "pictures" / style
        folder.mkdir(parents=True)
        rows = []
        for number in range(6):
            picture = Image.new("RGB", (64, 64), "white")
            picture.paste(paint, (8 * number, 8, 8 * number + 16, 40))
            picture.save(folder / f"{number}.png")
            rows.append({"file": f"{number}.png", "split": "validation" if number > 3 else "train"})
        (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    where = ["--pictures", str(tmp_path / "pictures"), "--out", str(tmp_path / "run")]
    recipe.main([*where, "--codec", str(tmp_path / "codec"), "--minutes", "0.05"])
    told = capsys.readouterr().out.splitlines()[-1]
    bits, steps = float(told.split()[0]), int(told.split()[-2])
    assert told == f"{bits:.2f} bits a token on 4 held-out pictures, {steps} steps"
    assert bits < 4.64, "25 codes are 4.64 bits where nothing is known"
    loaded = load_tokens(tmp_path / "run/model")
    assert (loaded.steps, loaded.model.config.classes) == (steps, 2)

    for name in ("samples", "completions"):
        with Image.open(tmp_path / "run" / f"{name}.png") as sheet:
            assert min(sheet.size) > 112
