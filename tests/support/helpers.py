"""What the unit tests share: waiting, a Valkey that can be killed, and tasks to play with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from graycat.cli.broker import accepts_commands, create_private_folder
from graycat.engines.process.child import ChildProcess
from graycat.queue import ids
from graycat.queue.events import CHUNK
from graycat.queue.models import Attempt, NewTask
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from tests.support.broker import BrokerClient, connect_client, server_command
from tests.support.ports import free_port as free_port

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a-secret-of-the-tests"
BEARER = {"Authorization": f"Bearer {SECRET}"}

#: Seconds that anything gets which takes milliseconds on an idle machine, and a process of ours a second or two.
PATIENCE_S = 60.0
#: What "at once" may take while the machine is busy, of a wait that otherwise lasts ten seconds or more.
AT_ONCE_S = 5.0
#: The same of what would otherwise try again to reach a broker that is away.
UNTRIED_S = 0.8


def eventually(predicate: Callable[[], T], timeout_s: float = PATIENCE_S) -> T:
    """Return what ``predicate`` returns once that is true. Raises AssertionError when it is not in time."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"not so within {timeout_s:g} s"
        pause.wait(0.005)
    return value


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started


def in_background(action: Callable[[], Any]) -> threading.Thread:
    """Run ``action`` in a thread; who calls joins it."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def outcome_of(action: Callable[[], T]) -> Callable[[], T]:
    """Run ``action`` in a thread; return how to wait for its result, or for what it raises."""
    results: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(action())
        except Exception as error:  # noqa: BLE001 (raised again in the test's thread)
            errors.append(error)

    thread = in_background(run)

    def wait() -> T:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), f"not done within {PATIENCE_S:g} s"
        if errors:
            raise errors[0]
        return results[0]

    return wait


def run(command: list[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout to its end."""
    return subprocess.run(command, check=False, timeout=PATIENCE_S, cwd=ROOT, env=env, capture_output=True, text=True)


class Valkey:
    """The embedded broker as ``graycat broker`` runs it, in a home of its own."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, api_tokens=f"tests:{SECRET}")
        folder = create_private_folder(home / "broker")
        create_private_folder(self.settings.broker_socket.parent)
        self._process = ChildProcess(server_command(folder, self.settings.broker_socket), folder / "valkey.log")
        self.client = connect_client(self.settings)

    def start(self) -> None:
        """Start it; returns when it answers."""
        self._process.start()
        eventually(lambda: accepts_commands(self.client))

    def kill(self) -> None:
        """Kill it as a power cut would; returns when it is gone."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.stop()

    def alive(self) -> bool:
        """Return whether it runs."""
        return self._process.alive()

    def stop(self) -> None:
        """Stop it and take its data away."""
        self.client.close()
        self._process.stop()
        shutil.rmtree(self.settings.home / "broker")


def changed(settings: Settings, **changes: Any) -> Settings:
    """Return ``settings`` with some of them changed."""
    return replace(settings, **changes)


def new_task(**changes: Any) -> NewTask:
    """Return a task that no record knows yet."""
    kind = changes.get("kind", "llm.completion")
    task = NewTask(
        id=ids.new_task_id(kind),
        kind=kind,
        mode="stream",
        queue="llm",
        body=b'{"prompt":"Hi","stream":true}',
        owner="tests",
        channel="",
        request_id="r-1",
    )
    return replace(task, **changes)


def accepted(records: TaskRecords, **changes: Any) -> str:
    """Create a task; return its id."""
    task = new_task(**changes)
    assert records.create(task, message_of(task.id))
    return task.id


def message_of(task_id: str) -> bytes:
    """Return as much of a Celery message as tells whose it is."""
    return json.dumps({"headers": {"id": task_id}}).encode()


def claimed(records: TaskRecords, task_id: str, worker: str = "llm@here") -> Attempt:
    """Claim a task that may be claimed."""
    attempt = records.claim(task_id, worker)
    assert isinstance(attempt, Attempt), attempt
    return attempt


def started(records: TaskRecords, **changes: Any) -> Attempt:
    """Create a task and claim it."""
    return claimed(records, accepted(records, **changes))


def chunks(records: TaskRecords, task_id: str) -> list[bytes]:
    """Return the engine's events that a task has published."""
    return [event.data for event in records.events(task_id) if event.kind == CHUNK]


def kinds(records: TaskRecords, task_id: str) -> list[str]:
    """Return the kinds of a task's events, oldest first."""
    return [event.kind for event in records.events(task_id)]


def reads_of_streams(client: BrokerClient) -> Counter[str]:
    """Return how often streams were read so far, by the command."""
    stats = client.info("commandstats")
    return Counter({name: stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("xrange", "xrevrange")})


def sse(*contents: str, stop: bool = True) -> list[bytes]:
    """Return an engine's events that say ``contents``, the last one final."""
    flags = ["false"] * (len(contents) - 1) + ["true" if stop else "false"]
    pairs = zip(contents, flags, strict=True)
    return [f'data: {{"content":"{content}","stop":{flag}}}\n\n'.encode() for content, flag in pairs]


def joined(batches: Iterable[list[bytes]]) -> list[bytes]:
    """Return the events of all batches."""
    return [event for batch in batches for event in batch]
