"""The rules of the package's structure: layers, the half without PyTorch, imports that do nothing."""

from __future__ import annotations

import ast
import graphlib
import json
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"

LAYERS = (
    ("errors", "protocols", "images", "sheets", "runtime"),
    ("nn",),
    ("models",),
    ("zoo", "data"),
    ("classify", "explain"),
    ("search",),
    ("demo",),
    ("generate",),
    ("evaluate",),
    ("train",),
    ("cli", "web"),
    ("__main__",),
)
"""From the lowest up; a module imports only its own layer and those before it."""

UNDERSTANDING = (
    "images",
    "sheets",
    "runtime",
    "data.folders",
    "zoo",
    "zoo.folder",
    "zoo.cards",
    "zoo.onnx",
    "zoo.fake",
    "classify",
    "explain",
    "search",
    "demo",
    "evaluate.clip",
    "evaluate.everyday",
    "evaluate.retrieval",
    "evaluate.probe",
    "evaluate.composition",
    "evaluate.templates",
    "cli.output",
    "cli.classify",
    "cli.search",
    "cli.models",
    "cli.evaluate",
    "cli.demo",
)
"""Where the half that never imports PyTorch begins; what these import, however late, belongs to it too."""

OPTIONAL = {
    "data.pairs": {"pyarrow"},
    "search.packed": {"pyarrow"},
    "search.remote": {"fsspec", "pyarrow"},
    "search.engines.ray": {"ray"},
    "search.postgres": {"psycopg"},
    "search.postgres.connection": {"psycopg"},
    "search.postgres.ranking": {"psycopg"},
}
"""What some modules of that half need for one kind of source, engine or store, and import when it is asked for."""

APART = "bahumukha.search.postgres"
"""A package that others import only when it is asked for; its own modules import what it needs at once."""


# --- reading the source


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, for every module of the package."""
    found = {}
    for path in sorted(SOURCE.glob("bahumukha/**/*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def import_statements(tree: ast.AST, *, everywhere: bool) -> list[ast.Import | ast.ImportFrom]:
    """Imports that run; with `everywhere` also those inside functions, else only those that run on import."""
    found: list[ast.Import | ast.ImportFrom] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found.append(node)
        elif is_for_types_only(node):
            continue
        elif everywhere or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            found += import_statements(node, everywhere=everywhere)
    return found


@cache
def imported(module: str, *, everywhere: bool = True) -> frozenset[str]:
    """Names of the modules that `module` imports: in full for our own, `bahumukha.…`, else as written."""
    names: set[str] = set()
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    for statement in import_statements(tree, everywhere=everywhere):
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
            continue
        assert statement.level == 0, f"{module}: imports are written in full, not relative"
        for alias in statement.names:
            full = f"{statement.module}.{alias.name}"
            names.add(full if full in modules() else str(statement.module))
    return frozenset(names)


def ours(names: frozenset[str]) -> set[str]:
    return {name for name in names if name in modules()}


def theirs(names: frozenset[str]) -> set[str]:
    """Top-level names of third-party packages."""
    tops = {name.partition(".")[0] for name in names}
    return {top for top in tops if top != "bahumukha" and top not in sys.stdlib_module_names}


def reachable(roots: set[str]) -> set[str]:
    found: set[str] = set()
    pending = set(roots)
    while pending:
        module = pending.pop()
        found.add(module)
        pending |= ours(imported(module)) - found
    return found


def understanding() -> set[str]:
    roots = {f"bahumukha.{name}" for name in UNDERSTANDING}
    assert not roots - set(modules()), f"modules that are gone: {sorted(roots - set(modules()))}"
    return reachable(roots)


def layer(module: str) -> int:
    top = module.split(".")[1] if "." in module else None
    if top is None:
        return len(LAYERS)  # the package's front, which offers names of every layer
    places = [place for place, names in enumerate(LAYERS) if top in names]
    assert places, f"{module} belongs to no layer; add it to LAYERS and to DESIGN.md"
    return places[0]


# --- layers


def test_imports_point_downward() -> None:
    upward = [
        f"{module} imports {name}"
        for module in modules()
        for name in ours(imported(module)) - {"bahumukha"}
        if layer(name) > layer(module)
    ]
    assert not upward


def test_no_circle_of_imports() -> None:
    graph = {module: ours(imported(module, everywhere=False)) - {module, "bahumukha"} for module in modules()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which shows the circle


def test_the_checker_sees_what_it_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m.py"
    file.write_text(
        "import a.b\nif TYPE_CHECKING:\n    import types_only\n"
        "try:\n    import c\nexcept ImportError:\n    pass\n"
        "class K:\n    from d import e\n    def f(self):\n        from bahumukha import errors\n"
    )
    monkeypatch.setitem(modules(), "m", file)
    assert imported("m", everywhere=False) == {"a.b", "c", "d"}
    assert imported("m") == {"a.b", "c", "d", "bahumukha.errors"}
    assert theirs(imported("m")) == {"a", "c", "d"}


# --- the half without PyTorch


def base_packages() -> set[str]:
    """Import names of the packages that `pip install bahumukha` brings by itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {line.partition(">")[0].strip().replace("_", "-").lower() for line in project["dependencies"]}
    return {
        name
        for name, distributions in packages_distributions().items()
        if wanted & {distribution.replace("_", "-").lower() for distribution in distributions}
    }


