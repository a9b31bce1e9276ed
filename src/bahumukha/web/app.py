"""The application: routes, safety around them, and errors as one line of JSON (bugs too: `safety`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from bahumukha import __version__
from bahumukha.errors import BahumukhaError, PictureIndexError
from bahumukha.web.config import ServerConfig
from bahumukha.web.errors import Busy, NotFound, NotOver
from bahumukha.web.routes import PREFIX, asking, jobs, pages, pictures, searching, server
from bahumukha.web.safety import Safety
from bahumukha.web.services import open_services

if TYPE_CHECKING:
    from bahumukha.protocols import ImageTextEncoder

ABOUT = "Search pictures, ask what is in them, and make new ones. What takes long answers with a job."


def create_app(config: ServerConfig, *, encoder: ImageTextEncoder | None = None) -> FastAPI:
    """The server as an ASGI application; nothing is opened before it starts.

    encoder: instead of the one that the index was made with.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.services = services = open_services(config, encoder)
        services.start()
        try:
            yield
        finally:
            services.close()

    app = FastAPI(
        title="Bahumukha",
        description=ABOUT,
        version=__version__,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # its pages load their scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    for group in (searching, pictures, asking, jobs, server):
        app.include_router(group.router, prefix=PREFIX)
    app.include_router(pages.router)
    app.add_exception_handler(BahumukhaError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_middleware(Safety, config=config)
    return app


def _line(status: int, text: object, headers: dict[str, str] | None = None) -> JSONResponse:
    """One line, without what JSON cannot hold: the undecodable bytes of a file name."""
    line = " ".join(str(text).split()).encode("utf-8", "replace").decode()
    return JSONResponse({"error": line}, status, headers)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, NotFound):
        return _line(404, error)
    if isinstance(error, Busy):
        return _line(429, error, {"Retry-After": "5"})
    # The command line's errors name options; here they are fields.
    text = str(error).removeprefix("--").replace("--plus and --minus", "plus and minus")
    return _line(409 if isinstance(error, (PictureIndexError, NotOver)) else 400, text)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    return _line(422, f"{place}: {first['msg']}" if place else first["msg"])


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _line(error.status_code, error.detail, dict(error.headers or {}))
