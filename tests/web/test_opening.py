"""Pictures without a file of their own, on the pages: in shards, tables and object stores, and never any other."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest
from PIL import Image
from starlette.testclient import TestClient

from bahumukha.errors import UsageError
from bahumukha.search import PictureIndex, remote
from bahumukha.search.records import Picture
from bahumukha.search.store import Ledger
from bahumukha.web import opening
from bahumukha.web.config import ServerConfig
from bahumukha.web.opening import Opener, Showable, told
from bahumukha.zoo.fake import ColourEncoder
from tests.search.packs import named, picture_bytes, write_parquet, write_tar
from tests.search.pictures import draw
from tests.web.conftest import Place, until

pytest.importorskip("pyarrow")

API = "/api/v1"
STORE = "memory://served/photos"


@dataclass(frozen=True)
class Packs:
    """A folder with a picture, a shard and a table; another shard outside of it; a store."""

    place: Place
    files: dict[str, bytes]
    """Path in the index -> bytes, of all that lies in the folder and the store."""

    @property
    def shard(self) -> Path:
        return self.place.folder / "s.tar"

    @property
    def secret(self) -> Path:
        return self.place.outside / "secret.tar"

    def client(self, **changes: Any) -> TestClient:
        return self.place.client(**{"folders": (self.place.folder, STORE)} | changes)


@pytest.fixture
def packs(tmp_path: Path) -> Iterator[Packs]:
    place = Place(tmp_path / "pictures", tmp_path / "outside", tmp_path / "index.db", tmp_path / "created")
    place.folder.mkdir()
    place.outside.mkdir()
    shard, table, far = named(range(5)), named(range(10, 22)), named(range(30, 34))
    shard["deep/er/cyan-006.png"] = picture_bytes("cyan", 6)
    tiff = io.BytesIO()
    draw("brown", 7, (90, 60)).save(tiff, "TIFF")
    shard["brown-007.tiff"] = tiff.getvalue()
    write_tar(place.folder / "s.tar", shard)
    write_parquet(place.folder / "t.parquet", table, as_struct=True)
    write_tar(place.outside / "secret.tar", {"red-000.png": picture_bytes("red", 99)})
    (place.folder / "plain.png").write_bytes(picture_bytes("purple", 70))
    store = fsspec.filesystem("memory")
    files = {f"{place.folder}/s.tar/{name}": data for name, data in shard.items()}
    files |= {f"{place.folder}/t.parquet/{n:06}-{name}": data for n, (name, data) in enumerate(table.items())}
    files[f"{place.folder}/plain.png"] = picture_bytes("purple", 70)
    for name, data in far.items():
        store.pipe_file(f"/served/photos/{name}", data)
        files[f"{STORE}/{name}"] = data
    index(place, place.folder, place.folder / "s.tar", place.folder / "t.parquet", place.outside / "secret.tar", STORE)
    yield Packs(place, files)
    if store.exists("/served"):
        store.rm("/served", recursive=True)


def index(place: Place, *sources: Path | str) -> None:
    assert not PictureIndex(place.index, ColourEncoder()).index(sources).failed


def listed(client: TestClient) -> dict[str, dict[str, Any]]:
    """Path -> picture, of all that is shown."""
    page = client.get(f"{API}/pictures", params={"limit": 200}).json()
    assert page["total"] == len(page["pictures"])
    return {picture["path"]: picture for picture in page["pictures"]}


def numbers(packs: Packs, **changes: Any) -> dict[str, int]:
    """Path -> number, of all that is indexed."""
    with packs.client(folders=(), **changes) as everything:
        return {path: picture["id"] for path, picture in listed(everything).items()}


def of_facts(client: TestClient, id: int) -> set[int]:
    """What the addresses answer that tell of a picture."""
    answers = [client.get(f"{API}/pictures/{id}{end}") for end in ("", "/similar")]
    answers.append(client.post(f"{API}/search", json={"picture": id}))
    return {answer.status_code for answer in answers}


def of_file(client: TestClient, id: int) -> set[int]:
    """What the addresses answer that open a picture; errors are one line that tells nothing."""
    answers = [client.get(f"{API}/pictures/{id}{end}") for end in ("/full", "/thumbnail")]
    answers.append(client.post(f"{API}/classify", data={"labels": ["a"], "picture": id}))
    lines = (f"there is no picture {id}", f"picture {id} is not there any more")
    assert all(answer.is_success or answer.json()["error"] in lines for answer in answers)
    return {answer.status_code for answer in answers}


def refused(client: TestClient, id: int) -> bool:
    return of_facts(client, id) == of_file(client, id) == {404}


# --- what is shown


def test_everything_of_a_picture_wherever_it_lies(packs: Packs) -> None:
    with packs.client() as client:
        found = listed(client)
        assert found.keys() == packs.files.keys()
        for path, picture in found.items():
            full = client.get(picture["full"])
            if not path.endswith(".tiff"):
                assert full.content == packs.files[path] and full.headers["content-type"] == "image/png"
            with Image.open(io.BytesIO(full.content)) as image:
                assert image.size == (picture["width"], picture["height"])
            small = client.get(picture["thumbnail"])
            assert small.headers["content-type"] == "image/jpeg" and "immutable" in small.headers["cache-control"]
            details = client.get(f"{API}/pictures/{picture['id']}").json()
            assert details["path"] == path == f"{details['folder']}/{details['name']}"
            assert details["bytes"] == len(packs.files[path])
        tiff = found[f"{packs.shard}/brown-007.tiff"]
        assert client.get(tiff["full"]).headers["content-type"] == "image/jpeg"
        folders = client.get(f"{API}/folders").json()["folders"]
        assert [(f["path"], f["pictures"], f["indexed"]) for f in folders] == [
            (str(packs.place.folder), 20, True),
            (STORE, 4, True),
        ]
        facets = client.get(f"{API}/facets").json()
        assert {each["value"]: each["pictures"] for each in facets["types"]} == {"PNG": 23, "TIFF": 1}


def test_paths_are_those_that_search_prints(packs: Packs) -> None:
    matches = PictureIndex(packs.place.index, ColourEncoder()).search(
        "something blue", [packs.place.folder, STORE], top=9
    )
    with packs.client() as client:
        page = client.post(f"{API}/search", json={"text": "something blue", "limit": 9}).json()
        assert [p["path"] for p in page["pictures"]] == [match.path for match in matches]
        assert {"s.tar", "t.parquet", "photos"} <= {Path(p["path"]).parent.name for p in page["pictures"]}
        like = page["pictures"][0]
        similar = client.get(f"{API}/pictures/{like['id']}/similar", params={"limit": 3}).json()["pictures"]
        expected = PictureIndex(packs.place.index, ColourEncoder()).similar(
            like["path"], [packs.place.folder, STORE], top=3
        )
        assert [p["path"] for p in similar] == [match.path for match in expected]
        [answer] = client.post(f"{API}/classify", data={"labels": ["blue"], "picture": like["id"]}).json()["labels"]
        assert answer["label"] == "blue"
        heat = client.post(f"{API}/explain", data={"labels": ["red", "blue"], "label": "blue", "picture": like["id"]})
        assert heat.headers["content-type"] == "image/png"


def test_copies_in_packs_and_files_are_found(packs: Packs) -> None:
    (packs.place.folder / "copy.png").write_bytes(packs.files[f"{packs.shard}/red-000.png"])
    index(packs.place, packs.place.folder)
    with packs.client() as client:
        [group] = client.get(f"{API}/duplicates").json()["groups"]
        assert {p["path"] for p in group["pictures"]} == {
            f"{packs.place.folder}/copy.png",
            f"{packs.shard}/red-000.png",
        }


def test_a_shard_or_a_store_alone_and_all_that_is_indexed(packs: Packs) -> None:
    own = {path for path in packs.files if path.startswith(f"{packs.shard}/")}
    with packs.client(folders=(packs.shard,)) as client:
        assert listed(client).keys() == own
    with packs.client(folders=(STORE,)) as client:
        assert listed(client).keys() == {path for path in packs.files if path.startswith(STORE)}
    with packs.client(folders=()) as client:
        assert listed(client).keys() == packs.files.keys() | {f"{packs.secret}/red-000.png"}
        folders = {each["path"] for each in client.get(f"{API}/folders").json()["folders"]}
        assert folders == {str(packs.place.folder), STORE, str(packs.secret)}, "the others lie in the folder"


def test_more_packs_than_one_question_can_name(packs: Packs, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("library", "routes.server"):
        monkeypatch.setattr(f"bahumukha.web.{module}.MOST_PLACES", 2)
    with packs.client(folders=()) as client:
        assert len(listed(client)) == len(packs.files) + 1
        assert len(client.get(f"{API}/folders").json()["folders"]) == 2


def test_a_shard_that_never_was_indexed_is_indexed_at_once(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path, tmp_path / "i.db", tmp_path / "created")
    shard = write_tar(tmp_path / "new.tar", named(range(3)))
    with place.client(folders=(shard,)) as client:
        until(lambda: client.get(f"{API}/folders").json()["folders"][0]["indexed"])
        assert len(listed(client)) == 3


def test_what_is_served_has_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("none")
    for wrong in (tmp_path / "none.tar", tmp_path / "a.txt"):
        with pytest.raises(UsageError, match="there is no such folder, shard"):
            ServerConfig(folders=(wrong,))


def test_one_name_for_several_is_refused(tmp_path: Path) -> None:
    """Nothing in the index lies below such a name."""
    for end in ("a-*.tar", "a-{0..3}.tar", "a-?.tar", "a-[0-9].tar", "*", "a.jpg?sig=1"):
        for start in ("s3://bucket/photos", tmp_path):
            with pytest.raises(UsageError, match="name packs one by one, or the folder that they lie in"):
                ServerConfig(folders=(f"{start}/{end}",))
    (tmp_path / "a[1] {2}").mkdir()
    shard = write_tar(tmp_path / "a[1] {2}" / "what?.tar", named([1]))
    assert ServerConfig(folders=(shard.parent, shard)).roots == (str(shard.parent), str(shard))


# --- what is not


def test_packs_outside_are_not_shown(packs: Packs) -> None:
    id = numbers(packs)[f"{packs.secret}/red-000.png"]
    with packs.client() as client:
        assert refused(client, id) and len(listed(client)) == len(packs.files)
    with packs.client(folders=(packs.place.folder,)) as client:
        [far] = [id for path, id in numbers(packs).items() if path == f"{STORE}/cyan-030.png"]
        assert refused(client, far)


def test_the_pack_itself_is_no_picture(packs: Packs) -> None:
    with Ledger(packs.place.index) as ledger:
        rows = ledger.select("SELECT path, id FROM files WHERE embedding IS NULL")
    ids = {os.fsdecode(path): id for path, id in rows}
    assert ids.keys() == {str(packs.shard), str(packs.place.folder / "t.parquet"), str(packs.secret)}
    for folders in ((packs.place.folder,), (packs.shard,), ()):
        with packs.client(folders=folders) as client:
            assert refused(client, ids[str(packs.shard)])


def swap_for_link(packs: Packs) -> None:
    packs.shard.unlink()
    packs.shard.symlink_to(packs.secret)


def swap_for_pipe(packs: Packs) -> None:
    packs.shard.unlink()
    os.mkfifo(packs.shard)


def swap_for_folder_with_link(packs: Packs) -> None:
    packs.shard.unlink()
    packs.shard.mkdir()
    draw("red", 99).save(packs.place.outside / "secret.png")
    (packs.shard / "red-000.png").symlink_to(packs.place.outside / "secret.png")


def swap_parent_for_link(packs: Packs) -> None:
    write_tar(packs.place.outside / "s.tar", {"red-000.png": picture_bytes("red", 99)})
    packs.place.folder.rename(packs.place.folder.with_name("elsewhere"))
    packs.place.folder.symlink_to(packs.place.outside)


def rewrite(packs: Packs) -> None:
    write_tar(packs.shard, named(range(1, 3)))


@pytest.mark.parametrize(
    "change", [swap_for_link, swap_for_pipe, swap_for_folder_with_link, swap_parent_for_link, rewrite]
)
def test_a_pack_that_became_something_else(packs: Packs, change: Callable[[Packs], None]) -> None:
    with packs.client() as client:
        id = listed(client)[f"{packs.shard}/red-000.png"]["id"]
        assert client.get(f"{API}/pictures/{id}/full").status_code == 200
        change(packs)
        assert of_file(client, id) == {404}
    # Nor by one who was let in before it did.
    with Opener().opened(f"{packs.shard}/red-000.png", client.app.state.services.config.roots) as file:
        assert file is None


ODD = ("http://127.0.0.1:9/red.png", "memory://served/photos/red-031.png", "C:\\Windows\\red.png", "a//b.tar/red.png")
CLIMBING = (
    "../../outside/secret.png",
    "../../outside/secret.tar/red-000.png",
    "a/../../../outside/secret.png",
    "a/../s.tar/red-000.png",
    "/../../outside/secret.png",
)


def test_names_of_members_lead_nowhere(packs: Packs, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are names of bytes of this shard. Without it they name nothing at all."""
    draw("red", 98).save(packs.place.outside / "secret.png")
    evil = packs.place.folder / "evil.tar"
    data = {name: picture_bytes("yellow", 80 + n) for n, name in enumerate(ODD + CLIMBING)}
    write_tar(evil, data)
    index(packs.place, evil)
    monkeypatch.setattr(remote, "_place", None)  # asking a store would fail
    with packs.client() as client:
        found = {path.removeprefix(f"{evil}/"): p for path, p in listed(client).items() if path.startswith(f"{evil}/")}
        assert found.keys() == set(ODD), "names that climb are not even indexed"
        for name, picture in found.items():
            assert client.get(picture["full"]).content == data[name]
        evil.rename(evil.with_name("gone"))
        assert all(refused(client, picture["id"]) for picture in found.values())


