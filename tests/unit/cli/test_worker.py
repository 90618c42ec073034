from __future__ import annotations

import socket
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner

from graycat.cli.worker import worker
from graycat.queue import topology
from graycat.worker.bootsteps import has_engine


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path) -> list[tuple[Celery, list[str]]]:
    """Return the Celery workers that were started, which start nothing."""
    workers: list[tuple[Celery, list[str]]] = []

    def worker_main(app: Celery, argv: list[str]) -> int:
        workers.append((app, argv))
        return 3

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Celery, "worker_main", worker_main)
    monkeypatch.setattr(Celery, "set_default", lambda app: None)
    return workers


def options_of(arguments: list[str]) -> dict[str, str]:
    """Return the options of a command line that have a value."""
    return {name: value for name, value in zip(arguments, arguments[1:], strict=False) if name.startswith("--")}


@pytest.mark.parametrize(("kind", "queues"), [("llm", "llm,llm.batch"), ("quick", "llm.quick"), ("control", "control")])
def test_a_worker_takes_the_queues_of_its_kind(started: Any, kind: str, queues: str) -> None:
    result = CliRunner().invoke(worker, [kind])
    assert result.exit_code == 3
    ((app, arguments),) = started
    options = options_of(arguments)
    assert (options["--queues"], options["--hostname"]) == (queues, f"{kind}@{socket.gethostname()}")
    assert {"--without-gossip", "--without-mingle"} <= set(arguments)
    assert app.main == "graycat"


def test_a_worker_may_be_named(started: Any) -> None:
    CliRunner().invoke(worker, ["llm", "--name", "llm@gpu-7"])
    assert options_of(started[0][1])["--hostname"] == "llm@gpu-7"


def test_a_worker_without_an_engine_has_a_number_of_threads(started: Any) -> None:
    for kind in ("control", "llm"):
        CliRunner().invoke(worker, [kind])
    control, llm = (options_of(arguments) for _, arguments in started)
    assert (control["--concurrency"], llm.get("--concurrency")) == ("16", None)


def test_an_unknown_kind_is_a_usage_error(started: Any) -> None:
    result = CliRunner().invoke(worker, ["cook"])
    assert (result.exit_code, started) == (2, [])
    assert "No such command 'cook'" in result.output


def test_a_worker_is_named_after_its_gpu(started: Any) -> None:
    CliRunner().invoke(worker, ["sd", "--gpu", "2"])
    ((app, arguments),) = started
    assert options_of(arguments)["--hostname"] == f"sd@{socket.gethostname()}-gpu2"
    assert app.gpu == 2


@pytest.mark.parametrize("words", [["drain", "llm@box"], ["pause", "llm@box"], ["resume", "llm@box"]])
def test_a_worker_that_does_not_answer_is_exit_code_3(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    sent: list[tuple[str, list[str]]] = []

    def broadcast(_control: Any, command: str, _arguments: Any, destination: list[str], **_: Any) -> list[Any]:
        sent.append((command, destination))
        return []

    monkeypatch.setattr("celery.app.control.Control.broadcast", broadcast)
    result = CliRunner().invoke(worker, words)
    assert (result.exit_code, sent) == (3, [(f"{words[0]}_worker", ["llm@box"])])
    assert "no worker 'llm@box' answers" in result.output


def test_a_worker_s_refusal_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [{"control@box": {"error": "has no engine, and so nothing to pause"}}]
    monkeypatch.setattr("celery.app.control.Control.broadcast", lambda *_, **__: answer)
    result = CliRunner().invoke(worker, ["pause", "control@box"])
    assert (result.exit_code, result.output) == (1, "graycat: control@box has no engine, and so nothing to pause\n")


@pytest.mark.parametrize("kind", topology.WORKER_KINDS)
def test_every_kind_s_queues_exist_and_all_but_one_need_an_engine(started: Any, kind: str) -> None:
    CliRunner().invoke(worker, [kind])
    app = started[0][0]
    assert set(topology.WORKER_KINDS[kind].queues) <= set(topology.QUEUES)
    assert (app.kind, app.conf.broker_transport_options["unacked_key"]) == (kind, f"unacked:{kind}")
    app.amqp.queues.select(topology.WORKER_KINDS[kind].queues)
    assert has_engine(app) is (kind != "control")
