from __future__ import annotations

import pytest
from click.testing import CliRunner

from graycat.cli import queue as module
from graycat.cli.queue import queue
from graycat.fleet.workers import WorkerRegistry
from tests.support.helpers import Valkey


def test_a_queue_is_paused_and_resumed(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = WorkerRegistry(broker.client)
    monkeypatch.setattr(module, "_open_registry", lambda: registry)
    for verb, paused in (("pause", {"sd"}), ("pause", {"sd"}), ("resume", set())):
        assert CliRunner().invoke(queue, [verb, "sd"]).exit_code == 0
        assert registry.paused_queues() == paused


def test_an_unknown_queue_is_a_usage_error() -> None:
    assert CliRunner().invoke(queue, ["pause", "cakes"]).exit_code == 2
