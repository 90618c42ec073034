from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from graycat.engines.base import State
from graycat.engines.models.background import BackgroundDownload
from graycat.worker.waits import describe_ready, describe_wait
from tests.support.helpers import Valkey
from tests.support.workers import Worker, worker_on


@pytest.fixture
def worker(broker: Valkey) -> Iterator[Worker]:
    """Yield a worker whose engine is its own, and only starts."""
    with worker_on(broker, {}) as worker:
        worker.runtime.child = object()  # type: ignore[assignment]
        worker.supervisor.state = State.STOPPED
        yield worker


def test_an_engine_that_loads_names_its_model(worker: Worker, tmp_path: Path) -> None:
    model = tmp_path / "Qwen3-8B-Q4_K_M.gguf"
    model.touch()
    worker.runtime.settings = replace(worker.settings, model_url=str(model))
    assert describe_wait(worker.runtime) == ("text engine: loading Qwen3-8B-Q4_K_M", None)
    worker.runtime.settings = replace(worker.settings, startup_command="llama-server --port {port}")
    assert describe_wait(worker.runtime) == ("text engine: starting (its output: graycat logs llm)", None)


def test_a_download_tells_how_far_it_is(worker: Worker) -> None:
    download = BackgroundDownload(worker.settings, "llm")
    worker.supervisor.download, worker.supervisor.state = download, State.DOWNLOADING
    download._report_progress("a.gguf", 25.0)
    assert describe_wait(worker.runtime) == ("text engine: downloading a.gguf", 0.25)
    # It has failed, and is tried again.
    download.percent, worker.supervisor.trouble = None, "download failed: no room"
    assert describe_wait(worker.runtime) == ("text engine: download failed: no room", None)


def test_a_worker_beside_another_one_s_engine_waits_for_that(worker: Worker) -> None:
    worker.runtime.child, worker.runtime.name = None, "quick@here"
    assert describe_wait(worker.runtime) == ("quick: waiting for the text engine", None)


def test_an_engine_that_is_ready_does_not_hide_why_nothing_is_taken(worker: Worker) -> None:
    worker.supervisor.state, worker.runtime.paused = State.READY, True
    assert describe_wait(worker.runtime) == ("text engine: it is paused", None)


def test_one_that_is_ready_names_its_only_model_or_its_engine(worker: Worker) -> None:
    info = worker.supervisor.info
    assert info is not None
    worker.supervisor.info = replace(info, slots=4, models=("Qwen3-8B",))
    assert describe_ready(worker.runtime) == "Qwen3-8B, 4 at a time"
    for models in ((), ("a", "b")):
        worker.supervisor.info = replace(info, slots=4, models=models)
        assert describe_ready(worker.runtime) == "scripted, 4 at a time"
