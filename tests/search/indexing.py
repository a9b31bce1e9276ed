"""Run as a program by the tests of kills and of concurrency: index FOLDER into DB, a little slowly.

python indexing.py DB FOLDER SECONDS_A_PICTURE
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bahumukha.search import PictureIndex
from bahumukha.zoo.fake import ColourEncoder


class SlowEncoder(ColourEncoder):
    """Takes its time for each picture, so that there is a middle to be killed in."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def encode_each(self, items: Iterable, load: Callable) -> Iterator[tuple[Any, Any]]:
        for result in super().encode_each(items, load):
            time.sleep(self.seconds)
            yield result


if __name__ == "__main__":
    database, folder, seconds = sys.argv[1:]
    report = PictureIndex(database, SlowEncoder(float(seconds))).index([folder])
    print(report.added, report.unchanged, len(report.failed))
