from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

import pytest

from graycat.broker.keys import DELIVERIES, HOME, quarantine_key
from graycat.metrics import worker as work
from graycat.queue.records import TaskRecords
from graycat.webhooks.deliveries import HOLD_MS, Deliveries
from graycat.webhooks.dispatcher import Dispatcher
from graycat.webhooks.retries import BACKOFF_S, JITTER
from graycat.webhooks.sender import WebhookSender
from graycat.webhooks.webhook import Webhook, owner_secret
from tests.support.broker import BrokerClient
from tests.support.helpers import AT_ONCE_S, Stopwatch, Valkey, changed, free_port, outcome_of, started
from tests.support.hooks import SECRET, in_turn, look, verified, webhook_client, webhook_for
from tests.support.metered import value
from tests.support.servers import Seen, after, drop, hold, http_server, reply
from tests.support.workers import celery_app

HOOK = "POST /hook"
DAY_S = 24 * 3600


@dataclass
class Post:
    """A control worker without Celery around it, on a clock of its own."""

    records: TaskRecords
    client: BrokerClient
    deliveries: Deliveries
    dispatcher: Dispatcher
    sender: WebhookSender
    now_ms: int

    def end(self, seen: Seen, webhook: str = "", **changes: Any) -> str:
        """End a task whose end is to be told."""
        attempt = started(self.records, webhook=webhook or webhook_for(seen), **changes)
        self.records.succeed(attempt, 200, b'{"content":"zebra"}')
        look(self.records)
        self.now_ms = max(self.now_ms, self.deliveries.now_ms())
        return attempt.task_id

    def work(self) -> int:
        """Enqueue and deliver what is due; return how many deliveries were tried."""
        self.dispatcher.step(self.now_ms)
        count = 0
        while message := self.client.rpop("control"):
            task_id, _, event = json.loads(message)["headers"]["id"].partition(" ")
            self.sender.deliver(task_id, event, self.now_ms)
            count += 1
        return count

    def summary(self, task_id: str) -> dict[str, Any]:
        (summary,) = self.deliveries.summarize(task_id)
        return summary


@pytest.fixture
def post(broker: Valkey, records: TaskRecords) -> Post:
    client, deliveries = broker.client, Deliveries(broker.client)
    dispatcher = Dispatcher(client, deliveries, celery_app(broker.settings.home))
    sender = WebhookSender(deliveries, webhook_client(timeout_s=0.3), broker.settings)
    return Post(records, client, deliveries, dispatcher, sender, deliveries.now_ms())


def test_a_receiver_gets_a_signed_event(post: Post) -> None:
    delivered = value(work, "graycat_webhook_deliveries_total", outcome="delivered")
    with http_server({HOOK: reply(200, {})}) as seen:
        task_id = post.end(seen, metadata='{"order":7}')
        assert post.work() == 1
        assert value(work, "graycat_webhook_deliveries_total", outcome="delivered") == delivered + 1
        told = verified(seen)
        assert (told["type"], told["data"]["id"], told["data"]["metadata"]) == ("task.succeeded", task_id, {"order": 7})
        assert seen.headers[0]["content-type"] == "application/json"
        assert abs(int(seen.headers[0]["webhook-timestamp"]) - time.time()) < 5
        assert b"zebra" not in seen.requests[0][2]
    assert post.summary(task_id)["state"] == "delivered"
    post.now_ms += DAY_S * 1000
    assert post.work() == 0


def test_an_event_s_link_begins_with_the_public_address(post: Post, broker: Valkey) -> None:
    settings = changed(broker.settings, public_url="https://play.example/gpu/")
    post.sender = WebhookSender(post.deliveries, webhook_client(timeout_s=0.3), settings)
    with http_server({HOOK: reply(200, {})}) as seen:
        task_id = post.end(seen, webhook_for(seen, secret=""))
        post.work()
        told = json.loads(seen.requests[0][2])
    assert told["data"]["links"] == {"task": f"https://play.example/gpu/tasks/{task_id}"}


def test_a_delivery_that_makes_no_sense_is_tried_once_and_set_aside(post: Post) -> None:
    post.client.hset("graycat:delivery:good:succeeded", mapping={"state": "pending", "next_ms": "soon"})
    post.client.zadd(DELIVERIES, {"good succeeded": 1})
    assert (post.work(), post.work()) == (1, 0)
    assert post.client.zscore(DELIVERIES, "good succeeded") is None
    assert post.client.llen(quarantine_key(HOME)) == 1


def test_without_a_secret_of_its_own_the_owner_s_signs(post: Post, broker: Valkey) -> None:
    with http_server({HOOK: reply(200, {})}) as seen:
        post.end(seen, webhook_for(seen, secret=""), owner="game")
        post.work()
        verified(seen, secret=owner_secret(broker.settings, "game"))


def test_a_receiver_that_fails_gets_the_event_again_with_the_same_id(post: Post) -> None:
    with http_server({HOOK: in_turn(reply(500, {}), reply(200, {}))}) as seen:
        task_id = post.end(seen)
        post.work()
        summary = post.summary(task_id)
        assert (summary["state"], summary["last_status"]) == ("pending", 500)
        assert post.work() == 0
        post.now_ms = summary["next_ms"]
        assert post.work() == 1
        assert [verified(seen, number)["type"] for number in (0, 1)] == ["task.succeeded"] * 2
        first, second = seen.headers
        assert first["webhook-id"] == second["webhook-id"]
        # Signed anew, or a receiver would take it for a replay.
        assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) in (4, 5, 6)
    summary = post.summary(task_id)
    assert (summary["state"], summary["attempts"], summary["next_ms"]) == ("delivered", 2, None)
    assert [attempt["status"] for attempt in summary["tries"]] == [500, 200]


