"""The server over a store in PostgreSQL: it answers as it does over a ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from bahumukha.search import PictureIndex
from bahumukha.zoo.fake import ColourEncoder
from bench.postgres import MODULE, Server
from tests.web.conftest import Place, until

pytest.importorskip("psycopg", reason="psycopg is not installed")
pytest.importorskip(MODULE, reason=f"{MODULE}, which carries the server, is not installed")

API = "/api/v1"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(settings={"fsync": "off"}) as server:  # it is killed here, but never the machine
        yield server


@pytest.fixture
def clients(
    place: Place, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[TestClient]]:
    """Over the ledger, and over a store that holds the same."""
    monkeypatch.setenv("BAHUMUKHA_HOME", str(tmp_path / "home"))
    url = server.new_database()
    PictureIndex(url, ColourEncoder()).index([place.folder, place.outside])
    with place.client() as ledger, place.client(index=None, store=url) as store:
        yield [ledger, store]


def named(answer: dict[str, Any]) -> Any:
    """The answer without ids, which differ."""
    return [(p["name"], p.get("score"), p["width"], p["taken"]) for p in answer["pictures"]], answer["total"]


def test_searches_pages_and_filters_are_the_same(clients: list[TestClient]) -> None:
    for wish in (
        {"text": "a blue thing", "limit": 5},
        {"text": "red", "limit": 7, "offset": 7},
        {"text": "red", "where": "type = png and not folder = sub"},
        {"text": "red", "cutoff": "auto"},
    ):
        answers = [client.post(f"{API}/search", json=wish) for client in clients]
        assert [answer.status_code for answer in answers] == [200, 200], answers[1].text
        assert named(answers[0].json()) == named(answers[1].json()), wish
    for path, query in (("pictures", {"where": "width > 50", "limit": 200}), ("facets", {})):
        ours, theirs = (client.get(f"{API}/{path}", params=query).json() for client in clients)
        if path == "pictures":
            ours, theirs = named(ours), named(theirs)
            assert ours[1] >= 3
        assert ours == theirs


def test_a_picture_is_shown_and_looked_for(clients: list[TestClient]) -> None:
    found = []
    for client in clients:
        page = client.get(f"{API}/pictures", params={"where": 'name = "red-008.png"'}).json()
        (picture,) = page["pictures"]
        assert client.get(picture["thumbnail"]).headers["content-type"] == "image/jpeg"
        similar = client.get(f"{API}/pictures/{picture['id']}/similar", params={"limit": 4}).json()
        copies = client.get(f"{API}/duplicates").json()["groups"]
        found.append((named(similar), [sorted(each["name"] for each in group["pictures"]) for group in copies]))
    assert found[0] == found[1] and found[0][1] == [["copy.png", "red-008.png"]]


def test_a_server_that_was_away_is_asked_again(clients: list[TestClient], server: Server) -> None:
    client = clients[1]
    server.kill()
    answer = client.post(f"{API}/search", json={"text": "green"})
    assert answer.status_code == 409 and "cannot be reached" in answer.text
    server.start()
    until(lambda: client.post(f"{API}/search", json={"text": "green"}).status_code == 200)
