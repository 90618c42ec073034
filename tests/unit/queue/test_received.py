from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from graycat.queue import ids
from graycat.queue.kinds import DELIVER, FIRE_SCHEDULES, KINDS
from graycat.queue.messages import MessageFactory
from graycat.queue.received import ForgedMessage, purify
from tests.support.helpers import Valkey
from tests.support.workers import celery_app

TEXT, IMAGE = "0" * 32, "f" * 32
CALL = {"task": "control.fire_schedules", "args": [], "kwargs": {}, "options": {"queue": "control"}}


@pytest.fixture
def make(broker: Valkey) -> Callable[..., dict[str, Any]]:
    """Return how to make a message as it lies in a queue."""
    app = celery_app(broker.settings.home)
    kinds = (*KINDS.values(), DELIVER, FIRE_SCHEDULES)

    def message(kind: str = "llm.completion", task_id: str = TEXT, **options: Any) -> dict[str, Any]:
        made: dict[str, Any] = json.loads(MessageFactory(app, kinds).make(kind, task_id, **options))
        return made

    return message


def body_of(message: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(message["body"]))


def with_body(message: dict[str, Any], body: Any) -> dict[str, Any]:
    return message | {"body": base64.b64encode(json.dumps(body).encode()).decode()}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_message_of_ours_is_delivered_as_it_is(make, kind) -> None:
    task_id = ids.new_task_id(kind.name)
    message = make(kind.name, task_id)
    pure = purify(message, kind.queue)
    assert (pure["body"], pure["content-type"]) == (message["body"], message["content-type"])
    kept = (
        "lang",
        "task",
        "id",
        "root_id",
        "argsrepr",
        "kwargsrepr",
        "eta",
        "expires",
        "retries",
        "timelimit",
        "shadow",
    )
    assert [pure["headers"][name] for name in kept] == [message["headers"][name] for name in kept]
    assert pure["properties"]["delivery_tag"] == message["properties"]["delivery_tag"]
    assert purify(pure, kind.queue) == pure


def test_a_queue_of_a_model_or_worker_is_its_family_s(make) -> None:
    pure = purify(make("sd.txt2img", IMAGE, queue="sd:@sd@box"), "sd:@sd@box")
    assert pure["properties"]["delivery_info"]["routing_key"] == "sd:@sd@box"


def test_what_is_delivered_has_nothing_of_what_celery_acts_on(make) -> None:
    message = make()
    clean = purify(message, "llm")
    message["headers"] |= {
        "eta": "2030-01-01T00:00:00",
        "expires": "2020-01-01",
        "timelimit": [1, 1],
        "retries": 9,
        "group": "g",
        "shadow": "\x1b[2J",
        "argsrepr": "\x1b[2J" * 99,
        "kwargsrepr": "<script>",
        "origin": "x",
        "compression": "zlib",
        "stamps": {"a": "b"},
        "stamped_headers": ["a"],
        "replaced_task_nesting": 9,
        "ignore_result": False,
        "id": "another",
    }
    message |= {"content-type": "application/x-python-serialize", "content-encoding": "binary", "planet": 1}
    message["properties"] |= {"reply_to": "llm", "priority": 9, "correlation_id": "x"}
    message["properties"]["delivery_info"] = {"exchange": "control", "routing_key": "control"}
    assert purify(with_body(message, [[TEXT, "more"], {"more": 1}, {"retries": 1}]), "llm") == clean


@pytest.mark.parametrize("name", ["callbacks", "errbacks", "chain", "chord"])
def test_a_message_that_calls_other_tasks_is_refused(make, name: str) -> None:
    message = make()
    # In the body, and in the headers, where Celery looks if it does not know the task's name.
    with pytest.raises(ForgedMessage, match="calls no other"):
        purify(with_body(message, [[TEXT], {}, {name: [CALL]}]), "llm")
    message["headers"] |= {"id": "x", name: [CALL]}
    with pytest.raises(ForgedMessage, match="calls no other"):
        purify(message, "llm")


