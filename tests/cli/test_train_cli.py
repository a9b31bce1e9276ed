"""`bahu train clip` for real: it learns, its model classifies, it stops and goes on, and it says what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bahumukha import cli
from bahumukha.train.record import read_metrics
from tests.cli.conftest import without_clock
from tests.train.shapes import TINY_MODEL, WRITERS, write_csv, write_folder, write_listing, write_shards

pytestmark = pytest.mark.usefixtures("one_thread")

SHIPPED = Path(__file__).parents[2] / "recipes/configs"
CONFIGS = sorted(file for kind in ("clip", "siglip") for file in SHIPPED.glob(f"{kind}-*.toml"))
CHANCE = 1 / 64


@pytest.fixture
def bahu(capfd: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: object, code: int = 0) -> tuple[str, str]:
        with pytest.raises(SystemExit) as leaving:
            cli.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert int(leaving.value.code or 0) == code, err
        return out, err

    return run


def config(folder: Path, data: Path, more: str = "", *, steps: int = 4, batch: int = 8) -> Path:
    file = folder / "run.toml"
    optimisation = f"[optimisation]\nsteps = {steps}\nlog_every = 1\nwarmup_steps = 10\nlearning_rate = 2e-3\n"
    text = f'[[data]]\npath = "{data}"\n{TINY_MODEL}\n[batch]\nsize = {batch}\n{optimisation}{more}'
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that are not about the model's folder, which takes seconds to write."""
    from bahumukha.train.clip import ClipRun
    from bahumukha.train.runs import MODEL

    monkeypatch.setattr(ClipRun, "export", lambda self: self.out / MODEL)


# --- it learns


@pytest.mark.slow
@pytest.mark.parametrize("form", ["folder", "csv", "parquet", "shards"])
def test_it_learns_and_its_model_classifies(tmp_path: Path, bahu: Any, form: str) -> None:
    data = WRITERS[form](tmp_path)
    checked = f'log_every = 50\n[validation]\nsource = {{ path = "{data}" }}\n'
    file = config(tmp_path, data, checked.replace("log_every = 50\n", ""), steps=150, batch=32)
    out, err = bahu("train", "clip", file, "--out", tmp_path / "run", "--json", "--set", "optimisation.log_every=50")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["step"] for row in rows[:-1]][-1] == 150 and err == ""
    scores = rows[-2]["scores"]
    assert scores["text_to_image_r1"] > 30 * CHANCE and scores["image_to_text_r1"] > 30 * CHANCE
    assert rows[0]["losses"]["loss"] > 2 * rows[2]["losses"]["loss"]
    model = Path(rows[-1]["model"])
    assert model == tmp_path / "run/model"

    pictures = write_folder(tmp_path / "ask") if form == "folder" else None
    if pictures is None:
        return  # one form is enough for what comes after training
    labels = [f"a {colour} circle" for colour in ("red", "green", "blue", "black")]
    asked = [pictures / "red-circle.png", pictures / "blue-circle.png"]
    spread = [word for label in labels for word in ("--label", label)]
    out, _ = bahu("classify", *asked, *spread, "--model", model, "--template", "{}", "--json")
    best = [json.loads(line)["labels"][0]["label"] for line in out.splitlines()]
    assert best == ["a red circle", "a blue circle"]
    assert "64 captioned pictures" in bahu("models", "show", model)[0]
    assert json.loads((model / "config.json").read_text())["steps"] == 150

    # And it is taken further: weights, tokenizer and the count of steps go on.
    further = config(tmp_path, data, steps=2)
    text = further.read_text().replace(TINY_MODEL, "")
    further.write_text(text)
    out, _ = bahu("train", "clip", further, "--init", model, "--out", tmp_path / "more", "--json")
    assert json.loads(out.splitlines()[0])["losses"]["loss"] < 1.0  # of a fresh model it is log(8) = 2.1
    assert json.loads((tmp_path / "more/model/config.json").read_text())["steps"] == 152


def test_captions_in_several_languages_are_scored_by_language(tmp_path: Path, bahu: Any, no_export: None) -> None:
    data = write_listing(tmp_path / "data")
    more = f'[languages]\nen = 2\nes = 1\n[validation]\nsource = {{ path = "{data}" }}\nmost = 20\n'
    out, _ = bahu("train", "clip", config(tmp_path, data, more, steps=2), "--out", tmp_path / "run", "--json")
    scores = json.loads(out.splitlines()[-2])["scores"]
    assert {"text_to_image_r1_en", "text_to_image_r1_es", "image_to_text_r1_es", "validation_loss"} <= set(scores)
    assert scores["text_to_image_r1"] == pytest.approx(
        (scores["text_to_image_r1_en"] + scores["text_to_image_r1_es"]) / 2
    )


# --- configs


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_shipped_config_runs(tmp_path: Path, bahu: Any, no_export: None, file: Path) -> None:
    """Two steps, on small batches and the shapes in the forms that it names."""
    paths = {"pictures": write_folder, "shards/train-{000..003}.tar": write_shards, "more/pairs.csv": write_csv}
    text = file.read_text(encoding="utf-8")
    sets = ["optimisation.steps=2", "optimisation.log_every=1", "batch.size=8", "optimisation.warmup_steps=0"]
    named = [line.split('"')[1] for line in text.splitlines() if line.startswith("path = ")]
    for place, path in enumerate(named):
        sets.append(f"data.{place}.path={paths[path](tmp_path / f'data{place}')}")
    spread = [word for each in sets for word in ("--set", each)]
    out, _ = bahu("train", "clip", file, "--out", tmp_path / "run", "--json", *spread)
    losses = [json.loads(line)["losses"]["loss"] for line in out.splitlines()[:-1]]
    assert len(losses) == 2 and all(0 < loss < 30 for loss in losses)


