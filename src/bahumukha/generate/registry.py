"""Losses, filters and whatever else is chosen by name: a plain dict a kind, and errors that say what there is.

    LOSSES: Registry = {"tv": TotalVariation, …}        a factory takes options by keyword and returns the thing

A user's own come in by `register`; an option's value is checked by the factory, which names the option.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from bahumukha.errors import UsageError

T = TypeVar("T")


def register(kind: str, table: dict[str, Callable[..., T]], name: str, factory: Callable[..., T]) -> None:
    """Put a factory into a table under a new name. Raises UsageError for a name that is taken or cannot be typed."""
    if not name.replace("-", "_").isidentifier():
        raise UsageError(f"{kind} {name!r}: a name is of letters, digits, - and _, and begins with a letter")
    if name in table:
        raise UsageError(f"{kind} {name!r}: there is one already; choose another name than {', '.join(table)}")
    table[name] = factory


def make(kind: str, table: Mapping[str, Callable[..., T]], name: str, options: Mapping[str, Any]) -> T:
    """What the factory called `name` builds from the options. Raises UsageError naming the kind, name and option."""
    if name not in table:
        raise UsageError(f"{kind} {name!r}: there is none{_meant(name, table)}; there are {', '.join(table)}")
    factory = table[name]
    parameters = inspect.signature(factory).parameters
    known = [key for key, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD]
    if len(known) == len(parameters):
        for option in options:
            if option not in known:
                allowed = f"it takes {', '.join(known)}" if known else "it takes none"
                raise UsageError(f"{kind} {name}: {option!r} is no option of it{_meant(option, known)}; {allowed}")
    for option in known:
        if parameters[option].default is inspect.Parameter.empty and option not in options:
            raise UsageError(f"{kind} {name}: its option {option!r} is missing; it has to be given")
    try:
        return factory(**options)
    except UsageError as error:
        raise UsageError(f"{kind} {name}: {error}") from error


def _meant(name: str, known: Mapping[str, Any] | list[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""


def check_number(option: str, value: Any, least: float = -math.inf, most: float = math.inf) -> None:
    """Raises UsageError unless the option's value is a finite number within [least, most]."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not least <= value <= most:
        bounds = f" from {least:g}" if least > -math.inf else ""
        bounds += f" to {most:g}" if most < math.inf else " up" if bounds else ""
        raise UsageError(f"{option}: {value!r} was given; it takes a number{bounds}")


def check_choice(option: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raises UsageError unless the option's value is one of the words allowed."""
    if value not in allowed:
        raise UsageError(f"{option}: {value!r} was given; it takes {', '.join(allowed[:-1])} or {allowed[-1]}")


def check_text(option: str, value: Any, example: str) -> None:
    """Raises UsageError unless the option's value is a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise UsageError(f"{option}: {value!r} was given; it takes a text, as {example!r}")
