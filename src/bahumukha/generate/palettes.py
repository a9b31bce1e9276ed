r"""Palettes from a line of text, in the grammar that Pixray's users know.

    red                     16 colours from black to red            [black, #f00, light pink]    these three
    red->rust               16 colours from red to rust             @photo.png                   the picture's colours
    black->red->white\8     8 colours, evenly along the way         red->white; [black]          joined by ;

`\N` after a ramp or a picture says how many colours (2 to 256). Ramps are straight lines in sRGB, their ends included.
A picture of no more colours than asked for gives its own, most frequent first; any other is reduced to N by median cut.

A colour is a name of CSS or of `NAMES` (blanks and case do not count), #rgb, #rrggbb, rgb(…), hsl(…) or hsv(…).
"""

from __future__ import annotations

import difflib
import re

import torch
from PIL import Image, ImageColor
from torch import Tensor

from bahumukha.errors import UsageError
from bahumukha.images import open_image, shown

RAMP = 16
"""Colours of a ramp or a picture that does not say how many."""
MOST = 256

NAMES = {
    "amber": "#feb308",
    "apricot": "#ffb16d",
    "aubergine": "#3d0734",
    "blood": "#770001",
    "brick": "#a03623",
    "bronze": "#a87900",
    "burgundy": "#610023",
    "burntorange": "#c04e01",
    "burntsienna": "#b04e0f",
    "caramel": "#af6f09",
    "cerulean": "#0485d1",
    "charcoal": "#343837",
    "cherry": "#cf0234",
    "chestnut": "#742802",
    "clay": "#b66a50",
    "cobalt": "#1e488f",
    "coffee": "#a6814c",
    "copper": "#b66325",
    "cream": "#ffffc2",
    "denim": "#3b638c",
    "eggplant": "#380835",
    "emerald": "#01a049",
    "forest": "#0b5509",
    "grape": "#6c3461",
    "grass": "#5cac2d",
    "jade": "#1fa774",
    "lemon": "#fdff52",
    "lilac": "#cea2fd",
    "mahogany": "#4a0100",
    "mauve": "#ae7181",
    "mint": "#9ffeb0",
    "moss": "#769958",
    "mustard": "#ceb301",
    "ochre": "#bf9005",
    "peach": "#ffb07c",
    "periwinkle": "#8e82fe",
    "pine": "#2b5d34",
    "prussianblue": "#004577",
    "pumpkin": "#e17701",
    "rose": "#cf6275",
    "rust": "#a83c09",
    "sage": "#87ae73",
    "sand": "#e2ca76",
    "scarlet": "#be0119",
    "seafoam": "#80f9ad",
    "sepia": "#985e2b",
    "sky": "#82cafc",
    "slate": "#516572",
    "steel": "#738595",
    "stone": "#ada587",
    "taupe": "#b9a281",
    "terracotta": "#ca6641",
    "ultramarine": "#2000b1",
    "umber": "#b26400",
    "vermilion": "#f4320c",
    "wine": "#80013f",
}
"""Painters' names that CSS lacks; values of the xkcd colour survey (CC0, https://xkcd.com/color/rgb/)."""

EXAMPLES = r"write red->rust\8, [black,#f00] or @file.png, joined by ;"

Rgb = tuple[int, int, int]


def parse_palette(text: str, option: str = "palette") -> Tensor:
    """A line in the grammar above -> float32 (N, 3), sRGB in [0, 1], in the order written, repeats kept.

    Raises UsageError, naming the option and the part at fault, and ImageError for a picture that cannot be read.
    """
    colours: list[Rgb] = []
    for part in text.split(";"):
        if not part.strip():
            raise UsageError(f"{option}: '{shown(text)}' has an empty part; {EXAMPLES}")
        colours += _part(part.strip(), option)
    return torch.tensor(colours, dtype=torch.float32) / 255


def format_palette(palette: Tensor) -> str:
    """Colours (N, 3) in [0, 1] -> the text `[#rrggbb,…]` that `parse_palette` reads back, in steps of 1/255."""
    rows = (palette * 255).round().clamp(0, 255).int().tolist()
    return "[" + ",".join("#{:02x}{:02x}{:02x}".format(*row) for row in rows) + "]"


def parse_colour(text: str, option: str = "colour") -> Rgb:
    """One colour -> sRGB from 0 to 255. Raises UsageError."""
    name = "".join(text.lower().split())
    try:
        red, green, blue = ImageColor.getrgb(NAMES.get(name, name))[:3]
    except ValueError:
        pass
    else:
        return min(red, 255), min(green, 255), min(blue, 255)  # rgb(300,0,0), as CSS takes it
    close = difflib.get_close_matches(name, [*NAMES, *ImageColor.colormap], 1)
    meant = f"; did you mean {close[0]}?" if close else ""
    raise UsageError(f"{option}: {text.strip()!r} is no colour; write a name as rust, or #rrggbb{meant}")


def nearest(pixels: Tensor, palette: Tensor) -> Tensor:
    """For pixels (..., 3) the number of the palette's nearest colour in sRGB, int64 (...); no gradient."""
    palette = palette.to(pixels)
    # |x - p|² without |x|², which is the same for every p; in parts, so that a large picture takes little memory.
    parts = pixels.detach().reshape(-1, 3).split(1 << 16)
    found = [torch.addmm(palette.square().sum(1), part, palette.T, alpha=-2).argmin(1) for part in parts]
    return torch.cat(found).view(pixels.shape[:-1])


def _part(part: str, option: str) -> list[Rgb]:
    if part.startswith("["):
        if not part.endswith("]"):
            raise UsageError(f"{option}: '{shown(part)}' is a list of colours that has to end with ]")
        return [parse_colour(each, option) for each in re.split(r",(?![^()]*\))", part[1:-1])]  # not those of rgb(,,)
    body, count = part, RAMP
    if found := re.search(r"\\\s*(\S*)$", part):
        last = found[1]
        if last.isdecimal():
            body, count = part[: found.start()].strip(), int(last)
        elif not part.startswith("@"):  # a path of Windows has backslashes
            raise UsageError(f"{option}: '{shown(part)}' says {last!r} after the \\; a number of colours belongs there")
    if not 2 <= count <= MOST:
        raise UsageError(f"{option}: '{shown(part)}' asks for {count} colours; 2 to {MOST} are allowed")
    return _of_picture(body[1:].strip(), count) if body.startswith("@") else _ramp(body, count, option)


def _ramp(body: str, count: int, option: str) -> list[Rgb]:
    ends = [parse_colour(each, option) for each in body.split("->")]
    stops = torch.tensor([(0, 0, 0), *ends] if len(ends) == 1 else ends, dtype=torch.float64)
    place = torch.arange(count, dtype=torch.float64) * (len(stops) - 1) / (count - 1)
    before = place.long().clamp(max=len(stops) - 2)
    rows = torch.lerp(stops[before], stops[before + 1], (place - before)[:, None]).round().int().tolist()
    return [(r, g, b) for r, g, b in rows]


def _of_picture(path: str, count: int) -> list[Rgb]:
    image = open_image(path)
    found = image.getcolors(count)
    if found is None:
        image.thumbnail((512, 512))  # the cut of a large photograph is no better, and slow
        found = image.quantize(count, Image.Quantize.MEDIANCUT).convert("RGB").getcolors(count) or []
    return [colour for _, colour in sorted(found, key=lambda each: -each[0])]  # type: ignore[misc]
