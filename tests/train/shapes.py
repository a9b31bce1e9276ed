"""64 pictures of coloured shapes with their captions, in each form that training reads."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 60),
    "blue": (40, 60, 220),
    "yellow": (240, 220, 40),
    "black": (15, 15, 15),
    "pink": (250, 150, 190),
    "brown": (120, 75, 40),
    "turquoise": (50, 210, 210),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring", "bar", "post", "diamond")
SIDE = 48


def draw(colour: str, shape: str) -> Image.Image:
    """One shape on white, SIDE pixels square."""
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    pen, ink = ImageDraw.Draw(picture), COLOURS[colour]
    if shape == "circle":
        pen.ellipse((8, 8, 40, 40), ink)
    elif shape == "square":
        pen.rectangle((8, 8, 40, 40), ink)
    elif shape == "triangle":
        pen.polygon([(24, 6), (42, 40), (6, 40)], ink)
    elif shape == "cross":
        pen.rectangle((20, 6, 28, 42), ink)
        pen.rectangle((6, 20, 42, 28), ink)
    elif shape == "ring":
        pen.ellipse((8, 8, 40, 40), outline=ink, width=5)
    elif shape == "bar":
        pen.rectangle((4, 18, 44, 30), ink)
    elif shape == "post":
        pen.rectangle((18, 4, 30, 44), ink)
    else:
        pen.polygon([(24, 4), (44, 24), (24, 44), (4, 24)], ink)
    return picture


def all_shapes() -> list[tuple[str, str, bytes]]:
    """(name, caption, PNG) of each of the 64."""
    found = []
    for colour in COLOURS:
        for shape in SHAPES:
            buffer = io.BytesIO()
            draw(colour, shape).save(buffer, "PNG")
            found.append((f"{colour}-{shape}", f"a {colour} {shape}", buffer.getvalue()))
    return found


def write_folder(folder: Path) -> Path:
    """Pictures with NAME.txt beside them."""
    folder.mkdir(parents=True)
    for name, caption, png in all_shapes():
        (folder / f"{name}.png").write_bytes(png)
        (folder / f"{name}.txt").write_text(caption + "\n", encoding="utf-8")
    return folder


def write_listing(folder: Path) -> Path:
    """Pictures and a captions.jsonl with captions in two languages."""
    folder.mkdir(parents=True)
    lines = []
    for name, caption, png in all_shapes():
        (folder / f"{name}.png").write_bytes(png)
        spanish = f"{name.split('-')[1]} de color {name.split('-')[0]}"
        lines.append(
            json.dumps({"file": f"{name}.png", "captions": {"en": [caption], "es": spanish}, "split": "train"})
        )
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_csv(folder: Path, delimiter: str = ",") -> Path:
    """pictures/ and a table beside it."""
    folder.mkdir(parents=True)
    file = folder / ("pairs.tsv" if delimiter == "\t" else "pairs.csv")
    (folder / "pictures").mkdir()
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerow(["filepath", "title"])
        for name, caption, png in all_shapes():
            (folder / "pictures" / f"{name}.png").write_bytes(png)
            writer.writerow([f"pictures/{name}.png", caption])
    return file


def write_parquet(file: Path) -> Path:
    """Pictures as structs of bytes, as Hugging Face's data sets have them."""
    import pyarrow
    from pyarrow import parquet

    file.parent.mkdir(parents=True, exist_ok=True)
    shapes = all_shapes()
    images = [{"bytes": png, "path": f"{name}.png"} for name, _, png in shapes]
    parquet.write_table(pyarrow.table({"image": images, "text": [caption for _, caption, _ in shapes]}), file)
    return file


def write_shards(folder: Path, count: int = 4) -> Path:
    """WebDataset shards; returns their pattern."""
    folder.mkdir(parents=True)
    shapes = all_shapes()
    for shard in range(count):
        with tarfile.open(folder / f"shapes-{shard:03d}.tar", "w") as tar:
            for name, caption, png in shapes[shard::count]:
                for ending, data in (("png", png), ("txt", caption.encode())):
                    member = tarfile.TarInfo(f"{name}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return folder / f"shapes-{{000..{count - 1:03d}}}.tar"


WRITERS = {
    "folder": lambda root: write_folder(root / "folder"),
    "listing": lambda root: write_listing(root / "listing"),
    "csv": lambda root: write_csv(root / "csv"),
    "tsv": lambda root: write_csv(root / "tsv", "\t"),
    "parquet": lambda root: write_parquet(root / "pairs.parquet"),
    "shards": lambda root: write_shards(root / "shards"),
}
"""Form -> writes it below a folder and returns the path for [[data]]."""

TINY_MODEL = """
[model]
dim = 32
image = { size = 32, patch = 8, width = 64, layers = 2, heads = 4, mlp_ratio = 2.0, pool = "mean", class_token = false }
text = { context_length = 12, width = 64, layers = 2, heads = 4, mlp_ratio = 2.0 }

[tokenizer]
vocabulary = 400
"""
