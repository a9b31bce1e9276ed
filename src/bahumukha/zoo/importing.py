"""Public weights -> model folders under the data folder, which ONNX Runtime then takes by name.

A folder is written aside, its graphs compared with the network, and renamed into place.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from bahumukha import runtime
from bahumukha.errors import ModelError, UsageError
from bahumukha.models.clip import Clip, ImageTowerConfig
from bahumukha.zoo.export import GRAPHS, LEAST_COSINE, Precision, check, export_clip
from bahumukha.zoo.folder import CARD, CONFIG, STARTER
from bahumukha.zoo.sources import Imported, read_open_clip, read_transformers

TEMPLATES = ("a photo of a {}.",)
DEEPEST_NAME = 3
"""Parts of a name between slashes; models are looked for no deeper below the data folder."""


def import_model(
    source: str,
    *,
    name: str | None = None,
    weights: Path | None = None,
    tokenizer: Path | None = None,
    precision: Precision = "float16",
    replace: bool = False,
) -> Path:
    """Bring a public model in, called `name` (default: `source`, or a folder's name) -> its folder. Raises ModelError.

    `weights`: a checkpoint to take for OpenCLIP's ARCHITECTURE or ARCHITECTURE/TAG. `tokenizer`: a tokenizer.json or
    spiece.model, where the model needs one that is not on this machine. `precision`: of the ONNX graphs.
    """
    tokenizer = tokenizer and tokenizer.expanduser()
    is_folder = Path(source).expanduser().is_dir()
    if is_folder and weights is not None:
        raise UsageError(f"--weights goes with a name of OpenCLIP; {source} is a folder, which has its own weights")
    for option, file in (("--weights", weights), ("--tokenizer", tokenizer)):
        if file is not None and not file.expanduser().is_file():
            raise UsageError(f"{option} {file}: no such file")
    name = name or (Path(source).expanduser().resolve().name if is_folder else _open_clip_name(source, weights))
    target = import_target(name, replace)
    if is_folder:
        read = read_transformers(Path(source).expanduser(), name, tokenizer)
    else:
        read = read_open_clip(source, name, weights, tokenizer)
    model = build(read)
    with aside(target) as folder:
        export_clip(
            model,
            folder,
            name=name,
            tokenizer=read.tokenizer,
            preprocess=read.preprocess,
            templates=TEMPLATES,
            steps=0,
            image_storage=GRAPHS[precision],
            text_storage=GRAPHS[precision],
            weights="float16" if read.half else "float32",  # without loss in either case
        )
        cosines = check(folder, model, LEAST_COSINE[precision])
        (folder / CARD).write_text(_card(read, precision, cosines), encoding="utf-8")
    return target


def build(read: Imported) -> Clip:
    """The network in float32, frozen, in eval mode. Raises ModelError when a tensor has another shape."""
    model = Clip(read.config)
    state = dict(read.state)
    if isinstance(read.config.image, ImageTowerConfig):
        state["image.mean"] = model.state_dict()["image.mean"]  # ours alone; zero takes nothing off
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{read.name}: the weights do not fit this architecture ({reason})") from error
    return model.eval().requires_grad_(False)


@contextmanager
def aside(target: Path) -> Iterator[Path]:
    """A folder to fill, renamed to `target` when the block ends well, and gone when it does not.

    An older `target` stays until the new one stands. Raises UsageError where nothing can be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written ({error.strerror or error})") from error
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".writing-") as scratch:
        folder, old = Path(scratch) / "new", Path(scratch) / "old"
        folder.mkdir()
        yield folder
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(folder, target)
        except OSError:
            if old.exists():
                os.replace(old, target)
            raise


def _open_clip_name(source: str, weights: Path | None) -> str:
    if "/" not in source and weights is None:
        raise UsageError(f"{source!r}: give ARCHITECTURE/TAG, such as ViT-B-32/laion2b_s34b_b79k, or --weights FILE")
    return source if "/" in source or weights is None else f"{source}/{weights.stem}"


def import_target(name: str, replace: bool) -> Path:
    """The folder of a model that is to be imported as `name`. Raises UsageError; ModelError where one is there already
    and it is not to be replaced."""
    home = runtime.data_home() / "models"
    target = home / checked_name(name)
    for above in target.relative_to(home).parents:
        if (home / above / CONFIG).is_file():
            raise UsageError(f"--name {name}: {above.as_posix()} is a model itself, and models hold no models")
    check_target(target, replace)
    return target


def check_target(target: Path, replace: bool) -> None:
    """Whether a model may come to stand in this folder: there is none, or one that is to be replaced.

    Raises UsageError for what is there and is no model, which may be anything of the user's; ModelError.
    """
    if not target.exists() and not target.is_symlink():
        return
    if not (target / CONFIG).is_file():
        raise UsageError(f"{target}: is there and is no model, so it is not replaced; take another name or folder")
    if not replace:
        raise ModelError(f"{target}: a model is there already; --replace puts another in its place")


def checked_name(name: str) -> str:
    """`name`, if a model may be imported under it. Raises UsageError."""
    parts = PurePosixPath(name).parts
    plain = all(part.strip() and not part.startswith(".") and "\\" not in part for part in parts)
    if not parts or len(parts) > DEEPEST_NAME or not plain or "/".join(parts) != name or name.startswith(STARTER):
        raise UsageError(f"--name {name!r}: a name is one to three words with / between, not below {STARTER}")
    return name


def _card(read: Imported, precision: Precision, cosines: tuple[float, float]) -> str:
    image, text = cosines
    return f"""---
licence: that of its source
summary: Imported from {read.source}.
source: {read.source}
graphs: {precision}
---
# {read.name}

Weights made by others, brought into this form by `bahu models import`. Data, licence and limits are those of the
source.

The smallest cosine between the ONNX graphs and the network they were made from is {image:.5f} for random pictures and
{text:.5f} for a handful of sentences.
"""
