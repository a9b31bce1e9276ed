"""The addresses of the API, one file for each kind of thing, and of the pages."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request, Response
from pydantic import BaseModel

from bahumukha.web.library import Shown
from bahumukha.web.opening import told
from bahumukha.web.schemas import LARGEST_ID, MOST_AT_ONCE, Picture, Problem
from bahumukha.web.services import Services

PREFIX = "/api/v1"
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "What was sent cannot be used."},
    401: {"model": Problem, "description": "A token is needed."},
    403: {"model": Problem, "description": "The request comes from another site."},
    404: {"model": Problem, "description": "There is nothing of that name, or it may not be shown."},
    409: {"model": Problem, "description": "The index or the job, as it is, cannot do that."},
    413: {"model": Problem, "description": "More was sent than is allowed."},
    421: {"model": Problem, "description": "The server is not asked under that host name."},
    422: {"model": Problem, "description": "A value is missing, of a wrong type, or not allowed."},
    429: {"model": Problem, "description": "Too much was asked for at once; later there is room again."},
}
"""Every address may answer these."""


async def _services(request: Request) -> Services:  # async: a plain function would be called in another thread
    services: Services = request.app.state.services
    return services


Served = Annotated[Services, Depends(_services)]
PictureId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Offset = Annotated[int, Query(ge=0, le=10_000_000)]
Limit = Annotated[int, Query(ge=1, le=MOST_AT_ONCE)]


def json_of(answer: BaseModel) -> Response:
    """An answer as it goes over the line. FastAPI would check it again first, in another thread."""
    return Response(answer.model_dump_json(), media_type="application/json")


def picture_of(shown: Shown, score: float | None = None) -> Picture:
    """A row as the API tells of it. What a picture's addresses lead to is the same for ever: they name its content."""
    return Picture(**common(shown), score=None if score is None else round(score, 4))


def common(shown: Shown) -> dict[str, Any]:
    """What a picture has in every list."""
    version = shown.content[:16]
    return {
        "id": shown.id,
        "name": shown.name,
        "path": told(shown.path),
        "width": shown.width,
        "height": shown.height,
        "taken": shown.taken,
        "thumbnail": f"{PREFIX}/pictures/{shown.id}/thumbnail?v={version}",
        "full": f"{PREFIX}/pictures/{shown.id}/full?v={version}",
    }


def following(offset: int, limit: int, total: int) -> int | None:
    """The offset of the next part of a list; None at its end."""
    return offset + limit if offset + limit < total else None
