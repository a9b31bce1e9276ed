"""What a run of the index tells on its way and at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class IndexProgress:
    """`done` of `total` pictures; total is None while folders are listed, and where packs of pictures are read."""

    done: int
    total: int | None
    is_listing: bool = False


@dataclass
class IndexReport:
    """What a run of the index did. Each file counts once; `notices` are sentences for the user."""

    added: int = 0
    updated: int = 0
    moved: int = 0
    removed: int = 0
    unchanged: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)  # (path, error)
    seconds: float = 0.0
    notices: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The object that `bahu index --json` prints."""
        counts = {name: getattr(self, name) for name in ("added", "updated", "moved", "removed", "unchanged")}
        failed = [{"path": path, "error": error} for path, error in self.failed]
        return {**counts, "failed": failed, "seconds": round(self.seconds, 3)}
