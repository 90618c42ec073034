"""pytest-celery's nodes over graycat's own processes, so that its fixtures work on a machine without Docker.

A node of pytest-celery wraps a container, of which it uses a few methods only. ``ProcessContainer`` has these methods
and is one process of a stack. pytest-celery's own classes for containers are not used: they would ask a Docker daemon.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
from typing import Any

from pytest_celery import CeleryTestSetup

from graycat.broker.client import connect
from graycat.queue import kinds
from graycat.queue.messages import MessageFactory
from graycat.queue.records import TaskRecords
from graycat.queue.topology import CONTROL, LLM, LLM_QUICK
from tests.support.helpers import new_task
from tests.support.processes import eventually
from tests.support.stack import ROOT, START_S, STOP_S, Stack

#: What each process prints when it does its work.
READY_LINES = {
    "broker": "broker: ready at",
    "llm": "graycat.worker.gate ready",
    "quick": "graycat.worker.gate ready",
    "control": "graycat.worker.control ready",
}
#: The queue from which each kind of worker takes first.
QUEUES = {"llm": LLM, "quick": LLM_QUICK, "control": CONTROL}
#: Seconds that a task of one token may take, on a machine that is busy.
ANSWER_S = 90.0


class ProcessContainer:
    """One process of a stack, with the methods and attributes that pytest-celery uses of a container."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.stack = stack
        self.name = name
        #: pytest-celery makes a worker's Celery name of ``worker_name()`` and this.
        self.id = stack.env.get("GRAYCAT_BOX", name)

    @property
    def status(self) -> str:
        """Return "running" or "exited", as Docker does."""
        return "running" if self.stack.alive(self.name) else "exited"

    @property
    def celeryconfig(self) -> dict[str, Any]:
        """Return the broker's address as kombu writes it; on one machine it is the same for workers and tests."""
        url = self.stack.settings.broker_url.replace("unix://", "redis+socket://", 1)
        return {"url": url, "host_url": url, "hostname": "localhost", "port": 0, "vhost": "0"}

    def worker_name(self) -> str:
        """Return a worker's name without its host."""
        return self.name

    def worker_queue(self) -> str:
        """Return the queue from which a worker takes first."""
        return QUEUES[self.name]

    def start(self) -> None:
        """Start the process, unless it runs; return when it is ready."""
        if self.status == "exited":
            self.stack.launch(self.name)
        self.ready()

    def ready(self) -> bool:
        """Wait until the process is ready. Raises AssertionError if it ends or takes too long."""
        self.stack.outputs[self.name].wait_for(READY_LINES[self.name], START_S)
        return True

    def logs(self) -> str:
        """Return what the process has printed since its last start."""
        return self.stack.outputs[self.name].text

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """Send a signal. After SIGKILL, return when the process is gone."""
        self.stack.send_signal(self.name, signal_number(signal))

    def reload(self) -> None:
        """Do nothing: ``status`` asks the process itself."""

    def stop(self, timeout: float = STOP_S) -> None:
        """End the process as its supervisor would; return when it is gone."""
        if self.status == "running":
            self.kill("SIGTERM")
            self.stack.wait(self.name, timeout)

    def restart(self, timeout: float = STOP_S) -> None:
        """Stop the process if it runs, and start it; return when it is ready."""
        self.stop(timeout)
        self.start()

    def exec_run(self, cmd: str) -> tuple[int, bytes]:
        """Run a command in the environment of the process; return its exit status and its output."""
        words = shlex.split(cmd)
        done = subprocess.run(words, cwd=ROOT, env=self.stack.env, check=False, capture_output=True, timeout=START_S)
        return done.returncode, done.stdout + done.stderr

    def teardown(self) -> None:
        """Do nothing: the stack ends its processes, and looks whether any of them is left."""


def signal_number(name: str | int) -> int:
    """Return the number of a signal that is given by its name or its number."""
    return name if isinstance(name, int) else signal.Signals[name]


class GraycatSetup(CeleryTestSetup):
    """A setup whose ping is a task of graycat: answers travel in a task's events, there is no result backend."""

    def ready(self, ping: bool = False, control: bool = False, docker: bool = True) -> bool:
        """Return whether all nodes are ready; ``ping`` has each worker with an engine finish a task."""
        return bool(super().ready(ping=False, control=control, docker=docker)) and (not ping or self.finishes_tasks())

    def finishes_tasks(self) -> bool:
        """Return whether each worker with an engine finishes a task that is put on its queue."""
        pings = {LLM: self.submit, LLM_QUICK: self.submit_quick_call}
        queues = [worker.worker_queue for worker in self.worker_cluster]
        return all(self.finish(pings[queue]()) for queue in queues if queue in pings)

    @property
    def _stack(self) -> Stack:
        stack: Stack = self.broker.container.stack
        return stack

    def submit(self, tokens: int = 1, prompt: str = "Hi") -> str:
        """Put a completion on its queue, as the web server does: engines always stream. Return its id."""
        return self._create(kinds.COMPLETION, kinds.GATHER, {"prompt": prompt, "n_predict": tokens, "stream": True})

    def submit_quick_call(self) -> str:
        """Put a call that needs no slot of the engine on its queue; return its id."""
        return self._create(kinds.TOKENIZE, kinds.PLAIN, {"content": "Hi"})

    def _create(self, kind: kinds.Kind, mode: str, body: dict[str, Any]) -> str:
        settings = self.app.settings
        task = new_task(kind=kind.name, queue=kind.queue, mode=mode, body=json.dumps(body).encode())
        client = connect(settings)
        try:
            assert TaskRecords(client, settings).create(task, MessageFactory(self.app).make(kind.name, task.id))
        finally:
            client.close()
        return task.id

    def record(self, task_id: str) -> dict[str, str]:
        """Return a task's record."""
        fields: dict[str, str] = self._stack.redis().hgetall(f"graycat:task:{task_id}")
        return fields

    def wait_for_state(self, task_id: str, state: str, timeout_s: float = ANSWER_S) -> dict[str, str]:
        """Return a task's record when it is in this state."""
        eventually(lambda: self.record(task_id).get("state") == state, timeout_s)
        return self.record(task_id)

    def finish(self, task_id: str) -> bool:
        """Return whether a task succeeds; wait for it."""
        return self.wait_for_state(task_id, "succeeded")["status"] == "200"
