"""The photographs that ship, with what each shows and who made it. `CREDITS.md` beside them is the one record.

## file name
- Shows: one line, good as a text for those who cannot see the picture
- Author, Licence, From, Statement: one line each
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bahumukha.errors import UsageError

CREDITS = "CREDITS.md"
_FIELD = re.compile(r"- (Shows|Author|Licence|From|Statement): (.+)")


@dataclass(frozen=True)
class Photo:
    """A photograph on disk and its credit; `statement` quotes what grants the licence."""

    path: Path
    shows: str
    author: str
    licence: str
    source: str
    statement: str

    @property
    def name(self) -> str:
        """The file's name, such as `coffee-cup.jpg`."""
        return self.path.name


def shipped_photos() -> list[Photo]:
    """The photographs inside the package, in the order of their names; all public domain or CC0."""
    return read_credits(Path(__file__).parents[1] / "demo_photos")


def read_credits(folder: Path) -> list[Photo]:
    """The photographs that `CREDITS.md` in `folder` tells of. Raises UsageError for a gap in it."""
    file = folder / CREDITS
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror}); it must list the photographs") from error
    return [_photo(folder, section) for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]]


def _photo(folder: Path, section: str) -> Photo:
    name, _, rest = section.partition("\n")
    path = folder / name.strip()
    fields = dict(_FIELD.findall(rest))
    missing = sorted({"Shows", "Author", "Licence", "From", "Statement"} - fields.keys())
    if missing:
        raise UsageError(f"{folder / CREDITS}: {path.name} has no line for {', '.join(missing)}")
    if not path.is_file():
        raise UsageError(f"{folder / CREDITS}: {path.name} is listed, but there is no such file")
    return Photo(path, fields["Shows"], fields["Author"], fields["Licence"], fields["From"], fields["Statement"])
