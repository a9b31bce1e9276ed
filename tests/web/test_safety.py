"""Hostile requests: each is answered with one line of JSON that tells nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from bahumukha.web.files import shipped
from bahumukha.web.safety import COOKIE, name_of
from tests.odd_pictures import bare_png
from tests.search.pictures import draw
from tests.web.conftest import HOME, Place

API = "/api/v1"
BOMB = bare_png(60000, 60000, 8, 2, b"")
LABELS = {"labels": ["a", "b"]}


def sent(data: bytes) -> dict[str, Any]:
    return {"files": {"file": ("a.png", data)}}


HOSTILE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "traversal": ("GET", "/static/..%2f..%2fapp.py", {}),
    "traversal, twice encoded": ("GET", "/static/%252e%252e%252fapp.py", {}),
    "traversal of words": ("GET", "/strings/../app.py", {}),
    "traversal by backslash": ("GET", "/static/..%5capp.py", {}),
    "an absolute path": ("GET", "//etc/passwd", {}),
    "a file of no page": ("GET", "/etc/passwd", {}),
    "a picture by path": ("GET", f"{API}/pictures/%2fetc%2fpasswd/full", {}),
    "a picture in a shard by path": ("GET", f"{API}/pictures/1%2f..%2fs.tar%2fa.png/full", {}),
    "a picture of a store": ("GET", f"{API}/pictures/s3:%2f%2fbucket%2fa.png/full", {}),
    "a folder by URL": ("POST", f"{API}/folders/s3:%2f%2fbucket/index", {}),
    "a picture of another number": ("GET", f"{API}/pictures/-1/full", {}),
    "a number beyond the database's": ("GET", f"{API}/pictures/{2**70}", {}),
    "a job by path": ("GET", f"{API}/jobs/..%2f..%2findex.db", {}),
    "a job's file by path": ("GET", f"{API}/jobs/{'0' * 24}/files/..%2fjob.json", {}),
    "a job's record": ("GET", f"{API}/jobs/{'0' * 24}/files/job.json", {}),
    "a picture of no job": ("GET", f"{API}/jobs/{'0' * 24}/files/1.png", {}),
    "a folder of one's own": ("POST", f"{API}/folders/index", {"content": b"x", "headers": {"host": "evil.example"}}),
    "a folder that is none": ("POST", f"{API}/folders/99/index", {}),
    "a bomb to search by": ("POST", f"{API}/uploads", sent(BOMB)),
    "a bomb to classify": ("POST", f"{API}/classify", sent(BOMB) | {"data": LABELS}),
    "a bomb to explain": ("POST", f"{API}/explain", sent(BOMB) | {"data": LABELS | {"label": "a"}}),
    "no picture": ("POST", f"{API}/uploads", sent(b"<svg onload=alert(1)>")),
    "an empty picture": ("POST", f"{API}/uploads", sent(b"")),
    "a text for a file": ("POST", f"{API}/uploads", {"data": {"file": "a"}}),
    "too large a file": ("POST", f"{API}/uploads", sent(b"0" * (3 << 20))),
    "too large a text": ("POST", f"{API}/search", {"json": {"text": "a" * (2 << 20)}}),
    "a long text": ("POST", f"{API}/search", {"json": {"text": "a" * 501}}),
    "a number for a text": ("POST", f"{API}/search", {"json": {"text": 5}}),
    "a list for an object": ("POST", f"{API}/search", {"json": []}),
    "broken JSON": (
        "POST",
        f"{API}/search",
        {"content": b'{"text": ', "headers": {"content-type": "application/json"}},
    ),
    "JSON within JSON": (
        "POST",
        f"{API}/search",
        {"content": b"[" * 100_000, "headers": {"content-type": "application/json"}},
    ),
    "half a surrogate": (
        "POST",
        f"{API}/search",
        {"content": b'{"text": "\\ud800"}', "headers": {"content-type": "application/json"}},
    ),
    "not a number": (
        "POST",
        f"{API}/search",
        {"content": b'{"text": "a", "cutoff": NaN}', "headers": {"content-type": "application/json"}},
    ),
    "many terms": ("POST", f"{API}/search", {"json": {"plus": [{"text": "a"}] * 100}}),
    "a file as a term": ("POST", f"{API}/search", {"json": {"plus": [{"picture": "/etc/passwd"}]}}),
    "a field that is none": ("POST", f"{API}/search", {"json": {"text": "a", "folders": ["/"]}}),
    "SQL in a filter": ("POST", f"{API}/search", {"json": {"text": "a", "where": "name = 'x'; DROP TABLE files"}}),
    "a filter without end": ("POST", f"{API}/search", {"json": {"text": "a", "where": "(" * 900}}),
    "a negative offset": ("GET", f"{API}/pictures?offset=-1", {}),
    "a huge limit": ("GET", f"{API}/pictures?limit=1000000000", {}),
    "an unknown generator": ("POST", f"{API}/generate", {"json": {"prompt": "a", "generator": "rm"}}),
    "settings of one's own": (
        "POST",
        f"{API}/generate",
        {"json": {"prompt": "a", "set": ["start.picture=/etc/passwd"]}},
    ),
    "a huge picture": ("POST", f"{API}/generate", {"json": {"prompt": "a", "size": "99999x99999"}}),
    "another host": ("GET", "/", {"headers": {"host": "evil.example"}}),
    "another host's name before ours": ("GET", "/", {"headers": {"host": "127.0.0.1.evil.example"}}),
    "ours as a user's name": ("GET", "/", {"headers": {"host": "127.0.0.1@evil.example"}}),
    "another site's post": (
        "POST",
        f"{API}/search",
        {"json": {"text": "a"}, "headers": {"origin": "http://evil.example"}},
    ),
    "a post of no origin": ("POST", f"{API}/search", {"json": {"text": "a"}, "headers": {"origin": "null"}}),
    "another port's post": (
        "POST",
        f"{API}/search",
        {"json": {"text": "a"}, "headers": {"origin": "http://127.0.0.1:9"}},
    ),
    "another site's picture": ("GET", f"{API}/pictures/1/full", {"headers": {"sec-fetch-site": "cross-site"}}),
    "a length that is none": ("POST", f"{API}/search", {"content": b"{}", "headers": {"content-length": "-5"}}),
    "another method": ("PUT", f"{API}/search", {"json": {"text": "a"}}),
    "a form for JSON": ("POST", f"{API}/search", {"data": {"text": "a"}}),
}


@pytest.fixture(scope="module")
def narrow(shared_place: Place) -> Iterator[TestClient]:
    """A server that takes little."""
    with shared_place.client(upload_bytes=1 << 20, upload_pixels=1_000_000) as client:
        yield client


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_requests(narrow: TestClient, name: str) -> None:
    method, address, options = HOSTILE[name]
    answer = narrow.request(method, address, **options)
    assert 400 <= answer.status_code < 500, answer.text
    said = answer.json()
    assert list(said) == ["error"] and said["error"] and "\n" not in said["error"] and len(said["error"]) < 400
    for secret in ("Traceback", "site-packages", ".py", "sqlite"):
        assert secret not in answer.text.replace("/static/", "").replace("app.py", "")


def test_there_are_forty() -> None:
    assert len(HOSTILE) >= 40


def test_every_answer_has_the_headers(client: TestClient) -> None:
    for address in ("/", f"{API}/status", "/nowhere", "/static/style.css", f"{API}/pictures/1/thumbnail"):
        headers = client.get(address).headers
        assert "unsafe-inline" not in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers and "server" not in headers


def test_pages_have_nothing_inline_and_nothing_from_elsewhere() -> None:
    for name, file in shipped("static").items():
        text = file.data.decode()
        if name.endswith(".html"):
            assert "style=" not in text and " onclick" not in text and "<script>" not in text and "<style" not in text
        if name.endswith((".html", ".css", ".js")):
            assert "//" not in text.replace("http://www.w3.org", "").replace("// ", "").replace("https://bahu", ""), (
                name
            )


def test_a_fault_of_the_program_tells_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from bahumukha.web.library import Library

    def broken(*_: object) -> None:
        raise RuntimeError("the secret of /home/user")

    with place.client() as client:
        monkeypatch.setattr(Library, "picture", broken)
        answer = client.get(f"{API}/pictures/1")
        assert answer.status_code == 500 and "secret" not in answer.text and list(answer.json()) == ["error"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_body_of_unknown_length_is_broken_off(narrow: TestClient) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * 65536

    answer = narrow.post(f"{API}/search", content=parts(), headers={"content-type": "application/json"})
    assert answer.status_code == 413


# --- files


def test_no_link_leads_out(place: Place) -> None:
    with place.client(folders=()) as everything:
        everyone = everything.get(f"{API}/pictures", params={"limit": 200}).json()["pictures"]
        id = next(p["id"] for p in everyone if p["name"] == "secret.png")
        assert everything.get(f"{API}/pictures/{id}/full").status_code == 200
    with place.client() as client:
        for address in (f"{API}/pictures/{id}", f"{API}/pictures/{id}/full", f"{API}/pictures/{id}/thumbnail"):
            assert client.get(address).status_code == 404
        assert client.post(f"{API}/search", json={"picture": id}).status_code == 404
        assert client.post(f"{API}/classify", data={"labels": ["a"], "picture": id}).status_code == 404
        shown = client.get(f"{API}/pictures", params={"limit": 200}).json()["pictures"]
        assert not {"secret.png", "link.png"} & {p["name"] for p in shown}


def test_a_file_that_becomes_a_link_after_indexing(place: Place) -> None:
    with place.client() as client:
        [picture] = client.get(f"{API}/pictures", params={"where": "name = dated.jpg"}).json()["pictures"]
        (place.folder / "dated.jpg").unlink()
        (place.folder / "dated.jpg").symlink_to(place.outside / "secret.png")
        assert client.get(f"{API}/pictures/{picture['id']}/full").status_code == 404
        assert client.get(f"{API}/pictures/{picture['id']}/thumbnail").status_code == 404


def test_a_folder_that_becomes_a_link(place: Place, tmp_path: Path) -> None:
    draw("green").save(place.outside / "red-000.png")
    with place.client() as client:
        [picture] = client.get(f"{API}/pictures", params={"where": "name = red-000.png"}).json()["pictures"]
        (place.folder / "sub").rename(tmp_path / "elsewhere")
        (place.folder / "sub").symlink_to(place.outside)
        assert client.get(f"{API}/pictures/{picture['id']}/full").status_code == 404


# --- tokens and names

TOKEN = "a-long-secret-word"


def test_another_address_needs_the_token(shared_place: Place) -> None:
    with shared_place.client(host="0.0.0.0", token=TOKEN) as client:
        refused = client.get(f"{API}/status")
        assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
        assert client.get(f"{API}/status", headers={"authorization": "Bearer wrong"}).status_code == 401
        assert client.get(f"{API}/status", headers={"cookie": f"{COOKIE}={TOKEN}"}).status_code == 401
        assert client.get(f"{API}/status", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.get("/ask").headers["location"] == "/sign-in"
        assert client.get("/sign-in").status_code == 200 and client.get("/static/style.css").status_code == 200
        wrong = client.post("/sign-in", data={"token": "wrong"})
        assert wrong.status_code == 303 and wrong.headers["location"] == "/sign-in?wrong=1"
        right = client.get("/ask", params={"token": TOKEN})
        assert right.status_code == 303 and right.headers["location"] == "/ask"
        cookie = right.headers["set-cookie"]
        assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and TOKEN not in cookie
        assert client.get(f"{API}/status").status_code == 200, "the cookie is kept"
        ours = f"{COOKIE}={client.cookies[COOKIE]}"
        for others in ('prefs={"dark":true}', "name=Zo\u00eb", "plain"):  # of other programs on this host
            beside = {"cookie": f"{others}; {ours}".encode()}
            assert client.get(f"{API}/status", headers=beside).status_code == 200, others
    with shared_place.client(host="0.0.0.0", token=TOKEN) as client:
        assert client.post("/sign-in", data={"token": TOKEN}).headers["location"] == "/"
        assert client.get("/").status_code == 200


def test_addresses_are_ours_and_names_are_not(shared_place: Place) -> None:
    with shared_place.client(host="0.0.0.0", token=TOKEN, names=("pictures.home",)) as client:
        for host, status in (("192.168.1.7:8000", 401), ("pictures.home", 401), ("[fe80::1]:8000", 401), ("evil", 421)):
            assert client.get(f"{API}/status", headers={"host": host}).status_code == status, host
    with shared_place.client() as client:
        for host, status in (("localhost:1", 200), ("[::1]", 200), ("127.0.0.2", 200), ("192.168.1.7", 421), ("", 421)):
            assert client.get(f"{API}/status", headers={"host": host}).status_code == status, host


def test_our_own_origin_may_post(client: TestClient) -> None:
    answer = client.post(
        f"{API}/search", json={"text": "red"}, headers={"origin": HOME, "sec-fetch-site": "same-origin"}
    )
    assert answer.status_code == 200


def test_names_of_hosts() -> None:
    assert name_of("LocalHost:80") == "localhost" and name_of("[::1]:80") == "::1"
    for wrong in ("a b:c", "host:port", "user@host", "host/path", "", "[::1"):
        assert name_of(wrong) is None, wrong


def test_the_openapi_is_json(client: TestClient) -> None:
    found = json.loads(client.get(f"{API}/openapi.json").text)
    assert found["info"]["title"] == "Bahumukha" and len(found["paths"]) > 15
