from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import xllamacpp
from click.testing import CliRunner

from graycat.engines import embedded, llama
from graycat.engines.base import Health
from graycat.engines.llama import LlamaEngine
from graycat.engines.models.packaged import find_smollm2
from graycat.engines.process import shim
from graycat.engines.process.child import ShimmedProcess
from graycat.settings import Settings
from tests.support.helpers import Stopwatch, eventually, free_port

#: Seconds that the model gets to be loaded; it takes one or two.
LOAD_S = 60.0
MAX_NICENESS = 19


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedded")


@pytest.fixture(scope="module")
def model() -> Path:
    """Return the packaged chat model's file."""
    path = find_smollm2()
    assert path is not None
    return path


def test_the_embedded_engine_answers_as_every_other(home: Path, model: Path) -> None:
    settings = Settings(home=home, llm_port=free_port(), llm_slots=2, llm_context=256, model_url=str(model))
    engine = llama.build_text_engine(settings, own=True)
    child = ShimmedProcess(engine.command() or [], home / "engine.log")
    child.start()
    try:
        eventually(lambda: engine.health() is Health.HEALTHY, LOAD_S)
        assert engine.describe().slots == 2
        assert complete(engine) == (200, True)
        # The tests themselves may run under `nice`; 19 is the kernel's limit.
        assert niceness(child) == min(os.nice(0) + embedded.NICENESS, MAX_NICENESS)
        assert session_niceness(engine_pid(child)) in (embedded.NICENESS, None)
        log = (home / "engine.log").read_text()
        assert f"n_threads = {embedded.decoding_threads(embedded.available_cores())}\n" in log
        assert "assembling" not in log
        watch = Stopwatch()
    finally:
        child.stop()
    # It ends at the first signal; the second would come after three seconds.
    assert watch.seconds < 2
    assert engine.health() is not Health.HEALTHY


@pytest.mark.parametrize(("threads", "batch", "single"), [(0, 8, 7), (3, 3, 3), (8, 8, 7), (99, 8, 7)])
def test_its_threads_and_its_memory_for_prompts_are_as_its_owner_says(
    model: Path, monkeypatch: pytest.MonkeyPatch, threads: int, batch: int, single: int
) -> None:
    started: list[Any] = []

    def start(params: Any) -> None:
        started.append(params)
        raise SystemExit

    monkeypatch.setattr(xllamacpp, "Server", start)
    monkeypatch.setattr(embedded, "lower_priority", lambda: None)
    monkeypatch.setattr(embedded, "available_cores", lambda: 8)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    options = f"--port 1 --slots 1 --context 256 --threads {threads} --prompt-cache-mib 64 --models {model.parent}"
    CliRunner().invoke(embedded.main, options.split())
    (params,) = started
    assert (params.cpuparams_batch.n_threads, params.cpuparams.n_threads) == (batch, single)
    assert params.cache_ram_mib == 64


def engine_pid(child: ShimmedProcess) -> int:
    """Return the engine's process id. Its shim leads the session that both are in."""
    (pid,) = (pid for pid in shim.descendants() if os.getsid(pid) == child.pid != pid)
    return pid


def niceness(child: ShimmedProcess) -> int:
    """Return the niceness of the engine's process."""
    return os.getpriority(os.PRIO_PROCESS, engine_pid(child))


def session_niceness(pid: int) -> int | None:
    """Return the niceness of a process's session; None if the kernel does not schedule by session, or not this one."""
    try:
        text = Path(f"/proc/{pid}/autogroup").read_text()
    except FileNotFoundError:
        return None
    _, _, value = text.rpartition(" ")
    return int(value) if value.strip() else None


def test_tests_do_not_go_before_the_engines_that_they_start() -> None:
    assert session_niceness(os.getpid()) in (None, embedded.NICENESS)


def test_cores_that_the_process_may_not_use_do_not_count() -> None:
    allowed = os.sched_getaffinity(0)
    assert embedded.available_cores() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert embedded.available_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (8, 7)])
def test_a_core_is_left_to_the_others_while_one_stream_is_decoded(cores: int, threads: int) -> None:
    assert embedded.decoding_threads(cores) == threads


def complete(engine: LlamaEngine) -> tuple[int, bool]:
    """Ask for one token; return the status, and whether it came from a context of the wanted size."""
    with engine.client.open("POST", "/completion", b'{"prompt": "Hi", "n_predict": 1}', timeout_s=LOAD_S) as response:
        reply = response.read()
    return response.status, b'"stop":true' in reply and b'"n_ctx":256' in engine.describe().props


def test_the_process_of_the_default_engine_is_this_module() -> None:
    command = list(llama.build_text_engine(Settings(), own=True).command() or [])
    assert command[:3] == [sys.executable, "-m", embedded.__name__]
