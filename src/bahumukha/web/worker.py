"""The process that does what takes long: python -m bahumukha.web.worker MODULE

Jobs come as lines of JSON on standard input and are done one after another; what is to be told of them goes to standard
output (`process` has the form of both). MODULE has `KINDS`, the ways of doing a job by name; it is imported with the
first job, and models stay loaded from one to the next. When standard input ends, the server is gone, and so is this.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bahumukha.errors import BahumukhaError
from bahumukha.images import save_image, to_uint8
from bahumukha.protocols import Step
from bahumukha.web.kinds import Kind, Made

PREVIEW = "preview.jpg"
PREVIEW_SECONDS = 0.5
"""Between two previews where steps are faster."""
IDLE_SECONDS = 600.0
"""Without a job the process ends, and gives back the memory of its models."""
NICENESS = 5
"""So that searching has the right of way."""


def main() -> None:
    """Work until standard input ends, or nothing has come for a while."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    # What a library prints must not come between the lines of JSON.
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(message: dict[str, Any]) -> None:
        lines.write(json.dumps(message) + "\n")
        lines.flush()

    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    stopped: set[str] = set()
    threading.Thread(target=_listen, args=(jobs, stopped), daemon=True).start()
    while True:
        try:
            job = jobs.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            return
        id = str(job["job"])
        tell({"job": id, **_done(job, lambda news, id=id: tell({"job": id, **news}), lambda id=id: id in stopped)})  # type: ignore[misc]


def _listen(jobs: queue.SimpleQueue[dict[str, Any]], stopped: set[str]) -> None:
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "stop" in message:
            stopped.add(str(message["stop"]))
        else:
            jobs.put(message)
    os._exit(0)  # also out of the middle of a step: no one waits for it


def _done(job: Mapping[str, Any], tell: Callable[[dict[str, Any]], None], stops: Callable[[], bool]) -> dict[str, Any]:
    """Do one job, and say how it ended."""
    folder = Path(job["folder"])
    try:
        kinds: Mapping[str, Kind] = importlib.import_module(sys.argv[1]).KINDS
        with closing(kinds[job["kind"]](job["settings"], folder)) as steps:  # type: ignore[type-var]
            due = 0.0
            while not stops():
                news = next(steps, None)
                if news is None:
                    return {"event": "done"}
                if isinstance(news, Step):
                    now = time.monotonic()
                    is_due = now >= due or news.index + 1 == news.total
                    if is_due and not stops():
                        save_image(montage(news.images), folder / PREVIEW)
                        # From the moment it was due, not from when the step came: else two a second become 1.7.
                        due = max(due + PREVIEW_SECONDS, now)
                    tell(_told(news, is_due))
                elif isinstance(news, Made):
                    tell({"event": "picture", "name": news.name, **news.facts})
                else:
                    tell({"event": "progress", **news})
        return {"event": "stopped"}
    except BahumukhaError as error:
        return {"event": "failed", "error": " ".join(str(error).split())}
    except ModuleNotFoundError as error:
        return {"event": "failed", "error": f"this needs {error.name}: pip install 'bahumukha[create]'"}
    except MemoryError:
        return {"event": "failed", "error": "there is not enough memory; try a smaller size"}
    except Exception as error:  # a bug: its traceback goes to the server's terminal, and the process stays of use
        import traceback

        traceback.print_exc()
        return {"event": "failed", "error": f"a fault of the program ({type(error).__name__}); its log says more"}


def _told(step: Step, has_preview: bool) -> dict[str, Any]:
    losses = {name: round(value, 4) for name, value in step.losses.items()}
    return {"event": "step", "step": step.index + 1, "total": step.total, "losses": losses, "preview": has_preview}


def montage(images: np.ndarray) -> Image.Image:
    """float32 (B, H, W, 3) in [0, 1] -> all of them side by side in rows, as square as can be."""
    count, height, width, _ = images.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    page = np.full((rows * columns, height, width, 3), 255, np.uint8)
    page[:count] = to_uint8(images)
    page = page.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
    return Image.fromarray(page)


if __name__ == "__main__":
    main()
