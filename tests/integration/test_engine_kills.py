"""kill -9 of an engine under load, which is back when its model is loaded; and five in a row, which is a crash loop."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import NewHome
from tests.support.processes import eventually
from tests.support.stack import REQUEST_S, START_S
from tests.support.supervised import TOLD_S, WORKER, Supervised
from tests.support.unity import V3Reader, send_post

#: Requests under way when the engine dies, half of them streams, and the seconds that all of them get.
REQUESTS, ANSWERED_S = 20, 200.0
#: Seconds beyond its own load in which an engine is back and its worker takes tasks.
BACK_S = 15.0
#: What is given whole by the next engine, or gone on with.
BODY: dict[str, Any] = {"prompt": "1, 2, 3,", "n_predict": 24, "ignore_eos": True, "temperature": 0, "seed": 1}
METRICS_TOKEN = "a-token-of-the-scraper"
EMBEDDED = " -m graycat.engines.embedded "


class Real(Supervised):
    """A worker that owns the embedded engine, with its real model."""

    def engine_pid(self) -> int | None:
        """Return the engine's process id; None while it does not run."""
        return next((pid for pid, line in self.command_lines().items() if EMBEDDED in line), None)


@pytest.fixture(scope="module")
def real(new_home: NewHome) -> Iterator[Real]:
    started = Real(new_home())
    # What waits is to wait, however busy the machine is.
    started.set_env({"STARTUP_COMMAND": "", "GRAYCAT_QUEUE_TTL_S": "300"})
    try:
        started.begin()
        started.start_worker()
        yield started
    finally:
        started.kill_all()


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    started = Supervised(tmp_path_factory.mktemp("kills") / "home", GRAYCAT_METRICS_TOKEN=METRICS_TOKEN)
    try:
        started.begin()
        yield started
    finally:
        started.kill_all()


def seconds_up(pid: int) -> float:
    """Return for how long a process has run."""
    started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return float(Path("/proc/uptime").read_text().split()[0]) - started


def loaded(stack: Supervised) -> bool:
    """Return whether the engine has its model."""
    try:
        return requests.get(f"{stack.llm_url}/health", timeout=5).ok
    except requests.RequestException:
        return False


def ask(stack: Supervised, name: str, *, stream: bool) -> tuple[str, int]:
    """Send a request; return the text and the number of its tokens."""
    if not stream:
        headers = {"Authorization": f"Bearer {stack.token}", "X-Request-ID": name}
        answer = requests.post(f"{stack.url}/completion", json=BODY, headers=headers, timeout=ANSWERED_S)
        assert answer.status_code == 200, answer.text
        return answer.json()["content"], answer.json()["tokens_predicted"]
    with send_post(stack.url, "/completion", BODY | {"stream": True}, stack.token, {"X-Request-ID": name}) as sent:
        sent.settimeout(ANSWERED_S)
        read = V3Reader().read(sent)
    assert len(read.tokens) == read.events[-1]["tokens_predicted"]
    return read.content, len(read.tokens)


