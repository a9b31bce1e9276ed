"""What stands before every request: whose name it was sent to, where it comes from, who asks, how much it sends.

A page of another site can make a browser send requests to 127.0.0.1. Three things keep it from being of use:

- the Host header has to be a name of ours, or else another site's name could be made to point here (DNS rebinding);
- what a browser marks as coming from another site is refused, also without an Origin (Sec-Fetch-Site);
- no answer may be read, framed or embedded by other sites (no CORS, CORP, frame-ancestors).

What is refused is answered with one line of JSON, `{"error": …}`, and so is whatever goes wrong further in.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bahumukha.web.config import ServerConfig, is_loopback

COOKIE = "bahumukha"
SIGN_IN = "/sign-in"
OPEN = ("/static/", "/strings/", SIGN_IN)
"""What may be had without the token: the program's own files."""
JSON_BYTES = 1 << 20
"""Of a request that uploads no file."""
WRONG_TOKEN_SECONDS = 0.5
FAULT = "a fault of the program; the server's log says more"

logger = logging.getLogger(__name__)

CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True)
class Refusal:
    """A status of 4xx (or 500), one line, and headers."""

    status: int
    line: str
    headers: Mapping[str, str] | None = None

    def response(self) -> Response:
        return JSONResponse({"error": self.line}, self.status, dict(self.headers or {}))


class Safety:
    """The outermost ASGI layer."""

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self.app, self.config = app, config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            await self._answer(scope, receive, answer)
        except ClientDisconnect:
            return
        except Exception as error:  # a bug: its traceback goes to the server's log and nowhere else
            logger.error("%s %s", scope["method"], scope["path"], exc_info=error)
            if not answer.is_begun:
                await Refusal(500, FAULT).response()(scope, receive, answer)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        refusal = self._stranger(scope, headers) or self._oversized(scope, headers)
        if refusal is not None:
            await refusal.response()(scope, receive, send)
        elif self._may_enter(scope, headers):
            await self.app(scope, self._counted(scope, receive), send)
        else:
            await (await self._sign_in(scope))(scope, receive, send)

    # --- whence -----------------------------------------------------------------------------------------------

    def _stranger(self, scope: Scope, headers: Headers) -> Refusal | None:
        given = headers.getlist("host")
        if len(given) != 1 or not self._is_ours(given[0]):
            return Refusal(
                421, "this server is not asked under that host name; use the address that bahu serve printed"
            )
        is_page = scope["method"] == "GET" and not scope["path"].startswith("/api/")
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not is_page:
            return Refusal(403, "the request comes from another site")
        origin = headers.get("origin")
        if origin is not None and urlsplit_host(origin) != given[0].lower():
            return Refusal(403, "the request comes from another site")
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names this server. Addresses cannot be rebound; names can."""
        name = name_of(host)
        if name is None:
            return False
        if name in {"localhost", self.config.host.lower(), *(each.lower() for each in self.config.names)}:
            return True
        if self.config.is_local:
            return is_loopback(name)
        own = socket.gethostname().lower()
        return name in (own, f"{own}.local") or _is_address(name)

    # --- how much ---------------------------------------------------------------------------------------------

    def _limit(self, headers: Headers) -> int:
        is_upload = headers.get("content-type", "").lower().startswith("multipart/form-data")
        return self.config.upload_bytes if is_upload else JSON_BYTES

    def _oversized(self, scope: Scope, headers: Headers) -> Refusal | None:
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()):
            return Refusal(400, "Content-Length is not a number")
        limit = self._limit(headers)
        return Refusal(413, _too_large(limit)) if int(length[:19]) > limit else None

    def _counted(self, scope: Scope, receive: Receive) -> Receive:
        """The same body, broken off where it grows too large; what it said of its length may be wrong or missing."""
        limit, seen = self._limit(Headers(scope=scope)), 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise HTTPException(413, _too_large(limit))
            return message

        return counted

    # --- who --------------------------------------------------------------------------------------------------

    def _may_enter(self, scope: Scope, headers: Headers) -> bool:
        token = self.config.token
        if token is None or scope["path"].startswith(OPEN):
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and same(given.strip(), token):
            return True
        return same(_cookie(headers), cookie_of(token))

    async def _sign_in(self, scope: Scope) -> Response:
        """A page's address with `?token=` sets the cookie; a page without it leads to where one signs in."""
        token = str(self.config.token)
        if scope["path"].startswith("/api/") or scope["method"] != "GET":
            line = "a token is needed: send it as Authorization: Bearer TOKEN, or open the page and sign in"
            return Refusal(401, line, {"WWW-Authenticate": "Bearer"}).response()
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not given:
            return RedirectResponse(SIGN_IN, 303)
        return await signed_in(token, given, scope["path"])


async def signed_in(token: str, given: str, path: str = "/") -> Response:
    """To the page with the cookie, or back to where one signs in after a while, which slows guessing."""
    if not same(given, token):
        await asyncio.sleep(WRONG_TOKEN_SECONDS)
        return RedirectResponse(f"{SIGN_IN}?wrong=1", 303)
    # A path that begins with two slashes would be another site's.
    response = RedirectResponse("/" + path.lstrip("/\\"), 303)
    response.set_cookie(COOKIE, cookie_of(token), max_age=90 * 86400, httponly=True, samesite="strict")
    return response


def same(given: str, wanted: str) -> bool:
    """Compared in a time that tells nothing."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def cookie_of(token: str) -> str:
    """What the browser keeps: made of the token, which cannot be had back from it."""
    return hashlib.blake2b(token.encode(), digest_size=24, person=b"bahu-cookie").hexdigest()


def name_of(host: str) -> str | None:
    """`localhost:8000` -> `localhost`, `[::1]:8000` -> `::1`; None for what is no host."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises for what is no number
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment or not parts.hostname:
        return None
    return parts.hostname.lower()


def urlsplit_host(origin: str) -> str:
    """`http://localhost:8000` -> `localhost:8000`; empty for `null` and what is no origin."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _cookie(headers: Headers) -> str:
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "")  # others' cookies, of any form, do not matter


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _too_large(limit: int) -> str:
    size = f"{limit >> 20} MB" if limit >= 1 << 20 else f"{limit:,} bytes"
    return f"the request is larger than the {size} that are allowed"


class _Answer:
    """Sends on, with our headers; what an address says of its own caching stays."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.is_begun = True
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)
