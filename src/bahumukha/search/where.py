"""The `--where` expression: a small language over a picture's metadata, compiled to parameterised SQL.

    date >= 2021-05 and (camera ~ canon or not folder = "Old scans") and width = 1000..4000

    expression = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation = "not" negation | "(" expression ")" | FIELD OPERATOR VALUE

A date names a period: `date = 2021-05` is any time in that May, `date > 2021` begins with 2022, and
`2020..2021-05` spans both ends. Text is compared without regard to case; `folder = cats` means a folder of
that name, or below one. What a picture does not know (no EXIF date) satisfies no comparison except `!=`, so
that `not X` is always exactly the rest of `X`. Values never enter the SQL text; field names come from a
table here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from os.path import expanduser

from bahumukha.errors import UsageError
from bahumukha.search.paths import fold

Condition = tuple[str, list[object]]
"""A condition over `files`, in the SQL that all stores speak (`records`), and its values."""

MAX_CONDITIONS = 100
MAX_DEPTH = 30  # of brackets and `not`; well below SQLite's and Python's own limits
_LARGEST = 2**63 - 1  # SQLite's integers

_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"[^"]*"|'[^']*')|(?P<operator>!=|<=|>=|==|=|<|>|~)|(?P<bracket>[()])"""
    r"""|(?P<word>[^\s()"'=!<>~]+))"""
)
_TYPES = {"jpg": "jpeg", "jpe": "jpeg", "jfif": "jpeg", "tif": "tiff", "heic": "heif", "hif": "heif"}


@dataclass(frozen=True)
class _Token:
    text: str
    kind: str  # quoted, operator, bracket, word, or end
    position: int  # of its first character, from 1

    @property
    def keyword(self) -> str:
        return self.text.lower() if self.kind == "word" else ""


def compile_where(expression: str) -> Condition:
    """`expression` as a condition over the table `files`.

    Raises UsageError that quotes the offending word and says what is allowed in its place.
    """
    return _Parser(_tokens(expression)).parse()


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            rest = text[at:].lstrip()
            allowed = "quotes must be closed" if rest[0] in "\"'" else "put a value with such signs in quotes"
            raise _error(_Token(rest[:20], "word", end - len(rest.rstrip()) + 1), allowed)
        kind = str(match.lastgroup)
        tokens.append(_Token(match[kind], kind, match.start(kind) + 1))
        at = match.end()
    return [*tokens, _Token("the end", "end", end + 1)]


def _error(token: _Token, allowed: str) -> UsageError:
    place = token.text if token.kind == "end" else f"{token.text!r} (character {token.position})"
    return UsageError(f"--where: cannot use {place}: {allowed}")


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self.next = 0
        self.conditions = 0

    def parse(self) -> Condition:
        condition = self.expression(0)
        if self.peek.kind != "end":
            raise _error(self.peek, "between conditions stands `and` or `or`")
        return condition

    @property
    def peek(self) -> _Token:
        return self.tokens[self.next]

    def take(self) -> _Token:
        token = self.peek
        self.next = min(self.next + 1, len(self.tokens) - 1)
        return token

    def expression(self, depth: int) -> Condition:
        return self.joined("or", self.conjunction, depth)

    def conjunction(self, depth: int) -> Condition:
        return self.joined("and", self.negation, depth)

    def joined(self, word: str, part: Callable[[int], Condition], depth: int) -> Condition:
        parts = [part(depth)]
        while self.peek.keyword == word:
            self.take()
            parts.append(part(depth))
        if len(parts) == 1:
            return parts[0]
        sql = f" {word.upper()} ".join(sql for sql, _ in parts)
        return f"({sql})", [value for _, values in parts for value in values]

    def negation(self, depth: int) -> Condition:
        if depth > MAX_DEPTH:
            raise _error(self.peek, f"at most {MAX_DEPTH} brackets and `not` inside each other")
        if self.peek.keyword == "not":
            self.take()
            return _negated(self.negation(depth + 1))
        if self.peek.text == "(" and self.peek.kind == "bracket":
            self.take()
            condition = self.expression(depth + 1)
            if self.peek.text != ")" or self.peek.kind != "bracket":
                raise _error(self.peek, "a bracket is still open; it needs `)`, or `and`, `or` to go on")
            self.take()
            return condition
        return self.comparison()

    def comparison(self) -> Condition:
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            raise _error(self.peek, f"at most {MAX_CONDITIONS} conditions are allowed")
        field, operator, value = self.take(), self.take(), self.take()
        if field.keyword not in FIELDS:
            raise _error(field, f"a field is expected, one of {', '.join(sorted(FIELDS))}")
        compare, allowed = FIELDS[field.keyword]
        if operator.kind != "operator" or operator.text not in allowed:
            raise _error(operator, f"{field.keyword} is followed by one of {' '.join(allowed)}")
        if value.kind not in ("word", "quoted"):
            raise _error(value, f"a value for {field.keyword} is expected; put it in quotes if it has signs")
        if value.kind == "quoted":
            value = _Token(value.text[1:-1], "quoted", value.position)
        if not value.text:
            raise _error(value, "an empty value matches nothing in particular")
        base = "=" if operator.text in ("!=", "==") else operator.text
        sql, values = compare(field.keyword, base, value)
        condition = f"({sql})", values
        return _negated(condition) if operator.text == "!=" else condition