def test_rows_that_climb_lead_nowhere(packs: Packs) -> None:
    """Whoever could write them into the ledger."""
    draw("red", 98).save(packs.place.outside / "secret.png")
    paths = [f"{packs.place.folder}/{start}/{name}" for start in ("evil.tar", "s.tar", "plain") for name in CLIMBING]
    paths += [f"{STORE}/../secret.png", f"{STORE}/../secret.tar/red-000.png"]
    fsspec.filesystem("memory").pipe_file("/served/secret.png", picture_bytes("red", 97))
    with Ledger(packs.place.index) as ledger, ledger.writing():
        for path in paths:
            ledger.put(path, 1, 1, Picture(b"c", None, 48, 32, "PNG", embedding=b"\0\1" * ColourEncoder().dim))
        ids = ledger.rows_within(paths)
        ids = {path: row.id for path, row in ids.items() if path in paths}
    with packs.client() as client:
        assert len(ids) == len(paths)
        for _ in range(2):
            for path, id in ids.items():
                assert refused(client, id) or (of_file(client, id) == {404} and path.startswith(str(packs.shard))), path
            for name in ("evil.tar", "plain"):  # now `evil.tar/../..` is a way
                (packs.place.folder / name / "a").mkdir(parents=True, exist_ok=True)


def test_a_large_one_is_not_held_in_memory(packs: Packs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "LARGEST_READ", 100)
    with packs.client() as client:
        for path, picture in listed(client).items():
            assert of_file(client, picture["id"]) == {200 if path.endswith("plain.png") else 404}, path


