"""The server itself: what it has, its folders, and the stream of what happens."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import StreamingResponse

from bahumukha import __version__
from bahumukha.web.errors import Busy, NotFound
from bahumukha.web.files import languages
from bahumukha.web.library import MOST_PLACES
from bahumukha.web.opening import told
from bahumukha.web.routes import PROBLEMS, Served
from bahumukha.web.schemas import DRAWERS, QUALITIES, Folder, Folders, Generator, IndexState, Status
from bahumukha.web.services import NEEDED, Services, job_news
from bahumukha.web.weights import weights_of

router = APIRouter(tags=["server"], responses=PROBLEMS)


@router.get("/status")
def status(served: Served) -> Status:
    """What this server is and has."""
    return Status(
        version=__version__,
        pictures=served.library.count(),
        generators=[_generator(served, name) for name in NEEDED],
        waiting=served.config.waiting,
        upload_bytes=served.config.upload_bytes,
        languages=languages(),
    )


def _generator(served: Services, name: str) -> Generator:
    weights = weights_of(name)
    return Generator(
        name=name,
        drawers=list(DRAWERS) if name == "vqgan-clip" else [],
        styles=[] if weights is None else list(weights.styles),
        qualities=list(QUALITIES),
        missing=served.missing(name),
    )


@router.get("/folders")
def folders(served: Served) -> Folders:
    """The folders that the server was started with, or (200 of) those that are indexed, and how far indexing is."""
    library = served.library
    roots = list(served.config.roots)
    if not roots and library.exists:
        with library.ledger() as ledger:
            roots = library.roots(ledger)[:MOST_PLACES]
    found = [
        Folder(number=number, path=told(root), pictures=library.count(root), indexed=library.covers(root))
        for number, root in enumerate(roots)
    ]
    return Folders(folders=found, index=IndexState(**served.indexer.state))


@router.post("/folders/index", status_code=202)
def index_all(served: Served) -> IndexState:
    """Bring the index of all folders of the server up to date."""
    served.indexer.start()
    return IndexState(**served.indexer.state)


@router.post("/folders/{number}/index", status_code=202)
def index_one(number: Annotated[int, Path(ge=0, le=10_000)], served: Served) -> IndexState:
    """Bring the index of one folder of the server up to date. No other folder can be named."""
    roots = served.config.roots
    if number >= len(roots):
        raise NotFound(f"the server was not started with a folder {number}")
    served.indexer.start([roots[number]])
    return IndexState(**served.indexer.state)


@router.get("/events", response_class=StreamingResponse)
async def events(served: Served) -> StreamingResponse:
    """What happens, as server-sent events: `job` with the state of a job, `index` with that of indexing.

    First comes what is the case now: each job that is not over, and indexing.
    """
    if served.hub.is_full:
        raise Busy("too many pages are open already")

    def now() -> list[tuple[str, str, dict[str, Any]]]:
        open_jobs = [served.jobs.told(job) for job in served.jobs.jobs() if not job.is_over]
        return [*(("job", job["id"], job_news(job)) for job in open_jobs), ("index", "", served.indexer.state)]

    return StreamingResponse(served.hub.stream(now), media_type="text/event-stream")
