"""What a run leaves to look at: `metrics.jsonl`, `curves.png`, and TensorBoard's files when asked for.

One line of `metrics.jsonl` a report:
{"step": 50, "progress": 0.05, "seconds": 12.3, "rate": 0.001, "losses": {…}, "scores": {…}}
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from bahumukha.errors import UsageError
from bahumukha.train.checkpoints import write_whole

if TYPE_CHECKING:
    from bahumukha.train.loop import Report

METRICS, CURVES, TENSORBOARD = "metrics.jsonl", "curves.png", "tensorboard"
PANEL, MARGIN, COLUMNS = (420, 240), 44, 2
INK, GRID, LINE = (40, 40, 40), (225, 225, 225), (31, 97, 165)

Point = tuple[float, float]


class Record:
    """Appends reports to a run's folder. Lines after `start` are dropped: a killed run wrote them, and they come again.

    Raises UsageError when TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path, start: int = 0, tensorboard: bool = False):
        self.folder = folder
        kept = [row for row in read_metrics(folder) if row["step"] <= start]
        write_whole(folder / METRICS, "".join(json.dumps(row) + "\n" for row in kept))
        self._writer = _tensorboard(folder / TENSORBOARD, start) if tensorboard else None

    def add(self, report: Report) -> None:
        """One more line, on disk when this returns."""
        row = {
            "step": report.step,
            "progress": report.progress,
            "seconds": round(report.seconds, 3),
            "rate": report.learning_rate,
            "losses": report.losses,
            "scores": report.scores,
        }
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self._writer is not None:
            scalars = {"rate": report.learning_rate, **_prefixed("train", report.losses)}
            for name, value in (scalars | _prefixed("validation", report.scores)).items():
                self._writer.add_scalar(name, value, report.step)
            self._writer.flush()

    def draw(self) -> None:
        """Write `curves.png` from all lines so far."""
        if (picture := curves(read_metrics(self.folder))) is not None:
            buffer = io.BytesIO()
            picture.save(buffer, "PNG")
            aside = self.folder / (CURVES + ".new")
            aside.write_bytes(buffer.getvalue())
            os.replace(aside, self.folder / CURVES)

    def close(self) -> None:
        """Close TensorBoard's file, if there is one."""
        if self._writer is not None:
            self._writer.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`; none when there is no file. A last line cut off by a kill is left out."""
    path = folder / METRICS
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _tensorboard(folder: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError("tensorboard = true: it is not installed; pip install tensorboard, or leave it out") from error
    return SummaryWriter(str(folder), purge_step=start + 1)


def _prefixed(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in values.items()}


# --- curves -----------------------------------------------------------------------------------------------


def curves(rows: Sequence[Mapping[str, Any]]) -> Image.Image | None:
    """One panel a loss and score, and one for the rate, over the steps; None without any."""
    series: dict[str, list[Point]] = {}
    for row in rows:
        values = {**row["losses"], **row["scores"], "learning rate": row["rate"]}
        for name, value in values.items():
            if math.isfinite(value):
                series.setdefault(name, []).append((row["step"], value))
    if not series:
        return None
    lines = math.ceil(len(series) / COLUMNS)
    page = Image.new("RGB", (COLUMNS * PANEL[0], lines * PANEL[1]), "white")
    draw = ImageDraw.Draw(page)
    for place, (name, points) in enumerate(series.items()):
        left, top = place % COLUMNS * PANEL[0], place // COLUMNS * PANEL[1]
        _panel(draw, (left, top), name, points)
    return page


def _panel(draw: ImageDraw.ImageDraw, corner: tuple[int, int], title: str, points: Sequence[Point]) -> None:
    font = ImageFont.load_default(12)
    left, top = corner[0] + MARGIN + 16, corner[1] + MARGIN - 12
    right, bottom = corner[0] + PANEL[0] - 16, corner[1] + PANEL[1] - 28
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = min(ys), max(ys)
    if low == high:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    first, last = min(xs), max(max(xs), min(xs) + 1)

    def place(x: float, y: float) -> Point:
        across, up = (x - first) / (last - first), (y - low) / (high - low)
        return left + across * (right - left), bottom - up * (bottom - top)

    draw.text((left, corner[1] + 8), title, INK, font)
    for part in (0, 0.5, 1):
        value = low + part * (high - low)
        y = place(first, value)[1]
        draw.line([(left, y), (right, y)], GRID)
        draw.text((left - 6, y), f"{value:.3g}", INK, font, anchor="rm")
    for step in (first, last):
        draw.text((place(step, low)[0], bottom + 6), f"{step:g}", INK, font, anchor="ra" if step == last else "la")
    places = [place(x, y) for x, y in points]
    if len(places) > 1:
        draw.line(places, LINE, 2, joint="curve")
    x, y = places[-1]
    draw.ellipse([x - 3, y - 3, x + 3, y + 3], LINE)
