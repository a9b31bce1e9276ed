"""What a kind of job is: a generator of what is to be told of it (`making` has ours, `worker` runs them)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bahumukha.protocols import Step


@dataclass(frozen=True)
class Made:
    """A file that is finished: its name in the job's folder, and what is to be told of it."""

    name: str
    facts: Mapping[str, Any]


News = Step | Made | Mapping[str, Any]
"""What a job yields: a step with its pictures, a finished file, or other progress in plain values."""
Kind = Callable[[Mapping[str, Any], Path], Iterator[News]]
"""Settings and the job's folder -> news. Closing it stops the work."""
