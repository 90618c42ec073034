from __future__ import annotations

from typing import Any

import pytest

from graycat.broker.keys import events_key
from tests.support.helpers import Valkey, chunks, eventually, kinds
from tests.support.servers import stream
from tests.support.workers import Worker, worker_on

#: Chunks that tell their tokens, so that an engine could go on behind them; and the end of a stream.
TOKENS = [b'data: {"content":"%d","tokens":[%d],"stop":false}\n\n' % (number, number) for number in range(4)]
END = b'data: {"content":"","tokens":[],"stop":true,"tokens_predicted":4,"generation_settings":{}}\n\n'
NEW = [b'data: {"content":"x","tokens":[9],"stop":false}\n\n', END]


def cut_short(broker: Valkey, worker: Worker, published: list[bytes], **changes: Any) -> str:
    """Return a task whose worker was killed, and whose stream has lost its beginning: it had too many events."""
    attempt = worker.claim(**changes)
    worker.records.publish(attempt, 1, published)
    third = worker.records.events(attempt.task_id)[2].id
    broker.client.xtrim(events_key(attempt.task_id), minid=third, approximate=False)
    eventually(lambda: int(worker.records.get(attempt.task_id)["lease_ms"]) < worker.client.time()[0] * 1000)
    return attempt.task_id


@pytest.mark.parametrize("published", [TOKENS, [*TOKENS, END]], ids=["unfinished", "whole"])
def test_an_answer_whose_beginning_is_gone_is_made_anew(broker: Valkey, published: list[bytes]) -> None:
    with worker_on(broker, {"POST /completion": stream(*NEW)}, lease_s=0.02) as worker:
        task_id = cut_short(broker, worker, published, mode="live", shown={})
        worker.run(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")
        assert kinds(worker.records, task_id) == ["started", "restarted", "chunk", "chunk", "result"]
        assert chunks(worker.records, task_id) == NEW
        assert [body["prompt"] for body in worker.seen.bodies()] == ["Hi"]


def test_a_reader_gets_no_answer_that_goes_on_without_its_beginning(broker: Valkey) -> None:
    with worker_on(broker, {}, lease_s=0.02) as worker:
        task_id = cut_short(broker, worker, TOKENS)
        worker.run(task_id)
        assert worker.ended(task_id) == ("failed", "502")
        assert worker.seen.requests == []


def test_a_stream_that_was_read_to_its_end_is_over_whatever_is_kept_of_it(broker: Valkey) -> None:
    with worker_on(broker, {}, lease_s=0.02) as worker:
        task_id = cut_short(broker, worker, [*TOKENS, END])
        worker.run(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")
