from __future__ import annotations

import pytest

from graycat.artifacts import ArtifactStore, open_artifacts
from graycat.errors import EngineError
from tests.unit.helpers import Valkey, started
from tests.unit.webuis import picture

RED, BLUE = picture("red"), picture("blue", "JPEG")


def submitted(web, **body) -> str:
    response = web.post("/completion", json={"prompt": "Hi", **body}, headers={"Prefer": "respond-async"})
    address: str = response.headers["Location"]
    return address


def test_a_task_tells_its_state_on_the_way(web, take, records) -> None:
    address = submitted(web)
    assert web.get(address).json["state"] == "queued"
    attempt = take()
    assert web.get(address).json["state"] == "running"
    records.succeed(attempt, 200, b'{"content":"Hello"}')
    shown = web.get(address).json
    assert (shown["state"], shown["status"], shown["result"]) == ("succeeded", 200, {"content": "Hello"})
    assert shown["submitted_ms"] <= shown["started_ms"] <= shown["finished_ms"]


def test_a_failed_task_tells_its_error(web, take, records) -> None:
    address = submitted(web)
    records.fail(take(), EngineError(400, b'{"error":{"code":400}}'))
    shown = web.get(address).json
    assert (shown["state"], shown["status"], shown["error"]) == ("failed", 400, {"error": {"code": 400}})


def test_a_stream_s_answer_is_its_events(web, take, records) -> None:
    address = submitted(web, stream=True)
    attempt = take()
    records.publish(attempt, 1, [b"data: 1\n\n", b"data: 2\n\n"])
    records.succeed(attempt, 200, b"")
    assert web.get(address).json["events"] == ["data: 1\n\n", "data: 2\n\n"]


def test_a_cancelled_task_has_no_answer(web, take, records) -> None:
    address = submitted(web)
    records.cancelled(take())
    shown = web.get(address).json
    assert shown["state"] == "cancelled"
    assert not {"result", "error", "status"} & set(shown)


@pytest.mark.parametrize("owner", ["somebody else", None])
def test_somebody_else_s_task_is_as_unknown_as_none(web, records, owner: str | None) -> None:
    task_id = started(records, owner=owner).task_id if owner else "0" * 32
    response = web.get(f"/tasks/{task_id}")
    assert (response.status_code, response.json["error"]["type"]) == (404, "task_not_found")


def test_a_task_never_shows_its_prompt_or_its_owner(web) -> None:
    shown = web.get(submitted(web)).text
    assert "Hi" not in shown
    assert "owner" not in shown


@pytest.fixture
def artifacts(broker: Valkey) -> ArtifactStore:
    return open_artifacts(broker.settings, broker.client)


def test_an_image_is_as_the_engine_made_it(web, artifacts) -> None:
    for number, (image, kind) in enumerate([(RED, "image/png"), (BLUE, "image/jpeg")]):
        artifacts.put("a-task", number, image, kind, "tests")
        response = web.get(f"/tasks/a-task/images/{number}")
        assert (response.status_code, response.data, response.content_type) == (200, image, kind)
        assert response.headers["Cache-Control"].startswith("private")


def test_an_image_that_its_reader_has_is_not_sent_again(web, artifacts) -> None:
    known = artifacts.put("a-task", 0, RED, "image/png", "tests")
    etag = web.get("/tasks/a-task/images/0").headers["ETag"]
    assert etag == f'"{known.sha256}"'
    for given in (etag, f'"another", {etag}', "*"):
        response = web.get("/tasks/a-task/images/0", headers={"If-None-Match": given})
        assert (response.status_code, response.data, response.headers["ETag"]) == (304, b"", etag)
    artifacts.put("a-task", 0, BLUE, "image/jpeg", "tests")
    assert web.get("/tasks/a-task/images/0", headers={"If-None-Match": etag}).data == BLUE


@pytest.mark.parametrize("owner", ["somebody else", None])
def test_somebody_else_s_image_is_as_unknown_as_none(web, artifacts, owner: str | None) -> None:
    if owner:
        artifacts.put("a-task", 0, RED, "image/png", owner)
    response = web.get("/tasks/a-task/images/0", headers={"If-None-Match": "*"})
    assert (response.status_code, response.json["error"]["type"]) == (404, "task_not_found")


@pytest.mark.parametrize(
    ("path", "status"),
    [("a-task/images/7", 404), ("a-task/images/-1", 404), ("a-task/images/x", 404), ("a task/images/0", 400)],
)
def test_an_address_that_names_no_image_is_told(web, artifacts, path: str, status: int) -> None:
    artifacts.put("a-task", 0, RED, "image/png", "tests")
    assert web.get(f"/tasks/{path}").status_code == status


def test_a_preview_is_shown_while_there_is_one_and_never_kept(web, records) -> None:
    task_id = started(records).task_id
    assert web.get(f"/tasks/{task_id}/preview").status_code == 404
    for image, kind in ((RED, "image/png"), (BLUE, "image/jpeg")):
        records.keep_preview(task_id, image)
        response = web.get(f"/tasks/{task_id}/preview")
        assert (response.data, response.content_type, response.headers["Cache-Control"]) == (image, kind, "no-store")


@pytest.mark.parametrize("owner", ["somebody else", None])
def test_somebody_else_s_preview_is_as_unknown_as_none(web, records, owner: str | None) -> None:
    task_id = started(records, owner=owner).task_id if owner else "0" * 32
    records.keep_preview(task_id, RED)
    assert web.get(f"/tasks/{task_id}/preview").status_code == 404


def test_an_interrupted_render_shows_its_part_of_an_answer(web, records) -> None:
    attempt = started(records, kind="sd.txt2img", queue="sd")
    records.cancelled(attempt, b'{"images": [{"artifact": 0}]}')
    shown = web.get(f"/tasks/{attempt.task_id}").json
    assert (shown["state"], shown["result"]) == ("cancelled", {"images": [{"artifact": 0}]})


def test_an_engine_that_failed_in_plain_words_is_quoted(web, records) -> None:
    attempt = started(records)
    records.fail(attempt, EngineError(500, b"Internal Server Error \xff"))
    shown = web.get(f"/tasks/{attempt.task_id}").json
    assert (shown["status"], shown["error"]) == (500, "Internal Server Error \N{REPLACEMENT CHARACTER}")
