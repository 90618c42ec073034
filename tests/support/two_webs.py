"""A stack with two web servers on one broker: what becomes of clients when one of them dies, ends or is replaced."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path
from typing import Any

import requests

from tests.support.processes import eventually, parent_of
from tests.support.stack import START_S, free_ports
from tests.support.supervised import Supervised

#: Seconds that the first web server gets to end, and the second: far longer than a stream takes.
GRACE_S, LONG_GRACE_S = 2.0, 40.0


class TwoWebs(Supervised):
    """Broker, worker and two web servers, whose processes nobody restarts. The second is called ``other``."""

    def __init__(self, home: Path, options: str, **env: str) -> None:
        super().__init__(home, options, GRAYCAT_STOP_GRACE_S=str(GRACE_S), **env)
        (self.other_port,) = free_ports(1)
        self.other_url = f"http://127.0.0.1:{self.other_port}"
        self.other_token = "other-" + os.urandom(12).hex()
        self.set_env({"API_TOKENS": f"tests:{self.token},other:{self.other_token}"})

    def begin(self) -> None:
        """Start all but the worker."""
        super().begin()
        self.set_env({"PORT": str(self.other_port), "GRAYCAT_STOP_GRACE_S": str(LONG_GRACE_S)})
        self.launch("other", "graycat web")
        self.set_env({"PORT": str(self.port), "GRAYCAT_STOP_GRACE_S": str(GRACE_S)})
        eventually(lambda: answers(self.other_url), START_S)

    def start_again(self, *names: str) -> None:
        """Start parts that have ended; returns when the first web server answers."""
        for name in names:
            self.launch(name)
        eventually(lambda: answers(self.url), START_S)

    def signal_group(self, name: str, number: int) -> None:
        """Send a process and its children a signal at once; after SIGKILL, returns when it is gone."""
        os.killpg(self._popen[name].pid, number)
        if number == signal.SIGKILL:
            self._popen[name].wait(START_S)

    def serving(self) -> set[int]:
        """Return the processes of the second web server."""
        found = set()
        for pid, line in self.command_lines().items():
            # The process is gone since it was listed.
            with contextlib.suppress(OSError):
                environ = Path(f"/proc/{pid}/environ").read_bytes()
                if line.endswith("graycat web") and f"PORT={self.other_port}\0".encode() in environ:
                    found.add(pid)
        return found

    def child_of_other(self) -> int:
        """Return the process of the second web server that serves; it is a child of gunicorn's first one."""
        return next(pid for pid in self.serving() if parent_of(pid) == self._popen["other"].pid)

    def running(self) -> int:
        """Return how many generations the engine works on."""
        return int(self.engine().get("/stats").json()["running"])

    def submit(self, name: str, tokens: int, **fields: Any) -> str:
        """Submit a completion under a name at the first web server, or again; return its id in the broker."""
        body = {"kind": "llm.completion", "input": {"prompt": name, "n_predict": tokens, **fields}}
        answer = self.client().request("PUT", f"/tasks/{name}", json=body, headers={"X-Request-ID": name})
        assert answer.status_code in (200, 202), answer.text
        return self.task_id(name)


def answers(url: str) -> bool:
    """Return whether a web server answers."""
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"{url}/health", timeout=2).ok
    return False


class Prober:
    """Asks a web server without a pause while the block runs, each time on a new connection."""

    def __init__(self, url: str) -> None:
        self.failures: list[str] = []
        self.count = 0
        self._url = url
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Prober:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(START_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                answer = requests.get(f"{self._url}/health", timeout=START_S, headers={"Connection": "close"})
            except requests.RequestException as error:
                self.failures.append(str(error))
            else:
                self.count += 1
                if not answer.ok:
                    self.failures.append(str(answer.status_code))
            self._stopping.wait(0.02)
