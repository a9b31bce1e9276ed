"""`bahu models import` and `bahu models export`: public weights in, models out; needs the extra [create]."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bahumukha.cli.models import group, megabytes
from bahumukha.cli.output import print_json
from bahumukha.errors import ModelError, UsageError

if TYPE_CHECKING:
    from bahumukha.zoo.export import Precision
    from bahumukha.zoo.exporting import Format

PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")
WEIGHTS = (".ckpt", ".safetensors", ".pt", ".pth", ".bin", ".pkl", ".pickle")
"""Endings of files of weights; what is pickled is told how it can be converted."""
FORMATS: tuple[Format, ...] = ("onnx", "open_clip", "transformers")

IMPORT_EXAMPLES = """Examples:

bahu models import ViT-B-32-quickgelu/openai

bahu models import ViT-B-16/mine --weights epoch_32.pt

bahu models import ./clip-vit-base-patch32 --precision int8

bahu models import vqgan_imagenet_f16_1024.ckpt vqgan_imagenet_f16_1024.yaml

bahu models import encoder.safetensors decoder.safetensors --name openai/dvae

bahu models import ./karlo-v1-alpha --name karlo"""

EXPORT_EXAMPLES = """Examples:

bahu models export starter/clip --to clip-int8 --precision int8

bahu models export ViT-B-32/laion2b_s34b_b79k --to clip-hf --format transformers"""

UNCLIP_EXAMPLES = """Examples:

bahu models unclip runs/prior runs/decoder runs/upsampler --name mine