def test_a_store_that_fails_is_a_file_that_is_missing(packs: Packs, monkeypatch: pytest.MonkeyPatch) -> None:
    with packs.client() as client:
        found = listed(client)
        first, second = found[f"{STORE}/cyan-030.png"], found[f"{STORE}/brown-031.png"]
        assert client.get(first["thumbnail"]).status_code == 200

        def fail(url: str) -> None:
            raise PermissionError("the secret key of /home/user")

        monkeypatch.setattr(remote, "_place", fail)
        assert listed(client).keys() == found.keys(), "a store is not asked when pictures are listed"
        assert client.get(first["thumbnail"]).status_code == 200, "a copy of it is kept"
        assert of_file(client, second["id"]) == {404}
        assert client.get(f"{API}/pictures/{second['id']}/similar").status_code == 200
        monkeypatch.setattr(remote, "_place", lambda url: (_ for _ in ()).throw(UsageError("takes the package s3fs")))
        assert of_file(client, second["id"]) == {404}


@pytest.mark.parametrize("what", ["full", "thumbnail"])
def test_a_slow_store_keeps_nobody_else_waiting(packs: Packs, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from threading import Event

    may_go = Event()
    read = remote.read_part

    def slow(*arguments: Any) -> bytes:
        assert may_go.wait(120)
        return read(*arguments)

    monkeypatch.setattr(remote, "read_part", slow)
    with packs.client() as client, ThreadPoolExecutor(20) as browser:
        found = listed(client)
        far = [picture[what] for path, picture in found.items() if path.startswith(STORE)]
        asked = [browser.submit(client.get, address) for address in far * 4]
        near = [picture["thumbnail"] for path, picture in found.items() if not path.startswith(STORE)]
        try:
            answers = [browser.submit(client.get, address) for address in near]
            assert {each.result(60).status_code for each in answers} == {200} and not any(each.done() for each in asked)
        finally:
            may_go.set()
        assert {each.result().status_code for each in asked} == {200}


def test_urls_that_climb_are_not_asked() -> None:
    may_show = Showable(["s3://bucket/photos", "http://host/a"])
    assert may_show("s3://bucket/photos/a.jpg") and may_show("s3://bucket/photos/x.tar/../a.jpg")
    for url in (
        "s3://bucket/photos/../other/a.jpg",
        "s3://bucket/photosother/a.jpg",
        "s3://other/photos/a.jpg",
        "s3://bucket/photos/../x.tar/a.jpg",
        "http://host/a/%2e%2e/b.jpg",
        "http://host/a/..%2Fb.jpg",
        "http://host/a/..\\b.jpg",
        "https://host/a/b.jpg",
        "http://host/a.tar/b.jpg",
    ):
        assert not may_show(url), url


def test_passwords_and_signatures_are_not_told() -> None:
    for text, shown in (
        ("s3://key:secret@host/a/b.jpg", "s3://host/a/b.jpg"),
        ("https://me:pw@host/a.jpg?X-Signature=secret", "https://host/a.jpg"),
        ("https://me:pw@host/a.jpg: cannot be read: 403 of https://host/a.jpg?sig=1", None),
        ("sftp://user:secret@pw@host/dir/a.jpg", "sftp://host/dir/a.jpg"),
        ("sftp://user:secret?pw@host/dir/a.jpg", "sftp://host/dir/a.jpg"),
        ("HTTPS://h/a.jpg?X-Sig=secret", "HTTPS://h/a.jpg"),
        ("s3://bucket/mail@home/a@b.jpg", "s3://bucket/mail@home/a@b.jpg"),
        ("dav://host?to=a@b", "dav://host?to=a@b"),
        ("/data/a@b.jpg", "/data/a@b.jpg"),
        ("s3://bucket/what?.jpg", "s3://bucket/what?.jpg"),
    ):
        assert shown is None or told(text) == shown
        assert not any(secret in told(text) for secret in ("secret", "pw", "sig=1"))
    assert json.dumps(told(os.fsdecode(b"/data/\xff.jpg")))