def test_understanding_needs_only_the_base_install() -> None:
    allowed = base_packages()
    assert {"numpy", "PIL", "onnxruntime"} <= allowed
    assert "torch" not in allowed
    foreign = {
        module: sorted(theirs(imported(module)) - allowed - OPTIONAL.get(module.removeprefix("bahumukha."), set()))
        for module in sorted(understanding())
    }
    assert not {module: names for module, names in foreign.items() if names}
    others = [module for module in sorted(understanding()) if not module.startswith(APART)]
    at_once = {module: theirs(imported(module, everywhere=False)) - allowed for module in others}
    assert not {module: names for module, names in at_once.items() if names}
    assert not [m for m in others if any(name.startswith(APART) for name in imported(m, everywhere=False))]


def test_understanding_runs_with_pytorch_out_of_reach(tiny_clip: Path, coloured_pictures: Path) -> None:
    script = (
        "import sys, importlib\n"
        "for name in ('torch', 'torchvision', 'safetensors', 'transformers', 'open_clip', 'timm', 'onnx',\n"
        "             'ray', 'pyarrow', 'fsspec', 'pandas', 'psycopg'):\n"
        "    sys.modules[name] = None\n"  # importing it raises ImportError
        "modules, model, *pictures = sys.argv[1:]\n"
        "for name in modules.split(): importlib.import_module(name)\n"
        "from bahumukha.classify import classify\n"
        "print([len(labels) for labels in classify(pictures, ['a cat', 'a dog'], model=model)])"
    )
    pictures = sorted(map(str, coloured_pictures.iterdir()))
    needed = [module for module in sorted(understanding()) if not module.startswith(APART)]
    ran = run(script, " ".join(needed), str(tiny_clip), *pictures)
    assert ran == "[2, 2, 2]\n"


# --- importing does nothing


WATCH = """
import importlib, io, json, os, signal, socket, sys, threading, warnings
from pathlib import Path

def state():
    import logging, random
    import numpy, torch
    from PIL import Image, ImageFile
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "files": sorted(map(str, Path(os.environ["HOME"]).rglob("*"))),
        "threads": threading.active_count(),
        "warnings": [repr(each) for each in warnings.filters],
        "interrupt": repr(signal.getsignal(signal.SIGINT)),
        "log handlers": [repr(each) for each in logging.getLogger().handlers],
        "random": [hash(random.getstate()), repr(numpy.random.get_state()), torch.initial_seed()],
        "torch": [torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype().__str__(),
                  torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()],
        "numpy errors": numpy.geterr(),
        "pillow": [Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES],
        "recursion": sys.getrecursionlimit(),
        "hooks": [repr(sys.excepthook), repr(sys.displayhook)],
    }

def refuse(*_):
    raise AssertionError("importing reached for the network")

packages, ours = sys.argv[1].split(), sys.argv[2].split()
for name in packages:  # what third parties do when imported is theirs
    importlib.import_module(name)
socket.socket.connect = refuse
before = state()
real, sys.stdout, sys.stderr = sys.stdout, io.StringIO(), io.StringIO()
for name in ours:
    importlib.import_module(name)
printed = sys.stdout.getvalue() + sys.stderr.getvalue()
sys.stdout = real
after = state()
print(json.dumps({"printed": printed, "changed": [key for key in before if before[key] != after[key]]}))
"""


def test_importing_every_module_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "BAHUMUKHA_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    at_import = set().union(*(imported(module, everywhere=False) for module in modules()))
    packages = sorted(name for name in at_import if theirs(frozenset({name})))  # with their submodules
    names = [module for module in modules() if not module.endswith("__main__")]
    ran = json.loads(run(WATCH, " ".join(packages), " ".join(names)))
    assert ran == {"printed": "", "changed": []}


def run(script: str, *arguments: str) -> str:
    """stdout of a fresh Python."""
    ran = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
