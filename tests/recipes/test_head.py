"""Stage 6 of the starter CLIP's recipe: a region head goes on, and takes nothing else along."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bahumukha.data.scene_captions import Statement
from bahumukha.data.scene_colours import BASIC
from bahumukha.data.scenes import Ground, Scene, SceneObject, is_held_out
from bahumukha.errors import UsageError
from bahumukha.models.clip import Clip, ClipConfig, ImageTowerConfig
from bahumukha.models.regions import COLOURS, RegionHead, RegionHeadConfig
from bahumukha.models.text import TextTowerConfig
from recipes.clip import head
from recipes.clip.head import FITTED, Objective, Weights, false_ones, fitted_statements, mean_of, other_colours
from recipes.clip.look import vocabulary
from recipes.clip.pictures import FEATURES, RECORDS, TOKENS, PictureSet
from recipes.clip.shown import ShownScenes
from recipes.clip.statements import STATEMENTS, StatementEncoder, StatementPlaces, held_out
from recipes.clip.train import FINAL
from recipes.clip.trunk import HEAD

DIM = 8
CHANNELS = 4 + COLOURS + HEAD.levels**3


def thing(key: str, colour: str | None, x: float = 0.25) -> SceneObject:
    return SceneObject(key, f"thing {key}", f"things {key}", "noto", colour, colour, 1, "medium", ((x, 0.5, 0.3),), {})


def test_other_colours_are_all_but_its_own_and_the_held_out():
    held = {(str(key), colour) for key in range(30) for colour in BASIC if is_held_out((str(key), colour))}
    for key in {key for key, _ in held}:
        own = next(colour for colour in BASIC if (key, colour) not in held)
        said = Statement((thing(key, own), thing("99", None)), "")
        found = other_colours(said, np.random.default_rng(0))
        assert {each.objects[0].colour for each in found} == {c for c in BASIC if c != own and (key, c) not in held}
        assert all(each.objects[1] == said.objects[1] for each in found)
    assert other_colours(Statement((thing("7", None),), "alone"), np.random.default_rng(0)) == []


def scenes() -> list[Scene]:
    rng = np.random.default_rng(0)
    made = []
    while len(made) < 40:
        (a, b), (c, d) = rng.choice(12, 2, replace=False), rng.choice(BASIC, 2)
        pair = thing(str(a), str(c)), thing(str(b), str(d), 0.75)
        scene = Scene(pair, Ground(("white",), ((255, 255, 255),)), "left of")
        if not scene.held_out():
            made.append(scene)
    return made


@pytest.fixture(scope="module")
def pictures() -> PictureSet:
    """Maps on which each thing's number and colour can be read."""
    drawn = scenes()
    tokens = 0.05 * np.random.default_rng(1).standard_normal((len(drawn), 9, 9, CHANNELS))
    for map_, scene in zip(tokens, drawn, strict=True):
        for columns, each in zip((slice(0, 4), slice(5, 9)), scene.objects, strict=True):
            map_[2:7, columns, 0] = int(each.key) / 2
            map_[2:7, columns, 4 + BASIC.index(each.colour or "")] = 3
    records = [{"row": i, "split": "train", "scene": scene.as_record()} for i, scene in enumerate(drawn)]
    return PictureSet(np.ones((len(drawn), 3), np.float16), tokens.astype(np.float16), records)


def test_no_false_statement_is_true_or_held_out(pictures: PictureSet):
    shown, rng = ShownScenes([pictures]), np.random.default_rng(2)
    for _ in range(50):
        said = shown.said(rng)
        found = false_ones(said, rng, 4, shown.things)
        assert all(each != said and each not in found[:i] for i, each in enumerate(found))
        assert not any(held_out(each) for each in found)


