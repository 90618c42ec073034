"""Commands to workers, and what becomes of them while the broker is in trouble."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graycat.celeryapp import create_celery
from graycat.queue.control import broadcast_stop
from graycat.queue.kinds import SKIP
from graycat.queue.models import Verdict
from tests.support.helpers import Stopwatch, Valkey, eventually
from tests.support.troubles import FrailValkey, Trouble, away, disk_full, silent


def read_command(pubsub: Any) -> Any:
    """Return the next remote-control command on the channels of all workers; None while there is none."""
    message = pubsub.get_message(timeout=0.1)
    if message is None:
        return None
    return json.loads(base64.b64decode(json.loads(message["data"])["body"]))


@pytest.mark.parametrize(
    ("how", "text"), [(Verdict.CANCEL, "cancel"), (Verdict.INTERRUPT, "interrupt"), (SKIP, "skip")]
)
def test_stop_is_sent_to_one_worker_as_celery_would(broker: Valkey, how: str, text: str) -> None:
    app = create_celery(broker.settings)
    with broker.client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.psubscribe("*celery.pidbox*")
        pubsub.get_message(timeout=1)
        broadcast_stop(app, "a-task", "llm@node", how)
        sent = eventually(lambda: read_command(pubsub))
        arguments = {"task_id": "a-task", "how": text}
        assert (sent["method"], sent["arguments"], sent["destination"]) == ("stop_task", arguments, ["llm@node"])
        app.control.broadcast("stop_task", arguments=arguments, destination=["llm@node"])
        assert eventually(lambda: read_command(pubsub)) == sent
    app.close()


@pytest.fixture
def frail(tmp_path: Path) -> Iterator[FrailValkey]:
    """Yield a Valkey that may be brought into trouble."""
    valkey = FrailValkey(tmp_path)
    valkey.begin()
    yield valkey
    valkey.end()


@pytest.mark.parametrize("trouble", [away, silent, disk_full])
def test_a_stop_that_cannot_be_sent_is_logged_and_soon(
    frail: FrailValkey, caplog: pytest.LogCaptureFixture, trouble: Trouble
) -> None:
    app = create_celery(frail.settings)
    with caplog.at_level(logging.WARNING), trouble(frail):
        watch = Stopwatch()
        broadcast_stop(app, "a-task", "llm@node", Verdict.CANCEL)
        assert watch.seconds < 2
    records = [record for record in caplog.records if record.name == "graycat.queue.control"]
    assert [vars(record)["task_id"] for record in records] == ["a-task"]
