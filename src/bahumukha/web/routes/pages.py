"""The pages, and where one signs in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Header
from fastapi.responses import RedirectResponse, Response

from bahumukha.web.errors import NotFound
from bahumukha.web.files import shipped
from bahumukha.web.routes import Served
from bahumukha.web.safety import SIGN_IN, signed_in

router = APIRouter(include_in_schema=False)

Known = Annotated[str | None, Header(alias="if-none-match")]


@router.get("/")
@router.get("/ask")
@router.get("/create")
def page(known: Known = None) -> Response:
    """One page; its script shows the part that the address names."""
    return _file("static", "index.html", known)


@router.get(SIGN_IN)
def sign_in_page(served: Served, known: Known = None) -> Response:
    if served.config.token is None:
        return RedirectResponse("/", 303)
    return _file("static", "sign-in.html", known)


@router.post(SIGN_IN)
async def sign_in(served: Served, token: Annotated[str, Form(max_length=1000)]) -> Response:
    if served.config.token is None:
        return RedirectResponse("/", 303)
    return await signed_in(served.config.token, token)


@router.get("/static/{name}")
def static(name: str, known: Known = None) -> Response:
    return _file("static", name, known)


@router.get("/strings/{name}")
def strings(name: str, known: Known = None) -> Response:
    return _file("strings", name, known)


@router.get("/favicon.ico")
def icon(known: Known = None) -> Response:
    return _file("static", "icon.svg", known)


def _file(folder: str, name: str, known: str | None) -> Response:
    file = shipped(folder).get(name)
    if file is None:
        raise NotFound(f"there is no file {name!r}")
    headers = {"ETag": file.tag, "Cache-Control": "no-cache"}
    if known == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.data, media_type=file.kind, headers=headers)
