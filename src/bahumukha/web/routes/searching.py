"""Searching, similar pictures, duplicates."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query, Response, UploadFile

from bahumukha.errors import UsageError
from bahumukha.search.duplicates import find_duplicates
from bahumukha.web.routes import PROBLEMS, Limit, Offset, PictureId, Served, following, json_of, picture_of
from bahumukha.web.schemas import (
    DuplicateGroup,
    DuplicatePage,
    PicturePage,
    SearchRequest,
    Term,
    UploadedPicture,
)
from bahumukha.web.searching import Found, Part, Wish
from bahumukha.web.services import Services

router = APIRouter(tags=["search"], responses=PROBLEMS)


@router.post("/search", response_model=PicturePage)
def search(request: SearchRequest, served: Served) -> Response:
    """Pictures that suit a sentence, a picture, and what else is added and subtracted, best first."""
    started = time.perf_counter()
    main = [
        Part(1.0, text=request.text) if request.text is not None and request.text.strip() else None,
        Part(1.0, picture=request.picture) if request.picture is not None else None,
        Part(1.0, upload=request.upload) if request.upload is not None else None,
    ]
    parts = [part for part in main if part is not None]
    parts += [_part(term, 1) for term in request.plus]
    if not parts:
        raise UsageError("nothing to search for: text is empty")
    parts += [_part(term, -1) for term in request.minus]
    wish = Wish(tuple(parts), request.where or None, request.cutoff)
    found = served.searcher.search(wish, request.offset, request.limit)
    return _page(found, request.offset, request.limit, started)


@router.post("/uploads", status_code=201)
def upload(file: UploadFile, served: Served) -> UploadedPicture:
    """Send a picture to search by. It is looked at and not kept; its name is good for a while."""
    image = served.looker.read(file.file.read(), served.searcher.side)
    return UploadedPicture(upload=served.searcher.upload(image), width=image.width, height=image.height)


@router.get("/pictures/{id}/similar", response_model=PicturePage)
def similar(
    id: PictureId,
    served: Served,
    offset: Offset = 0,
    limit: Limit = 60,
    cutoff: Annotated[str | None, Query(pattern=r"^auto$")] = None,
) -> Response:
    """Pictures like this one, without itself."""
    started = time.perf_counter()
    served.library.picture(id)
    found = served.searcher.search(Wish((Part(1.0, picture=id),), None, cutoff), offset, limit)
    return _page(found, offset, limit, started)


@router.get("/duplicates")
def duplicates(served: Served, near: bool = False, offset: Offset = 0, limit: Limit = 30) -> DuplicatePage:
    """Groups of copies, exact ones first, largest first; with `near` also those that only show the same.

    Near ones of 100,000 pictures take about a minute; the answer is kept until the index changes.
    """
    groups = _groups(served, near)
    return DuplicatePage(
        total=len(groups), groups=groups[offset : offset + limit], next=following(offset, limit, len(groups))
    )


def _groups(served: Services, near: bool) -> list[DuplicateGroup]:
    library = served.library
    if not library.exists:
        return []
    with library.ledger() as ledger:
        key = (ledger.state, near)
        known = served.duplicates.get(key)
        if known is not None:
            return known
        with served.duplicates_turn:
            groups, _ = find_duplicates(ledger, served.config.roots, near=near)
        made = []
        for group in groups:
            rows = library.rows(ledger, library.ids(ledger, group.paths))
            if len(rows) > 1:
                pictures = [picture_of(row) for row in rows]
                made.append(DuplicateGroup(kind=group.kind, similarity=group.similarity, pictures=pictures))
    return served.duplicates.put(key, made)


def _part(term: Term, sign: int) -> Part:
    return Part(sign * term.weight, text=term.text, picture=term.picture, upload=term.upload)


def _page(found: Found, offset: int, limit: int, started: float) -> Response:
    page = PicturePage(
        total=found.total,
        pictures=[picture_of(shown, score) for shown, score in found.pictures],
        next=following(offset, limit, found.total),
        seconds=round(time.perf_counter() - started, 4),
    )
    return json_of(page)
