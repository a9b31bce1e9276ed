"""The store in PostgreSQL beside the one in SQLite: the same answers, on a real server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bahumukha.errors import ModelMismatch, PictureIndexError, UsageError
from bahumukha.search import PictureIndex
from bahumukha.search.places import open_store, place_of, ranker
from bahumukha.search.ranking import Cutoff
from bahumukha.search.records import Picture, Root, Store
from bahumukha.search.where import compile_where
from bahumukha.zoo.fake import ColourEncoder
from bench.postgres import MODULE, Server
from tests.search.pictures import draw, fill

pytest.importorskip("psycopg", reason="psycopg is not installed")
pytest.importorskip(MODULE, reason=f"{MODULE}, which carries the server, is not installed")

from bahumukha.search.postgres import PostgresStore, indexes, ranking  # noqa: E402
from bahumukha.search.postgres.ranking import Asked, PostgresRanker  # noqa: E402

DIM = 16


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(settings={"fsync": "off"}) as server:  # it is killed here, but never the machine
        yield server


@pytest.fixture
def url(server: Server) -> str:
    return server.new_database()


def both(tmp_path: Path, url: str) -> list[PictureIndex]:
    return [PictureIndex(tmp_path / "index.db", ColourEncoder()), PictureIndex(url, ColourEncoder())]


def told(matches: list) -> list[tuple[int, str, float]]:
    return [(match.rank, match.path, pytest.approx(match.score, abs=1e-5)) for match in matches]


# --- the same answers


def test_the_commands_answer_alike(tmp_path: Path, url: str) -> None:
    photos = tmp_path / "photos"
    fill(photos, 24)
    shutil.copy(photos / "red-008.png", photos / "copy.png")
    draw("red", 8).resize((96, 64)).save(photos / "near.png")
    (photos / "broken.png").write_bytes(b"no picture")
    os.rename(photos / "green-001.png", os.fsencode(photos) + b"/\xff.png")
    indexes = both(tmp_path, url)
    first, second = (index.index([photos]) for index in indexes)
    assert (first.added, first.failed) == (second.added, second.failed) and first.added == 26
    (photos / "blue-002.png").unlink()
    (photos / "cyan-014.png").rename(photos / "sub" / "moved.png")
    draw("cyan", 300).save(photos / "cyan-022.png")
    reports = [index.index([photos]).to_json() | {"seconds": 0} for index in indexes]
    assert reports[0] == reports[1] and reports[0]["moved"] == reports[0]["removed"] == reports[0]["updated"] == 1
    questions = [
        {"query": "something blue", "top": 5},
        {"query": "red", "plus": ["0.5:green"], "minus": ["blue"], "top": 30},
        {"query": "cyan", "where": "folder = sub and not name ~ blue"},
        {"query": "red", "folders": [photos / "sub"]},
        {"query": "red", "cutoff": "auto"},
        {"query": "red", "cutoff": 0.9, "top": 3},
        {"image": photos / "near.png", "minus": ["green"]},
    ]
    for question in questions:
        ours, theirs = (index.search(**question) for index in indexes)  # type: ignore[arg-type]
        assert told(theirs) == told(ours) and bool(ours) == (question.get("cutoff") != "auto"), question
    ours, theirs = (index.similar(photos / "near.png", top=5) for index in indexes)
    assert os.path.basename(ours[0].path) in ("red-008.png", "copy.png") and told(theirs) == told(ours)
    ours, theirs = (index.duplicates([photos], near=True)[0] for index in indexes)
    assert {group.kind for group in ours} == {"exact", "near"}
    assert [(g.kind, g.paths) for g in theirs] == [(g.kind, g.paths) for g in ours]
    assert [index.unindexed([photos, tmp_path]) for index in indexes] == [[str(tmp_path)]] * 2
    assert {index.forget([photos / "sub"]) for index in indexes} == {9}
    assert {index.search("red", top=100)[-1].rank for index in indexes} == {16}


TEXT = st.one_of(
    st.none(), st.sampled_from(["Canon EOS 5D", "CANON x", "Straße", "İ", "été", "e\u0301te\u0301", "a%s?'\""])
)
PICTURES = st.lists(
    st.tuples(
        st.lists(st.integers(-3, 3), min_size=DIM, max_size=DIM).filter(any),
        st.sampled_from(["/p/Cats", "/p/cats/old", "/p/dogs", "/P/ÉTÉ", "/p/a\\b"]),
        st.one_of(st.none(), st.integers(1, 5000)),
        st.one_of(st.none(), st.sampled_from(["2020-12-31T23:59:59", "2021-05-03T10:00:00", "2022-01-01T00:00:00"])),
        TEXT,
        st.sampled_from(["JPEG", "PNG", "HEIF", None]),
    ),
    min_size=1,
    max_size=40,
)
CONDITIONS = st.sampled_from(
    [
        None,
        "width >= 800",
        "not width = 100..3000",
        "date = 2021",
        "date > 2020 or camera ~ canon",
        'camera = "strasse" or camera = "ÉTÉ"',
        'camera != "canon x"',
        "folder = cats",
        "folder = /p/cats and type != jpg",
        'folder ~ "a\\b"',
        "name ~ 1 and not (camera ~ '%s?' or date < 2021)",
    ]
)
CUTOFFS = st.sampled_from([None, "auto", 0.3])


@pytest.fixture(scope="module")
def stores(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Store]]:
    places = [place_of(tmp_path_factory.mktemp("stores") / "index.db"), place_of(server.new_database())]
    opened = [open_store(place, create=True) for place in places]
    yield opened
    for store in opened:
        store.close()


def test_the_last_of_all_are_told_though_others_are_left_out(stores: list[Store]) -> None:
    """Six suit, five are asked for first and two that do not suit are left out: the server tells all six at once."""
    vector = np.zeros(DIM, np.float32)
    vector[0] = 1
    for store in stores:
        with store.writing():
            store.forget("/")
            for number in range(8):
                width = 100 if number in (0, 7) else 5000
                row = vector.astype("<f2").tobytes()
                store.put(f"/p/{number}.x", number, number, Picture(bytes([number]), None, width, width, embedding=row))
        ids = {path: row.id for path, row in store.rows_within([]).items()}
        place = place_of(store.path if hasattr(store, "path") else "postgresql://x/y")
        ranking = ranker(place).rank(store, vector, compile_where("width > 100"), None, [ids["/p/0.x"], ids["/p/7.x"]])
        first, _ = ranking.part(store, 0, 5)
        more, _ = ranking.part(store, 5, 100)
        assert len(first) == 5 and len(more) == 1 and ranking.total(store) == 6


@settings(max_examples=60, deadline=None)
@given(PICTURES, st.lists(st.integers(-3, 3), min_size=DIM, max_size=DIM).filter(any), CONDITIONS, CUTOFFS, st.data())
def test_any_pictures_rank_alike(
    stores: list[Store], pictures: list, query: list[int], where: str | None, cutoff: Cutoff, data: st.DataObject
) -> None:
    vector = (np.array(query) / np.linalg.norm(query)).astype(np.float32)
    but = data.draw(st.sets(st.integers(0, len(pictures) - 1), max_size=2))
    condition = compile_where(where) if where else None
    answers = []
    for store in stores:
        with store.writing():
            store.forget("/")
            for number, (row, folder, width, taken, camera, kind) in enumerate(pictures):
                embedding = (np.array(row) / np.linalg.norm(row)).astype("<f2").tobytes()
                picture = Picture(bytes([number]), None, width, width, kind, taken, camera, embedding=embedding)
                store.put(f"{folder}/{number}.x", number, number, picture)
        ids = {path: row.id for path, row in store.rows_within([]).items()}
        left_out = [id for path, id in ids.items() if int(os.path.basename(path)[:-2]) in but]
        place = place_of(store.path if hasattr(store, "path") else "postgresql://x/y")
        ranking = ranker(place).rank(store, vector, condition, cutoff, left_out)
        found, scores = ranking.part(store, 0, 5)
        more, further = ranking.part(store, len(found), 100)
        paths = store.paths(found + more)
        answers.append(
            (ranking.total(store), {paths[id]: s for id, s in zip(found + more, scores + further, strict=True)})
        )
        assert scores + further == sorted(scores + further, reverse=True) and len(answers[-1][1]) == answers[-1][0]
    (_, ours), (_, theirs) = answers
    near_the_limit = {path for path, score in (ours | theirs).items() if cutoff == 0.3 and abs(score - 0.3) < 1e-5}
    assert set(ours) - near_the_limit == set(theirs) - near_the_limit
    assert all(theirs[path] == pytest.approx(ours[path], abs=1e-5) for path in set(ours) & set(theirs))


# --- through an index


def rows_of_norm_1(count: int) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(count, DIM)).astype(np.float32)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("<f2")


def put(store: Store, rows: np.ndarray, start: int = 0) -> None:
    with store.writing():
        for number, row in enumerate(rows, start):
            picture = Picture(str(number).encode(), None, number % 100 + 1, 1, embedding=row.tobytes())
            store.put(f"/p/{number}", 1, 1, picture)


def indexes_of(store: Store) -> dict[str, int]:
    """Name -> object number, of those of embeddings."""
    sql = "SELECT relname::text, oid::bigint FROM pg_class WHERE relkind = 'i' AND starts_with(relname, ?) ORDER BY 1"
    return dict(store.select(sql, ("files_nearest",)))


@pytest.mark.parametrize(("listed_above", "lists"), [(10**9, 0), (1000, 38)])
def test_through_an_index(url: str, monkeypatch: pytest.MonkeyPatch, listed_above: int, lists: int) -> None:
    """Nearly all of the nearest, and with a filter that keeps one in a hundred too."""
    monkeypatch.setattr(indexes, "LEAST_LISTS", 1)
    monkeypatch.setattr(indexes, "PROBES", (1, 10**4))  # as many as there are lists
    rng, rows = np.random.default_rng(1), rows_of_norm_1(1500)
    by_index = PostgresRanker(1000, listed_above)
    with open_store(url, create=True) as store:
        assert isinstance(store, PostgresStore)
        put(store, rows[:1000])
        assert by_index.derive(store) == [] and not indexes_of(store), "few are looked at one by one"
        put(store, rows[1000:], 1000)
        assert by_index.derive(store) == []
        assert indexes.index_of(store) == indexes.Index(lists, 1500 if lists else 0)
        made = indexes_of(store)
        assert by_index.derive(store) == [] and indexes_of(store) == made, "it is built once"
        for where, few, fit in (
            (None, ranking.FEW, np.arange(1500)),
            ("width = 7", ranking.FEW, np.arange(6, 1500, 100)),
            ("width = 7", 0, np.arange(6, 1500, 100)),
        ):
            monkeypatch.setattr(ranking, "FEW", few)
            hits = 0
            for question in rng.normal(size=(20, DIM)).astype(np.float32):
                question /= np.linalg.norm(question)
                asked = by_index.rank(store, question, compile_where(where) if where else None, None)
                ids, scores = asked.part(store, 0, 10)
                cosines = rows[fit].astype(np.float32) @ question
                truth = {f"/p/{fit[i]}" for i in np.argsort(-cosines)[:10]}
                hits += len(truth & set(store.paths(ids).values()))
                again = asked.part(store, 5, 20)
                assert again[0][:5] == ids[5:] and not set(again[0][5:]) & set(ids), "pages hold together"
                assert scores[0] == pytest.approx(cosines.max(), abs=1e-5)
            assert hits >= (200 if lists else 195), where
        # Asked for more than a search finds, it looks at all.
        assert len(by_index.rank(store, question, compile_where("width = 7"), None).part(store, 0, 50)[0]) == 15
        if lists:
            exact = by_index.rank(store, question, None, None).part(store, 0, 10)
            monkeypatch.setattr(indexes, "PROBES", (1,))
            assert by_index.rank(store, question, None, None).part(store, 0, 10) != exact
            monkeypatch.setattr(indexes, "PROBES", (100, 100, 100))
            efforts = []
            through = Asked._through_index
            monkeypatch.setattr(Asked, "_through_index", lambda *given: efforts.append(given) or through(*given))
            assert by_index.rank(store, question, None, None).part(store, 0, 10) == exact
            assert len(efforts) == 2, "what changes nothing is not repeated"


def test_an_outgrown_index_is_built_anew_while_others_search(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "LEAST_LISTS", 1)
    rows, by_index = rows_of_norm_1(401), PostgresRanker(10, 10)
    with open_store(url, create=True) as store, open_store(url) as other:
        assert isinstance(store, PostgresStore)
        put(store, rows[:100])
        by_index.derive(store)
        first = indexes_of(store)
        put(store, rows[100:400], 100)
        by_index.derive(store)
        assert indexes.index_of(store) == indexes.Index(10, 100) and indexes_of(store) == first
        put(store, rows[400:], 400)
        with other.reading():
            assert by_index.rank(other, rows[400].astype(np.float32), None, None).part(other, 0, 1)[1][0] > 0.99
        by_index.derive(store)
        second = indexes_of(store)
        assert indexes.index_of(store) == indexes.Index(20, 401) and list(second) == ["files_nearest"] != first
        assert second["files_nearest"] != first["files_nearest"]
        question = rows[7].astype(np.float32)
        assert other.paths(by_index.rank(other, question, None, None).part(other, 0, 1)[0]).popitem()[1] == "/p/7"


def test_what_a_stopped_build_left_is_gone_on_from(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "LEAST_LISTS", 1)
    rows, by_index = rows_of_norm_1(100), PostgresRanker(10, 10)
    question = rows[7].astype(np.float32)
    with open_store(url, create=True) as store:
        assert isinstance(store, PostgresStore)
        put(store, rows)
        by_index.derive(store)
        first = indexes_of(store)["files_nearest"]

        # Between building and taking the place of the old one.
        store.connection.execute("ALTER INDEX files_nearest RENAME TO files_nearest_new")
        assert indexes.index_of(store) is None
        by_index.derive(store)
        assert indexes_of(store) == {"files_nearest": first}

        # Between taking the place and dropping the old one.
        store.connection.execute("CREATE INDEX files_nearest_old ON files (mtime_ns)")
        by_index.derive(store)
        assert indexes_of(store) == {"files_nearest": first}

        # Half way through building: in use under its name by an older version, or under that of a new one.
        for name in ("files_nearest", "files_nearest_new"):
            store.connection.execute(f"ALTER INDEX files_nearest RENAME TO {name}_x".encode())
            store.connection.execute(f"ALTER INDEX {name}_x RENAME TO {name}".encode())
            store.connection.execute(
                "UPDATE pg_index SET indisvalid = FALSE WHERE indexrelid = to_regclass(%s)", (name,)
            )
            assert indexes.index_of(store) is None
            assert store.paths(by_index.rank(store, question, None, None).part(store, 0, 1)[0]).popitem()[1] == "/p/7"
            before = indexes_of(store)
            by_index.derive(store)
            assert indexes.index_of(store) == indexes.Index(10, 100)
            assert list(indexes_of(store)) == ["files_nearest"] and indexes_of(store) != before


def test_which_index_when() -> None:
    assert indexes.suited(1_000_000) == indexes.Index() and not indexes.Index().is_outgrown(10**12)
    made = indexes.suited(1_000_001)
    assert made.lists == 1000 and not made.is_outgrown(4_000_004) and made.is_outgrown(4_000_005)
    assert indexes.suited(5_000_000).lists == 2236
    assert indexes.suited(10**12).lists == 16_384, "choosing more takes too much memory"
    assert 60 << 20 < indexes.suited(2_000_000).memory(DIM) < 1 << 30 and not indexes.Index().memory(DIM)


# --- many at once, and what goes wrong


def test_killed_while_writing_loses_nothing_acknowledged(server: Server, url: str) -> None:
    with open_store(url, create=True):
        pass
    for _ in range(2):
        writer = subprocess.Popen([sys.executable, "-m", "tests.search.writing", url], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(20)]
        server.kill()
        rest, _ = writer.communicate()
        assert writer.returncode == 1
        acknowledged += map(int, rest.split())
        server.start()
        with open_store(url) as store:
            kept = {int(path[1:]) for path in store.rows_within([])}
            assert kept >= set(acknowledged) and len(kept) - len(acknowledged) in (0, 1), "one may be on its way"
            with store.writing():
                store.forget("/")


def test_a_server_that_goes_away_is_one_line_and_the_run_goes_on(tmp_path: Path, server: Server, url: str) -> None:
    fill(tmp_path / "photos", 40)
    index = PictureIndex(url, ColourEncoder())
    steps = index.index_steps([tmp_path / "photos"])
    with pytest.raises(PictureIndexError, match="cannot be reached") as caught:
        for number, _ in enumerate(steps):
            if number == 35:
                server.kill()
    assert "\n" not in str(caught.value)
    server.start()
    report = index.index([tmp_path / "photos"])
    assert report.unchanged >= 32 and report.added + report.unchanged == 40
    assert len(index.search("red", top=100)) == 40


def test_two_writers_and_a_reader(tmp_path: Path, url: str) -> None:
    for name in ("a", "b"):
        fill(tmp_path / name, 40)
    code = "import sys; from bahumukha.search import PictureIndex; from bahumukha.zoo.fake import ColourEncoder; "
    code += "PictureIndex(sys.argv[1], ColourEncoder()).index(sys.argv[2:])"
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    runs = [subprocess.Popen([sys.executable, "-c", code, url, *order]) for order in (folders, folders[::-1])]
    assert [run.wait(timeout=300) for run in runs] == [0, 0]
    index = PictureIndex(url, ColourEncoder())
    assert len(index.search("red", top=100)) == 80
    assert index.index(folders).unchanged == 80


def test_another_model_is_refused_and_rebuilt(tmp_path: Path, url: str) -> None:
    fill(tmp_path / "photos", 8)
    PictureIndex(url, ColourEncoder()).index([tmp_path / "photos"])
    newer = PictureIndex(url, ColourEncoder(grid=3))
    with pytest.raises(ModelMismatch, match="keep a second index with --store"):
        newer.search("red")
    assert newer.index([tmp_path / "photos"], rebuild=True).updated == 8
    assert len(newer.search("red")) == 8


def test_rows_roots_and_names_that_are_not_text(url: str) -> None:
    odd = os.fsdecode(b"/p/\xff/a.png")
    with open_store(url, create=True) as store:
        with store.writing():
            store.put(odd, 1, 2**62, Picture(b"c", camera="a\0b", latitude=1.5, embedding=b"\0\1" * DIM))
            store.put_root(Root("/p", 2**63 - 1, None, complete=True))
        assert store.rows_within(["/p"])[odd].mtime_ns == 2**62
        assert store.roots() == [Root("/p", 2**63 - 1, None, complete=True)]
        found = store.picture(store.rows_within([])[odd].id, b"c")
        assert found is not None and found[1].embedding == b"\0\1" * DIM and found[1].camera == "a\ufffdb"
        before = store.state
        with pytest.raises(RuntimeError), store.writing():
            store.put("/p/other", 1, 1, Picture())
            raise RuntimeError
        assert list(store.rows_within([])) == [odd] and store.state == before


@pytest.mark.parametrize("url", ["postgresql://u:secret@localhost:1/db", "postgresql://u:secret@/db?host=/nowhere"])
def test_a_server_that_is_not_there_is_one_line_without_the_password(url: str) -> None:
    with pytest.raises(PictureIndexError, match="cannot be reached .*; check --store") as caught:
        PictureIndex(url, ColourEncoder()).search("red")
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_wrong_urls_and_nothing_indexed(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("mysql://u:secret@host/db", "host/db", "postgresql://u:secret@host:port:x/db?q"):
        with pytest.raises(UsageError, match="--store.*postgresql://USER@HOST:5432/DATABASE") as caught:
            open_store(place_of(None, wrong))
        assert "secret" not in str(caught.value)
    with pytest.raises(UsageError, match="give one of them"):
        place_of(tmp_path / "index.db", url)
    with pytest.raises(PictureIndexError, match="no pictures are indexed yet"):
        PictureIndex(url, ColourEncoder()).search("red")
    with pytest.raises(UsageError, match="no such file"):
        PictureIndex(url, ColourEncoder()).index([tmp_path / "none"])
    monkeypatch.setenv("BAHUMUKHA_STORE", url)
    assert place_of() == url and place_of(tmp_path / "index.db") == tmp_path / "index.db"
