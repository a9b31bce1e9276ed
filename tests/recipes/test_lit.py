"""Stage 4 of the starter CLIP's recipe: what belongs where, and what the losses ask for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import BPE
from torch import nn
from torch.nn import functional as F

from bahumukha.data.scenes import Ground, Scene, SceneObject
from bahumukha.zoo.folder import read_config
from bahumukha.zoo.onnx import OnnxClip
from recipes.clip.between import towards
from recipes.clip.export import take_image_tower
from recipes.clip.lit import EmbeddedPictures, Objective, Texts, Weights, learn_places
from recipes.clip.names import Names
from recipes.clip.pictures import picture_jobs
from recipes.clip.train import solved

WHITE = Ground(("white",), ((255, 255, 255),))


def record(name: str, **more: object) -> dict[str, object]:
    return {"captions": {"en": [name], "te": [f"te {name}"]}, "split": "train", "style": "noto", **more}


def test_places_come_to_lie_at_their_pictures_and_a_pull_holds_them_back():
    torch.manual_seed(0)
    centres = F.normalize(torch.randn(6, 32), dim=1)
    rows = torch.arange(6).repeat(30)
    pictures = F.normalize(centres[rows] + 0.5 * torch.randn(180, 32) / 32**0.5, dim=1)
    start = centres.roll(1, 0)  # each begins at another's
    places = learn_places(pictures, rows, start, torch.zeros(6), steps=150, rate=2e-2)
    assert torch.allclose(places.norm(dim=1), torch.ones(6), atol=1e-5)
    assert ((places @ centres.T).argmax(1) == torch.arange(6)).all()
    held = learn_places(pictures, rows, start, torch.tensor([1000.0, 0, 0, 0, 0, 0]), steps=150, rate=2e-2)
    assert held[0] @ start[0] > 0.99
    assert ((held @ centres.T).argmax(1) == torch.arange(6))[1:].all()


def test_pictures_are_embedded_once(tiny_clip, tmp_path, monkeypatch):
    folder = tmp_path / "pictures" / "noto"
    folder.mkdir(parents=True)
    lines = []
    for name, colour in (("sun", "yellow"), ("sea", "blue")):
        Image.new("RGB", (40, 30), colour).save(folder / f"{name}.png")
        lines.append(json.dumps(record(name, file=f"{name}.png", split="train" if name == "sun" else "validation")))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    jobs = list(picture_jobs(tmp_path / "pictures", 2))
    clip = OnnxClip(tiny_clip)
    found = EmbeddedPictures.of(jobs, clip, tmp_path / "cache" / "pictures")
    assert found.rows.shape == (3, clip.dim)  # two of what is trained on, one of what is not
    assert torch.allclose(found.rows.norm(dim=1), torch.ones(3), atol=1e-3)
    assert [r["captions"]["en"][0] for r in found.split("train").records] == ["sun", "sun"]
    with Image.open(folder / "sea.png") as sea:
        assert clip.encode_images([sea.convert("RGB")])[0] @ found.split("validation").rows[0].numpy() > 0.999
    monkeypatch.setattr(OnnxClip, "encode_pixels", lambda *_: pytest.fail("embedded again"))
    assert torch.equal(EmbeddedPictures.of(jobs, clip, tmp_path / "cache" / "pictures").rows, found.rows)


class Nouns:
    """Stands for `Captions`: photographs show dogs."""

    word: ClassVar = {"dog": 7, "boat": 8}
    members: ClassVar = {7: None}

    def draw(self, kind: str, count: int, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
        return [("Cat", f"a photo of a {kind}")[i % 2] for i in range(count)], np.zeros(count)


class Words:
    """Stands for `Translations`."""

    texts = ("te cat", "te boat")

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(2, size=count)


def scenes() -> EmbeddedPictures:
    things = [
        SceneObject(
            key, name, f"{name}s", "noto", colour, colour, 1, "medium", ((0.5, 0.5, 0.5),), {"te": f"te {name}"}
        )
        for key, name, colour in (("1", "cat", "red"), ("2", "dog", "blue"), ("3", "car", "green"))
    ]
    records = [record(each.name, scene=Scene((each,), WHITE, "alone").as_record()) for each in things]
    return EmbeddedPictures(torch.eye(3, 8), records)


def texts(**counts: int) -> Texts:
    weights = Weights(**{"english": 8, "name": 4, "scene": 2, "classes": 4, "coarse": 4, "noun": 4, **counts})
    return Texts(Names([record("cat"), record("dog")]), Nouns(), Words(), scenes(), weights)  # type: ignore[arg-type]


def test_what_pictures_are_called_is_not_held_where_it_is():
    drawn = texts(translation=40, shown=40).kept(np.random.default_rng(0))
    assert "Cat" not in drawn and "te cat" not in drawn
    shown = {"dog", "te dog"}  # but for what photographs show as well
    assert {"te boat", "a photo of a class", "a photo of a coarse", "a photo of a noun"} | shown == set(drawn)


def test_names_are_drawn_with_their_rows():
    drawn, rows = texts().named(np.random.default_rng(0))
    assert len(drawn) == len(rows) == 12
    for text, row in zip(drawn, rows, strict=True):
        assert ("cat", "dog")[row] in text


def test_statements_say_whose_they_are_and_the_true_ones_come_first():
    told, of, true = texts().told(np.random.default_rng(3))
    assert true[: true.sum()].all() and len(told) == len(of) == len(true) > true.sum() >= 1
    assert set(of[~true]) <= set(of[true])
    assert len({(text, scene) for text, scene in zip(told, of, strict=True)}) == len(told)


class Table(nn.Module):
    """A text tower that has a row for each first token."""

    def __init__(self, rows: torch.Tensor):
        super().__init__()
        self.rows = nn.Parameter(rows)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.rows[ids[:, 0]]


def losses(rows: torch.Tensor) -> dict[str, float]:
    """Two names, one kept text, two true statements and a false one of each, in this order."""
    none = Tokenizer(BPE())
    weights = Weights(english=1)
    objective = Objective(Table(torch.eye(8)), none, texts(english=1), torch.eye(2, 8), scenes().rows, weights)
    objective.text = Table(rows)
    batch = {
        "ids": torch.arange(7)[:, None],
        "mask": torch.ones(7, 1, dtype=torch.long),
        "rows": torch.tensor([0, 1]),
        "of": torch.tensor([0, 1, 0, 1]),
        "true": torch.tensor([True, True, False, False]),
        "counts": torch.tensor([2, 1, 4]),
    }
    return {name: float(value.detach()) for name, value in objective(batch).items()}


def test_losses_vanish_where_everything_is_in_its_place_and_name_what_is_not():
    right = torch.stack([*torch.eye(2, 8), torch.eye(8)[2], *torch.eye(2, 8), -torch.eye(8)[0], -torch.eye(8)[1]])
    best = losses(right)
    assert max(abs(best[name]) for name in ("english", "name", "kept")) < 1e-6
    assert best["slip"] < 1e-6 and best["scene"] < 1e-6 and best["distil"] < 1e-6

    moved = right.clone()
    moved[2] = torch.eye(8)[5]  # what was to stay
    assert losses(moved)["kept"] == pytest.approx(1.0)
    swapped = right.clone()
    swapped[5], swapped[6] = right[4], right[3]  # each false statement lies where the other scene is: no slip
    assert losses(swapped)["slip"] < 1e-6
    false = right.clone()
    false[5] = right[3]  # and here at its own
    assert losses(false)["slip"] == pytest.approx(np.log(2) / 2, abs=1e-4)
    assert losses(false)["scene"] < 1e-6


def test_an_image_tower_is_taken_byte_for_byte(tiny_clip, tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        shutil.copytree(tiny_clip, folder)
    graph = theirs / "onnx" / "image.onnx"
    graph.write_bytes(graph.read_bytes() + b"\x00")
    before = read_config(ours).fingerprint
    take_image_tower(theirs, ours)
    assert (ours / "onnx" / "image.onnx").read_bytes() == graph.read_bytes()
    assert read_config(ours).fingerprint != before
    assert read_config(ours).name == read_config(Path(tiny_clip)).name


def test_weights_between_and_the_matrix_that_is_solved_for():
    before, after = {"a": torch.zeros(3)}, {"a": torch.full((3,), 2.0)}
    assert towards(before, after, 0.25)["a"].tolist() == [0.5] * 3
    torch.manual_seed(0)
    true, x = torch.randn(4, 6), torch.randn(500, 6)
    wrong = torch.randn(50, 6)
    found = solved([x, wrong], [x @ true.T, torch.zeros(50, 4)], [1.0, 0.0])
    assert torch.allclose(found, true, atol=0.05)
    assert solved([x, wrong], [x @ true.T, torch.zeros(50, 4)], [1e-3, 100.0]).norm() < 0.1 * true.norm()
