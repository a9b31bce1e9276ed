"""Values that change while a picture is made (the rate, how many cutouts, the weight of a loss), and times.

    0.1                                  the same throughout
    0.1, 0.01 at 75%                     drops when three quarters of the steps are done
    0.1, 0.05 at 20 iterations           … or at step 20, counted from 0
    0.2 -> 0.02                          slides to its last value over the whole run
    0.05 -> 0.2 at 10%, 0.02 at 75%      a warm-up, then a drop

A comma jumps, an arrow slides in a straight line; a time is a share of the run or a number of iterations, and only
the last arrow may leave it out. In Python a list of jumps does as well, [0.1, ["75%", 0.01]].
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bahumukha.errors import UsageError

TIMES = "a time is '20 iterations' or '50%'"
VALUES = "it takes a number, '0.1, 0.01 at 75%' (jumps) or '0.2 -> 0.02 at 50%' (slides)"

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_TIME = re.compile(rf"({_NUMBER})\s*(%|iterations?|steps?|)")
_PIECE = re.compile(rf"\s*(,|->|)\s*({_NUMBER})(?:\s+at\s+([^,>]*?))?\s*(?=,|->|$)")


@dataclass(frozen=True)
class Moment:
    """A time in a run, or a length of it: "20 iterations" or "50%"."""

    amount: float
    percent: bool = False

    def position(self, total: int) -> float:
        """On the axis of a run's steps, 0 to `total` - 1: 0% is the first step and 100% the last."""
        return self.amount / 100 * (total - 1) if self.percent else self.amount

    def length(self, total: int) -> int:
        """How many of `total` steps it lasts, rounded, at least 1: what "every 20 iterations" or "every 5%" means."""
        return max(1, round(self.amount / 100 * total if self.percent else self.amount))

    def __str__(self) -> str:
        return f"{_short(self.amount)}%" if self.percent else f"{_short(self.amount)} iterations"


START = Moment(0.0)
END = Moment(100.0, percent=True)


@dataclass(frozen=True)
class Piece:
    """From `time` on the value holds; `slide`: it is reached by then, in a straight line from the piece before."""

    value: float
    time: Moment = START
    slide: bool = False


@dataclass(frozen=True)
class Schedule:
    """A value for each step of a run; the first piece begins at the start. Made by `parse_schedule`."""

    pieces: tuple[Piece, ...]

    def at(self, step: int, total: int) -> float:
        """The value at `step`, counted from 0, of a run of `total` steps; beyond the end the last value holds."""
        times = [piece.time.position(total) for piece in self.pieces]
        now = max(i for i, time in enumerate(times) if i == 0 or time <= step)  # of mixed units the later piece rules
        value = self.pieces[now].value
        if now + 1 == len(self.pieces) or not self.pieces[now + 1].slide:
            return value
        passed = (step - times[now]) / (times[now + 1] - times[now])
        return value + (self.pieces[now + 1].value - value) * passed

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value of any step."""
        values = [piece.value for piece in self.pieces]
        return min(values), max(values)

    def __str__(self) -> str:
        """The text that `parse_schedule` reads back as the same schedule."""
        text = _short(self.pieces[0].value)
        for piece in self.pieces[1:]:
            text += f"{' -> ' if piece.slide else ', '}{_short(piece.value)} at {piece.time}"
        return text


def parse_moment(given: str | float, option: str = "time") -> Moment:
    """`20`, "20 iterations", "20 steps" or "50%" -> the time. Raises UsageError naming the option."""
    found = None if isinstance(given, bool) else _TIME.fullmatch(str(given).strip())
    if found is None:
        raise UsageError(f"{option}: {given!r} is no time; {TIMES}")
    amount, percent = float(found[1]), found[2] == "%"
    if not 0 <= amount < math.inf or (percent and amount > 100):
        raise UsageError(f"{option}: {given!r} lies outside of the run; {TIMES}, from 0 up, and at most 100%")
    return Moment(amount, percent)


def parse_schedule(
    given: float | str | Sequence[Any], option: str = "schedule", *, least: float = -math.inf, most: float = math.inf
) -> Schedule:
    """A number, a text or a list as the module's head shows -> its schedule.

    Raises UsageError, naming the option, for what is none of these, for times that go back, and for a value outside
    [least, most].
    """
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        pieces = [Piece(float(given))]
    elif isinstance(given, str):
        pieces = _read_text(given, option)
    elif isinstance(given, Sequence):
        pieces = _read_list(given, option)
    else:
        raise UsageError(f"{option}: {given!r} is no schedule; {VALUES}")
    _check_order(pieces, given, option)
    for piece in pieces:
        if not math.isfinite(piece.value) or not least <= piece.value <= most:
            raise UsageError(f"{option}: {piece.value:g} in {given!r} is not allowed; {_range(least, most)}")
    return Schedule(tuple(pieces))


def _read_text(text: str, option: str) -> list[Piece]:
    text = text.strip()
    pieces: list[Piece] = []
    place = 0
    while place < len(text) or not pieces:
        found = _PIECE.match(text, place)
        if found is None or bool(found[1]) != bool(pieces):
            raise UsageError(f"{option}: {text!r} cannot be read from {text[place:].strip()!r} on; {VALUES}")
        mark, value, time = found.groups()
        place = found.end()
        if not pieces and time is not None:
            raise UsageError(f"{option}: the first value of {text!r} holds from the start; leave out 'at {time}'")
        if pieces and time is None and not (mark == "->" and place == len(text)):
            raise UsageError(f"{option}: {value} in {text!r} needs a time, as '{value} at 75%'; {TIMES}")
        moment = parse_moment(time, option) if time is not None else END if pieces else START
        pieces.append(Piece(float(value), moment, slide=mark == "->"))
    return pieces


def _read_list(given: Sequence[Any], option: str) -> list[Piece]:
    example = '[0.1, ["75%", 0.01]]'
    if not given or not _is_number(given[0]):
        raise UsageError(f"{option}: {given!r} has to begin with a number, its first value, as {example}")
    pieces = [Piece(float(given[0]))]
    for each in given[1:]:
        if isinstance(each, str) or not isinstance(each, Sequence) or len(each) != 2 or not _is_number(each[1]):
            raise UsageError(f"{option}: {each!r} is no pair of a time and a number, as in {example}")
        pieces.append(Piece(float(each[1]), parse_moment(each[0], option)))
    return pieces


def _short(value: float) -> str:
    """The shortest text that reads back as the same number."""
    return repr(value).removesuffix(".0")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_order(pieces: Sequence[Piece], given: Any, option: str) -> None:
    """Times of one unit have to rise; how iterations and percents compare depends on the run's length."""
    last: dict[bool, float] = {}
    for piece in pieces[1:]:
        if piece.time.amount < last.get(piece.time.percent, 0.0):
            raise UsageError(f"{option}: '{piece.time}' in {given!r} lies before the time that precedes it; sort them")
        last[piece.time.percent] = piece.time.amount


def _range(least: float, most: float) -> str:
    if math.isinf(least) and math.isinf(most):
        return "values are finite numbers"
    if math.isinf(most):
        return f"values are numbers from {least:g} up"
    return f"values are numbers up to {most:g}" if math.isinf(least) else f"values lie from {least:g} to {most:g}"