def objective(pictures: PictureSet) -> Objective:
    torch.manual_seed(0)
    looking = RegionHead(RegionHeadConfig(width=16, heads=2, layers=1, queries=4), CHANNELS, DIM)
    nn.init.normal_(looking.projection.weight, std=0.1)
    looking.requires_grad_(False)  # as the weights of an edition are read
    shown = ShownScenes([pictures])
    kinds, styles = vocabulary(shown.scenes)
    told = StatementPlaces(StatementEncoder(len(kinds), len(styles), DIM, width=16, layers=1), kinds, styles)
    weights = Weights(picture=6, scene=16, photo=4, wrong=3)
    return Objective(looking, nn.Linear(3, DIM), told, pictures, shown, pictures, weights)


def test_what_stays_costs_nothing_before_training_and_something_after(pictures: PictureSet):
    made = objective(pictures)
    made.model.eval()
    batch = next(made.batches(0))
    assert len(batch["features"]) == len(batch["tokens"]) == 26
    assert len(batch["said"]) == 16 + len(batch["of"]) and batch["place"].min() == 1
    losses = {name: float(value.detach()) for name, value in made(batch).items()}
    assert losses["stay"] == pytest.approx(0, abs=1e-6) and losses["anchor"] == pytest.approx(0, abs=1e-6)
    corrections = made.model.head(batch["tokens"][22:])
    assert losses["silence"] == pytest.approx(float(corrections.detach().square().sum(1).mean()), rel=1e-5)
    with torch.no_grad():
        made.model.head.projection.weight.neg_()
        made.model.statements.projection.weight.neg_()
    losses = {name: float(value.detach()) for name, value in made(batch).items()}
    assert losses["stay"] > 1e-3 and losses["anchor"] == pytest.approx(2, abs=1e-5)


def test_the_head_and_the_statements_are_trained(pictures: PictureSet):
    made = objective(pictures)
    made(next(made.batches(0)))["loss"].backward()
    assert all(each.grad is not None for each in made.model.parameters())
    assert not any(each.requires_grad for each in made.before.parameters())


def test_a_slip_is_counted_among_the_statements_of_its_own_scene(pictures: PictureSet):
    made = objective(pictures)
    images = F.normalize(torch.randn(3, DIM), dim=1)
    wrong = F.normalize(torch.randn(3, DIM), dim=1)
    losses = made._composed(images, torch.cat([images, wrong]), torch.tensor([0, 0, 2]), torch.tensor([1, 2, 1]))
    scores = 25 * images @ torch.cat([images, wrong]).T
    own = torch.stack([scores[0, [0, 3, 4]].log_softmax(0)[0], scores[2, [2, 5]].log_softmax(0)[0]])
    assert losses["slip"] == pytest.approx(float(-own.sum() / 3), rel=1e-5)


def test_colours_are_learned_and_the_losses_fall(pictures: PictureSet):
    made = objective(pictures)
    made.weights = replace(made.weights, anchor=0.0, stay=0.0, silence=0.0)  # all may move
    made.model.statements.requires_grad_(False)  # but what is said: only the head can learn
    optimizer = torch.optim.Adam(made.model.head.parameters(), lr=1e-2)
    seen = []
    for batch, _ in zip(made.batches(1), range(120), strict=False):
        losses = made(batch)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        seen.append(float(losses["slip"].detach()))
    assert np.mean(seen[-10:]) < 0.8 * np.mean(seen[:10])


