from __future__ import annotations

import pytest

from graycat.errors import EngineError
from tests.unit.helpers import started


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
