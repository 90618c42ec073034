"""The stack under load, a real Prometheus with our rules over it, and an engine that is killed: what operators see."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import pytest
import requests

from graycat.broker.keys import DELIVERIES
from tests.conftest import NewHome
from tests.support.boxes import sign_certificate
from tests.support.processes import eventually
from tests.support.programs import IN_CI, program
from tests.support.prometheus import WINDOW
from tests.support.stack import Stack
from tests.support.watched import PROMPT, Watched, completion, load, tell_disk
from tests.support.watched import watched as run_watched
from tests.support.watching import FOLDER, SUFFIX, all_named, queries

#: Seconds until everything has been read a few times, and until an alert has fired or gone.
SEEN_S, ALERT_S = 60.0, 120.0
#: A machine that is busy takes its time for all of it.
pytestmark = pytest.mark.timeout(240)
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

#: Metrics of an exporter that cannot run here, and of one that is not installed everywhere.
NVIDIA, CELERY = "nvidia_smi_", "celery_"
#: What would wake somebody for good reason.
GRAVE = {"GraycatWebDown", "GraycatQueueUnserved", "GraycatErrorRatio", "GraycatTasksFailing", "GraycatBrokerDown"}
GRAVE |= {"GraycatUnreachable"}
#: What a missing engine means for those who wait.
TROUBLE = {"GraycatQueueUnserved", "GraycatEngineDown"}


@pytest.fixture(scope="module")
def watched(new_home: NewHome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Yield a stack with all that watches it."""
    program("prometheus", "prometheus")
    with run_watched(new_home("watched"), tmp_path_factory.mktemp("watching")) as found:
        yield found


def without_data(watched: Watched, asked: list[tuple[str, str]]) -> list[str]:
    """Have the stack work until every query has data; return the panels that have none in time."""
    left = dict(enumerate(asked))

    def all_answered() -> bool:
        load(watched.stack)
        for number, (_, expr) in list(left.items()):
            if watched.prometheus.query(expr):
                del left[number]
        return not left

    with contextlib.suppress(AssertionError):
        eventually(all_answered, SEEN_S)
    return sorted({panel for panel, _ in left.values()})


def test_every_panel_has_data_while_the_stack_works(watched: Watched) -> None:
    absent = (NVIDIA, CELERY)
    asked = [(panel, expr) for panel, expr in queries(WINDOW) if not any(word in expr for word in absent)]
    assert len(asked) > 80
    assert without_data(watched, asked) == []


def test_every_panel_of_celery_has_data(watched: Watched) -> None:
    if "exporter" not in watched.stack.commands:
        assert not IN_CI, "run make exporter first"
        pytest.skip("the Celery exporter is not installed: make exporter")
    asked = [(panel, expr) for panel, expr in queries(WINDOW) if CELERY in expr]
    assert len(asked) > 10
    assert without_data(watched, asked) == []


def test_every_metric_that_is_named_exists(watched: Watched) -> None:
    documented = {line for line in (FOLDER / "names.txt").read_text().splitlines() if line and line[0] != "#"}
    assert all(name.startswith((NVIDIA, CELERY)) for name in documented)
    absent = (NVIDIA,) if "exporter" in watched.stack.commands else (NVIDIA, CELERY)
    there = watched.prometheus.names() | {name for name in documented if name.startswith(absent)}
    families = {SUFFIX.sub("", name) for name in there}
    # Counters of what has not happened have no sample; that they are declared is in their own list.
    declared = (FOLDER.parent / "docs" / "monitoring.md").read_text()
    missing = {name for name in all_named() if SUFFIX.sub("", name) not in families and f"`{name}`" not in declared}
    assert missing == set()
    assert documented <= all_named(), "names.txt names what nobody asks for"


def test_a_fleet_that_serves_wakes_nobody(watched: Watched) -> None:
    load(watched.stack)
    assert GRAVE & set(watched.prometheus.firing()) == set()
    assert watched.prometheus.value('graycat_queue_consumers{queue="llm"}') == 1
    batch = {"name": "watched", "items": [PROMPT], "defaults": {"width": 64, "height": 64, "steps": 1}}
    assert watched.stack.client().post("/batches", batch).ok
    eventually(lambda: watched.prometheus.value('max(graycat_batches{state="succeeded"})') == 1, SEEN_S)
    assert watched.prometheus.value("max(graycat_gpu_temperature_celsius)") == 61


@contextmanager
def engine_gone(stack: Stack) -> Iterator[None]:
    """Kill the engine for the block; another process holds its port, so that it cannot be started again."""
    pid = stack.engine_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

        def held() -> bool:
            try:
                holder.bind(("127.0.0.1", stack.llm_port))
            except OSError:
                return False
            return True

        eventually(held, ALERT_S, every_s=0.005)
        holder.listen()
        yield


