"""Searching, looking and pictures through the API."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from bahumukha.errors import UsageError
from bahumukha.search import PictureIndex
from bahumukha.web.config import ServerConfig
from bahumukha.zoo.fake import ColourEncoder
from tests.search.pictures import draw
from tests.web.conftest import Place, until

API = "/api/v1"


def search(client: TestClient, **request: Any) -> dict[str, Any]:
    answer = client.post(f"{API}/search", json=request)
    assert answer.status_code == 200, answer.text
    return answer.json()


def names(page: dict[str, Any]) -> list[str]:
    return [picture["name"] for picture in page["pictures"]]


def png(colour: str) -> bytes:
    file = io.BytesIO()
    draw(colour, 7).save(file, "PNG")
    return file.getvalue()


def number(client: TestClient, name: str) -> int:
    page = client.get(f"{API}/pictures", params={"where": f'name = "{name}"'}).json()
    return int(page["pictures"][0]["id"])


# --- searching


def test_search_is_what_the_index_answers(client: TestClient, shared_place: Place) -> None:
    page = search(client, text="a blue thing", limit=5)
    matches = PictureIndex(shared_place.index, ColourEncoder()).search("a blue thing", [shared_place.folder], top=5)
    assert names(page) == [Path(match.path).name for match in matches]
    assert [p["score"] for p in page["pictures"]] == [round(match.score, 4) for match in matches]
    assert page["total"] == 25 and page["next"] == 5


def test_pages_of_a_ranking_follow_one_another(client: TestClient) -> None:
    whole = search(client, text="red", limit=200)
    assert len(whole["pictures"]) == 24 and whole["next"] is None, "the link that leads out is not shown"
    found: list[str] = []
    offset: int | None = 0
    while offset is not None:
        page = search(client, text="red", offset=offset, limit=7)
        found += names(page)
        offset = page["next"]
    assert found == names(whole)


def test_pictures_added_and_subtracted(client: TestClient, shared_place: Place) -> None:
    index = PictureIndex(shared_place.index, ColourEncoder())
    mixed = search(client, text="red", plus=[{"text": "blue", "weight": 0.5}], minus=[{"text": "green"}], limit=6)
    same = index.search("red", [shared_place.folder], plus=["0.5:blue"], minus=["green"], top=7)
    assert (
        names(mixed) == [name for match in same if (name := Path(match.path).name) != "link.png"][: len(names(mixed))]
    )
    sent = client.post(f"{API}/uploads", files={"file": ("a.png", png("yellow"))})
    assert sent.status_code == 201 and (sent.json()["width"], sent.json()["height"]) == (48, 32)
    like = search(client, upload=sent.json()["upload"], limit=2)
    assert all(name.startswith("yellow") for name in names(like))
    both = search(client, upload=sent.json()["upload"], minus=[{"picture": like["pictures"][0]["id"], "weight": 0.5}])
    assert like["pictures"][0]["name"] not in names(both)


def test_filters_and_cutoff(client: TestClient, shared_place: Place) -> None:
    assert names(search(client, text="red", where="date = 2021-05")) == ["dated.jpg"]
    assert search(client, text="red", where="camera ~ nikon")["total"] == 0
    index = PictureIndex(shared_place.index, ColourEncoder())
    for cutoff in ("auto", 0.9):
        found = search(client, text="red", cutoff=cutoff)
        assert found["total"] == len(index.search("red", [shared_place.folder], cutoff=cutoff))
    assert 3 <= found["total"] <= 6
    facets = client.get(f"{API}/facets").json()
    assert facets["years"] == [{"value": "2021", "pictures": 1}]
    assert facets["cameras"] == [{"value": "Canon EOS R5", "pictures": 1}]
    assert {each["value"] for each in facets["types"]} == {"PNG", "JPEG", "TIFF"}


def test_similar_and_duplicates(client: TestClient) -> None:
    id = number(client, "red-008.png")
    page = client.get(f"{API}/pictures/{id}/similar", params={"limit": 2}).json()
    assert set(names(page)) == {"copy.png", "near.png"}
    exact = client.get(f"{API}/duplicates").json()
    assert [sorted(p["name"] for p in group["pictures"]) for group in exact["groups"]] == [["copy.png", "red-008.png"]]
    near = client.get(f"{API}/duplicates", params={"near": True}).json()
    assert near["total"] == 2 and near["groups"][1]["kind"] == "near"
    assert {"near.png"} < {p["name"] for p in near["groups"][1]["pictures"]}


# --- pictures


def test_the_newest_come_first_and_details_have_exif(client: TestClient) -> None:
    page = client.get(f"{API}/pictures", params={"limit": 3}).json()
    assert names(page)[0] == "dated.jpg" and page["total"] == 25
    details = client.get(f"{API}/pictures/{page['pictures'][0]['id']}").json()
    assert details["camera"] == "Canon EOS R5" and details["taken"].startswith("2021-05-03")
    assert (details["width"], details["height"], details["format"]) == (120, 80, "JPEG")


def test_thumbnails_are_made_once(client: TestClient, shared_place: Place) -> None:
    [picture] = client.get(f"{API}/pictures", params={"where": "name = dated.jpg"}).json()["pictures"]
    first = client.get(picture["thumbnail"])
    assert first.status_code == 200 and "immutable" in first.headers["cache-control"]
    with Image.open(io.BytesIO(first.content)) as image:
        assert image.size == (120, 80) and image.format == "JPEG"
    [kept] = [p for p in shared_place.config().thumbnails.rglob("*.jpg") if p.read_bytes() == first.content]
    before = kept.stat().st_mtime_ns
    assert client.get(picture["thumbnail"]).content == first.content and kept.stat().st_mtime_ns == before
    assert not list(shared_place.config().thumbnails.rglob("*.part"))
    other = client.get(picture["thumbnail"].partition("?")[0])
    assert "immutable" not in other.headers["cache-control"]


def test_the_file_itself_where_browsers_read_it_else_a_copy(client: TestClient, shared_place: Place) -> None:
    own = client.get(f"{API}/pictures/{number(client, 'red-008.png')}/full")
    assert own.headers["content-type"] == "image/png"
    assert own.content == (shared_place.folder / "red-008.png").read_bytes()
    copy = client.get(f"{API}/pictures/{number(client, 'slide.tiff')}/full")
    assert copy.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(copy.content)) as image:
        assert image.size == (90, 60)


def test_pictures_that_are_gone_are_not_shown(place: Place) -> None:
    with place.client() as client:
        id = number(client, "dated.jpg")
        (place.folder / "dated.jpg").unlink()
        assert "dated.jpg" not in names(client.get(f"{API}/pictures").json())
        for address in (f"{API}/pictures/{id}", f"{API}/pictures/{id}/full", f"{API}/pictures/{id}/similar"):
            assert client.get(address).status_code == 404


# --- asking


def test_classify_and_explain(client: TestClient) -> None:
    files = {"file": ("a.png", png("green"))}
    labels = ["red", "green", "blue"]
    found = client.post(f"{API}/classify", files=files, data={"labels": labels}).json()["labels"]
    assert found[0]["label"] == "green" and sum(each["probability"] for each in found) == pytest.approx(1, abs=1e-4)
    id = number(client, "dated.jpg")
    assert (
        client.post(f"{API}/classify", data={"labels": labels, "picture": id}).json()["labels"][0]["label"] == "green"
    )
    heat = client.post(f"{API}/explain", files=files, data={"labels": labels, "label": "green"})
    with Image.open(io.BytesIO(heat.content)) as image:
        assert image.size == (48, 32) and image.format == "PNG"
    wrong = client.post(f"{API}/explain", files=files, data={"labels": labels, "label": "purple"})
    assert wrong.status_code == 400 and "not one of the labels" in wrong.json()["error"]
    assert client.post(f"{API}/classify", data={"labels": labels}).status_code == 400


# --- indexing


def test_a_new_folder_is_indexed_while_the_server_runs(tmp_path: Path) -> None:
    place = Place(tmp_path / "new", tmp_path, tmp_path / "i.db", tmp_path / "created")
    place.folder.mkdir()
    draw("red").save(place.folder / "red.png")
    (place.folder / "bad.png").write_bytes(b"no picture")
    with place.client() as client:
        state = until(lambda: (s := client.get(f"{API}/folders").json())["folders"][0]["indexed"] and s)
        state = until(lambda: not (s := client.get(f"{API}/folders").json())["index"]["running"] and s)
        assert state["folders"][0]["pictures"] == 1 and "bad.png" in state["index"]["failed"][0]["path"]
        assert names(search(client, text="red")) == ["red.png"]
        draw("blue").save(place.folder / "blue.png")
        assert client.post(f"{API}/folders/1/index").status_code == 404
        assert client.post(f"{API}/folders/0/index").status_code == 202
        until(lambda: search(client, text="blue")["total"] == 2)


def test_before_anything_is_indexed(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path, tmp_path / "none.db", tmp_path / "created")
    with place.client(folders=()) as client:
        assert search(client, text="red")["total"] == 0
        assert client.get(f"{API}/pictures").json()["pictures"] == []
        assert client.get(f"{API}/facets").json()["types"] == []
        assert client.get(f"{API}/duplicates").json()["total"] == 0
        assert "without folders" in client.post(f"{API}/folders/index").json()["error"]


def test_another_models_index_is_refused_in_one_line(shared_place: Place) -> None:
    class Other(ColourEncoder):
        def __init__(self) -> None:
            super().__init__(3)

    from bahumukha.web.app import create_app

    with TestClient(create_app(shared_place.config(), encoder=Other()), base_url="http://localhost") as client:
        answer = client.post(f"{API}/search", json={"text": "red"})
        assert answer.status_code == 409 and "was made with" in answer.json()["error"]


# --- the whole


def test_the_server_never_imports_pytorch(shared_place: Place) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from starlette.testclient import TestClient\n"
        "from bahumukha.web.app import create_app\n"
        "from bahumukha.web.config import ServerConfig\n"
        "from bahumukha.zoo.fake import ColourEncoder\n"
        "folder, index, created = map(Path, sys.argv[1:])\n"
        "config = ServerConfig(folders=(folder,), index=index, created=created)\n"
        "with TestClient(create_app(config, encoder=ColourEncoder()), base_url='http://localhost') as client:\n"
        "    assert client.post('/api/v1/search', json={'text': 'red'}).json()['total'] == 25\n"
        "    assert client.get('/api/v1/status').json()['generators'][0]['missing'] is None\n"
        "print([name for name in ('torch', 'torchvision', 'transformers') if name in sys.modules])\n"
    )
    arguments = [str(p) for p in (shared_place.folder, shared_place.index, shared_place.created / "none")]
    ran = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert ran.stdout == "[]\n", ran.stderr


def test_settings_are_checked(tmp_path: Path) -> None:
    assert ServerConfig(host="::1").is_local and ServerConfig(host="localhost").is_local
    for wrong, said in (
        ({"host": "0.0.0.0"}, "--token"),
        ({"token": "short"}, "--token"),
        ({"port": 70000}, "--port"),
        ({"folders": (tmp_path / "none",)}, "no such folder"),
    ):
        with pytest.raises(UsageError, match=said):
            ServerConfig(**wrong)  # type: ignore[arg-type]