bahu models unclip runs/prior runs/decoder --out ./my-unclip"""

PRECISION_HELP = "Of the ONNX graphs: float32; float16, stored so and computed in float32; int8, matrices computed so."
PrecisionOption = Annotated[str, typer.Option(metavar="PRECISION", help=PRECISION_HELP)]
ImportPrecisionOption = Annotated[
    str | None, typer.Option(metavar="PRECISION", show_default="float16", help=PRECISION_HELP)
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]


def register(app: typer.Typer) -> None:
    group.command("import", epilog=IMPORT_EXAMPLES)(import_weights)
    group.command("unclip", epilog=UNCLIP_EXAMPLES)(put_unclip_together)
    group.command("export", epilog=EXPORT_EXAMPLES)(export_weights)


def import_weights(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="ARCHITECTURE/TAG as OpenCLIP names them, a folder of transformers' CLIPModel or SiglipModel, or a "
            "checkpoint of a taming-transformers VQGAN, or the encoder of DALL-E's discrete VAE, or a folder of Karlo.",
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="CONFIG",
            help="A VQGAN's .yaml (default: beside the checkpoint, of the same name), or the discrete VAE's decoder.",
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Checkpoint to take: .safetensors, or .pt, .bin of tensors.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="FILE", help="tokenizer.json or spiece.model, where the model needs one.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="What to call it (default: SOURCE).")] = None,
    precision: ImportPrecisionOption = None,
    replace: Annotated[bool, typer.Option("--replace", help="Import again what is there under that name.")] = False,
    json: Json = False,
) -> None:
    """Bring in public weights of this machine: of a CLIP, for classify, index and search, of a picture codec, or of
    Karlo, an unCLIP of 14 GB, which draws with one network at a time in memory (4 GB the largest).

    Nothing is downloaded: weights are looked for in the Hugging Face cache, or given as a file.
    """
    chosen = _precision(precision or "float16")
    if config is not None or _is_checkpoint(source):
        _only_for_clip(source, "weights of a picture codec", weights, tokenizer, precision)
        folder = _codec(Path(source).expanduser(), config and config.expanduser(), name, replace)
        hint = "bahu reconstruct PICTURE --model {}"
    elif (Path(source).expanduser() / "model_index.json").is_file():
        _only_for_clip(source, "Karlo", weights, tokenizer, precision)
        with _create_extra("import"):
            from bahumukha.zoo.karlo import import_karlo
        folder = import_karlo(Path(source).expanduser(), name=name, replace=replace)
        hint = "bahu generate 'a red fox in the snow' --with unclip -n 1 --set model={}"
    else:
        with _create_extra("import"):
            from bahumukha.zoo.importing import import_model
        folder = import_model(
            source, name=name, weights=weights, tokenizer=tokenizer, precision=chosen, replace=replace
        )
        hint = "bahu classify PICTURE --label cat --label dog --model {}"
    _tell(folder, hint, json)


def _only_for_clip(
    source: str, taken_for: str, weights: Path | None, tokenizer: Path | None, precision: str | None
) -> None:
    for option, value in (("--weights", weights), ("--tokenizer", tokenizer), ("--precision", precision)):
        if value is not None:
            raise UsageError(f"{option} is for CLIP models; {source} is taken for {taken_for}")


def _tell(folder: Path, hint: str, json: bool) -> None:
    """Of a model that is there now; hint: what to try, where {} is its name."""
    from bahumukha.zoo.cards import read_card

    card = read_card(folder)
    if json:
        print_json({"name": card.name, "folder": str(folder), "bytes": card.size})
    else:
        print(f"{card.name}  {megabytes(card.size)}  {folder}")
        print(f"try: {hint.format(card.name)}")


def put_unclip_together(
    prior: Annotated[str, typer.Argument(metavar="PRIOR", help="A model, or the folder of the run that trained it.")],
    decoder: Annotated[str, typer.Argument(metavar="DECODER", help="The same.")],
    upsampler: Annotated[
        str | None, typer.Argument(metavar="UPSAMPLER", help="The same; without it pictures stay small.")
    ] = None,
    sketch: Annotated[
        str, typer.Option(metavar="DALLE", help="A DALL-E that sketches sentences for the decoder to begin with.")
    ] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="What to call the model.")] = "unclip",
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write it there (default: among your models).")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="In place of what is there.")] = False,
    json: Json = False,
) -> None:
    """Put trained networks together as one unCLIP, for generate --with unclip, vary, blend, edit, inpaint and explore.

    They are copied, but for the DALL-E of --sketch; prior and decoder must have been trained with the same CLIP.
    """
    with _create_extra("unclip"):
        from bahumukha.zoo.unclip import put_together
    folder = put_together(prior, decoder, upsampler, sketch=sketch, name=name, out=out, replace=replace)
    where = "{}" if out is None else str(out)
    _tell(folder, f"bahu generate 'a red fish' --with unclip --set model={where}", json)


def export_weights(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model, or the path of its folder.")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="New folder to write.")],
    precision: PrecisionOption = "float16",
    format: Annotated[
        str,
        typer.Option(metavar="FORMAT", help="onnx: a model folder; open_clip, transformers: weights for those."),
    ] = "onnx",
    json: Json = False,
) -> None:
    """Write a model with its graphs in another precision, or as OpenCLIP or transformers load it.

    Graphs are compared with the original on random pictures and some sentences, and refused when they stray:
    cosines of at least 0.9999 for float32, 0.999 for float16, 0.99 for int8.
    """
    if format not in FORMATS:
        raise UsageError(f"--format {format!r} is not one of {', '.join(FORMATS)}")
    chosen = _precision(precision)
    with _create_extra("export"):
        from bahumukha.zoo.exporting import export_model
    done = export_model(model, to, form=format, precision=chosen)  # type: ignore[arg-type]
    image, text = done.cosines or (None, None)
    if json:
        cosines = {} if image is None else {"image_cosine": round(image, 6), "text_cosine": round(text or 0.0, 6)}
        print_json({"folder": str(done.folder), "bytes": done.bytes, **cosines})
    else:
        agreement = "" if image is None else f"  cosine to the original {image:.5f} (images), {text:.5f} (texts)"
        print(f"{done.folder}  {megabytes(done.bytes)}{agreement}")


def _codec(source: Path, second: Path | None, name: str | None, replace: bool) -> Path:
    """A VQGAN with its config, or the encoder and the decoder of a discrete VAE."""
    with _create_extra("import"):
        from bahumukha.zoo.dvae import NAME, import_dvae
        from bahumukha.zoo.taming import import_taming
    if second is not None and source.suffix in WEIGHTS and second.suffix in WEIGHTS:
        return import_dvae(source, second, name=name or NAME, replace=replace)
    return import_taming(source, second, name=name, replace=replace)


def _is_checkpoint(source: str) -> bool:
    """Whether SOURCE is a file of weights; OpenCLIP's names and folders are not."""
    return source.endswith(WEIGHTS) and not Path(source).expanduser().is_dir()


def _precision(text: str) -> Precision:
    for precision in PRECISIONS:
        if text == precision:
            return precision
    raise UsageError(f"--precision {text!r} is not one of {', '.join(PRECISIONS)}")


@contextmanager
def _create_extra(command: str) -> Iterator[None]:
    """An import that fails for want of the extra becomes one line."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "bahumukha":
            raise
        raise ModelError(
            f"bahu models {command} needs {error.name}, of the extra [create]: pip install 'bahumukha[create]'"
        ) from error
