"""`--where`: what it means, what its errors say, and that values never become SQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bahumukha.errors import UsageError
from bahumukha.search.store import Ledger, Picture
from bahumukha.search.where import FIELDS, MAX_CONDITIONS, MAX_DEPTH, compile_where

PICTURES = {
    "/home/me/Cats/fat.JPG": Picture(
        width=4000, height=3000, format="JPEG", taken="2021-05-03T10:00:00", camera="Canon EOS 5D"
    ),
    "/home/me/cats/old/b.png": Picture(width=640, height=480, format="PNG", taken="2020-12-31T23:59:59"),
    "/home/me/dogs/ÉTÉ.heic": Picture(
        width=800, height=800, format="HEIF", taken="2022-01-01T00:00:00", camera="Apple iPhone"
    ),
    "/home/me/scan.tif": Picture(width=100, height=99999, format="TIFF"),
}
NAMES = {path.rsplit("/", 1)[1][0]: path for path in PICTURES}  # f, b, É, s


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with Ledger(tmp_path_factory.mktemp("where") / "index.db", create=True) as ledger:
        with ledger.writing():
            for path, picture in PICTURES.items():
                ledger.put(path, 1, 1, picture)
        yield ledger


def ask(ledger: Ledger, expression: str) -> str:
    sql, values = compile_where(expression)
    names = [row[0] for row in ledger.select(f"SELECT name FROM files WHERE {sql} ORDER BY id", values)]
    return "".join(name[0] for name in names)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("date = 2021", "f"),
        ("taken = 2021-05-03", "f"),
        ("date = 2020-12", "b"),
        ("date > 2020", "fÉ"),
        ("date >= 2020", "fbÉ"),
        ("date < 2021", "b"),
        ("date <= 2021", "fb"),
        ("date = 2020..2021-05-03", "fb"),
        ("date != 2021", "bÉs"),
        ("not date = 2021", "bÉs"),
        ("width >= 800 and width <= 4000", "fÉ"),
        ("width = 640..800", "bÉ"),
        ("height > 4000", "s"),
        ("width==640", "b"),
        ("folder = cats", "fb"),
        ("folder = old", "b"),
        ("folder = cats/old", "b"),
        ("folder = /home/me/dogs", "É"),
        ("folder = /home", "fbÉs"),
        ("folder = /me", ""),
        ("folder = cat", ""),
        ("folder ~ cat", "fb"),
        ("folder != cats", "És"),
        ('camera ~ "eos 5d"', "f"),
        ("camera ~ canon or camera ~ apple", "fÉ"),
        ("camera != 'Canon EOS 5D'", "bÉs"),
        ("type = jpg", "f"),
        ("type = .jpeg", "f"),
        ("type = heic or type = tif", "És"),
        ("name ~ été", "É"),
        ("name = été.heic", "É"),
        ("name ~ %", ""),
        ("name ~ _", ""),
        ("type = png or type = jpeg and width = 1", "b"),
        ("(type = png or type = jpeg) and width = 640", "b"),
        ("NOT (type = png OR type = jpeg) AND NOT camera ~ apple", "s"),
        ("not not type = png", "b"),
        ('name ~ "\'; drop table files; --"', ""),
    ],
)
def test_meaning(ledger: Ledger, expression: str, expected: str) -> None:
    assert ask(ledger, expression) == expected


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("widht = 3", ["'widht' (character 1)", "camera", "width"]),
        ("width ~ 3", ["'~' (character 7)", "<="]),
        ("camera > canon", ["'>'", "= != ~"]),
        ("width = big", ["'big' (character 9)", "1920"]),
        ("width = -3", ["'-3'"]),
        ("date = 2021-13", ["'2021-13'", "2021-05"]),
        ("date = 2021-02-30", ["'2021-02-30'"]),
        ("date = 0000", ["'0000'"]),
        ("date = yesterday", ["'yesterday'", "2020..2021-05"]),
        ("width = 3 height = 4", ["'height' (character 11)", "`and`"]),
        ("(width = 3", ["the end", ")"]),
        ("width = 3)", ["')'"]),
        ("width =", ["the end", "value"]),
        ("", ["the end", "field"]),
        ("name ~ 'open", ["'open", "closed"]),
        ("name ~ ''", ["empty"]),
        ("and", ["'and'"]),
        ("(" * (MAX_DEPTH + 2) + "width = 1", [str(MAX_DEPTH)]),
        ("not " * 5000 + "width = 1", [str(MAX_DEPTH)]),
        (" or ".join(["width = 1"] * (MAX_CONDITIONS + 1)), [str(MAX_CONDITIONS)]),
    ],
)
def test_errors_point_at_the_word_and_say_what_is_allowed(expression: str, parts: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        compile_where(expression)
    message = str(error.value)
    assert message.startswith("--where: ") and "\n" not in message
    assert all(part in message for part in parts), message


@pytest.mark.parametrize("date", ["9999", "9999-12", "9999-12-31", "0001"])
def test_ends_of_the_calendar(ledger: Ledger, date: str) -> None:
    for operator in ("=", "<", "<=", ">", ">=", "!="):
        ask(ledger, f"date {operator} {date}")


def test_the_deepest_and_longest_allowed_runs_in_sqlite(ledger: Ledger) -> None:
    assert ask(ledger, "not " * MAX_DEPTH + "width = 640") == "b"
    assert ask(ledger, " and ".join(["(name ~ b)"] * MAX_CONDITIONS)) == "b"


PIECES = st.sampled_from(
    [
        *FIELDS,
        "=",
        "!=",
        "<",
        "~",
        ">=",
        "(",
        ")",
        "and",
        "or",
        "not",
        "2021",
        "2021-05..2022",
        "640",
        "'x y'",
        '"',
    ]
)


@settings(max_examples=300, deadline=None)
@given(expression=st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=14).map(" ".join)))
def test_any_text_compiles_to_working_sql_or_is_a_usage_error(ledger: Ledger, expression: str) -> None:
    try:
        result = ask(ledger, expression)
    except UsageError as error:
        assert str(error).startswith("--where: ")
    else:
        assert set(result) <= set(NAMES)


@settings(max_examples=200, deadline=None)
@given(value=st.text(min_size=1, max_size=40).filter(lambda text: '"' not in text))
def test_values_never_enter_the_sql(value: str) -> None:
    for field in ("name", "folder", "camera", "type"):
        sql, values = compile_where(f'{field} = "{value}"')
        plain, _ = compile_where(f'{field} = "plain"') if not value.startswith(("/", "~")) else (sql, [])
        assert sql.count("?") == len(values) == 1
        if field != "folder":
            assert sql == plain


_COMPARISONS = st.sampled_from(
    ["date = 2021", "date != 2021", "width < 700", "camera ~ a", "camera != canon", "folder = cats", "type = png"]
)
SOME = st.recursive(
    _COMPARISONS,
    lambda inner: st.one_of(
        inner.map("not {}".format),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: f"({' '.join(parts)})"),
    ),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None)
@given(SOME)
def test_not_is_the_exact_rest(ledger: Ledger, condition: str) -> None:
    assert sorted(ask(ledger, condition) + ask(ledger, f"not {condition}")) == sorted("fbÉs")


@settings(max_examples=100, deadline=None)
@given(SOME, SOME)
def test_and_or_not_are_those_of_sets(ledger: Ledger, first: str, second: str) -> None:
    one, other = set(ask(ledger, first)), set(ask(ledger, second))
    assert set(ask(ledger, f"{first} and {second}")) == one & other
    assert set(ask(ledger, f"{first} or {second}")) == one | other
    assert set(ask(ledger, f"{first} and not {second}")) == one - other


def test_signs_that_need_quotes_are_said_to() -> None:
    with pytest.raises(UsageError, match="cannot use '!' .character 11.: put a value with such signs in quotes"):
        compile_where("name = wow!")
    with pytest.raises(UsageError, match="quotes must be closed"):
        compile_where("name = 'wow")