def test_configs_are_shipped() -> None:
    assert len(CONFIGS) >= 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimisation.step=3", "optimisation.step is no option; did you mean steps"),
        ("model.dim=wide", "model.dim is 'wide'; it must be a whole number"),
        ("data.0.path=/no/such/folder", "/no/such/folder: there is no such file or folder"),
        ("tokenizer.path=/no/tokenizer.json", "tokenizer.path: /no/tokenizer.json is not a tokenizer"),
        ("model.image.heads=5", "image.width 64 is not a multiple of image.heads 5"),
        ("optimisation", "--set 'optimisation': it takes key=value"),
        ("towers.image.patch_dropout=2.0", "patch_dropout is 2.0"),
        ("optimisation.best_score=recall", "needs a [validation]"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, bahu: Any, change: str, message: str) -> None:
    file = config(tmp_path, write_folder(tmp_path / "data"))
    out, err = bahu("train", "clip", file, "--out", tmp_path / "run", "--set", change, code=1)
    assert out == "" and err.startswith("bahu: ") and err.count("\n") == 1 and message in err
    assert not (tmp_path / "run/checkpoint.pt").exists()


def test_wrong_ways_to_begin(tmp_path: Path, bahu: Any, no_export: None) -> None:
    file = config(tmp_path, write_folder(tmp_path / "data"), steps=1)
    assert "no CONFIG" in bahu("train", "clip", code=1)[1]
    assert "holds no run" in bahu("train", "clip", "--resume", tmp_path / "none", code=1)[1]
    assert "no model 'nix'" in bahu("train", "clip", file, "--init", "nix", code=1)[1]
    bahu("train", "clip", file, "--out", tmp_path / "run")
    assert f"--resume {tmp_path / 'run'}" in bahu("train", "clip", file, "--out", tmp_path / "run", code=1)[1]
    assert "leave out --init" in bahu("train", "clip", "--resume", tmp_path / "run", "--init", "x", code=1)[1]


def test_set_overrides_the_file(tmp_path: Path, bahu: Any, no_export: None) -> None:
    file = config(tmp_path, write_folder(tmp_path / "data"))
    bahu("train", "clip", file, "--out", tmp_path / "run", "--set", "model.dim=24", "--set", "optimisation.steps=1")
    stored = json.loads((tmp_path / "run/run.json").read_text())
    assert stored["architecture"]["dim"] == 24 and [r["step"] for r in read_metrics(tmp_path / "run")] == [1]


# --- stopping, going on, several processes


def run_alone(*arguments: object, stop_after: str | None = None) -> subprocess.CompletedProcess[str]:
    """`python -m bahumukha …` in a process of its own; Ctrl-C once a line with `stop_after` has come."""
    running = subprocess.Popen(
        [sys.executable, "-m", "bahumukha", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    assert running.stdout is not None and running.stderr is not None
    lines = []
    for line in running.stdout:
        lines.append(line)
        if stop_after is not None and stop_after in line:
            running.send_signal(signal.SIGINT)
            stop_after = None
    err = running.stderr.read()
    running.wait()
    running.stdout.close()
    running.stderr.close()
    return subprocess.CompletedProcess(arguments, running.returncode, "".join(lines), err)


@pytest.mark.slow
def test_ctrl_c_and_resume_are_as_if_it_had_never_stopped(tmp_path: Path, bahu: Any, no_export: None) -> None:
    data = write_folder(tmp_path / "data")
    (data / "red-bar.png").write_bytes(b"broken")
    more = f'average = 0.9\nvalidate_every = 20\n[validation]\nsource = {{ path = "{data}" }}\nmost = 8\n'
    more += "[transforms]\nscale = [0.5, 1.0]\n[towers.image]\npatch_dropout = 0.5\n"
    file = config(tmp_path, data, more, steps=60)
    stopped = run_alone("train", "clip", file, "--out", tmp_path / "parts", "--json", stop_after='"step": 7,')
    assert stopped.returncode == 130 and f"go on with --resume {tmp_path / 'parts'}" in stopped.stderr, stopped.stderr
    assert stopped.stderr.count("red-bar.png") == 1
    at = json.loads(stopped.stdout.splitlines()[-1])["step"]
    assert 7 <= at < 60
    bahu("train", "clip", "--resume", tmp_path / "parts")
    bahu("train", "clip", file, "--out", tmp_path / "whole")
    assert without_clock(tmp_path / "parts") == without_clock(tmp_path / "whole")
    weights = [
        torch.load(tmp_path / run / "checkpoint.pt", weights_only=True)["mean"]["mean"] for run in ("parts", "whole")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_two_processes_train_as_one(tmp_path: Path, bahu: Any, no_export: None, kind: str) -> None:
    data = write_folder(tmp_path / "data")
    file = config(tmp_path, data, f'[loss]\nkind = "{kind}"\n', steps=5)
    exact = ["--set", "optimisation.precision=float32"]
    bahu("train", "clip", file, "--out", tmp_path / "one", *exact)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = ["train", "clip", str(file), "--out", str(tmp_path / "two"), "--json", *exact]
    command = [*launcher, "-m", "bahumukha", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == {"model": str(tmp_path / "two/model")}
    assert (tmp_path / "two/model/onnx/text.onnx").is_file()
    one, two = without_clock(tmp_path / "one"), without_clock(tmp_path / "two")
    assert [row["step"] for row in two] == [1, 2, 3, 4, 5]
    for mine, shared in zip(one, two, strict=True):
        assert shared["losses"]["loss"] == pytest.approx(mine["losses"]["loss"], abs=2e-4)