def test_a_day_of_tries_and_then_no_more(post: Post) -> None:
    with http_server({HOOK: reply(503, {})}) as seen:
        task_id = post.end(seen)
        begun_ms = post.now_ms
        while (summary := post.summary(task_id))["next_ms"] is not None:
            post.now_ms = max(post.now_ms, summary["next_ms"])
            assert post.work() == 1
        assert len({headers["webhook-id"] for headers in seen.headers}) == 1
        assert len(seen.requests) == summary["attempts"]
    assert (summary["state"], summary["last_status"]) == ("failed", 503)
    tried_s = [(attempt["at_ms"] - begun_ms) / 1000 for attempt in summary["tries"]]
    assert 12 <= len(tried_s) <= 15
    assert tried_s[0] < 2
    assert tried_s[3] < 200
    assert DAY_S * 0.7 < tried_s[-1] <= DAY_S
    # Nobody bets on when: each wait is a little different from the table's.
    waits_s = [later - earlier for earlier, later in zip(tried_s, tried_s[1:], strict=False)]
    wanted_s = [*BACKOFF_S, *[BACKOFF_S[-1]] * 9][: len(waits_s)]
    assert all(
        wanted * (1 - JITTER) - 2 <= wait <= wanted * (1 + JITTER) + 2
        for wait, wanted in zip(waits_s, wanted_s, strict=True)
    )
    post.now_ms += DAY_S * 1000
    assert post.work() == 0


def test_a_receiver_that_is_gone_is_left_alone(post: Post) -> None:
    with http_server({HOOK: reply(410, {})}) as seen:
        task_id = post.end(seen)
        post.work()
        assert (post.summary(task_id)["state"], post.summary(task_id)["next_ms"]) == ("failed", None)
        post.now_ms += DAY_S * 1000
        assert post.work() == 0


@pytest.mark.parametrize(("answer", "word"), [(hold, "timeout"), (drop, "protocol"), (reply(302, {}), None)])
def test_anything_but_a_success_is_tried_again(post: Post, answer: Any, word: str | None) -> None:
    with http_server({HOOK: answer}) as seen:
        task_id = post.end(seen)
        post.work()
    summary = post.summary(task_id)
    assert (summary["state"], summary["last_error"]) == ("pending", word)
    assert summary["next_ms"] > post.now_ms


def test_a_receiver_that_is_down_or_not_public_is_tried_again(post: Post, broker: Valkey) -> None:
    with http_server({}) as seen:
        down = post.end(seen, Webhook(f"http://127.0.0.1:{free_port()}/", ("succeeded",)).to_json())
        private = post.end(seen, Webhook("https://receiver.test/", ("succeeded",)).to_json())
        inside = webhook_client("127.0.0.1/32", resolve=lambda *_: ["10.0.0.1"])
        post.sender = WebhookSender(post.deliveries, inside, broker.settings)
        assert post.work() == 2
    words = [post.summary(name)["last_error"] for name in (down, private)]
    assert words == ["connection", "no_public_address"]
    assert {post.summary(name)["state"] for name in (down, private)} == {"pending"}


def test_a_message_that_comes_twice_sends_once(post: Post) -> None:
    gate = threading.Event()
    with http_server({HOOK: after(gate, reply(200, {}))}) as seen:
        task_id = post.end(seen)
        first = outcome_of(lambda: post.sender.deliver(task_id, "succeeded", post.now_ms))
        assert seen.asked.wait(5)
        watch = Stopwatch()
        post.sender.deliver(task_id, "succeeded", post.now_ms + HOLD_MS - 1)
        assert watch.seconds < AT_ONCE_S
        gate.set()
        first()
        post.sender.deliver(task_id, "succeeded", post.now_ms + HOLD_MS)
        assert len(seen.requests) == 1


def test_what_a_killed_worker_was_at_is_sent_again(post: Post) -> None:
    with http_server({HOOK: reply(200, {})}) as seen:
        task_id = post.end(seen)
        post.dispatcher.step(post.now_ms)
        # It begins, maybe sends, and is gone before it can say how that went.
        assert post.deliveries.begin(task_id, "succeeded", post.now_ms)
        post.client.delete("control")
        post.now_ms += HOLD_MS
        assert post.work() == 1
        assert post.summary(task_id)["state"] == "delivered"
        assert post.summary(task_id)["attempts"] == 2


def test_the_log_has_the_host_and_nothing_that_is_secret(post: Post, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with http_server({"POST /hush?key=hush": reply(500, {})}) as seen:
        task_id = post.end(seen, webhook_for(seen, url=f"{seen.url}/hush?key=hush"))
        post.work()
    (line,) = [record for record in caplog.records if record.getMessage() == "delivery tried"]
    wanted = {"task_id": task_id, "event": "succeeded", "host": "127.0.0.1", "status": 500, "attempt": 1}
    assert vars(line).items() >= wanted.items()
    assert not [r for r in caplog.records if "hush" in str(vars(r)) or SECRET in str(vars(r))]
