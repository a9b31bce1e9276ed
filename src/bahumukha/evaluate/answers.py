"""Which class each picture was taken for: the table of classes, and the picture of what is confused with what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from bahumukha.sheets import FAINT, INK, PAPER, elided, font_for

MOST_CLASSES = 40
"""Classes that a confusion picture has room for."""
OTHERS = "others"
CELL, TEXT, GAP = 26, 13, 16
LONGEST_NAME = 190
"""Pixels for a class's name beside or above the cells."""
RIGHT, WRONG = np.array([46, 125, 50]), np.array([198, 40, 40])
"""sRGB of a row that went all to one cell, on the diagonal and off it."""


@dataclass(frozen=True)
class ClassScore:
    """One class: its photographs, how many were named right, and what the others were taken for most often."""

    name: str
    photographs: int
    right: int
    mistaken_for: str | None = None
    mistaken: int = 0


@dataclass(frozen=True)
class Answers:
    """`names` competed; picture i shows `truth[i]` and was taken for `answer[i]`, both int (N,)."""

    names: tuple[str, ...]
    truth: np.ndarray
    answer: np.ndarray

    def matrix(self) -> np.ndarray:
        """Counts int (names, names): row = what it shows, column = what it was taken for."""
        counts = np.zeros((len(self.names),) * 2, int)
        np.add.at(counts, (self.truth, self.answer), 1)
        return counts

    def per_class(self) -> list[ClassScore]:
        """The classes that have photographs, in the order of the names; equal mistakes: the first name."""
        scores = []
        for row in np.unique(self.truth):
            taken_for = self.answer[self.truth == row]
            wrong = Counter(sorted(taken_for[taken_for != row].tolist())).most_common(1)
            mistaken_for, mistaken = (self.names[wrong[0][0]], wrong[0][1]) if wrong else (None, 0)
            right = int((taken_for == row).sum())
            scores.append(ClassScore(self.names[row], len(taken_for), right, mistaken_for, mistaken))
        return scores

    def grouped(self, group_of: Mapping[int, str]) -> Answers:
        """The same pictures over groups of classes (class -> its group; those without one are `others`)."""
        of = [group_of.get(i, OTHERS) for i in range(len(self.names))]
        names = tuple(dict.fromkeys([*group_of.values(), OTHERS]))
        place = np.array([names.index(group) for group in of])
        return Answers(names, place[self.truth], place[self.answer])

    def most_confused(self, most: int = MOST_CLASSES) -> list[int]:
        """At most `most` classes in the order of the names: those in the pairs that were confused most often.

        Where fewer were confused, those with the most photographs fill the places.
        """
        pairs = Counter((int(t), int(a)) for t, a in zip(self.truth, self.answer, strict=True) if t != a)
        chosen: dict[int, None] = {}
        for pair, _ in sorted(pairs.items(), key=lambda item: (-item[1], item[0])):
            if len(chosen | dict.fromkeys(pair)) <= most:
                chosen |= dict.fromkeys(pair)
        for row, _ in Counter(self.truth.tolist()).most_common():
            if len(chosen) >= most:
                break
            chosen[row] = None
        return sorted(chosen)


def confusion_picture(answers: Answers, title: str = "What is taken for what") -> Image.Image:
    """A grid: a row for each class that is shown, a column for each answer; the number of photographs in each cell.

    A cell's strength is its part of the row; green on the diagonal (right), red off it. Of more than MOST_CLASSES
    classes the most confused ones are drawn; a row's photographs that went to others are counted at its end. -> RGB.
    """
    matrix = answers.matrix()
    kept = list(range(len(answers.names))) if len(answers.names) <= MOST_CLASSES else answers.most_confused()
    names, counts = [answers.names[i] for i in kept], matrix[np.ix_(kept, kept)]
    elsewhere = matrix[kept].sum(1) - counts.sum(1)
    if elsewhere.any():
        counts = np.column_stack([counts, elsewhere])
    columns = [*names, "(another)"][: counts.shape[1]]
    left = GAP + max(_width(name) for name in names) + 8
    slant = max(_width(name) for name in columns)
    top = 4 * GAP + slant
    notes = _notes(len(kept), len(answers.names))
    width = max(left + CELL * len(columns) + 2 * GAP, _width(title) * 2, *(_width(note) + 2 * GAP for note in notes))
    page = Image.new("RGB", (width, top + CELL * len(names) + GAP + 20 * len(notes) + GAP // 2), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((GAP, GAP), title, fill=INK, font=font_for(title, TEXT + 5))
    for place, name in enumerate(columns):
        _upright(page, name, left + CELL * place + CELL // 2, top - 6)
    for row, name in enumerate(names):
        y = top + CELL * row
        font = font_for(name, TEXT)
        draw.text((left - 8, y + CELL // 2), elided(name, font, LONGEST_NAME), fill=INK, font=font, anchor="rm")
        total = counts[row].sum()
        for column, count in enumerate(counts[row]):
            _cell(draw, left + CELL * column, y, int(count), count / total if total else 0.0, row == column)
    for line, note in enumerate(notes):
        y = top + CELL * len(names) + GAP + 20 * line
        draw.text((GAP, y), note, fill=FAINT, font=font_for(note, TEXT))
    return page


def _notes(drawn: int, competed: int) -> list[str]:
    notes = ["Row: what the photograph shows. Column: what it was taken for. Green is right, red is wrong."]
    if drawn < competed:
        notes.append(f"The {drawn} most confused of {competed:,} classes.")
    return notes


def _cell(draw: ImageDraw.ImageDraw, x: int, y: int, count: int, part: float, right: bool) -> None:
    box = (x + 1, y + 1, x + CELL - 2, y + CELL - 2)
    if not count:
        draw.rectangle(box, fill="#eceae6" if right else "#f7f6f3")
        return
    strength = 0.25 + 0.75 * part  # one of many is still seen
    colour = np.rint(255 + strength * ((RIGHT if right else WRONG) - 255)).astype(int)
    draw.rectangle(box, fill=tuple(colour.tolist()))
    text, ink = str(count), "#ffffff" if part > 0.45 else INK
    size = TEXT if count < 100 else TEXT - 3
    draw.text((x + CELL // 2, y + CELL // 2), text, fill=ink, font=font_for(text, size), anchor="mm")


def _upright(page: Image.Image, name: str, x: int, bottom: int) -> None:
    """Write a name from below upwards, its end at (x, bottom)."""
    font = font_for(name, TEXT)
    text = elided(name, font, LONGEST_NAME)
    strip = Image.new("RGB", (_width(name) + 2, CELL), PAPER)
    ImageDraw.Draw(strip).text((0, CELL // 2), text, fill=INK, font=font, anchor="lm")
    turned = strip.rotate(90, expand=True)
    page.paste(turned, (x - CELL // 2, bottom - turned.height))


def _width(text: str) -> int:
    font = font_for(text, TEXT)
    return int(font.getlength(elided(text, font, LONGEST_NAME))) + 1
