from __future__ import annotations

import hashlib

import pytest

from graycat.client import Client, InvalidArgument, Task, WaitTimeout
from graycat.client.errors import DamagedImage, NotRetryable, TaskCancelled, TaskTimeout
from graycat.errors import TaskTimeout as OutOfTime
from graycat.queue.records import TaskRecords
from graycat.storage.redis_artifacts import BrokerArtifacts
from tests.support.helpers import Valkey, outcome_of, sse, started
from tests.support.scripted import respond_in_turn, respond_with
from tests.support.servers import http_server

INPUT = {"prompt": "Hi"}
PNGS = (b"\x89PNG\r\n\x1a\n one", b"\x89PNG\r\n\x1a\n two")


@pytest.fixture
def submitted(client: Client) -> Task:
    return client.submit("llm.completion", INPUT)


@pytest.fixture
def rendered(client: Client, broker: Valkey, records: TaskRecords) -> Task:
    """Return a task that has ended with two images."""
    attempt = started(records, kind="sd.txt2img", queue="sd", shown={})
    store = BrokerArtifacts(broker.client, 60)
    for number, image in enumerate(PNGS):
        store.put(attempt.task_id, number, image, "image/png", "tests")
    records.succeed(attempt, 200, b'{"images": [{"artifact": 0}, {"artifact": 1}], "info": "{}"}')
    return client.task(attempt.task_id)


def test_a_refresh_without_changes_keeps_the_view(submitted, take, live) -> None:
    before = submitted.view
    assert submitted.refresh().view is before
    assert live.requests[-1]["HTTP_IF_NONE_MATCH"] == '"queued-0"'
    take()
    assert submitted.refresh().state == "running"


def test_waiting_ends_with_the_task(submitted, take, records) -> None:
    wait = outcome_of(lambda: submitted.wait(10))
    records.succeed(take(), 200, b'{"content":"Hello"}')
    assert wait() is submitted
    assert (submitted.state, submitted.view.result, submitted.view.text) == ("succeeded", {"content": "Hello"}, "Hello")


def test_waiting_goes_on_after_a_broken_connection(submitted, take, records, live, pauses) -> None:
    live.cuts = [0, 0]
    records.succeed(take(), 200, b'{"content":"Hello"}')
    assert submitted.wait(10).view.result == {"content": "Hello"}
    assert len(pauses) == 2


def test_waiting_ends_at_its_timeout(submitted, live) -> None:
    with pytest.raises(WaitTimeout, match=submitted.id):
        submitted.wait(0.05)
    assert live.requests[-1]["QUERY_STRING"].startswith("wait=0.0")
    assert submitted.refresh().state == "queued"


def test_progress_is_reported_as_it_changes(submitted, take, records, monkeypatch) -> None:
    monkeypatch.setattr("graycat.client.task.PROGRESS_POLL_S", 0.01)
    attempt = take()
    seen = []

    def note(view) -> None:
        seen.append((view.state, view.progress and view.progress.fraction))
        if view.progress is None:
            records.report_progress(attempt, b'{"progress": 0.5}')
        elif view.state == "running":
            records.succeed(attempt, 200, b"{}")

    submitted.wait(10, on_progress=note)
    assert seen == [("running", None), ("running", 0.5), ("succeeded", 0.5)]


def test_a_listed_task_fetches_its_answer(client, submitted, take, records) -> None:
    records.succeed(take(), 200, b'{"content":"Hello"}')
    (listed,) = client.tasks()
    assert (listed.done, listed.view.result) == (True, None)
    assert listed.answer() == {"content": "Hello"}


def test_a_failed_task_raises_what_it_failed_with(submitted, take, records) -> None:
    records.fail(take(), OutOfTime())
    with pytest.raises(TaskTimeout) as caught:
        submitted.answer()
    assert (caught.value.status, str(caught.value)) == (504, str(OutOfTime()))


def test_a_streamed_answer_is_a_list_of_its_events(client, take, records) -> None:
    task = client.submit("llm.completion", INPUT | {"stream": True})
    attempt = take()
    records.publish(attempt, 1, [b"data: 1\n\n", b"data: 2\n\n"])
    records.succeed(attempt, 200, b"")
    assert task.answer() == ["data: 1\n\n", "data: 2\n\n"]


def test_events_come_while_the_task_runs(submitted, take, records) -> None:
    events = submitted.events()
    attempt = take()
    assert (next(events).kind, submitted.state) == ("started", "queued")
    records.publish(attempt, 1, sse("Hel", stop=False))
    assert next(events).text == "Hel"
    records.succeed(attempt, 200, b'{"content":"Hello"}')
    last = next(events)
    assert (last.kind, last.data["result"], next(events, None)) == ("result", {"content": "Hello"}, None)


@pytest.mark.parametrize("cuts", [[1], [2, 0, 1], [0, 0, 3, 1]])
def test_events_survive_lost_connections_each_once(submitted, take, records, live, cuts) -> None:
    attempt = take()
    live.cuts = list(cuts)
    records.publish(attempt, 1, sse(*"abcdef"))
    records.succeed(attempt, 200, b'{"content":"abcdef"}')
    events = list(submitted.events())
    assert [event.kind for event in events] == ["started", *["chunk"] * 6, "result"]
    assert "".join(event.text for event in events) == "abcdef"
    asked = live.asked("GET", f"/tasks/{submitted.id}/events")
    assert "HTTP_LAST_EVENT_ID" not in asked[0]
    assert asked[-1]["HTTP_LAST_EVENT_ID"] in [event.id for event in events]


