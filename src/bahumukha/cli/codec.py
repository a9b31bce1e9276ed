"""`bahu reconstruct` and `bahu evaluate vqgan`: what a codec makes of pictures, to look at and in figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bahumukha.cli.evaluate import group as evaluate_group
from bahumukha.cli.output import error_line, note_line, print_json, progress
from bahumukha.errors import BahumukhaError, ImageError, ModelError, UsageError

if TYPE_CHECKING:
    from PIL import Image

    from bahumukha.evaluate.vqgan import CodecScores, Features
    from bahumukha.models.vqgan import Codec

EXAMPLES = """Examples:

bahu reconstruct photo.jpg

bahu reconstruct icons/ --size 64 --out back

bahu reconstruct *.png --model ./my-vqgan --json"""

EVALUATE_EXAMPLES = """
Examples:

  bahu evaluate vqgan photos --size 128

  bahu evaluate vqgan pictures/emojione --size 64 --model runs/mine/model --json

  bahu evaluate vqgan pictures/noto --split validation --most 500

  bahu evaluate vqgan photos --inception weights-inception-2015-12-05-6726825d.pth
"""

DEFAULT_CODEC = "starter/vqgan"
USUAL_SIDE, SMALLEST_SIDE, LARGEST_SIDE = 256, 64, 512
"""Pixels: what the shortest side of a larger picture is brought down to without --size; what a codec takes."""
MOST_SHOWN = 60
"""Pictures on one sheet, each beside its reconstruction."""


def register(app: typer.Typer) -> None:
    """Add `bahu reconstruct` and `bahu evaluate vqgan`."""
    app.command("reconstruct", epilog=EXAMPLES)(reconstruct)
    evaluate_group.command("vqgan", epilog=EVALUATE_EXAMPLES)(evaluate_vqgan)


def reconstruct(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Pictures, and folders of them.")],
    model: Annotated[str, typer.Option(metavar="M", help="Name or folder of a codec.")] = DEFAULT_CODEC,
    size: Annotated[
        int | None,
        typer.Option(metavar="N", help=f"Shortest side in pixels (default: the picture's own, {USUAL_SIDE} at most)."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the reconstructions and the sheet.")] = Path(
        "reconstructed"
    ),
    json: Annotated[bool, typer.Option("--json", help="One JSON object a picture, nothing else on stdout.")] = False,
) -> None:
    """Turn pictures into codes and back, and see what is lost.

    DIR then holds each reconstruction as a PNG, and sheet.png: every original beside what came back, with its PSNR in
    decibels (20 is coarse, 30 is good) and the bits that the codes take.
    """
    from bahumukha.data.folders import find_images
    from bahumukha.images import save_image
    from bahumukha.sheets import contact_sheet

    pictures = list(dict.fromkeys(find_images(images)))
    if not pictures:
        raise UsageError(f"no pictures in {', '.join(map(str, images))}")
    codec = _codec(model)
    if size is not None:
        _check_side(size, codec.downsampling)
    tiles: list[tuple[Image.Image, str]] = []
    done = 0
    own = {path.name.casefold() for path in pictures if path.absolute().parent.resolve() == out.resolve()}
    if "sheet.png" in own:
        raise UsageError(f"--out {out}: holds one of the pictures, sheet.png, which the sheet would take the place of")
    taken = {"sheet.png"} | own  # nothing is written over what it is made from
    with progress(len(pictures), "reconstructing") as advance:
        for path in pictures:
            advance()
            try:
                original, back, figures = _there_and_back(codec, path, size)
            except ImageError as error:
                error_line(error)
                continue
            target = out / _free_name(path.stem, taken)
            save_image(back, target, {"bahumukha": _made_by(path, model, back)})
            done += 1
            _show(path, target, figures, json)
            if done <= MOST_SHOWN:
                tiles += [(original, f"{path.name}\n{original.width} x {original.height}"), (back, _caption(figures))]
    if not done:
        raise UsageError(f"none of the {len(pictures)} pictures could be read")
    save_image(contact_sheet(tiles, columns=2 * min(3, len(tiles) // 2), tile=224), out / "sheet.png")
    only = f" (the first {MOST_SHOWN} of {done})" if done > MOST_SHOWN else ""
    note_line(f"side by side in {out / 'sheet.png'}{only}")


def evaluate_vqgan(
    pictures: Annotated[list[Path], typer.Argument(metavar="PATH", help="Pictures, and folders of them.")],
    model: Annotated[str, typer.Option(metavar="M", help="Name or folder of a codec.")] = DEFAULT_CODEC,
    size: Annotated[int, typer.Option(metavar="N", help="Side of the squares that are compared, in pixels.")] = 128,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this split of folders with captions.jsonl, as validation.")
    ] = None,
    most: Annotated[int | None, typer.Option(metavar="N", min=1, help="Pictures at most, evenly picked.")] = None,
    features: Annotated[
        str, typer.Option(metavar="M", help="CLIP whose EfficientNet the perceptual figures are taken from.")
    ] = "starter/clip",
    inception: Annotated[
        Path | None, typer.Option(metavar="FILE", help="torch-fidelity's weights of Inception, for rFID.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")] = False,
) -> None:
    """PSNR, SSIM, perceptual and Fréchet distance, bits a picture, and how many of a codec's codes are in use.

    rFID is measured where the weights of Inception are: by --inception, or where torch-fidelity keeps them.
    """
    found = _pictures(pictures, split)
    if most is not None and most < len(found):
        found = [found[i * len(found) // most] for i in range(most)]
    codec = _codec(model)

    from bahumukha.evaluate.vqgan import check_size, evaluate_codec, trunk_features
    from bahumukha.zoo.perceptual import trunk_distance

    check_size(codec, size)
    distance = trunk_distance(features)
    clouds: dict[str, Features] = {"frechet_efficientnet": trunk_features(distance.trunk)}
    clouds |= _inception(inception)
    scores = evaluate_codec(codec, found, size=size, distance=distance, features=clouds, progress=progress)
    _print_scores(scores, features, json)


# --- reconstruct ------------------------------------------------------------------------------------------


def _codec(model: str) -> Codec:
    """The codec, and PyTorch told how many threads to use. Raises ModelError, also where PyTorch is missing."""
    from bahumukha.runtime import thread_count

    try:
        import torch

        from bahumukha.zoo.codecs import load_codec
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "bahumukha":
            raise
        raise ModelError(f"codecs need {error.name}, of the extra [create]: pip install 'bahumukha[create]'") from error
    torch.set_num_threads(thread_count())
    return load_codec(model)


def _check_side(size: int, step: int) -> None:
    low = -(-SMALLEST_SIDE // step) * step
    if size % step or not low <= size <= LARGEST_SIDE:
        near = min(max(low, size // step * step), LARGEST_SIDE // step * step)
        raise UsageError(f"--size {size}: this codec takes multiples of {step} from {low} to {LARGEST_SIDE}, as {near}")


def _there_and_back(codec: Codec, path: Path, size: int | None) -> tuple[Image.Image, Image.Image, dict[str, Any]]:
    """Original and reconstruction, of the same size, and the figures of the pair. Raises ImageError."""
    import torch
    from PIL import Image

    from bahumukha.evaluate.vqgan import bits, reconstruct
    from bahumukha.images import open_image, to_float01, to_uint8

    original = _fitted(open_image(path, at_least=size or USUAL_SIDE), size, codec.downsampling)
    pixels = torch.from_numpy(to_float01(original)).permute(2, 0, 1)[None]
    result = reconstruct(codec, pixels)
    back = Image.fromarray(to_uint8(result.pixels[0].permute(1, 2, 0).numpy()))
    tokens = result.ids[0].numel()
    figures = {"width": back.width, "height": back.height, "psnr": round(float(result.psnr[0]), 3), "tokens": tokens}
    return original, back, figures | {"bits": round(bits(codec, tokens), 1)}


def _fitted(image: Image.Image, size: int | None, step: int) -> Image.Image:
    """The picture with its shortest side at `size`, its middle cut to multiples of `step`, 512 pixels at most."""
    from PIL import Image

    shortest = size or max(-(-SMALLEST_SIDE // step) * step, min(USUAL_SIDE, min(image.size) // step * step))
    scale = shortest / min(image.size)
    sides = [max(shortest, round(side * scale)) for side in image.size]
    kept = [min(side, LARGEST_SIDE) // step * step for side in sides]
    # What is kept, in pixels of the picture as it is: a strip of 1 x 50,000 is never made whole.
    box = [(side - keep) / 2 / scale for side, keep in zip(sides, kept, strict=True)]
    ends = [min(side, low + keep / scale) for side, low, keep in zip(image.size, box, kept, strict=True)]
    return image.resize((kept[0], kept[1]), Image.Resampling.BICUBIC, box=(box[0], box[1], ends[0], ends[1]))


def _free_name(stem: str, taken: set[str]) -> str:
    """`stem.png`, or with a number where another picture has that name; case is no difference on many disks."""
    name, number = f"{stem}.png", 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}-{number}.png"
    taken.add(name.casefold())
    return name


def _made_by(path: Path, model: str, back: Image.Image) -> str:
    import json

    made = {"command": "reconstruct", "source": str(path), "model": model, "size": [back.width, back.height]}
    return json.dumps(made)


def _caption(figures: dict[str, Any]) -> str:
    return f"{figures['psnr']:.1f} dB\n{figures['tokens']:,} tokens, {figures['bits']:,.0f} bits"


def _show(path: Path, target: Path, figures: dict[str, Any], json: bool) -> None:
    if json:
        print_json({"path": str(path), "out": str(target), **figures})
    else:
        print(f"{path}  {_caption(figures)}  {target}".replace("\n", "  "))


# --- evaluate vqgan ---------------------------------------------------------------------------------------


def _pictures(paths: Sequence[Path], split: str | None) -> list[Path | bytes]:
    """Those of files and folders, or of the split of captioned folders. Raises UsageError."""
    from bahumukha.data.folders import find_images

    found: list[Path | bytes] = []
    if split is None:
        found += dict.fromkeys(find_images(paths))
    else:
        from bahumukha.data.pairs import Listed, SourceConfig, open_source

        for path in paths:
            source = open_source(SourceConfig(path, split=split))
            if not isinstance(source, Listed):
                raise UsageError(f"{path}: --split takes a folder or a table; shards have no splits")
            found += source.pictures
    if not found:
        raise UsageError(f"no pictures in {', '.join(map(str, paths))}")
    return found


def _inception(weights: Path | None) -> dict[str, Features]:
    """rFID's features, if the weights are there; without --inception nothing that is wrong with them stops the rest."""
    from bahumukha.evaluate.vqgan import inception_features, inception_weights

    path = weights or inception_weights()
    if path is None:
        return {}
    try:
        return {"rfid": inception_features(path)}
    except BahumukhaError as error:
        if weights is not None:
            raise
        note_line(f"no rFID: {error}")
        return {}


def _print_scores(scores: CodecScores, features: str, json: bool) -> None:
    from dataclasses import asdict

    for path, reason in scores.failed:
        error_line(reason if reason.startswith(path) else f"{path}: {reason}")
    if json:
        figures = asdict(scores)
        figures |= figures.pop("frechet")
        figures["failed"] = [{"path": path, "reason": reason} for path, reason in scores.failed]
        print_json(figures)
        return
    print(f"{scores.pictures} pictures of {scores.size} x {scores.size} pixels")
    print(f"PSNR                  {scores.psnr:8.2f} dB")
    print(f"SSIM                  {scores.ssim:8.4f}")
    print(f"perceptual distance   {scores.perceptual:8.4f}   (features of the EfficientNet of {features})")
    for name, value in scores.frechet.items():
        what = "rFID" if name == "rfid" else "Frechet, EfficientNet"
        print(f"{what:<22}{value:8.3f}   (of so few pictures only comparable with as many)")
    print(f"bits a picture        {scores.bits:8,.0f}   ({scores.tokens} tokens of {scores.codes:,} codes)")
    print(f"codes in use          {scores.usage:8.1%}   perplexity {scores.perplexity:,.0f}")
