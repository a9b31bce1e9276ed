"""A TOML file -> dataclasses, every key and type checked, with errors of one line that name the file and the key.

    [optimisation]
    steps = 2000            `--set optimisation.steps=500` overrides it

The dataclass is the documentation: an option is a field, its default the default, its annotation what is allowed.
Relative paths are relative to the file they stand in; those of `--set` to the folder the user is in. A model's folder
may be either.
"""

from __future__ import annotations

import difflib
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from bahumukha.errors import UsageError
from bahumukha.zoo.folder import CONFIG, available

T = TypeVar("T")
ModelName = Annotated[str, "model"]
"""Name of a model, or its folder: one that is there becomes a whole path, good from anywhere."""


class _TypedHere(str):
    """A text given on the command line: as a path it is relative to the current folder."""


def read_config(kind: type[T], file: Path, overrides: Sequence[str] = ()) -> T:
    """The dataclass `kind` from a TOML file and `key.of.section=value` overrides. Raises UsageError."""
    return from_table(kind, overridden(read_table(file), overrides), str(file), file.parent)


def read_table(file: Path) -> dict[str, Any]:
    """What a TOML file holds, unchecked. Raises UsageError."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror or error})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: not TOML ({error})") from error


def overridden(table: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of the table with `a.b=value` set; a value is TOML, or else text. Raises UsageError."""
    table = _copied(table)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not all(part.strip() for part in key.split(".")):
            raise UsageError(f"--set {text!r}: it takes key=value, as --set optimisation.steps=500")
        *way, last = [part.strip() for part in key.split(".")]
        place: Any = table
        for part in way:
            place = _entered(place, part, text)
        if isinstance(place, list):
            place[_number(place, last, text)] = _value(value)
        else:
            place[last] = _value(value)
    return table


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


def _entered(place: Any, part: str, text: str) -> Any:
    inner = place[_number(place, part, text)] if isinstance(place, list) else place.setdefault(part, {})
    if not isinstance(inner, (dict, list)):
        raise UsageError(f"--set {text!r}: {part} is a value and holds no further keys")
    return inner


def _number(place: list, part: str, text: str) -> int:
    if not part.isdigit() or int(part) >= len(place):
        raise UsageError(f"--set {text!r}: {part!r} is not a number from 0 to {len(place) - 1}")
    return int(part)


def _value(text: str) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    return _TypedHere(value) if isinstance(value, str) else value


# --- checking ---------------------------------------------------------------------------------------------


def from_table(kind: type[T], table: Mapping[str, Any], file: str, base: Path, key: str = "") -> T:
    """A dataclass from the table called `key` of `file`. Raises UsageError naming the file and the key at fault."""
    hints = get_type_hints(kind, include_extras=True)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in table:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(f"{file}: {_joined(key, name)} is no option{meant} There are: {', '.join(known)}")
    missing = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]  # type: ignore[arg-type]
    for name in missing:
        if name not in table:
            raise UsageError(f"{file}: {_joined(key, name)} is missing")
    values = {name: _checked(hints[name], value, file, base, _joined(key, name)) for name, value in table.items()}
    try:
        return kind(**values)
    except (ValueError, UsageError) as error:  # the dataclass's own rules; it names the field
        raise UsageError(f"{file}: {f'[{key}] ' if key else ''}{error}") from error


def to_table(config: Any) -> dict[str, Any]:
    """The inverse of `from_table`, in plain values that JSON holds; what is None is left out."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items() if each is not None}
        if isinstance(value, (list, tuple)):
            return [plain(each) for each in value]
        return str(value) if isinstance(value, Path) else value

    return plain(asdict(config))


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _checked(hint: Any, value: Any, file: str, base: Path, key: str) -> Any:
    """The value as the annotation has it: lists become tuples, texts paths, tables dataclasses."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value, file, base, key)
    if is_dataclass(hint):
        _must(isinstance(value, Mapping), file, key, value, f"a table ([{key}])")
        return from_table(hint, value, file, base, key)  # type: ignore[arg-type]
    if origin is Literal:
        _must(value in arguments, file, key, value, "one of " + ", ".join(map(repr, arguments)))
        return value
    if origin in (tuple, list):
        return _sequence(origin, arguments, value, file, base, key)
    if origin is dict:
        _must(isinstance(value, Mapping), file, key, value, f"a table ([{key}])")
        return {k: _checked(arguments[1], v, file, base, _joined(key, k)) for k, v in value.items()}
    if hint is Path:
        _must(isinstance(value, (str, Path)) and bool(str(value)), file, key, value, "a path, in quotes")
        return _whole(value, base)
    if hint == ModelName:
        _must(isinstance(value, str), file, key, value, "a model's name or folder, in quotes")
        return _model(value, base)
    if hint is float:
        _must(type(value) in (int, float), file, key, value, "a number")
        return float(value)
    names = {int: "a whole number", bool: "true or false", str: "a text, in quotes"}
    _must(isinstance(value, str) if hint is str else type(value) is hint, file, key, value, names[hint])
    return str(value) if hint is str else value


def _whole(path: str | Path, base: Path) -> Path:
    return (Path.cwd() if isinstance(path, _TypedHere) else base.absolute()) / Path(path).expanduser()


def _model(name: str, base: Path) -> str:
    if name and name not in available():
        for folder in (_whole(name, base), Path.cwd() / name):
            if (folder / CONFIG).is_file():
                return str(folder)
    return str(name)


def _one_of(kinds: Sequence[Any], value: Any, file: str, base: Path, key: str) -> Any:
    """Of several dataclasses, the one that knows most of the table's keys, among those of its `kind` if it says one; of
    plain types, the first that takes it."""
    if value is None and type(None) in kinds:
        return None
    kinds = [kind for kind in kinds if kind is not type(None)]
    tables = [kind for kind in kinds if is_dataclass(kind)]
    if isinstance(value, Mapping) and tables:
        tables = [each for each in tables if value.get("kind") in _kinds(each)] or tables
        known = [{field.name for field in fields(kind)} for kind in tables]
        strangers = [len(set(value) - names) for names in known]
        return _checked(tables[strangers.index(min(strangers))], value, file, base, key)
    errors: list[UsageError] = []
    for kind in kinds:
        try:
            return _checked(kind, value, file, base, key)
        except UsageError as error:
            errors.append(error)
    raise errors[0]


def _kinds(table: Any) -> tuple[Any, ...]:
    """What a dataclass allows as its `kind`."""
    return get_args(get_type_hints(table).get("kind"))


def _sequence(origin: type, arguments: tuple[Any, ...], value: Any, file: str, base: Path, key: str) -> Any:
    _must(isinstance(value, (list, tuple)), file, key, value, "a list, as [1, 2]")
    if origin is tuple and Ellipsis not in arguments:
        _must(len(value) == len(arguments), file, key, value, f"a list of {len(arguments)} values")
        return tuple(
            _checked(hint, v, file, base, f"{key}.{i}")
            for i, (hint, v) in enumerate(zip(arguments, value, strict=True))
        )
    return origin(_checked(arguments[0], v, file, base, f"{key}.{i}") for i, v in enumerate(value))


def _must(fits: bool, file: str, key: str, value: Any, allowed: str) -> None:
    if not fits:
        raise UsageError(f"{file}: {key} is {value!r}; it must be {allowed}")