@pytest.mark.timeout(300)
def test_an_engine_that_is_killed_under_load_is_back_when_its_model_is_loaded(real: Real) -> None:
    expected = real.engine().post("/completion", BODY | {"n_predict": 6}).json()["content"]
    names = [f"kill-{number}" for number in range(REQUESTS)]
    with ThreadPoolExecutor(REQUESTS) as callers:
        answers = [callers.submit(ask, real, name, stream=bool(number % 2)) for number, name in enumerate(names)]
        eventually(
            lambda: sum("first_event_ms" in record for record in real.live()) >= 1 and len(real.live()) >= 15, START_S
        )
        killed = real.kill_engine()
        killed_at = time.monotonic()
        pid = eventually(lambda: (real.engine_pid() or killed) != killed and real.engine_pid(), START_S)
        assert isinstance(pid, int)
        eventually(lambda: loaded(real), START_S, every_s=0.01)
        load_s = seconds_up(pid)
        # This report is a newer one than the kill.
        eventually(lambda: real.row().get("failures") == 1 and real.row()["consuming"], START_S)
        back_s = time.monotonic() - killed_at
        given = [answer.result(ANSWERED_S) for answer in answers]
    print(f"load {load_s:.2f} s, back and consuming after {back_s:.2f} s")  # noqa: T201 (shown with -s)
    assert back_s < load_s + BACK_S
    assert all(text.startswith(expected) for text, _ in given)
    assert [tokens for _, tokens in given] == [BODY["n_predict"]] * REQUESTS
    records = [real.record(name) for name in names]
    assert {record["state"] for record in records} == {"succeeded"}
    # What the dead engine was at counts one attempt more, the others none.
    attempts = [int(record["attempt"]) for record in records]
    assert (max(attempts), 1 <= attempts.count(2) <= 4) == (2, True)
    # Each has one end.
    ends = [real.redis().xrange(f"graycat:events:{real.task_id(name)}") for name in names]
    assert [sum(fields["kind"] in ("result", "error") for _, fields in events) for events in ends] == [1] * REQUESTS


def test_five_kills_in_a_row_are_a_crash_loop_for_ready_the_log_and_the_metrics(fake: Supervised) -> None:
    output = fake.start_worker()
    for failures in range(1, 6):
        fake.kill_engine()
        eventually(lambda failures=failures: fake.row().get("failures") == failures, TOLD_S)  # type: ignore[misc]
        if failures in (4, 5):
            assert_outage_is_told(fake, failures)
        fake.wait_until_consuming()
        assert fake.row()["crash_loop"] is (failures >= 3)
    # Up for the moment, and told of all the same.
    body = fake.ready_body()
    (note,) = [note for note in body["notes"] if "crash loop" in note]
    assert note == f"{WORKER}: crash loop: engine process died (killed by SIGKILL) (5 failures in a row)"
    lines = [line for line in output.text.splitlines() if " ERROR " in line and "engine process died" in line]
    assert len(lines) == 5
    assert ["crash loop: engine process died (killed by SIGKILL)" in line for line in lines] == [False] * 2 + [True] * 3
    assert [re.search(r"failures=(\d)", line)[1] for line in lines] == list("12345")  # type: ignore[index]
    assert scraped(fake, "graycat_engine_failures") == 5.0
    assert fake.client().post("/completion", {"prompt": "x", "n_predict": 2}).status_code == 200


def scraped(stack: Supervised, name: str) -> float:
    """Return a gauge of the worker as Prometheus gets it."""
    headers = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    text = requests.get(f"{stack.url}/metrics", headers=headers, timeout=REQUEST_S).text
    (line,) = [line for line in text.splitlines() if line.startswith(f'{name}{{worker="{WORKER}"}} ')]
    return float(line.rpartition(" ")[2])


def assert_outage_is_told(stack: Supervised, failures: int) -> None:
    """Check that /ready names the crash loop, how the engine ended, and when it is tried again."""
    reason = stack.ready_body()["reason"]
    told = (
        rf"{WORKER}: crash loop: engine process died \(killed by SIGKILL\) \({failures} failures in a row, next try in "
    )
    assert re.search(told + r"\d+ s\)", reason), reason
    row = stack.row()
    assert (row["state"], row["crash_loop"], row["consuming"]) == ("stopped", True, False)
    assert 0 < row["retry_in_s"] <= 0.5 * 2 ** (failures - 1)


def test_a_killed_shim_takes_its_engine_along_and_counts_as_a_failure(fake: Supervised) -> None:
    if "llm" not in fake.processes():
        fake.start_worker()
    engine = eventually(fake.engine_pid, START_S)
    before = fake.row()["failures"]
    shim = next(pid for pid, line in fake.command_lines().items() if line.endswith("shim.py"))
    os.kill(shim, signal.SIGKILL)
    eventually(lambda: engine not in fake.command_lines(), TOLD_S)
    eventually(lambda: fake.row().get("failures", 0) > before, TOLD_S)
    fake.wait_until_consuming()