def test_events_continue_after_the_given_one(submitted, take, records) -> None:
    attempt = take()
    records.publish(attempt, 1, sse(*"abc"))
    records.succeed(attempt, 200, b"{}")
    events = list(submitted.events())
    assert [event.id for event in submitted.events(events[2].id)] == [event.id for event in events[3:]]
    assert list(submitted.refresh().events(events[-1].id)) == []


def test_an_invalid_event_id_is_refused(submitted) -> None:
    with pytest.raises(InvalidArgument):
        submitted.events("newest")


def test_a_queued_task_is_cancelled_at_once_however_often(submitted) -> None:
    assert (submitted.cancel(), submitted.state) == (True, "cancelled")
    assert submitted.cancel()
    with pytest.raises(TaskCancelled):
        submitted.answer()


def test_a_cancelled_task_has_a_partial_answer(submitted, take, records) -> None:
    attempt = take()
    cancelled = outcome_of(submitted.cancel)
    records.finish_cancelled(attempt, b'{"content":"Hel"}')
    assert cancelled()
    assert submitted.wait().view.partial_result == {"content": "Hel"}


def test_a_cancelled_task_is_retried_as_a_new_one(submitted, live) -> None:
    submitted.cancel()
    again = submitted.retry()
    assert (again.state, again.view.retry_of) == ("queued", submitted.id)
    assert again.id != submitted.id
    assert live.asked("POST", f"/tasks/{submitted.id}/retry")[0]["HTTP_IDEMPOTENCY_KEY"]
    with pytest.raises(NotRetryable):
        again.retry()


def test_images_are_the_engine_s_bytes(rendered) -> None:
    found = [(image.number, image.content_type, image.data) for image in rendered.images()]
    assert found == [(0, "image/png", PNGS[0]), (1, "image/png", PNGS[1])]


def test_images_become_files(rendered, tmp_path) -> None:
    folder = tmp_path / "new" / "pictures"
    files = rendered.download(folder)
    assert [file.name for file in files] == [f"{rendered.id}-0.png", f"{rendered.id}-1.png"]
    assert [file.read_bytes() for file in files] == list(PNGS)
    assert rendered.download(folder, "night-{n:03}.{ext}")[1] == folder / "night-001.png"
    assert sorted(folder.iterdir()) == sorted([*files, folder / "night-000.png", folder / "night-001.png"])


@pytest.mark.parametrize("pattern", ["one.png", "../{n}.{ext}", "{n}/{id}", "{name}", "{}", "{n.x}", "{n"])
def test_an_invalid_pattern_writes_no_file(rendered, tmp_path, pattern) -> None:
    with pytest.raises(InvalidArgument):
        rendered.download(tmp_path, pattern)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_leaves_nothing(rendered, tmp_path, monkeypatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        rendered.download(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_task_has_no_images_but_its_error(submitted, take, records, tmp_path) -> None:
    records.fail(take(), OutOfTime())
    with pytest.raises(TaskTimeout):
        submitted.download(tmp_path / "pictures")
    assert not (tmp_path / "pictures").exists()


def scripted_images(*answers):
    result = {"images": [{"url": "/tasks/a1/images/0"}]}
    task = respond_with(200, {"id": "a1", "kind": "sd.txt2img", "state": "succeeded", "result": result})
    return {"GET /tasks/a1": task, "GET /tasks/a1/images/0": respond_in_turn(*answers)}


def test_a_damaged_image_is_fetched_again() -> None:
    tag = f'W/"{hashlib.sha256(b"good").hexdigest()}"'
    damaged, good = (respond_with(200, body, ETag=tag, Content_Type="image/webp") for body in (b"gOOd", b"good"))
    with http_server(scripted_images(damaged, good)) as server, Client(server.url) as client:
        assert [image.data for image in client.task("a1").images()] == [b"good"]
    with (
        http_server(scripted_images(damaged)) as server,
        Client(server.url) as client,
        pytest.raises(DamagedImage, match="image 0 of the task a1"),
    ):
        list(client.task("a1").images())


def test_an_image_without_an_etag_is_accepted() -> None:
    bare = respond_with(200, b"good", Content_Type="image/jpeg; x=y")
    with http_server(scripted_images(bare)) as server, Client(server.url) as client:
        (image,) = client.task("a1").images()
        assert (image.data, image.extension) == (b"good", "jpg")


def test_a_server_without_etags_is_polled_too() -> None:
    running, over = ({"id": "a1", "kind": "llm.chat", "state": state} for state in ("running", "succeeded"))
    with http_server({"GET /tasks/a1": respond_with(200, running)}) as server, Client(server.url) as client:
        task = client.task("a1")
        server.answers["GET /tasks/a1?wait=5.000"] = respond_with(200, over)
        server.answers["GET /tasks/a1"] = respond_with(200, over)
        assert task.refresh().state == "succeeded"
        assert task.wait(5) is task
