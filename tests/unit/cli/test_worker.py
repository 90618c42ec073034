from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner

from graycat.celeryapp import GraycatCelery
from graycat.cli.running import announced, lock_home
from graycat.cli.worker import worker
from graycat.errors import SettingsError
from graycat.queue import topology
from graycat.worker.bootsteps import has_engine


class StartedWorker:
    """Stands in for Celery's worker: it notes how it was made, and starts nothing."""

    exitcode = 3

    def __init__(self, app: Celery, options: dict[str, Any]) -> None:
        self.app = app
        self.options = options

    def start(self) -> None:
        """Return at once, as a worker does that has ended."""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[StartedWorker]:
    """Return the Celery workers that were started."""
    workers: list[StartedWorker] = []

    def make(app: Celery, **options: Any) -> StartedWorker:
        workers.append(StartedWorker(app, options))
        return workers[-1]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(GraycatCelery, "Worker", make, raising=False)
    monkeypatch.setattr(Celery, "set_default", lambda app: None)
    return workers


@pytest.mark.parametrize(("kind", "queues"), [("llm", "llm,llm.batch"), ("quick", "llm.quick"), ("control", "control")])
def test_a_worker_takes_the_queues_of_its_kind(started: Any, kind: str, queues: str) -> None:
    result = CliRunner().invoke(worker, [kind])
    assert result.exit_code == 3
    (made,) = started
    assert made.options["queues"] == queues.split(",")
    assert made.options["hostname"] == f"{kind}@{socket.gethostname()}"
    assert (made.options["without_gossip"], made.options["without_mingle"]) == (True, True)
    assert made.app.main == "graycat"


def test_a_second_worker_shares_the_engine_of_the_graycat_that_runs_here(started: Any, tmp_path: Path) -> None:
    home = tmp_path / "var"
    with lock_home(home), announced(home, "", {"LLM_PORT": 4001}):
        CliRunner().invoke(worker, ["quick", "--name", "second"])
    (made,) = started
    assert made.app.settings.llm_port == 4001


def test_a_name_without_its_kind_is_completed(started: Any) -> None:
    CliRunner().invoke(worker, ["llm", "--name", "gpu-7"])
    assert started[0].options["hostname"] == "llm@gpu-7"


def test_a_worker_may_be_named(started: Any) -> None:
    CliRunner().invoke(worker, ["llm", "--name", "llm@gpu-7"])
    assert started[0].options["hostname"] == "llm@gpu-7"


def test_a_worker_without_an_engine_has_a_number_of_threads(started: Any) -> None:
    for kind in ("control", "llm"):
        CliRunner().invoke(worker, [kind])
    control, llm = (made.options["concurrency"] for made in started)
    assert (control, llm) == (16, None)


def test_an_unknown_kind_is_a_usage_error(started: Any) -> None:
    result = CliRunner().invoke(worker, ["cook"])
    assert (result.exit_code, started) == (2, [])
    assert "No such command 'cook'" in result.output


def test_a_worker_is_named_after_its_gpu(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graycat.engines.gpus.list_gpus", lambda: (0, 1, 2))
    CliRunner().invoke(worker, ["sd", "--gpu", "2"])
    (made,) = started
    assert made.options["hostname"] == f"sd@{socket.gethostname()}-gpu2"
    assert made.app.gpu == 2


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
    app = started[0].app
    assert set(topology.WORKER_KINDS[kind].queues) <= set(topology.QUEUES)
    assert (app.kind, app.conf.broker_transport_options["unacked_key"]) == (kind, f"unacked:{kind}")
    app.amqp.queues.select(topology.WORKER_KINDS[kind].queues)
    assert has_engine(app) is (kind != "control")


def modules_of(kind: str) -> list[str]:
    """Return the modules that a worker of a kind has loaded when it starts."""
    script = (
        "import gc, sys\n"
        "from importlib import import_module\n"
        "from graycat.celeryapp import GraycatCelery\n"
        "def start(app, **_):\n"
        "    assert not gc.isenabled()\n"
        "    app.loader.import_default_modules()\n"
        "    for step in app.steps['worker'] | app.steps['consumer']:\n"
        "        import_module(step.partition(':')[0])\n"
        "    sys.exit(' '.join(sys.modules))\n"
        "GraycatCelery.Worker = start\n"
        f"from graycat.cli import cli; cli(['worker', '{kind}'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    loaded = done.stderr.split()
    assert {"graycat.celeryapp", "graycat.tasks.sd", "graycat.worker.bootsteps"} <= set(loaded), done.stderr
    # It would load prompt_toolkit, Flower and Tornado: a fifth of the time and of the memory of a start.
    assert {"celery.bin.celery", "prompt_toolkit", "flower", "tornado"}.isdisjoint(loaded)
    return loaded


def test_a_worker_with_an_engine_loads_nothing_that_only_others_need() -> None:
    others = {"graycat.batches", "graycat.schedules", "graycat.webhooks.sender", "fsspec", "gevent", "jinja2"}
    # PIL reads what each picture says of itself.
    assert (others | {"pynvml", "requests", "werkzeug"}).isdisjoint(modules_of("sd"))


def test_a_control_worker_loads_what_writes_galleries_when_it_writes_one() -> None:
    loaded = modules_of("control")
    assert {"graycat.batches.runner.runner", "graycat.webhooks.sender"} <= set(loaded)
    assert {"gevent", "jinja2", "pynvml", "requests"}.isdisjoint(loaded)


def test_an_engine_that_cannot_be_started_is_told_before_celery_starts(
    started: list[StartedWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graycat.settings.extras.ENGINE", "not_there_at_all")
    result = CliRunner().invoke(worker, ["llm"])
    assert isinstance(result.exception, SettingsError)
    assert "pip install 'graycat[embedded]'" in str(result.exception)
    assert not started
    # Another worker's engine is not this one's affair.
    assert CliRunner().invoke(worker, ["quick"]).exit_code == StartedWorker.exitcode
