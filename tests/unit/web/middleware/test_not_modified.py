from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from werkzeug.test import Client

from graycat.auth.authenticator import Authenticator
from graycat.broker.client import connect
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from graycat.web.api.task_requests import scoped_ids
from graycat.web.middleware.not_modified import NotModifiedMiddleware
from tests.support.helpers import BEARER, accepted, changed, claimed, eventually, started

QUEUED = {"If-None-Match": '"queued-0"'}


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer for Flask: so one sees what is handed on."""
    start_response("200 OK", [])
    return [b"the application"]


@pytest.fixture
def poll(broker):
    """Return how to ask for a task with some headers; the answer."""
    poller = Client(
        NotModifiedMiddleware(application, broker.client, Authenticator.from_settings(broker.settings, broker.client))
    )

    def ask(path: str, method: str = "GET", **headers: str):
        return poller.open(path, method=method, headers=BEARER | {k.replace("_", "-"): v for k, v in headers.items()})

    return ask


def test_a_task_that_has_not_changed_is_answered_before_the_application(poll, records) -> None:
    response = poll(f"/tasks/{accepted(records)}", **QUEUED, X_Request_ID="r-7")
    assert (response.status_code, response.data) == (304, b"")
    assert (response.headers["ETag"], response.headers["Retry-After"]) == ('"queued-0"', "1")
    assert (response.headers["X-Request-ID"], response.headers["Cache-Control"]) == ("r-7", "private, no-cache")


def test_a_task_that_has_ended_has_no_retry_after(poll, records) -> None:
    attempt = started(records)
    records.succeed(attempt, 200, b"{}")
    response = poll(f"/tasks/{attempt.task_id}", If_None_Match='"succeeded-1"')
    assert (response.status_code, "Retry-After" in response.headers) == (304, False)


def test_a_task_is_found_by_the_name_that_its_owner_chose(poll, records) -> None:
    accepted(records, id=scoped_ids("tests", "level-7.intro")["llm"])
    assert poll("/tasks/level-7.intro", **QUEUED).status_code == 304
    accepted(records, id=scoped_ids("game", "other")["llm"], owner="game")
    assert poll("/tasks/other", **QUEUED).data == b"the application"


def test_the_tag_is_the_one_that_the_application_gives(web, poll, records) -> None:
    attempt = started(records)
    for step in (b"", b'{"progress":0.25}', b'{"progress":0.5}'):
        if step:
            records.report_progress(attempt, step)
        tag = web.get(f"/tasks/{attempt.task_id}").headers["ETag"]
        assert poll(f"/tasks/{attempt.task_id}", If_None_Match=tag).status_code == 304


@pytest.mark.parametrize("tag", ['"running-1"', 'W/"queued-0"', '"a", "queued-0"', "*", ""])
def test_any_other_tag_is_for_the_application(poll, records, tag: str) -> None:
    assert poll(f"/tasks/{accepted(records)}", If_None_Match=tag).data == b"the application"


@pytest.mark.parametrize("suffix", ["?wait=5", "/events", "/"])
def test_any_other_address_is_for_the_application(poll, records, suffix: str) -> None:
    assert poll(f"/tasks/{accepted(records)}{suffix}", **QUEUED).data == b"the application"


@pytest.mark.parametrize("path", ["/tasks/" + "0" * 32, "/tasks/nobody", "/tasks", "/health"])
def test_what_is_no_task_is_for_the_application(poll, path: str) -> None:
    assert poll(path, **QUEUED).data == b"the application"


@pytest.mark.parametrize("method", ["POST", "DELETE", "HEAD"])
def test_any_other_method_is_for_the_application(poll, records, method: str) -> None:
    response = poll(f"/tasks/{accepted(records)}", method, **QUEUED)
    assert response.status_code == 200


@pytest.mark.parametrize("credential", ["", "Bearer wrong-secret", "Basic dGVzdHM6", "Bearer"])
def test_an_unknown_token_is_left_to_the_application(poll, records, credential: str) -> None:
    assert poll(f"/tasks/{accepted(records)}", **QUEUED, Authorization=credential).data == b"the application"


def test_another_caller_s_task_is_left_to_the_application(poll, records) -> None:
    assert poll(f"/tasks/{accepted(records, owner='game')}", **QUEUED).data == b"the application"


def test_a_task_that_waited_too_long_is_for_the_application(poll, broker) -> None:
    hasty = TaskRecords(broker.client, changed(broker.settings, queue_ttl_s=0.01))
    task_id = accepted(hasty)
    eventually(lambda: poll(f"/tasks/{task_id}", **QUEUED).data == b"the application")


def test_a_second_attempt_is_a_change(poll, records) -> None:
    attempt = started(records)
    address = f"/tasks/{attempt.task_id}"
    assert poll(address, If_None_Match='"running-1"').status_code == 304
    records.release(attempt)
    claimed(records, attempt.task_id)
    assert poll(address, If_None_Match='"running-1"').data == b"the application"


def test_without_a_broker_the_application_answers(no_broker: Settings) -> None:
    middleware = NotModifiedMiddleware(
        application, (client := connect(no_broker)), Authenticator.from_settings(no_broker, client)
    )
    response = Client(middleware).get("/tasks/" + "0" * 32, headers=BEARER | QUEUED)
    assert response.data == b"the application"
