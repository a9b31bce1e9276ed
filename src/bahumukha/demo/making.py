"""Pictures made from sentences, by the very commands that the page names.

Each runs in a process of its own: making needs PyTorch, and the rest of the demo does not.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bahumukha.errors import BahumukhaError
from bahumukha.runtime import CREATING

MADE = "made"
"""Folder of what is made, in that of the demo."""


@dataclass(frozen=True)
class Making:
    """One call of `bahu generate`."""

    sentence: str
    how: str
    """A sentence for people, of what the command does."""
    options: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The command's words after `bahu`, as they are run in the demo's folder."""
        return ("generate", self.sentence, *self.options, "--out", MADE)

    @property
    def command(self) -> str:
        """As one types it."""
        return shlex.join(("bahu", *self.words))


@dataclass(frozen=True)
class Made:
    """What came of it: the pictures, best first."""

    making: Making
    pictures: tuple[Path, ...]


MAKINGS = (
    Making(
        "a red apple",
        "Painted by following CLIP's gradient through the picture codec, from a red disc on white.",
        ("--quality", "draft", "--set", "start.colour=named", "--set", "matte.colour=white"),
    ),
    Making(
        "a photo of a strawberry",
        "The same, from nothing: the picture fills itself.",
        ("--quality", "draft"),
    ),
    Making(
        "an orange car",
        "Drawn out of noise by unCLIP in seconds, six times; those that CLIP finds fit best come first.",
        ("--with", "unclip", "-n", "6"),
    ),
    Making(
        "a green tree",
        "Told token by token by DALL-E, after the words of the sentence, and decoded; again the best of six first.",
        ("--with", "dalle", "-n", "6"),
    ),
)


def can_make() -> bool:
    """Whether what draws is installed; nothing is imported."""
    return all(find_spec(name) is not None for name in CREATING)


def make(makings: Sequence[Making], folder: Path) -> Iterator[Made]:
    """Run the commands in `folder`, one after another; their progress is on stderr.

    Raises BahumukhaError naming the command that fails, whose own line is on stderr too.
    """
    shutil.rmtree(folder / MADE, ignore_errors=True)  # an earlier demo's
    for making in makings:
        ran = subprocess.run(
            [sys.executable, "-m", "bahumukha", *making.words, "--json"],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        if ran.returncode:
            raise BahumukhaError(f"{making.command}: ended with {ran.returncode}")
        told = [json.loads(line) for line in ran.stdout.splitlines()]
        yield Made(making, tuple(folder / each["path"] for each in told))
