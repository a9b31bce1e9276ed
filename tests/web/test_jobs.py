"""The queue: order, cancelling, crashes, restarts, and nothing left behind."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from bahumukha.errors import BahumukhaError
from bahumukha.web.errors import Busy, NotFound, NotOver
from bahumukha.web.jobs import GRACE_SECONDS, RECORD, Job, JobQueue
from tests.web.conftest import KINDS, Place, until

API = "/api/v1"


class Queue(JobQueue):
    """One that remembers what it told."""

    def __init__(self, folder: Path, most: int = 60) -> None:
        self.told_of: list[dict[str, Any]] = []
        super().__init__(folder, KINDS, most, self.told_of.append)

    def draw(self, prompt: str, **settings: Any) -> Job:
        return self.submit("vqgan-clip", {"prompt": prompt, **settings})


@pytest.fixture
def queue(tmp_path: Path) -> Any:
    queue = Queue(tmp_path / "created")
    yield queue
    queue.close()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_jobs_are_done_in_order_and_results_are_kept(queue: Queue) -> None:
    first, second = queue.draw("red slow"), queue.draw("blue", count=2)
    assert first.state == "running" and second.state == "queued" and queue.position(second) == 1
    until(lambda: second.is_over)
    assert (first.state, second.state) == ("done", "done") and first.step == first.total == 8
    assert len(second.pictures) == 2 and second.pictures[0]["score"] == 0.5
    with Image.open(queue.file(second.id, "2.png")) as image:
        assert image.size == (128, 96) and image.text["bahumukha"] == "blue"  # type: ignore[attr-defined]
    assert files(queue.folder) == sorted(
        [f"{first.id}/1.png", f"{first.id}/{RECORD}"] + [f"{second.id}/{n}" for n in ("1.png", "2.png", RECORD)]
    )
    for name in (RECORD, "3.png", "../1.png", "preview.jpg"):
        with pytest.raises(NotFound):
            queue.file(second.id, name)
    steps = [told["step"] for told in queue.told_of if told["id"] == first.id]
    assert steps == sorted(steps) and set(range(1, 9)) <= set(steps)
    assert [told["position"] for told in queue.told_of if told["id"] == second.id][0] == 1


def test_a_preview_is_whole_at_any_moment(queue: Queue) -> None:
    job = queue.draw("red slow", steps=12)
    until(lambda: job.preview)
    seen = 0
    while job.state == "running":
        try:
            path = queue.file(job.id, "preview.jpg")
            with Image.open(path) as image:
                image.load()
                seen += 1
        except (NotFound, FileNotFoundError):
            pass
    assert seen and job.state == "done"


@pytest.mark.parametrize(
    ("prompt", "said"), [("fail", "chalk: there is none"), ("boom", "a fault of the program (Runt")]
)
def test_a_job_that_fails_says_why_and_the_next_one_is_done(queue: Queue, prompt: str, said: str) -> None:
    job, following = queue.draw(prompt), queue.draw("blue")
    until(lambda: following.is_over)
    assert job.state == "failed" and said in str(job.error) and "secret" not in str(job.error)
    assert following.state == "done"


def test_a_crash_takes_nothing_else_down(queue: Queue) -> None:
    job, following = queue.draw("crash"), queue.draw("blue")
    until(lambda: following.is_over)
    assert job.state == "failed" and "ended unexpectedly (exit code 3)" in str(job.error)
    assert following.state == "done" and files(queue.folder / job.id) == [RECORD]


@pytest.mark.parametrize("prompt", ["slow", "hang"])
def test_cancelling_is_soon_effective_and_leaves_nothing(queue: Queue, prompt: str) -> None:
    job, following = queue.draw(prompt, steps=6000), queue.draw("blue")
    until(lambda: job.step >= 2)
    started = time.monotonic()
    assert queue.cancel(job.id).state == "cancelled"
    until(lambda: following.state != "queued")
    # Where nothing else runs it is a second at most; left alone the job would go on for ten minutes.
    assert GRACE_SECONDS <= 1 and time.monotonic() - started < 60
    until(lambda: following.is_over)
    assert following.state == "done" and not (queue.folder / job.id).exists()
    assert queue.cancel(following.id).state == "done", "one that is over stays as it is"


def test_a_process_that_stops_as_it_is_killed_gets_no_next_job(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    job, following = queue.draw("hang"), queue.draw("blue")
    until(lambda: job.step >= 2)
    with monkeypatch.context() as patch:
        patch.setattr(queue._worker, "kill", lambda: None)
        queue.cancel(job.id)
        queue._kill(job)
        queue._heard({"job": job.id, "event": "stopped"})
        assert following.state == "queued"
    queue._worker.kill()
    until(lambda: following.is_over)
    assert following.state == "done" and not (queue.folder / job.id).exists()


def test_a_process_that_leaves_as_a_job_comes_is_started_anew(queue: Queue) -> None:
    first = queue.draw("leave")
    until(lambda: first.is_over)
    assert first.state == "done" and len(files(queue.folder / first.id)) == 2


def test_an_end_that_is_heard_of_late_sends_no_job_again(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    job = queue.draw("hang")
    until(lambda: job.step >= 1)
    sent: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(queue._worker, "send", sent.append)
        queue._gone(0, "of the process before this one")
    assert not sent and job.state == "running"
    queue.cancel(job.id)


def test_the_queue_is_bounded(tmp_path: Path) -> None:
    queue = Queue(tmp_path, most=2)
    try:
        jobs = [queue.draw("hang") for _ in range(3)]
        with pytest.raises(Busy, match="2 jobs are waiting"):
            queue.draw("one more")
        assert queue.cancel(jobs[1].id).state == "cancelled" and queue.position(jobs[2]) == 1
        queue.draw("one more")
    finally:
        queue.close()


def test_finished_jobs_can_be_forgotten_and_others_not(queue: Queue) -> None:
    done, hanging = queue.draw("blue"), queue.draw("hang")
    with pytest.raises(NotOver):
        queue.forget(hanging.id)
    until(lambda: done.is_over)
    queue.forget(done.id)
    assert not (queue.folder / done.id).exists()
    with pytest.raises(NotFound):
        queue.get(done.id)


def test_a_restart_shows_what_is_finished_and_goes_on_with_what_waited(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    done, broken, waiting = queue.draw("red"), queue.draw("hang"), queue.draw("blue")
    until(lambda: broken.step == 2)
    queue.close()
    for name in ("nothing", "0" * 24):
        (tmp_path / name).mkdir()
        (tmp_path / name / RECORD).write_text(
            '{"id": "' if name == "nothing" else '{"id": "x", "kind": "y", "settings": {}}'
        )
    again = Queue(tmp_path)
    try:
        assert [job.id for job in again.jobs()] == [waiting.id, broken.id, done.id]
        assert [job.state for job in again.jobs()] == ["queued", "failed", "done"]
        assert "the server was stopped" in str(again.get(broken.id).error) and files(tmp_path / broken.id) == [RECORD]
        again.start()
        until(lambda: again.get(waiting.id).is_over)
        assert again.get(waiting.id).state == "done"
    finally:
        again.close()


def test_results_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    queue = Queue(tmp_path / "file")
    with pytest.raises(BahumukhaError, match="cannot be written"):
        queue.draw("red")
    queue.close()


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to count open files")
def test_fifty_jobs_cancelled_at_random_leave_nothing_behind(tmp_path: Path) -> None:
    threads, open_files = threading.active_count(), handles()
    choose = random.Random(8)
    queue = Queue(tmp_path / "created")
    kept = []
    jobs = [queue.draw(choose.choice(["slow", "red", "blue", "slow hang"]), steps=4) for _ in range(50)]
    for job in choose.sample(jobs, 50):
        time.sleep(choose.random() * 0.02)
        if choose.random() < 0.08 and "hang" not in job.settings["prompt"]:
            kept.append(job)
        else:
            queue.cancel(job.id)
    until(lambda: all(job.is_over for job in jobs) and queue._current is None)
    assert all(job.state == "done" for job in kept)
    done = [job for job in jobs if job.state == "done"]
    assert files(queue.folder) == sorted(f"{job.id}/{name}" for job in done for name in ("1.png", RECORD))
    assert sorted(os.listdir(queue.folder)) == sorted(job.id for job in done)
    queue.close()
    until(lambda: threading.active_count() <= threads, 5)
    assert handles() <= open_files


# --- through the API


def ask(client: TestClient, prompt: str, **settings: Any) -> dict[str, Any]:
    answer = client.post(f"{API}/generate", json={"prompt": prompt, **settings})
    assert answer.status_code == 202, answer.text
    return answer.json()


def test_a_picture_through_the_api(place: Place) -> None:
    with place.client() as client:
        job = ask(client, "blue slow", seed="fox", video=True)
        assert job["state"] == "running" and job["settings"]["seed"] == "fox" and job["preview"] is None
        shown = until(lambda: (j := client.get(f"{API}/jobs/{job['id']}").json())["preview"] and j)
        preview = client.get(shown["preview"])
        assert preview.status_code in (200, 404) and preview.headers["cache-control"] == "no-store"
        over = until(lambda: (j := client.get(f"{API}/jobs/{job['id']}").json())["state"] == "done" and j)
        [picture] = over["pictures"]
        assert (picture["width"], picture["height"]) == (128, 96) and over["preview"] is None
        made = client.get(picture["url"])
        assert made.headers["content-type"] == "image/png" and b"bahumukha" in made.content
        assert client.get(f"{API}/jobs").json()["jobs"][0] == over
        assert client.delete(f"{API}/jobs/{job['id']}").status_code == 204
        assert client.get(f"{API}/jobs").json()["total"] == 0 and client.get(picture["url"]).status_code == 404
    with place.client(waiting=1) as client:
        hanging, waiting = ask(client, "hang"), ask(client, "red")
        assert waiting["position"] == 1
        full = client.post(f"{API}/generate", json={"prompt": "red"})
        assert full.status_code == 429 and full.headers["retry-after"]
        assert client.delete(f"{API}/jobs/{hanging['id']}").status_code == 409
        assert client.post(f"{API}/jobs/{waiting['id']}/cancel").json()["state"] == "cancelled"


@pytest.mark.anyio
async def test_events_tell_what_is_and_what_happens(tmp_path: Path) -> None:
    from bahumukha.web.events import Hub

    hub = Hub()
    events = hub.stream(lambda: [("job", "a", {"id": "a", "step": 0})])
    assert await anext(events) == "retry: 2000\n\n"
    assert await anext(events) == 'event: job\ndata: {"id": "a", "step": 0}\n\n'
    for step in range(1, 100):
        hub.tell("job", "a", {"id": "a", "step": step})
    hub.tell("index", "", {"done": 5})
    assert json.loads((await anext(events)).split("data: ")[1]) == {"id": "a", "step": 99}, "only the last news is kept"
    assert (await anext(events)).startswith("event: index")
    hub.close()
    assert [event async for event in events] in ([], [": beat\n\n"])
    assert [event async for event in hub.stream(list)] == []


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
