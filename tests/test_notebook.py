"""The lesson's notebook runs from start to end, and its cells compute what the lesson says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from bahumukha.demo import shipped_photos

NOTEBOOK = Path(__file__).parents[1] / "examples/clip.ipynb"

REPORT = """
import json, sys
found = lambda matches: [[m.rank, Path(m.path).name, m.score] for m in matches]
print(json.dumps({
    "interpreter": sys.executable,
    "torch": "torch" in sys.modules,
    "model": model.name,
    "guesses": [[g.label, g.probability] for g in guesses],
    "by_hand": dict(zip(sentences, by_hand.tolist())),
    "added": report.added,
    "failed": report.failed,
    "matches": found(matches),
    "mixed": found(mixed),
    "similar": found(similar),
}))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The notebook, executed by this interpreter: its variables, and the kinds of output of each cell."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    notebook.cells.append(nbformat.v4.new_code_cell(REPORT))
    home = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("BAHUMUKHA_HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "TMPDIR"):
            (home / name.lower()).mkdir()
            patch.setenv(name, str(home / name.lower()))
        nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute(cwd=str(home))
    outputs = {
        cell.id: {kind for output in cell.outputs for kind in output.get("data", {"text": ""})}
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    values = json.loads("".join(output.text for output in notebook.cells[-1].outputs))
    return {**values, "outputs": outputs, "home": home}


def test_runs_in_this_interpreter_without_pytorch(run: dict[str, Any]) -> None:
    assert Path(run["interpreter"]).resolve() == Path(sys.executable).resolve()
    assert not run["torch"]


def test_probabilities_are_those_computed_by_hand(run: dict[str, Any]) -> None:
    assert {label for label, _ in run["guesses"]} == {"a penguin", "a bear", "a cat"}
    assert sum(probability for _, probability in run["guesses"]) == pytest.approx(1)
    assert dict(run["guesses"]) == pytest.approx(run["by_hand"], abs=1e-4)
    probabilities = [probability for _, probability in run["guesses"]]
    assert probabilities == sorted(probabilities, reverse=True)


def test_all_photographs_are_indexed_and_the_best_shown(run: dict[str, Any]) -> None:
    assert (run["added"], run["failed"]) == (len(shipped_photos()), [])
    for matches in (run["matches"], run["mixed"], run["similar"]):
        ranks, names, scores = zip(*matches, strict=True)
        assert ranks == (1, 2, 3, 4, 5)
        assert len(set(names)) == 5
        assert list(scores) == sorted(scores, reverse=True)
    assert "horses.jpg" not in [name for _, name, _ in run["similar"]]
    for cell in ("picture", "search", "mixed", "similar"):
        assert "image/png" in run["outputs"][cell]


def test_leaves_the_users_index_alone(run: dict[str, Any]) -> None:
    assert list((run["home"] / "bahumukha_home").iterdir()) == []


def test_answers_of_the_starter(run: dict[str, Any]) -> None:
    assert run["guesses"][0][0] == "a cat"
    assert run["guesses"][0][1] > 0.9
    assert run["matches"][0][1].startswith("cat-")
    assert {name for _, name, _ in run["matches"][:3]} >= {"cat-gray-and-white.jpg"}


def test_is_stored_without_outputs_of_a_stand_in() -> None:
    """Either stripped, or with outputs of the starter: never with paths or models of whoever ran it last."""
    text = NOTEBOOK.read_text(encoding="utf-8")
    for cell in nbformat.reads(text, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.execution_count is None or "starter/clip" in text
            assert not any(output.output_type == "error" for output in cell.outputs)