def test_a_killed_engine_with_work_waiting_fires_and_resolves(watched: Watched) -> None:
    prometheus = watched.prometheus
    with ThreadPoolExecutor() as pool:
        with engine_gone(watched.stack):
            # Sent before the worker has noticed, it would go to who holds the port.
            eventually(lambda: not watched.stack.ready(), ALERT_S)
            waiting = pool.submit(completion, watched.stack.client())
            eventually(lambda: set(prometheus.firing()) >= TROUBLE | {"GraycatEngineCrashLoop"}, ALERT_S)
            alert = prometheus.firing()["GraycatQueueUnserved"]
            assert (alert["labels"]["queue"], alert["labels"]["severity"]) == ("llm", "critical")
            assert alert["annotations"]["summary"] == "Nobody consumes llm"
            served = 'min by (queue) (clamp_max(max by (queue) (graycat_queue_consumers{queue="llm"}), 1))'
            assert prometheus.value(served) == 0
            assert not waiting.done()
        assert waiting.result(ALERT_S).ok
    # An engine's failures are forgiven after a minute, so its crash loop is over later.
    eventually(lambda: not TROUBLE & set(prometheus.firing()), ALERT_S)
    assert prometheus.value("sum(graycat_engine_starts_total)") >= 3  # text twice, images once
    phone = watched.phone
    eventually(lambda: ("GraycatQueueUnserved", "resolved") in phone.told, ALERT_S)
    assert ("GraycatQueueUnserved", "firing") in phone.told
    assert ("GraycatEngineCrashLoop", "firing") in phone.told


def test_a_certificate_that_ends_in_two_days_is_told_of_and_the_way_in_is_open(watched: Watched) -> None:
    prometheus = watched.prometheus
    eventually(lambda: "GraycatCertificateEnds" in prometheus.firing(), ALERT_S)
    assert prometheus.firing()["GraycatCertificateEnds"]["labels"]["instance"] == watched.outside
    assert prometheus.value("min(probe_success)") == 1


def test_what_stands_still_unseen_is_told_and_so_is_its_end(watched: Watched) -> None:
    stack, prometheus, phone = watched.stack, watched.prometheus, watched.phone
    unseen = {"GraycatBeatDown", "GraycatControlDown", "GraycatDiskFull", "GraycatWebhooksPending"}
    schedule = {"name": "nightly", "cron": "0 3 * * *", "spec": {"name": "nightly", "items": [PROMPT]}}
    assert stack.client().post("/schedules", schedule).ok
    assert not unseen & set(prometheus.firing())
    # Halted, they are not started again; to the others they are gone.
    stack.send_signal("beat", signal.SIGSTOP)
    stack.send_signal("control", signal.SIGSTOP)
    tell_disk(watched.folder, 5)
    # What the control worker would settle within a moment.
    told = {f"task-{number} done": time.time() * 1000 for number in range(101)}
    stack.redis().zadd(DELIVERIES, told)
    eventually(lambda: set(prometheus.firing()) >= unseen, ALERT_S)
    eventually(lambda: {name for name, state in phone.told if state == "firing"} >= unseen, ALERT_S)

    sign_certificate(watched.folder / "tls", 90)
    tell_disk(watched.folder, 50)
    stack.send_signal("beat", signal.SIGCONT)
    stack.send_signal("control", signal.SIGCONT)
    unseen.add("GraycatCertificateEnds")
    eventually(lambda: {name for name, state in phone.told if state == "resolved"} >= unseen, 2 * ALERT_S)
    assert not unseen & set(prometheus.firing())


def test_one_trace_goes_from_the_request_to_the_engine(watched: Watched) -> None:
    client, collector = watched.stack.client(), watched.collector
    request_id = uuid4().hex
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "X-Request-ID": request_id}
    answer = client.post("/completion", {"prompt": PROMPT, "n_predict": 4, "stream": True}, headers=headers)
    assert answer.ok
    names = {"POST /completion", "wait llm", "llm.completion"}
    eventually(lambda: len([span for span in collector.spans if span.trace == TRACE]) >= 4, ALERT_S)
    spans = [span for span in collector.spans if span.trace == TRACE]
    assert {span.name for span in spans} == names
    request = next(span for span in spans if span.parent == SPAN)
    wait, attempt = (next(span for span in spans if span.name == name) for name in ("wait llm", "llm.completion"))
    call = next(span for span in spans if span.parent == attempt.id)
    assert (request.name, request.service) == ("POST /completion", "graycat-web")
    assert wait.parent == attempt.parent == request.id
    assert (call.name, call.service, call.attributes["graycat.engine"]) == (
        "POST /completion",
        "graycat-worker",
        "xllamacpp",
    )
    assert request.begin <= attempt.begin <= call.begin <= call.end <= attempt.end
    # Milliseconds of the broker's clock.
    assert wait.end - attempt.begin < 1_000_000_000
    assert attempt.events == ("first event",)
    assert {span.attributes.get("graycat.request_id") for span in (request, wait, attempt)} == {request_id}
    assert watched.stack.record(request_id)["traceparent"].split("-")[1:3] == [TRACE, request.id]


def test_no_trace_tells_what_was_said(watched: Watched) -> None:
    load(watched.stack)
    assert watched.collector.raw
    assert not any(PROMPT.encode() in message or watched.stack.token.encode() in message
                   for message in watched.collector.raw)  # fmt: skip


def test_without_the_token_nobody_reads_metrics(watched: Watched) -> None:
    assert requests.get(f"{watched.stack.url}/metrics", timeout=10).status_code == 401
