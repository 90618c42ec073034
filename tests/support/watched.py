"""A running stack with all that watches it: Prometheus, Alertmanager, the exporters, a collector of traces."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

from graycat.queue.topology import WORKER_KINDS
from tests.support import nvml
from tests.support.boxes import certificates
from tests.support.collector import Collector, collecting
from tests.support.programs import program
from tests.support.prometheus import ALERTMANAGER, Programs, Prometheus
from tests.support.stack import ROOT, Client, Stack, free_metrics_port, free_ports, running
from tests.support.tlsproxy import tls_proxy

#: Where ``make exporter`` installs the Celery exporter.
EXPORTER = ROOT / ".venv-exporter" / "bin" / "python"
METRICS_TOKEN = "a-token-of-the-scraper"
PROMPT = "Nobody shall read this in a trace:"


@dataclass
class Phone:
    """Whom Alertmanager tells: what has arrived, as (alert, firing or resolved), oldest first."""

    url: str = ""
    told: list[tuple[str, str]] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        """Read one message."""
        self.told += [(alert["labels"]["alertname"], alert["status"]) for alert in json.loads(body)["alerts"]]


@dataclass
class Watched:
    """A stack that is watched."""

    stack: Stack
    prometheus: Prometheus
    collector: Collector
    phone: Phone
    #: What games call from outside, with a certificate.
    outside: str
    #: Where that certificate lies, and what the node exporter says of a disk that is not there.
    folder: Path


@contextmanager
def phone() -> Iterator[Phone]:
    """Run who is told, for the block."""
    found = Phone()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_address[1]}/"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def tell_disk(folder: Path, available: int) -> None:
    """Have the node exporter tell of a disk of 100 bytes more, with so many left."""
    labels = '{device="/dev/small",fstype="ext4",mountpoint="/small"}'
    lines = []
    for name, text, value in (
        ("avail", "Filesystem space available to non-root users in bytes.", available),
        ("size", "Filesystem size in bytes.", 100),
    ):
        metric = f"node_filesystem_{name}_bytes"
        lines += [f"# HELP {metric} {text}", f"# TYPE {metric} gauge", f"{metric}{labels} {value}"]
    new = folder / "disk.new"
    new.write_text("\n".join(lines) + "\n")
    new.replace(folder / "disk.prom")


def exporters(programs: Programs, stack: Stack, ca: Path) -> dict[str, list[str]]:
    """Start the exporters that can run here; return their jobs' targets."""
    redis, node, prober = (f"127.0.0.1:{port}" for port in free_ports(3))
    name = program("prometheus-redis-exporter", "prometheus-redis-exporter")
    address = f"unix://{stack.settings.broker_socket.resolve()}"
    programs.start([name, f"--redis.addr={address}", f"--web.listen-address={redis}", "--include-system-metrics"])
    name = program("prometheus-node-exporter", "prometheus-node-exporter")
    collectors = ("cpu", "meminfo", "filesystem")
    options = ["--collector.disable-defaults", *(f"--collector.{collector}" for collector in collectors)]
    options += ["--collector.textfile", f"--collector.textfile.directory={ca.parent.parent}"]
    programs.start([name, f"--web.listen-address={node}", *options])
    name = program("prometheus-blackbox-exporter", "prometheus-blackbox-exporter")
    config = f"--config.file={ROOT}/monitoring/blackbox/blackbox.yml"
    programs.start([name, config, f"--web.listen-address={prober}"], {"SSL_CERT_FILE": str(ca)})
    return {"redis": [redis], "node": [node], "prober": [prober]}


def alertmanager(programs: Programs, folder: Path, told: Phone) -> str:
    """Start Alertmanager with our routes, in a hurry; return its address."""
    text = (ALERTMANAGER / "alertmanager.yml").read_text()
    text = text.replace("url_file: /run/secrets/alert-webhook", f"url: {told.url}")
    for slow, fast in (
        ("15s", "1s"),
        ("group_wait: 30s", "group_wait: 1s"),
        ("group_interval: 5m", "group_interval: 1s"),
    ):
        assert slow in text
        text = text.replace(slow, fast)
    (folder / "alerting.yml").write_text(text)
    (port,) = free_ports(1)
    name = program("prometheus-alertmanager", "prometheus-alertmanager")
    options = [f"--config.file={folder}/alerting.yml", f"--storage.path={folder}/alerts", "--log.level=warn"]
    programs.start([name, *options, f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="])
    return f"127.0.0.1:{port}"


@contextmanager
def watched(home: Path, folder: Path) -> Iterator[Watched]:
    """Run a stack with text, images, Flower and a GPU that pretends to be one, and all that watches it."""
    metrics, (celery, flower) = free_metrics_port(), free_ports(2)
    (folder / "nvml").mkdir()
    ca, certificate = certificates(folder / "tls")
    programs = Programs()
    with ExitStack() as all_of_it:
        collector, told = all_of_it.enter_context(collecting()), all_of_it.enter_context(phone())
        env = {"RUN_SD": "true", "LLM_GPUS": "0", "FAKE_GPUS": "1", "GRAYCAT_KEEPALIVE_S": "1"}
        # A request waits until alerts have fired.
        env |= {"GRAYCAT_QUEUE_TTL_S": "600"}
        env |= nvml.build(folder / "nvml")
        env |= {"GRAYCAT_METRICS_TOKEN": METRICS_TOKEN, "GRAYCAT_METRICS_PORT": str(metrics)}
        env |= {"GRAYCAT_TRACES_URL": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        env |= {"GRAYCAT_FLOWER": "true", "FLOWER_PORT": str(flower), "EXPORTER_PORT": str(celery)}
        # Where it is missing, its own test says so.
        env |= {"GRAYCAT_EXPORTER": str(EXPORTER.exists()).lower()}
        stack = all_of_it.enter_context(running(Stack(home, env=env)))
        all_of_it.callback(programs.stop)
        outside = f"https://127.0.0.1:{all_of_it.enter_context(tls_proxy(certificate, stack.port))}/health"
        targets = {"graycat-web": [f"127.0.0.1:{stack.port}"], "outside": [outside]}
        targets["graycat-worker"] = [f"127.0.0.1:{metrics + kind.metrics_offset}" for kind in WORKER_KINDS.values()]
        targets |= exporters(programs, stack, ca)
        if EXPORTER.exists():
            targets["celery"] = [f"127.0.0.1:{celery}"]
        targets["alertmanager"] = [alertmanager(programs, folder, told)]
        prometheus = Prometheus(folder, programs, METRICS_TOKEN, targets)
        prometheus.wait()
        yield Watched(stack, prometheus, collector, told, outside, folder)


def completion(client: Client, **changes: Any) -> requests.Response:
    """Ask for a few tokens."""
    return client.post("/completion", {"prompt": PROMPT, "n_predict": 8, "temperature": 0} | changes)


def load(stack: Stack) -> None:
    """Have one of everything done: text whole and streamed, a hang-up, images, short calls."""
    client = stack.client()
    assert completion(client).ok
    assert completion(client, stream=True).ok
    long = {"prompt": PROMPT, "n_predict": 400, "ignore_eos": True, "stream": True}
    with client.post("/completion", long, stream=True) as response:
        next(response.iter_content(64))
    assert client.post("/tokenize", {"content": PROMPT}).ok
    assert client.post("/sdapi/v1/txt2img", {"prompt": PROMPT, "width": 64, "height": 64, "steps": 2}).ok
