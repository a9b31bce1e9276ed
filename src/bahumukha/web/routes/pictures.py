"""Pictures of the index: lists, details, thumbnails, files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from bahumukha.web.library import Shown
from bahumukha.web.routes import PROBLEMS, Limit, Offset, PictureId, Served, common, following, json_of, picture_of
from bahumukha.web.schemas import Facet, Facets, PictureDetails, PicturePage
from bahumukha.web.services import Services
from bahumukha.web.thumbnails import BROWSERS_READ

router = APIRouter(tags=["pictures"], responses=PROBLEMS)

FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}
LARGEST_FILE = 40 << 20
"""Bytes of a file that is handed out as it is; of larger ones a copy is."""
Version = Annotated[str, Query(max_length=64)]


def _image(*types: str) -> dict[str, Any]:
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in types}
    return {"response_class": Response, "responses": {200: {"content": content, "description": "A picture."}}}


@router.get("/pictures", response_model=PicturePage)
def pictures(
    served: Served,
    where: Annotated[str | None, Query(max_length=1000)] = None,
    offset: Offset = 0,
    limit: Limit = 60,
) -> Response:
    """Pictures by when they were taken, the newest first."""
    started = time.perf_counter()
    total, rows = served.library.browse(where, offset, limit)
    page = PicturePage(
        total=total,
        pictures=[picture_of(row) for row in rows],
        next=following(offset, limit, total),
        seconds=round(time.perf_counter() - started, 4),
    )
    return json_of(page)


@router.get("/facets")
def facets(served: Served) -> Facets:
    """Years, cameras and types of the pictures, with how many there are of each."""
    found = served.library.facets()
    return Facets(**{name: [Facet(value=v, pictures=n) for v, n in found[name]] for name in found})


@router.get("/pictures/{id}")
def details(id: PictureId, served: Served) -> PictureDetails:
    """All that is known of a picture."""
    shown = served.library.picture(id)
    known = common(shown)
    return PictureDetails(
        **known,
        folder=known["path"][: -len(shown.name) - 1] or "/",
        format=shown.format,
        camera=shown.camera,
        latitude=shown.latitude,
        longitude=shown.longitude,
        bytes=shown.size,
    )


@router.get("/pictures/{id}/thumbnail", **_image("image/jpeg"))
async def thumbnail(id: PictureId, served: Served, v: Version = "") -> Response:
    """A small copy, 480 pixels at the longer side. `v` names the content, so that a browser may keep it."""
    return await _read(served, id, lambda shown: _thumbnail(served, shown, v))


def _thumbnail(served: Services, shown: Shown, version: str) -> Response:
    path = served.thumbnails.kept(shown) or served.thumbnails.made(shown)
    return Response(path.read_bytes(), media_type="image/jpeg", headers=_caching(shown, version))


@router.get("/pictures/{id}/full", **_image(*BROWSERS_READ.values()))
async def full(id: PictureId, served: Served, v: Version = "") -> Response:
    """The picture's own file where browsers can read it, else a JPEG of it."""
    return await _read(served, id, lambda shown: _full(served, shown, v))


def _full(served: Services, shown: Shown, version: str) -> Response:
    headers = _caching(shown, version)
    kind = BROWSERS_READ.get(shown.format or "")
    if kind is not None and shown.size <= LARGEST_FILE:
        with served.library.opened(shown) as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) <= LARGEST_FILE:
            return Response(data, media_type=kind, headers=headers)
    path = served.thumbnails.kept(shown, ".large") or served.thumbnails.made(shown, ".large")
    return Response(path.read_bytes(), media_type="image/jpeg", headers=headers)


async def _read(served: Services, id: int, answer: Callable[[Shown], Response]) -> Response:
    """An answer with a picture, made in threads of its own.

    While a page of new pictures is made ready, searches must not stand in line behind it, nor pictures of this machine
    behind those of a store that does not answer.
    """
    shown = await asyncio.wrap_future(served.threads.submit(served.library.picture, id))
    threads = served.far_threads if shown.is_far else served.threads
    return await asyncio.wrap_future(threads.submit(answer, shown))


def _caching(shown: Shown, version: str) -> dict[str, str]:
    return FOR_EVER if version and shown.content.startswith(version) else {"Cache-Control": "no-cache"}
