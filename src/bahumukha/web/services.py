"""All that the routes share: one of each, made when the server starts and closed when it stops."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from bahumukha.errors import ModelError
from bahumukha.runtime import CREATING, thread_count
from bahumukha.web.config import MAKING, ServerConfig
from bahumukha.web.events import Hub
from bahumukha.web.indexing import Indexer
from bahumukha.web.jobs import JobQueue
from bahumukha.web.library import Library
from bahumukha.web.looking import Looker
from bahumukha.web.searching import Kept, Searcher
from bahumukha.web.threads import DaemonThreads
from bahumukha.web.thumbnails import Thumbnails
from bahumukha.web.weights import without_weights

if TYPE_CHECKING:
    from bahumukha.protocols import ImageTextEncoder
    from bahumukha.web.schemas import DuplicateGroup

NEEDED = dict.fromkeys(("vqgan-clip", "dalle", "unclip"), CREATING)
"""Packages of the extra [create] without which a generator cannot be used."""

FAR_AT_ONCE = 8
"""Pictures that are asked of object stores at a time; what they cost is mostly waiting."""

WARMING_AFTER = 0.4
"""Seconds from the start to the loading of models, which would take the processor from the first page."""


@dataclass
class Services:
    """What the server does its work with."""

    config: ServerConfig
    library: Library
    searcher: Searcher
    thumbnails: Thumbnails
    looker: Looker
    hub: Hub
    jobs: JobQueue
    indexer: Indexer
    threads: ThreadPoolExecutor
    """For what reads pictures from the disk."""
    far_threads: DaemonThreads
    """For what reads them from object stores, which may hang: nothing waits for these."""
    duplicates: Kept[list[DuplicateGroup]] = field(default_factory=lambda: Kept(4))
    duplicates_turn: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.warming = threading.Timer(WARMING_AFTER, self._warm_up)
        self.warming.daemon = True

    def require(self, generator: str) -> None:
        """Raises ModelError where a generator cannot be used, and says what to install or to train."""
        if (said := self.missing(generator)) is not None:
            raise ModelError(said)

    def missing(self, generator: str) -> str | None:
        """What to install or to train before a generator can be used; None where it can be."""
        return missing(generator) if self.config.making == MAKING else None

    def start(self) -> None:
        """Go on with what waited, index folders that never were, and load what the first search needs."""
        self.jobs.start()
        new = [root for root in self.config.roots if not self.library.covers(root)]
        if new:
            self.indexer.start(new)
        self.warming.start()

    def _warm_up(self) -> None:
        with suppress(RuntimeError):  # the server was stopped in this moment: its threads take nothing more
            self.threads.submit(self.searcher.warm_up)

    def close(self) -> None:
        """Stop everything, and wait for it, except for object stores."""
        self.warming.cancel()
        self.hub.close()
        self.jobs.close()
        self.indexer.close()
        self.far_threads.close()
        self.threads.shutdown(wait=True, cancel_futures=True)
        self.library.close()


def open_services(config: ServerConfig, encoder: ImageTextEncoder | None = None) -> Services:
    """One of each. encoder: instead of the index's own."""
    hub = Hub()
    library = Library(config)
    searcher = Searcher(library, encoder)
    return Services(
        config=config,
        library=library,
        searcher=searcher,
        thumbnails=Thumbnails(library),
        looker=Looker(config, library, searcher),
        hub=hub,
        jobs=JobQueue(
            config.results, config.making, config.waiting, lambda job: hub.tell("job", job["id"], job_news(job))
        ),
        indexer=Indexer(config, lambda state: hub.tell("index", "", state)),
        threads=ThreadPoolExecutor(thread_count() + 2, thread_name_prefix="pictures"),
        far_threads=DaemonThreads(FAR_AT_ONCE, "far"),
    )


def missing(generator: str) -> str | None:
    """What to install or to train before a generator can be used; looked up without importing it."""
    absent = [name for name in NEEDED[generator] if find_spec(name) is None]
    if absent:
        return f"{generator} needs {absent[0]}, of the extra [create]: pip install 'bahumukha[create]'"
    return without_weights(generator)


def job_news(job: dict[str, Any]) -> dict[str, Any]:
    """A job with the addresses of its files instead of their names."""
    if job["state"] == "forgotten":
        return job
    base = f"/api/v1/jobs/{job['id']}"
    pictures = [
        {name: value for name, value in picture.items() if name not in ("name", "video")}
        | {"url": f"{base}/files/{picture['name']}"}
        | ({"video": f"{base}/files/{picture['video']}"} if "video" in picture else {})
        for picture in job["pictures"]
    ]
    preview = f"{base}/preview?step={job['preview']}" if job["preview"] else None
    return job | {"pictures": pictures, "preview": preview}
