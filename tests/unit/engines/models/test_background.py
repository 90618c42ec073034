from __future__ import annotations

import threading
from pathlib import Path

import pytest

from graycat.engines.base import State
from graycat.engines.models import background, downloads
from graycat.engines.models.background import BackgroundDownload
from graycat.engines.models.checkpoints import TEXT
from graycat.engines.process.supervisor import Supervisor
from graycat.settings import Settings
from tests.support.files import BLOCK, Served, gguf
from tests.support.helpers import PATIENCE_S, Stopwatch, eventually
from tests.support.servers import Handler, hold, http_server
from tests.unit.engines.process.test_supervisor import FakeChild, FakeEngine

CONTENT = gguf()


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "FIRST_BACKOFF_S", 0.005)
    monkeypatch.setattr(background, "FIRST_BACKOFF_S", 0.005)


def supervised(supplied: BackgroundDownload) -> tuple[Supervisor, FakeChild]:
    """Return a supervisor whose engine needs something."""
    child = FakeChild()
    return Supervisor(FakeEngine(), child, supplied), child


def trouble(supervisor: Supervisor) -> str:
    """Return what a supervisor tells after a further step."""
    supervisor.step(1000.0)
    return supervisor.trouble


def test_an_engine_that_needs_nothing_starts_at_once(tmp_path: Path) -> None:
    supervisor, child = supervised(BackgroundDownload(Settings(home=tmp_path), TEXT))
    assert supervisor.step(1000.0) is State.LOADING
    assert (child.starts, supervisor.trouble) == (1, "")
    supervisor.stop()


def test_an_engine_starts_after_its_checkpoint_is_downloaded(tmp_path: Path) -> None:
    gate = threading.Event()

    def pause(handler: Handler, offset: int) -> None:
        if offset >= len(CONTENT) // 2:
            gate.wait(PATIENCE_S)

    with http_server({"GET /m.gguf": Served(CONTENT, before=pause)}) as seen:
        supervisor, child = supervised(
            BackgroundDownload(Settings(home=tmp_path, model_url=f"{seen.url}/m.gguf"), TEXT)
        )
        assert supervisor.step(1000.0) is State.DOWNLOADING
        eventually(lambda: "downloading 5" in trouble(supervisor))
        assert supervisor.step(1001.0) is State.DOWNLOADING
        assert not supervisor.ready.is_set()
        assert child.starts == 0
        gate.set()
        eventually(lambda: supervisor.step(1002.0) is State.LOADING)
    assert (child.starts, supervisor.trouble) == (1, "")
    # It dies and starts again; what is here is not looked for again.
    child.running = False
    assert supervisor.step(1003.0) is State.STOPPED
    assert supervisor.step(1010.0) is State.LOADING
    assert len(seen.requests) == 1
    supervisor.stop()


def test_a_failed_download_has_a_reason_and_is_tried_again(tmp_path: Path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(background, "FIRST_BACKOFF_S", 0.2)
    with http_server({}) as seen:
        supervisor, child = supervised(
            BackgroundDownload(Settings(home=tmp_path, model_url=f"{seen.url}/hush/m.gguf"), TEXT)
        )
        with caplog.at_level("INFO", logger="graycat"):
            supervisor.step(1000.0)
            eventually(lambda: "download failed: the server answered 404" in trouble(supervisor))
            assert child.starts == 0
            seen.answers["GET /hush/m.gguf"] = Served(CONTENT)
            eventually(lambda: supervisor.step(1001.0) is State.LOADING)
    assert "download failed" in caplog.text
    assert "hush" not in caplog.text
    supervisor.stop()


def test_a_worker_that_stops_does_not_wait_for_a_download(tmp_path: Path) -> None:
    def stall(handler: Handler, offset: int) -> None:
        if offset >= 5 * BLOCK:
            hold(handler)

    with http_server({"GET /m.gguf": Served(CONTENT, before=stall)}) as seen:
        supervisor, child = supervised(
            BackgroundDownload(Settings(home=tmp_path, model_url=f"{seen.url}/m.gguf"), TEXT)
        )
        supervisor.step(1000.0)
        assert seen.asked.wait(PATIENCE_S)
        watch = Stopwatch()
        supervisor.stop()
        assert watch.seconds < 2 * background.JOIN_TIMEOUT_S
        assert supervisor.state is State.STOPPED
    assert child.starts == 0


def test_between_two_tries_a_stop_acts_at_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(background, "FIRST_BACKOFF_S", 60.0)
    with http_server({}) as seen:
        supervisor, _ = supervised(BackgroundDownload(Settings(home=tmp_path, model_url=f"{seen.url}/m.gguf"), TEXT))
        supervisor.step(1000.0)
        eventually(lambda: "failed" in trouble(supervisor))
        watch = Stopwatch()
        supervisor.stop()
    assert watch.seconds < background.JOIN_TIMEOUT_S
