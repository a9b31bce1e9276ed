"""Sets of templates by name: sentences around a class's name, whose embeddings are averaged (prompt ensembling).

Radford et al. (2021), section 3.1.4: 80 templates gave CLIP 3.5 points on ImageNet over "a photo of a {}.".
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from bahumukha.errors import UsageError

SHIPPED = {"openai80": "templates_openai_80.txt", "openai7": "templates_openai_7.txt"}
MODEL = "model"


def read_templates(given: str) -> list[str] | None:
    """`openai80`, `openai7`, or a file with a template a line -> templates; `model` -> None, the model's own.

    Blank lines and lines that begin with # do not count. Raises UsageError, naming --templates.
    """
    if given == MODEL:
        return None
    if given in SHIPPED:
        return _lines(files("bahumukha.evaluate").joinpath(SHIPPED[given]).read_text(encoding="utf-8"))
    try:
        templates = _lines(Path(given).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UsageError(
            f"--templates {given}: neither {', '.join([*SHIPPED, MODEL])} nor a file that can be read ({reason})"
        ) from error
    if not templates:
        raise UsageError(f"--templates {given}: holds no template; write one a line, as 'a photo of a {{}}.'")
    if bare := next((template for template in templates if "{}" not in template), None):
        raise UsageError(f"--templates {given}: {bare!r} has no {{}}, the place of the name")
    return templates


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
