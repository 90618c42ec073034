"""What nobody expects in the broker ends no process: the next request of another caller is served."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.processes import eventually, quickly
from tests.support.supervised import WORKER, Supervised, supervised

#: Seconds in which the next request is served.
SERVED_S = 60.0
HELLO = {"prompt": "hello", "n_predict": 2}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    """Yield a broker, a web server and a worker, whose processes nobody restarts."""
    with supervised(tmp_path_factory.mktemp("rubbish")) as started:
        yield started


@pytest.fixture
def same_processes(stack: Supervised) -> Iterator[None]:
    """Check that a test has ended no process."""
    before = stack.processes()
    yield
    assert stack.processes() == before


def served(stack: Supervised) -> bool:
    """Return whether a completion is answered."""
    return stack.client().post("/completion", HELLO, timeout=SERVED_S).status_code == 200


def assert_served(stack: Supervised) -> None:
    started = time.monotonic()
    assert served(stack)
    assert time.monotonic() - started < SERVED_S


RUBBISH = ["{half", "7", "[]", "null", '{"properties": {}}', '{"headers": 7, "properties": {"delivery_tag": "x"}}']


@pytest.mark.usefixtures("same_processes")
@pytest.mark.parametrize("queue", ["llm", "llm.batch"])
@pytest.mark.parametrize("rubbish", RUBBISH)
def test_a_message_that_is_none(stack: Supervised, queue: str, rubbish: str) -> None:
    stack.redis().lpush(queue, rubbish)
    assert_served(stack)
    eventually(lambda: stack.redis().llen(queue) == 0, SERVED_S)


@pytest.mark.usefixtures("same_processes")
@pytest.mark.parametrize(
    "change",
    [
        {"body": "abcde"},
        {"body": "e30="},
        {"body": ""},
        {"content-type": "application/x-python-serialize"},
        {"content-encoding": "no-such-encoding"},
        {"headers": {}},
        {"headers": {"task": {"no": "name"}, "id": 7}},
        {"headers": {"task": "nobody.knows", "id": "an-id"}},
        {"headers": {"task": "llm.completion", "id": None, "lang": "py", "argsrepr": 7}},
        {"headers": {"task": "llm.completion", "id": "an-id", "eta": "never", "expires": "soon", "timelimit": "x"}},
    ],
    ids=str,
)
def test_a_good_envelope_with_something_else_in_it(stack: Supervised, change: dict[str, Any]) -> None:
    good = {
        "body": "W1siYW4taWQiXSwge30sIG51bGxd",
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "llm.completion", "id": "an-id", "root_id": "an-id"},
        "properties": {
            "correlation_id": "an-id",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "llm", "routing_key": "llm"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": f"tag-{time.monotonic_ns()}",
        },
    }
    stack.redis().lpush("llm", json.dumps(good | change))
    assert_served(stack)
    eventually(lambda: stack.redis().llen("llm") == 0, SERVED_S)
    eventually(lambda: stack.redis().hlen("unacked:llm") == 0, SERVED_S)


@pytest.mark.usefixtures("same_processes")
@pytest.mark.parametrize("entry", ["{half", "7", "[]", "[1, 2, 3]", "null"])
def test_a_spoiled_entry_among_the_unacknowledged(stack: Supervised, entry: str) -> None:
    broker = stack.redis()
    broker.hset("unacked:llm", "spoiled", entry)
    broker.zadd("unacked_index:llm", {"spoiled": 1})
    assert_served(stack)
    eventually(lambda: broker.hlen("unacked:llm") == 0, SERVED_S)
    assert_served(stack)


@pytest.mark.usefixtures("same_processes")
@pytest.mark.parametrize("rubbish", ["{half", "7", "[]", "null", '{"body": 7}', '{"properties": {}, "body": "%%"}'])
def test_rubbish_on_the_channels_of_celery_s_control(stack: Supervised, rubbish: str) -> None:
    stack.redis().publish("/0.celery.pidbox", rubbish)
    stack.redis().publish(f"/0.{WORKER}.celery.pidbox", rubbish)
    assert_served(stack)
    assert stack.ping() == "pong"


@pytest.mark.usefixtures("same_processes")
@pytest.mark.parametrize("rubbish", ["garbage", "", "a b", "a b c", "task 1-1 chunk", "task x-y chunk data", "\u00ff"])
def test_rubbish_on_the_channel_of_a_web_process(stack: Supervised, rubbish: str) -> None:
    channels = stack.redis().pubsub_channels("graycat:web:*")
    assert channels
    for channel in channels:
        stack.redis().publish(channel, rubbish)
    assert_served(stack)


@pytest.mark.usefixtures("same_processes")
def test_a_broker_that_is_full_is_waited_for(stack: Supervised) -> None:
    broker = stack.redis()
    broker.config_set("maxmemory-policy", "noeviction")
    broker.config_set("maxmemory", 1)
    try:
        started = time.monotonic()
        reply = quickly(lambda: stack.client().post("/completion", HELLO), 5)
        assert (reply.status_code, reply.json()["error"]["type"]) == (503, "broker_full")
        # Longer than a worker's restarts would take to show.
        eventually(lambda: time.monotonic() - started > 8, SERVED_S)
    finally:
        broker.config_set("maxmemory", 0)
    eventually(lambda: served(stack), 3 * SERVED_S)


@pytest.mark.usefixtures("same_processes")
def test_a_broker_that_is_read_only_is_waited_for(stack: Supervised) -> None:
    broker = stack.redis()
    broker.replicaof("127.0.0.1", 1)
    try:
        started = time.monotonic()
        reply = stack.client().post("/completion", HELLO)
        assert (reply.status_code, reply.json()["error"]["type"]) == (503, "broker_unavailable")
        eventually(lambda: time.monotonic() - started > 5, SERVED_S)
    finally:
        broker.replicaof("NO", "ONE")
    eventually(lambda: served(stack), 3 * SERVED_S)


@pytest.mark.usefixtures("same_processes")
def test_a_queue_that_is_no_list(stack: Supervised) -> None:
    broker = stack.redis()
    broker.delete("llm.batch")
    broker.set("llm.batch", "no list")
    eventually(lambda: served(stack), 2 * SERVED_S)
    eventually(lambda: broker.type("llm.batch") in ("none", "list"), SERVED_S)
    assert_served(stack)
