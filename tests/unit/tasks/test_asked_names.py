"""Names of models that nobody could compare when the task was accepted, because every engine was loading."""

from __future__ import annotations

from typing import Any

import pytest

from graycat.fleet.reports import WorkerStatus
from graycat.queue.kinds import LLM_KINDS
from graycat.tasks.asked_names import BY_MODEL
from graycat.web.compat.text_routes import TEXT_ROUTES
from tests.support.helpers import Valkey
from tests.support.servers import reply
from tests.support.webuis import TXT2IMG, accept, answer_of, image_worker_on, picture, rendered, sent
from tests.support.workers import Worker, worker_on

CHAT = "POST /v1/chat/completions"
ANSWERS = {
    "GET /v1/models": reply(200, b'{"object": "list", "data": [{"id": "small"}]}'),
    CHAT: reply(200, {"choices": []}),
}
LISTS = {
    "GET /sdapi/v1/sd-models": reply(200, b'[{"title": "dreams"}]'),
    "GET /sdapi/v1/samplers": reply(200, b'[{"name": "Euler a"}]'),
    TXT2IMG: reply(200, rendered(picture("red"))),
}


def neighbour(worker: Worker) -> None:
    queues = worker.runtime.queues
    worker.runtime.fleet.report(WorkerStatus(f"{queues[0]}@b", queues, "e", "loading", False, 1, 0, "{}"))


def test_the_kinds_that_refuse_a_model_are_those_of_the_routes_that_do() -> None:
    assert {route.kind.name for route in TEXT_ROUTES if route.by_model} == BY_MODEL
    assert set(LLM_KINDS) >= BY_MODEL


@pytest.mark.parametrize(
    ("model", "has_neighbour", "state", "kind"),
    [
        ("small", False, "succeeded", ""),
        ("/models/small.gguf", True, "succeeded", ""),
        ("large", False, "failed", "model_not_found"),
        ("large", True, "failed", "unavailable_error"),
    ],
)
def test_a_chat_for_another_model_is_not_answered_by_the_one_that_is_there(
    broker: Valkey, model: str, has_neighbour: bool, state: str, kind: str
) -> None:
    with worker_on(broker, ANSWERS) as worker:
        if has_neighbour:
            neighbour(worker)
        body = b'{"messages": [], "model": "%s"}' % model.encode()
        task_id = worker.accept(kind="llm.chat", mode="plain", body=body)
        worker.run(task_id)
        assert worker.ended(task_id)[0] == state
        if kind:
            assert answer_of(worker, task_id)[1]["error"]["type"] == kind
            assert sent(worker, CHAT) == 0


@pytest.mark.parametrize(
    ("fields", "has_neighbour", "kind"),
    [
        (b'"override_settings": {"sd_model_checkpoint": "cats"}', False, "model_not_found"),
        (b'"override_settings": {"sd_model_checkpoint": "cats"}', True, "unavailable_error"),
        (b'"sampler_name": "Eular"', False, "unknown_name"),
        (b'"sampler_name": "Eular"', True, "unavailable_error"),
        (b'"sampler_name": "euler_a", "override_settings": {"sd_model_checkpoint": "dream"}', False, ""),
    ],
)
def test_an_image_is_not_made_with_another_checkpoint_or_sampler(
    broker: Valkey, fields: bytes, has_neighbour: bool, kind: str
) -> None:
    with image_worker_on(broker, LISTS) as worker:
        if has_neighbour:
            neighbour(worker)
        task_id = accept(worker, body=b'{"prompt": "a fox", %s}' % fields)
        worker.run(task_id)
        assert worker.ended(task_id)[0] == ("failed" if kind else "succeeded")
        answered: Any = answer_of(worker, task_id)[1]
        assert (answered["error"]["type"] if kind else "") == kind
        assert sent(worker, TXT2IMG) == (0 if kind else 1)
