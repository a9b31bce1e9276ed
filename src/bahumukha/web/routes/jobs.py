"""Making pictures: jobs, their previews and results."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import FileResponse, Response

from bahumukha.web.errors import NotFound
from bahumukha.web.jobs import Job
from bahumukha.web.routes import PROBLEMS, Limit, Offset, Served, following
from bahumukha.web.schemas import (
    BlendRequest,
    EditRequest,
    GenerateRequest,
    JobPage,
    JobState,
    MadeNumber,
    Sent,
    VaryRequest,
)
from bahumukha.web.services import Services, job_news
from bahumukha.web.worker import PREVIEW

router = APIRouter(tags=["jobs"], responses=PROBLEMS)

JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{24}$")]
FileName = Annotated[str, Path(pattern=r"^[0-9]{1,3}\.(png|mp4)$")]
FILES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/png", "video/mp4")},
        "description": "The file.",
    }
}
PREVIEWS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}, "description": "The picture."}
}


@router.post("/generate", status_code=202)
def generate(request: GenerateRequest, served: Served) -> JobState:
    """Ask for a picture; the answer is a job, to be looked at until it is over."""
    settings = request.model_dump(exclude={"generator"}, exclude_none=True)
    settings["seed"] = str(settings["seed"])
    served.require(request.generator)
    return state_of(served, served.jobs.submit(request.generator, settings))


@router.post("/vary", status_code=202)
def vary(request: VaryRequest, served: Served) -> JobState:
    """Ask for other pictures of what a picture shows that was made."""
    return _changed(served, "vary", request, _prompt(served, request.picture))


@router.post("/blend", status_code=202)
def blend(request: BlendRequest, served: Served) -> JobState:
    """Ask for a strip from one picture that was made to another."""
    ends = [_prompt(served, end) for end in (request.first, request.second)]
    return _changed(served, "blend", request, " · ".join(dict.fromkeys(ends)))


@router.post("/edit", status_code=202)
def edit(request: EditRequest, served: Served) -> JobState:
    """Ask for a picture that was made, in which what one sentence says becomes what another one says."""
    _prompt(served, request.picture)
    return _changed(served, "edit", request, request.target)


def _prompt(served: Services, picture: MadeNumber) -> str:
    """What a picture was made of. Raises NotFound where there is no such picture."""
    served.jobs.file(picture.job, f"{picture.number}.png")
    return str(served.jobs.get(picture.job).settings.get("prompt", ""))


def _changed(served: Services, kind: str, request: Sent, prompt: str) -> JobState:
    """A job of unCLIP; `prompt`: by what it is called in lists."""
    served.require("unclip")
    settings = request.model_dump(exclude_none=True) | {"prompt": prompt}
    settings["seed"] = str(settings["seed"])
    return state_of(served, served.jobs.submit(kind, settings))


@router.get("/jobs")
def jobs(served: Served, offset: Offset = 0, limit: Limit = 60) -> JobPage:
    """All jobs, the newest first; those of earlier runs of the server too."""
    found = [job for job in served.jobs.jobs() if job.state != "cancelled"]
    part = [state_of(served, job) for job in found[offset : offset + limit]]
    return JobPage(total=len(found), jobs=part, next=following(offset, limit, len(found)))


@router.get("/jobs/{id}")
def job(id: JobId, served: Served) -> JobState:
    """How far a job is."""
    return state_of(served, served.jobs.get(id))


@router.post("/jobs/{id}/cancel")
def cancel(id: JobId, served: Served) -> JobState:
    """Stop a job, within a second or two; nothing of it is kept. One that is over stays as it is."""
    return state_of(served, served.jobs.cancel(id))


@router.delete("/jobs/{id}", status_code=204, response_class=Response)
def forget(id: JobId, served: Served) -> None:
    """Delete a job that is over, with its pictures."""
    served.jobs.forget(id)


@router.get("/jobs/{id}/preview", response_class=Response, responses=PREVIEWS)
def preview(id: JobId, served: Served) -> Response:
    """The picture as it now is, while the job is under way."""
    return _whole(served.jobs.file(id, PREVIEW), "image/jpeg")


@router.get("/jobs/{id}/files/{name}", response_class=Response, responses=FILES)
def file(id: JobId, name: FileName, served: Served) -> Response:
    """A result: a PNG with its settings inside, or a video."""
    path = served.jobs.file(id, name)
    kept = {"Cache-Control": "private, max-age=86400"}
    if path.suffix == ".mp4":  # of which browsers ask for parts
        return FileResponse(path, media_type="video/mp4", headers=kept)
    return _whole(path, "image/png", kept)


def _whole(path: FilePath, kind: str, headers: dict[str, str] | None = None) -> Response:
    """Read at once: a file may be replaced or deleted while it is sent. Raises NotFound."""
    try:
        return Response(path.read_bytes(), media_type=kind, headers=headers)
    except FileNotFoundError as error:
        raise NotFound("the file is not there any more") from error


def state_of(served: Services, job: Job) -> JobState:
    """A job as the API tells of it."""
    return JobState(**job_news(served.jobs.told(job)))
