"""Why this label? A map of the regions of a picture that speak for it, by hiding them one after another.

A soft patch of the picture's own blurred colours is laid over each place of a grid, in two sizes. With z_j = s v.t_j,
the logits of the labels (see `bahumukha.classify`), a place speaks for label y as much as hiding it lowers the log-odds

    o(v) = log p_y / (1 - p_y) = z_y - log sum_{j != y} exp z_j

so regions that show another label's thing come out negative: hiding them helps y. Zeiler and Fergus, "Visualizing and
Understanding Convolutional Networks" (2014), section 4.2. Only `encode_each` is asked of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bahumukha.classify import label_embeddings, shortest_side, unique_labels
from bahumukha.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image, ImageDraw

    from bahumukha.protocols import ImageTextEncoder

GRIDS = ((7, 0.34), (9, 0.2))
"""(places along the shorter side, a patch's side as a part of it): 49 + 81 encodings for a square picture."""
MOST_PLACES = 16
"""Along the longer side, for an encoder that looks at all of a panorama."""
WORKING_SIDE = 320
"""Shortest side in pixels of the copies for an encoder that does not tell what it looks at."""
FAINTEST = 0.5
"""Log-odds that count as a full effect at least: smaller ones are not blown up to a picture of noise."""
SMOOTHNESS = 36
"""The map has about so many independent points along the shorter side."""

FOR, AGAINST = (222, 45, 10), (20, 80, 215)
"""sRGB of a full effect."""
PALE = 0.6
"""How white what the model does not look at is drawn, in [0, 1]."""
LARGE, SMALL = 440, 300
"""Side of a tile on the page, for one picture and for several."""
LARGEST = 512
"""Pixels of the shortest side that a picture needs for its page."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class Place:
    """A patch: its centre and its side, in pixels of the working copy."""

    x: float
    y: float
    side: float


@dataclass(frozen=True)
class Explained:
    """A picture, the label that was asked for with its probability in [0, 1], and the map of `explain`."""

    image: Image.Image
    name: str
    label: str
    probability: float
    values: np.ndarray


def explain(
    image: Image.Image | str | Path,
    label: str,
    labels: Sequence[str],
    *,
    model: ImageTextEncoder | str | Path | None = None,
    templates: Sequence[str] | None = None,
    advance: Callable[[], None] | None = None,
) -> np.ndarray:
    """How much each part of a picture speaks for `label` rather than the other `labels` -> float32 (H, W) in [-1, 1].

    H and W are those of the picture (upright). Positive: hiding the part makes the label less probable; negative:
    more probable; 0: no effect, or not looked at (a model that crops to a square does not see the rest). The largest
    effect is 1 or -1, unless it is under half a unit of log-odds. With one label, its scaled cosine takes the
    log-odds' place.

    model, templates: as in `bahumukha.classify`. advance: called after each encoding, `encodings(size)` times.

    Takes 130 encodings, more of an oblong picture that the model sees as a whole.

    Raises UsageError for a label that is not one of `labels`, ImageError, ModelError.
    """
    from bahumukha.images import open_image

    encoder = _encoder(model)
    labels = unique_labels(labels)
    if label.strip() not in labels:
        raise UsageError(f"{label!r} is not one of the labels: {', '.join(labels)}")
    if isinstance(image, (str, Path)):
        image = open_image(image)
    targets = label_embeddings(encoder, labels, templates)
    return _drops(image.convert("RGB"), encoder, targets, labels.index(label.strip()), advance or _nothing)


def encodings(size: tuple[int, int], encoder: ImageTextEncoder) -> int:
    """How many encodings `explain` takes for a picture of (width, height)."""
    return sum(len(places) for places in _grids(seen(size, encoder)))


def _drops(
    image: Image.Image, encoder: ImageTextEncoder, targets: np.ndarray, wanted: int, advance: Callable[[], None]
) -> np.ndarray:
    import numpy as np

    crop, looked_at = cropped(image.size, encoder), seen(image.size, encoder)
    working = _working_copy(image.crop(crop), encoder)
    scale = working.width / (crop[2] - crop[0])
    left, top, right, bottom = looked_at
    grids = _grids(tuple(scale * e for e in (left - crop[0], top - crop[1], right - crop[0], bottom - crop[1])))
    pixels = np.asarray(working, np.float32)
    fill = _blurred(working, radius=min(working.size) / 10)
    whole = log_odds(encoder.encode_images([working]), targets, encoder.logit_scale, wanted)[0]

    total = np.zeros(pixels.shape[:2], np.float64)
    for places in grids:
        weighted, weights = np.zeros_like(total), np.full_like(total, 1e-6)
        for place, row in encoder.encode_each(places, lambda place: _hidden(pixels, fill, place)):
            assert isinstance(row, np.ndarray), "nothing was loaded, so no load can fail"
            drop = whole - log_odds(row[None], targets, encoder.logit_scale, wanted)[0]
            mask = _mask(place, pixels.shape[:2])
            weighted += drop * mask
            weights += mask
            advance()
        total += weighted / weights / len(grids)

    values = np.zeros((image.height, image.width), np.float32)
    values[crop[1] : crop[3], crop[0] : crop[2]] = _smooth(total, (crop[2] - crop[0], crop[3] - crop[1]))
    outside = np.ones(values.shape, bool)
    outside[round(top) : round(bottom), round(left) : round(right)] = False
    values[outside] = 0
    return np.clip(values / max(float(np.abs(values).max()), FAINTEST), -1, 1)


def log_odds(rows: np.ndarray, targets: np.ndarray, logit_scale: float, wanted: int) -> np.ndarray:
    """Unit rows (N, dim), labels (L, dim) -> float64 (N,): log p / (1 - p) of label `wanted`; its logit if L is 1."""
    import numpy as np

    logits = logit_scale * (rows.astype(np.float64) @ targets.astype(np.float64).T)
    others = np.delete(logits, wanted, axis=1)
    if not others.shape[1]:
        return logits[:, wanted]
    highest = others.max(axis=1)
    return logits[:, wanted] - highest - np.log(np.exp(others - highest[:, None]).sum(axis=1))


def cropped(size: tuple[int, int], encoder: ImageTextEncoder) -> tuple[int, int, int, int]:
    """The part of a picture (width, height) that decides what the encoder sees, as left, top, right, bottom.

    The square in the middle where its preprocessing crops, else all of it.
    """
    width, height = size
    if getattr(getattr(encoder, "preprocess", None), "mode", "squash") == "squash":
        return (0, 0, width, height)
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    return (left, top, left + side, top + side)


def seen(size: tuple[int, int], encoder: ImageTextEncoder) -> Box:
    """The part of a picture (width, height) that the encoder looks at."""
    left, top, right, bottom = cropped(size, encoder)
    preprocess = getattr(encoder, "preprocess", None)
    margin = 0.0 if preprocess is None else (1 - preprocess.size / preprocess.resize) / 2
    across, down = margin * (right - left), margin * (bottom - top)
    return (left + across, top + down, right - across, bottom - down)


def _working_copy(image: Image.Image, encoder: ImageTextEncoder) -> Image.Image:
    """As small as the encoder allows: its masked copies are what time goes into."""
    from PIL import Image

    side = shortest_side(encoder) or WORKING_SIDE
    scale = side / min(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


def _grids(box: Sequence[float]) -> list[list[Place]]:
    """The places of each size, evenly over the box (left, top, right, bottom)."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    short = min(width, height)
    grids = []
    for places, part in GRIDS:
        across = min(MOST_PLACES, round(places * width / short))
        down = min(MOST_PLACES, round(places * height / short))
        centres = [
            (left + (i + 0.5) * width / across, top + (j + 0.5) * height / down)
            for j in range(down)
            for i in range(across)
        ]
        grids.append([Place(x, y, part * short) for x, y in centres])
    return grids


def _mask(place: Place, shape: tuple[int, int]) -> np.ndarray:
    """float32 (H, W) in [0, 1]: 1 within the patch, falling to 0 over a quarter of its side, half of that outside."""
    import numpy as np

    def along(length: int, centre: float) -> np.ndarray:
        inward = place.side / 2 - np.abs(np.arange(length) + 0.5 - centre)
        return np.clip(inward / (place.side / 4) + 0.5, 0, 1)

    return np.outer(along(shape[0], place.y), along(shape[1], place.x)).astype(np.float32)


def _hidden(pixels: np.ndarray, fill: np.ndarray, place: Place) -> Image.Image:
    """pixels, fill float32 (H, W, 3) in [0, 255] -> the picture with the patch laid over it."""
    import numpy as np
    from PIL import Image

    mask = _mask(place, pixels.shape[:2])[..., None]
    return Image.fromarray(np.rint(pixels + mask * (fill - pixels)).astype(np.uint8))


def _blurred(image: Image.Image, radius: float) -> np.ndarray:
    """What is laid over a place, float32 (H, W, 3): half its surroundings' colours, half the picture's mean.

    Blur alone leaves a red thing red; the mean alone is an object of its own on an even ground.
    """
    import numpy as np
    from PIL import ImageFilter

    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32)
    return (soft + soft.mean(axis=(0, 1))) / 2


