from __future__ import annotations

from typing import Any

import pytest
from celery.worker import state
from kombu.utils.imports import symbol_by_name

import graycat.tasks.schedules  # noqa: F401 (likewise)
import graycat.tasks.webhooks  # noqa: F401 (its task becomes that of every application)
from graycat.celeryapp import GraycatCelery
from graycat.queue.kinds import DELIVER, FIRE_SCHEDULES, KINDS
from graycat.worker.celery_request import RecordRequest
from tests.support.helpers import Valkey
from tests.support.workers import celery_app

PAST = "2020-01-01T00:00:00+00:00"


@pytest.fixture
def app(broker: Valkey) -> GraycatCelery:
    return celery_app(broker.settings.home)


def request_for(app: GraycatCelery, **options: Any) -> RecordRequest:
    """Return the request that a worker makes of what ``send_task`` has put on a queue."""
    result = app.send_task("llm.completion", args=["an-id"], queue="llm", **options)
    with app.connection_for_read() as connection:
        channel: Any = connection.channel()
        message = channel.basic_get("llm")
    assert message.headers["id"] == result.id
    return RecordRequest(message, app=app, task=app.tasks["llm.completion"])


def test_every_task_of_graycat_s_makes_such_requests(app: GraycatCelery) -> None:
    for name in (*KINDS, DELIVER.name, FIRE_SCHEDULES.name):
        assert symbol_by_name(app.tasks[name].Request) is RecordRequest, name


def test_a_message_has_no_say_in_when_its_task_runs_and_for_how_long(app: GraycatCelery) -> None:
    request = request_for(app, expires=PAST, eta=PAST, time_limit=3, soft_time_limit=2)
    assert [request.eta, request.expires] == [None, None]
    assert not any(request.time_limits or ())
    assert request.args == ["an-id"]


def test_a_time_that_cannot_be_read_is_no_matter(app: GraycatCelery) -> None:
    request = request_for(app)
    headers = request.message.headers | {"eta": "soon", "expires": ["never"]}
    again = RecordRequest(request.message, headers=headers, app=app, task=app.tasks["llm.completion"])
    assert [again.eta, again.expires, again.id] == [None, None, request.id]


def test_what_a_worker_remembers_of_revokes_discards_nothing(app: GraycatCelery) -> None:
    request = request_for(app)
    state.revoked.add(request.id)
    try:
        assert not request.revoked()
    finally:
        state.revoked.discard(request.id)


@pytest.mark.parametrize("options", [7, "x", [1]])
def test_a_body_that_would_end_in_the_task_s_thread_is_refused_before(app: GraycatCelery, options: Any) -> None:
    message = request_for(app).message
    body = [["an-id"], {}, options]
    with pytest.raises(ValueError, match="options of a message"):
        RecordRequest(message, app=app, task=app.tasks["llm.completion"], body=body, decoded=True)
    message._decoded_cache = body
    with pytest.raises(ValueError, match="options of a message"):
        RecordRequest(message, app=app, task=app.tasks["llm.completion"])