def _negated(condition: Condition) -> Condition:
    """The exact rest: what a condition leaves unknown (NULL) it does not hold for. IS TRUE stands nowhere else, since
    no index of a database serves a comparison inside it."""
    sql, values = condition
    return f"(NOT {sql} IS TRUE)", values


def _ordered(column: str, operator: str, low: object, high: object) -> Condition:
    """Compare with the half-open interval [low, high)."""
    return {
        "=": (f"({column} >= ? AND {column} < ?)", [low, high]),
        "<": (f"({column} < ?)", [low]),
        "<=": (f"({column} < ?)", [high]),
        ">": (f"({column} >= ?)", [high]),
        ">=": (f"({column} >= ?)", [low]),
    }[operator]


def _ends(value: _Token) -> tuple[str, str]:
    low, dots, high = value.text.partition("..")
    return (low, high) if dots else (value.text, value.text)


def _number(column: str, operator: str, value: _Token) -> Condition:
    low, high = _ends(value)
    if not all(re.fullmatch(r"[0-9]{1,18}", end) for end in (low, high)):
        raise _error(value, f"{column} is a whole number of pixels such as 1920, or a range such as 800..1920")
    return _ordered(column, operator, int(low), min(int(high) + 1, _LARGEST))


def _date(_: str, operator: str, value: _Token) -> Condition:
    try:
        (first, _end), (_start, last) = map(_period, _ends(value))
    except ValueError:
        raise _error(value, "a date is 2021, 2021-05 or 2021-05-03, and a range is 2020..2021-05") from None
    return _ordered("taken", operator, first, last)


def _period(text: str) -> tuple[str, str]:
    """First day of a year, month or day, and the first day after it, as ISO text. Raises ValueError."""
    if not re.fullmatch(r"[0-9]{4}(-[0-9]{2}){0,2}", text):
        raise ValueError(text)
    year, *rest = map(int, text.split("-"))
    first = date(year, *(rest + [1, 1])[:2])
    if len(rest) == 2:
        after = None if first == date.max else first + timedelta(days=1)
    elif len(rest) == 1:
        after = _year(year + 1) if first.month == 12 else date(year, first.month + 1, 1)
    else:
        after = _year(year + 1)
    return first.isoformat(), after.isoformat() if after else "9999-12-32"  # sorts after the last day


def _year(year: int) -> date | None:
    return date(year, 1, 1) if year <= date.max.year else None


def _text(column: str, operator: str, value: _Token) -> Condition:
    wanted = fold(_storable(value.text))
    if operator == "~":
        return f"instr(fold({column}), ?) > 0", [wanted]
    return f"({column} IS NOT NULL AND fold({column}) = ?)", [wanted]


def _type(_: str, operator: str, value: _Token) -> Condition:
    wanted = fold(_storable(value.text)).lstrip(".")
    return _text("format", operator, _Token(_TYPES.get(wanted, wanted), "word", value.position))


def _folder(_: str, operator: str, value: _Token) -> Condition:
    """A name or a relative path is found anywhere along the folder's path; an absolute one at its start."""
    if operator == "~":
        return _text("folder", operator, value)
    wanted = fold(_storable(expanduser(value.text))).replace("\\", "/")
    absolute = wanted.startswith("/") or wanted[1:2] == ":"  # C:/pictures
    needle = f"/{wanted.strip('/')}/" if wanted.strip("/") else "/"
    path = "'/' || trim(replace(fold(folder), '\\', '/'), '/') || '/'"
    return f"instr({path}, ?) {'= 1' if absolute else '> 0'}", [needle]


def _storable(text: str) -> str:
    """Lone surrogates cannot go into a database; the ledger's own text has U+FFFD in their place."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


_ORDERS = ("=", "!=", "<", "<=", ">", ">=", "==")
_TEXTS = ("=", "!=", "~", "==")
FIELDS: dict[str, tuple[Callable[[str, str, _Token], Condition], tuple[str, ...]]] = {
    "date": (_date, _ORDERS),
    "taken": (_date, _ORDERS),
    "width": (_number, _ORDERS),
    "height": (_number, _ORDERS),
    "folder": (_folder, _TEXTS),
    "camera": (_text, _TEXTS),
    "name": (_text, _TEXTS),
    "type": (_type, _TEXTS),
}
"""Field -> how a comparison compiles, and the operators it takes."""