def _smooth(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) -> (height, width) of `size` = (width, height), without the patches' edges."""
    import numpy as np
    from PIL import Image

    steps = max(1.0, min(values.shape) / SMOOTHNESS)
    picture = Image.fromarray(values.astype(np.float32))  # mode F
    few = (max(1, round(picture.width / steps)), max(1, round(picture.height / steps)))
    return np.asarray(picture.resize(few, Image.Resampling.BOX).resize(size, Image.Resampling.BICUBIC))


# --- the picture of it


def heat_picture(image: Image.Image, values: np.ndarray, looked_at: Box | None = None) -> Image.Image:
    """The map of `explain`, values (H, W) in [-1, 1], over its picture: red for, blue against; -> RGB of its size.

    What lies outside `looked_at` is drawn pale.
    """
    import numpy as np
    from PIL import Image

    pixels = np.asarray(image.convert("RGB"), np.float32)
    grey = np.asarray(image.convert("L"), np.float32)[..., None]
    base = 36 + 0.86 * (0.4 * pixels + 0.6 * grey)  # less colour, and no black, so that the map's colours are seen
    strength = (0.8 * np.abs(values) ** 1.3)[..., None]
    colours = np.where(values[..., None] > 0, np.array(FOR, np.float32), np.array(AGAINST, np.float32))
    drawn = base + strength * (colours - base)
    if looked_at is not None:
        left, top, right, bottom = (round(edge) for edge in looked_at)
        outside = np.ones(drawn.shape[:2], bool)
        outside[top:bottom, left:right] = False
        drawn[outside] += PALE * (255 - drawn[outside])
    return Image.fromarray(np.rint(np.clip(drawn, 0, 255)).astype(np.uint8))