class Tower:
    """A text tower that knows only colours."""

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        rows = np.array([[text.count(colour) for colour in BASIC[:DIM]] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-6)


def test_statements_are_fitted_to_the_texts(pictures: PictureSet, tmp_path):
    shown = ShownScenes([pictures])
    told = fitted_statements(Tower(), shown, count=300, steps=30)  # type: ignore[arg-type]
    said = [Statement((thing("1", colour),), "alone") for colour in ("red", "blue", "green")]
    rows = told.encode(said)
    assert [BASIC[i] for i in rows.argmax(1)] == ["red", "blue", "green"]
    told.write(tmp_path / "statements.pt")
    assert torch.equal(StatementPlaces.read(tmp_path / "statements.pt").encode(said), rows)


def test_the_mean_of_two_runs():
    a, b = nn.Linear(2, 3).state_dict(), nn.Linear(2, 3).state_dict()
    assert torch.allclose(mean_of([a, b])["weight"], (a["weight"] + b["weight"]) / 2)


@pytest.fixture(scope="module")
def edition() -> Clip:
    torch.manual_seed(0)
    image = ImageTowerConfig("tf_efficientnet_lite0", 96, head=RegionHeadConfig(16, 2, 1, 4), classes=9)
    text = TextTowerConfig(vocabulary=9, context_length=4, width=16, layers=1, heads=2)
    model = Clip(ClipConfig(DIM, image, text))
    nn.init.normal_(model.image.head.projection.weight, std=0.1)
    return model.eval().requires_grad_(False)


@dataclass(frozen=True)
class Few(Weights):
    picture: int = 3
    scene: int = 6
    photo: int = 2
    wrong: int = 2


@pytest.fixture
def command(edition: Clip, pictures: PictureSet, tmp_path, monkeypatch) -> list[str]:
    """The options of a run on scenes of random maps, which stand for pictures and photographs as well."""
    rng = np.random.default_rng(0)
    channels = len(edition.image.head.mean)
    maps = rng.standard_normal((len(pictures), 9, 9, channels)), rng.standard_normal((len(pictures), 1280))
    for file, values in zip((TOKENS, FEATURES), maps, strict=True):
        np.save(tmp_path / file, values.astype(np.float16))
    (tmp_path / RECORDS).write_text("\n".join(json.dumps(each) for each in pictures.records))
    monkeypatch.setattr(head, "load_clip", lambda _: copy.deepcopy(edition))
    monkeypatch.setattr(head, "OnnxClip", lambda _: Tower())
    sets = [f"--{name}={tmp_path}" for name in ("model", "pictures", "photos", "validation", "scenes")]
    return [*sets, "--threes=0", "--statements=60", "--statement-steps=5"]


def test_a_run_changes_the_head_alone_and_the_mean_of_runs_is_one(command, edition, tmp_path, monkeypatch):
    monkeypatch.setattr(head, "Weights", Few)
    states = []
    for seed in (0, 1):
        out = tmp_path / f"run{seed}"
        head.main([*command, "--minutes=0.02", f"--seed={seed}", f"--out={out}"])
        states.append(torch.load(out / FINAL, weights_only=True))
        changed = {k for k, v in edition.state_dict().items() if not torch.equal(v, states[-1]["model"][k])}
        assert changed and all(name.startswith("image.head.") for name in changed)
        assert states[-1]["step"] > 0
        fitted, moved = StatementPlaces.read(out / FITTED), StatementPlaces.read(out / STATEMENTS)
        assert not torch.equal(fitted.encoder.projection.weight, moved.encoder.projection.weight)
    mean = tmp_path / "mean"
    runs = [str(tmp_path / "run0"), str(tmp_path / "run1")]
    head.main([*command, "--minutes=0", "--init", *runs, f"--out={mean}"])
    state = torch.load(mean / FINAL, weights_only=True)
    wanted = mean_of([each["going"] for each in states])
    assert all(torch.allclose(state["going"][name], wanted[name]) for name in wanted)
    assert torch.equal(state["model"]["image.head.token.weight"], wanted["head.token.weight"])


def test_wrong_options_are_told(command, tmp_path, capsys):
    with pytest.raises(SystemExit):
        head.main([*command, "--minutes=0", f"--out={tmp_path / 'out'}"])
    assert "--init" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    StatementPlaces(StatementEncoder(1, 1, DIM), {"1": 0}, ["noto"]).write(tmp_path / "other" / FITTED)
    with pytest.raises(UsageError, match="other things or styles"):
        head.main([*command, f"--init={tmp_path / 'other'}", f"--out={tmp_path / 'out'}"])
