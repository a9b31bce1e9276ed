"""Values over time: jumps, slides, both units of time, texts that read back, errors of one line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bahumukha.errors import UsageError
from bahumukha.generate.schedules import Moment, Piece, Schedule, parse_moment, parse_schedule

PATIENT = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
"""On a machine that is busy with something else."""

AMOUNTS = st.floats(0, 1e6, allow_nan=False)
MOMENTS = st.builds(Moment, AMOUNTS) | st.builds(Moment, st.floats(0, 100), st.just(True))
VALUES = st.floats(-1e9, 1e9, allow_nan=False)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    times = sorted(draw(st.lists(MOMENTS, max_size=5)), key=lambda moment: moment.amount)
    later = [Piece(draw(VALUES), time, draw(st.booleans())) for time in times]
    return Schedule((Piece(draw(VALUES)), *later))


def values(text: Any, total: int) -> list[float]:
    schedule = parse_schedule(text)
    return [schedule.at(step, total) for step in range(total)]


@PATIENT
@given(schedules())
def test_a_schedule_reads_back_from_its_text(schedule: Schedule) -> None:
    assert parse_schedule(str(schedule)) == schedule


@PATIENT
@given(schedules(), st.integers(0, 300), st.integers(1, 200))
def test_values_stay_within_the_bounds(schedule: Schedule, step: int, total: int) -> None:
    low, high = schedule.bounds
    slack = 1e-9 * max(abs(low), abs(high))
    assert low - slack <= schedule.at(step, total) <= high + slack


@PATIENT
@given(VALUES, st.integers(0, 99))
def test_a_number_holds_throughout(value: float, step: int) -> None:
    assert parse_schedule(value).at(step, 100) == value
    assert parse_schedule(repr(value)).at(step, 100) == value


def test_a_jump_at_a_share_of_the_run_or_at_an_iteration() -> None:
    assert values("0.1, 0.01 at 75%", 8) == [0.1] * 6 + [0.01] * 2
    assert values([0.1, ["75%", 0.01]], 8) == [0.1] * 6 + [0.01] * 2
    for unit in ("3", "3 iterations", "3 steps"):
        assert values(f"0.1, 0.01 at {unit}", 5) == [0.1] * 3 + [0.01] * 2
    assert values([1, [2, 5], ["4 iterations", 7]], 5) == [1, 1, 5, 5, 7]


@pytest.mark.parametrize("total", [4, 20, 100, 200, 400])
@pytest.mark.parametrize("percent", [25, 50, 75])
def test_a_share_is_that_share_of_the_steps(total: int, percent: int) -> None:
    assert values(f"1, 0 at {percent}%", total).count(1) == total * percent // 100


def test_a_slide_is_straight_and_its_last_value_that_of_the_last_step() -> None:
    assert values("4 -> 0", 5) == [4, 3, 2, 1, 0]
    assert values("0 -> 8 at 4 iterations, 1 at 6", 8) == [0, 2, 4, 6, 8, 8, 1, 1]
    assert values("0 -> 2 at 50% -> 0 at 100%", 5) == [0, 1, 2, 1, 0]
    assert parse_schedule("4 -> 0").at(9, 5) == 0


def test_where_units_disagree_the_later_piece_rules() -> None:
    text = "3, 2 at 300 iterations, 1 at 50%"
    assert parse_schedule(text).at(150, 200) == 1
    assert parse_schedule(text).at(450, 1000) == 2
    assert values("1, 2 at 5, 3 at 50%", 4) == [1, 1, 3, 3]


def test_one_step_alone_has_the_last_value() -> None:
    assert values("0.2 -> 0.1", 1) == [0.1]


@PATIENT
@given(MOMENTS)
def test_a_moment_reads_back_from_its_text(moment: Moment) -> None:
    assert parse_moment(str(moment)) == moment


def test_how_long_a_moment_lasts() -> None:
    assert parse_moment("20 iterations").length(300) == 20
    assert parse_moment("5%").length(300) == 15
    assert parse_moment(7).length(300) == 7
    assert parse_moment("0%").length(300) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("fast", "'fast' on"),
        ("", "it takes a number"),
        ("0.1, 0.2", "0.2 in '0.1, 0.2' needs a time"),
        ("0.1 at 5%", "leave out 'at 5%'"),
        ("0.1, 0.2 at noon", "'noon' is no time"),
        ("0.1, 0.2 at 120%", "at most 100%"),
        ("0.1, 0.2 at -3", "from 0 up"),
        ("0.1,, 0.2 at 3", "',, 0.2 at 3' on"),
        ("0.1 -> 0.2, 0.3 at 50%", "0.2 in '0.1 -> 0.2, 0.3 at 50%' needs a time"),
        ("0.1, 0.2 at 50%, 0.3 at 20%", "'20%' in"),
        ("0.1, 1e999 at 3", "not allowed"),
        ("0.1, -0.2 at 3", "numbers from 0 up"),
        (-1, "numbers from 0 up"),
        (True, "no schedule"),
        (None, "no schedule"),
        ([], "begin with a number"),
        ([["50%", 1]], "begin with a number"),
        ([1, 2], "no pair"),
        ([1, ["50%", "x"]], "no pair"),
        ([1, "50%"], "no pair"),
    ],
)
def test_what_cannot_be_read_is_one_line_that_names_the_option(given: Any, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_schedule(given, "rate", least=0)
    assert str(raised.value).startswith("rate: ") and said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_bounds_of_an_option_are_named() -> None:
    for least, most, said in ((1, 64, "lie from 1 to 64"), (-float("inf"), 64, "up to 64")):
        with pytest.raises(UsageError, match=said):
            parse_schedule("32, 65 at 10%", "cutouts", least=least, most=most)