def explained_page(explained: Sequence[Explained], encoder: ImageTextEncoder) -> Image.Image:
    """One picture beside its map, or the maps of several, with labels, probabilities and the scale of colours; RGB."""
    from PIL import Image, ImageDraw

    from bahumukha.sheets import PAPER, contact_sheet

    single = len(explained) == 1
    tiles = []
    for each in explained:
        heat = heat_picture(each.image, each.values, seen(each.image.size, encoder))
        if single:
            tiles.append((each.image, each.name))
        tiles.append((heat, f"{each.label}  {each.probability:.0%}" + ("" if single else f"\n{each.name}")))
    sheet = contact_sheet(tiles, tile=LARGE if single else SMALL)
    text_size = 18 if single else 15
    page = Image.new("RGB", (sheet.width, sheet.height + 4 * text_size), PAPER)
    page.paste(sheet)
    _legend(ImageDraw.Draw(page), page.width, sheet.height, text_size)
    return page


def _legend(draw: ImageDraw.ImageDraw, width: int, top: int, size: int) -> None:
    """A bar from against to for, with words at its ends, centred below the sheet."""
    from bahumukha.sheets import FAINT, INK, font_for

    font = font_for("speaks for the label", size)
    words = round(font.getlength("speaks for the label")) + 2 * size
    length = max(40, min(240, width - 2 * words))
    start = (width - length) // 2
    for x in range(length):
        value = 2 * (x + 0.5) / length - 1
        strength = 0.8 * abs(value) ** 1.3
        colour = tuple(round(200 + strength * (c - 200)) for c in (FOR if value > 0 else AGAINST))
        draw.line((start + x, top, start + x, top + size), fill=colour)
    draw.text((start - size // 2, top + size // 2), "speaks against it", fill=INK, font=font, anchor="rm")
    draw.text((start + length + size // 2, top + size // 2), "speaks for the label", fill=INK, font=font, anchor="lm")
    note = "Grey: no effect. Pale: not looked at."
    draw.text((width // 2, top + 5 * size // 2), note, fill=FAINT, font=font_for(note, size - 2), anchor="mm")


def _encoder(model: ImageTextEncoder | str | Path | None) -> ImageTextEncoder:
    if model is None or isinstance(model, (str, Path)):
        from bahumukha.zoo import load

        return load(model)
    return model


def _nothing() -> None:
    return None
