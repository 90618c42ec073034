"""The stack under load, a real Prometheus with our rules over it, and an engine that is killed: what operators see."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from graycat.metrics.endpoint import PLACES
from tests.collector import Collector, collecting
from tests.conftest import NewHome
from tests.nvml import build_nvml
from tests.processes import eventually
from tests.programs import IN_CI, program
from tests.prometheus import WINDOW, Programs, Prometheus
from tests.stack import ROOT, Client, Stack, free_ports, running
from tests.unit.monitoring.watching import FOLDER, SUFFIX, all_named, queries

EXPORTER = ROOT / ".venv-exporter" / "bin" / "python"
METRICS_TOKEN = "a-token-of-the-scraper"
PROMPT = "Nobody shall read this in a trace:"
#: Seconds until everything has been read a few times, and until an alert has fired or gone.
SEEN_S, ALERT_S = 30.0, 30.0
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

#: Not there yet; what is exported is taken off this list.
TO_COME = {"graycat_batch_items", "graycat_batch_late", "graycat_batches"}
#: Kinds of metrics whose exporters cannot run here.
ELSEWHERE = ("nvidia_smi_", "probe_")
#: Metrics of the Celery exporter, which is not installed everywhere.
CELERY = "celery_"
#: What would wake somebody for good reason.
GRAVE = {"GraycatWebDown", "GraycatQueueUnserved", "GraycatErrorRatio", "GraycatTasksFailing", "GraycatBrokerDown"}
#: What a missing engine means for those who wait.
TROUBLE = {"GraycatQueueUnserved", "GraycatEngineDown"}


class Watched:
    """A stack that is watched."""

    def __init__(self, stack: Stack, prometheus: Prometheus, collector: Collector) -> None:
        self.stack = stack
        self.prometheus = prometheus
        self.collector = collector
        #: What cannot be asked for here.
        self.absent = ELSEWHERE if stack.commands.get("exporter") else (*ELSEWHERE, CELERY)


def metrics_port() -> int:
    """Return a port behind which those of all workers are free."""

    def free(port: int) -> bool:
        with ExitStack() as probes:
            for place in PLACES.values():
                probe = probes.enter_context(socket.socket())
                if probe.connect_ex(("127.0.0.1", port + place)) == 0:
                    return False
        return True

    return next(port for port in free_ports(20) if port < 65000 and free(port))


def exporters(programs: Programs, stack: Stack) -> dict[str, list[str]]:
    """Start the exporters that can run here; return their jobs' targets."""
    redis, node = (f"127.0.0.1:{port}" for port in free_ports(2))
    name = program("prometheus-redis-exporter", "prometheus-redis-exporter")
    address = f"unix://{stack.settings.broker_socket.resolve()}"
    programs.start([name, f"--redis.addr={address}", f"--web.listen-address={redis}", "--include-system-metrics"])
    name = program("prometheus-node-exporter", "prometheus-node-exporter")
    collectors = ("cpu", "meminfo", "filesystem")
    options = ["--collector.disable-defaults", *(f"--collector.{collector}" for collector in collectors)]
    programs.start([name, f"--web.listen-address={node}", *options])
    return {"redis": [redis], "node": [node]}


@pytest.fixture(scope="module")
def watched(new_home: NewHome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Yield a stack with text and images on a GPU that pretends to be one, its traces collected, and Prometheus."""
    program("prometheus", "prometheus")
    port = metrics_port()
    programs = Programs()
    with ExitStack() as all_of_it:
        collector = all_of_it.enter_context(collecting())
        env = {"RUN_SD": "true", "LLM_GPUS": "0", "FAKE_GPUS": "1", "GRAYCAT_KEEPALIVE_S": "1"}
        env |= {"LD_LIBRARY_PATH": str(build_nvml(tmp_path_factory.mktemp("nvml")))}
        env |= {"GRAYCAT_METRICS_TOKEN": METRICS_TOKEN, "GRAYCAT_METRICS_PORT": str(port)}
        env |= {"GRAYCAT_TRACES_URL": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        (celery,) = free_ports(1)
        # Where it is missing, its own test says so.
        env |= {"GRAYCAT_EXPORTER": str(EXPORTER.exists()).lower(), "EXPORTER_PORT": str(celery)}
        stack = all_of_it.enter_context(running(Stack(new_home("watched"), env=env)))
        all_of_it.callback(programs.stop)
        targets = {"graycat-web": [f"127.0.0.1:{stack.port}"]}
        targets["graycat-worker"] = [f"127.0.0.1:{port + place}" for place in PLACES.values()]
        targets |= exporters(programs, stack)
        if "exporter" in stack.commands:
            targets["celery"] = [f"127.0.0.1:{celery}"]
        prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), programs, METRICS_TOKEN, targets)
        prometheus.wait()
        yield Watched(stack, prometheus, collector)


def completion(client: Client, **changes: Any) -> requests.Response:
    """Ask for a few tokens."""
    return client.post("/completion", {"prompt": PROMPT, "n_predict": 8, "temperature": 0} | changes)


def load(stack: Stack) -> None:
    """Have one of everything done: text whole and streamed, a hang-up, images, short calls."""
    client = stack.client()
    assert completion(client).ok
    assert completion(client, stream=True).ok
    with client.post("/completion", {"prompt": PROMPT, "n_predict": 400, "ignore_eos": True, "stream": True},
                     stream=True) as response:  # fmt: skip
        next(response.iter_content(64))
    assert client.post("/tokenize", {"content": PROMPT}).ok
    assert client.post("/sdapi/v1/txt2img", {"prompt": PROMPT, "width": 64, "height": 64, "steps": 2}).ok


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
    absent = (*ELSEWHERE, CELERY, *TO_COME)
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
    assert all(name.startswith((*ELSEWHERE, CELERY)) for name in documented)
    there = watched.prometheus.names() | {name for name in documented if name.startswith(watched.absent)}
    families = {SUFFIX.sub("", name) for name in there}
    # Counters of what has not happened have no sample; that they are declared is in their own list.
    declared = (FOLDER.parent / "docs" / "monitoring.md").read_text()
    missing = {name for name in all_named() if SUFFIX.sub("", name) not in families and f"`{name}`" not in declared}
    assert missing == TO_COME
    assert documented <= all_named(), "names.txt names what nobody asks for"


def test_a_fleet_that_serves_wakes_nobody(watched: Watched) -> None:
    load(watched.stack)
    assert GRAVE & set(watched.prometheus.firing()) == set()
    assert watched.prometheus.value('graycat_queue_consumers{queue="llm"}') == 1
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


def test_without_the_token_nobody_reads_metrics(watched: Watched, tmp_path: Path) -> None:
    assert requests.get(f"{watched.stack.url}/metrics", timeout=10).status_code == 401