def test_what_a_good_body_has_in_its_headers_has_no_effect(make) -> None:
    message = make()
    clean = purify(message, "llm")
    message["headers"]["errbacks"] = [CALL]
    assert purify(message, "llm") == clean


@pytest.mark.parametrize(
    ("kind", "task_id", "queue"),
    [
        # Of the other family, or of one that nobody knows.
        *(("sd.txt2img", TEXT, "sd"), ("llm.completion", IMAGE, "llm"), ("sd.txt2img", IMAGE, "llm")),
        *(("llm.completion", TEXT, "sd"), ("no.such", TEXT, "llm"), ("celery.chain", TEXT, "llm")),
        # Control work in a queue of engines, and the other way round.
        *(("control.fire_schedules", TEXT, "llm"), ("control.deliver", f"{TEXT} succeeded", "llm.quick")),
        *(("llm.completion", TEXT, "control"), ("control.other", TEXT, "control")),
        *(("control.deliver", "x", "control"), ("control.deliver", "../x succeeded", "control")),
        # No id.
        *(("llm.completion", "an-id", "llm"), ("llm.completion", "", "llm"), ("llm.completion", "0" * 33, "llm")),
        *(("LLM.completion", TEXT, "llm"), ("llm", TEXT, "llm"), ("llm.x\n", TEXT, "llm"), ("", TEXT, "llm")),
    ],
)
def test_what_does_not_belong_into_a_queue_is_refused(make, kind: str, task_id: str, queue: str) -> None:
    with pytest.raises(ForgedMessage):
        purify(make(kind, task_id, queue=queue), queue)


@pytest.mark.parametrize(
    "body",
    [None, 7, [], {}, "", [[TEXT]], [[], {}, {}], [[7], {}, {}], [{}, {}, {}], [[TEXT], {}, 7], [[None], {}, {}]],
)
def test_a_body_of_another_form_is_refused(make, body: Any) -> None:
    with pytest.raises(ForgedMessage):
        purify(with_body(make(), body), "llm")


@pytest.mark.parametrize("part", ["body", "headers"])
@pytest.mark.parametrize("value", [None, 7, [], "%%", "W10=", "\xff"])
def test_a_message_of_another_form_is_refused(make, part: str, value: Any) -> None:
    with pytest.raises(ForgedMessage):
        purify(make() | {part: value}, "llm")


@pytest.mark.parametrize(("name", "value"), [("task", None), ("task", 7), ("task", ["x"])])
def test_headers_of_another_form_are_refused(make, name: str, value: Any) -> None:
    message = make()
    message["headers"][name] = value
    with pytest.raises(ForgedMessage):
        purify(message, "llm")


@pytest.mark.parametrize("tag", ["", "x" * 65, "a b", "\n"])
def test_a_tag_of_another_form_is_refused(make, tag: str) -> None:
    message = make()
    message["properties"]["delivery_tag"] = tag
    with pytest.raises(ForgedMessage):
        purify(message, "llm")


def test_a_kind_of_a_newer_release_comes_through(make) -> None:
    assert purify(make("llm.of_next_year", queue="llm"), "llm")["headers"]["task"] == "llm.of_next_year"


def test_a_control_worker_s_messages_come_through(make) -> None:
    told = purify(make(DELIVER.name, f"{TEXT} succeeded"), "control")
    assert (body_of(told)[0], told["headers"]["id"]) == ([f"{TEXT} succeeded"], f"{TEXT} succeeded")
    tick = purify(with_body(make(FIRE_SCHEDULES.name, "a-tick"), [[], {}, {}]), "control")
    assert (body_of(tick)[0], tick["headers"]["id"]) == ([], "a-tick")


def test_commands_for_workers_are_no_matter_of_this(make) -> None:
    command = {"properties": {"delivery_tag": "t"}, "body": "anything"}
    assert purify(command, "llm@box.celery.pidbox") is command
