"""Traps: a process dies with SIGKILL at one step of one task, before the step is begun or when it is done.

A step is a command that is sent to the broker, a request to the engine or to a webhook's receiver, or a file that is
written. The harness arms a trap in a file: the marks that tell the task (its id, words of its prompt), and which step
it dies at, by name and number. Without a step, the process only writes down which steps it takes.
"""

from __future__ import annotations

import base64
import json
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

#: Where at a step the process dies; or it is stopped there (SIGSTOP), and goes on when another has taken its work over.
BEFORE, AFTER, STOPPED = "before", "after", "stopped before"
#: The real one: gevent, which is loaded later, makes it tell greenlets apart.
_thread_id = threading.get_ident
#: What a step's name has in place of an id.
_IDS = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16}")
#: Commands that change nothing: a process that dies at one has done all that it had done at the step before.
_READS = frozenset(
    (
        *("GET", "MGET", "EXISTS", "TIME", "INFO", "PING", "HGET", "HMGET", "HGETALL", "HKEYS", "HVALS", "HLEN"),
        *("HSTRLEN", "HEXISTS", "LLEN", "LRANGE", "ZRANGE", "ZREVRANGE", "ZSCORE", "ZMSCORE", "ZCARD"),
        *("ZREVRANGEBYSCORE", "ZRANK"),
        *("XRANGE", "XREVRANGE", "SMEMBERS", "PTTL", "TTL", "TYPE", "SCAN", "PUBSUB", "GETRANGE", "MEMORY"),
        *("SUBSCRIBE", "UNSUBSCRIBE"),
    )
)
_READ_SCRIPTS = frozenset(("queue.position", "status.depths"))


class Trap:
    """What one process does at its steps."""

    def __init__(self, folder: Path, process: str) -> None:
        self._armed, self._sprung = folder / f"{process}.armed", folder / f"{process}.sprung"
        self._log = folder / f"{process}.steps"
        self._lock = threading.Lock()
        self._stamp = 0
        self._marks: set[bytes] = set()
        self._target: tuple[str, int, str] = ("", 0, "")
        self._counts: Counter[str] = Counter()
        #: The names of scripts by their digests.
        self.scripts: dict[str, str] = {}

    def concerns(self, *parts: bytes) -> bool:
        """Return whether one of the parts has a mark of the task."""
        self._read()
        return any(mark in part for part in parts for mark in self._marks)

    def learn(self, mark: bytes) -> None:
        """Take what else tells the task: the id of its record, or its message's tag."""
        self._marks.add(mark)

    def before(self, step: str) -> int:
        """Note that a step is about to be taken; return its number. May not return."""
        step = self._hide_marks(step)
        with self._lock:
            self._counts[step] += 1
            number = self._counts[step]
        self._pass(step, number, BEFORE)
        if (step, number, STOPPED) == self._target:
            self._armed.rename(self._sprung)
            end_here(signal.SIGSTOP)
        return number

    def after(self, step: str, number: int) -> None:
        """Note that a step was taken. May not return."""
        self._pass(self._hide_marks(step), number, AFTER)

    def _hide_marks(self, step: str) -> str:
        # A step has the same name whatever the work is called.
        for mark in self._marks:
            step = step.replace(mark.decode(), "*")
        return step

    def _read(self) -> None:
        try:
            stamp = self._armed.stat().st_mtime_ns
        except OSError:
            self._marks, self._stamp = set(), 0
            return
        if stamp == self._stamp:
            return
        with self._lock:
            if stamp != self._stamp:
                armed = json.loads(self._armed.read_text())
                self._marks = {mark.encode() for mark in armed["marks"]}
                self._target = (armed["step"], armed["number"], armed["side"])
                self._counts.clear()
                self._stamp = stamp

    def _pass(self, step: str, number: int, side: str) -> None:
        if not self._target[0]:
            with self._log.open("a") as log:
                log.write(f"{step}\t{number}\t{side}\n")
        elif (step, number, side) == self._target:
            # The process that is started in its place finds no trap any more.
            self._armed.rename(self._sprung)
            end_here(signal.SIGKILL)


def end_here(number: int) -> None:
    """Send the whole process a signal, which this thread must not outrun: another one might take it first."""
    signal.pthread_kill(_thread_id(), number)


class Traps:
    """The folder of the traps, as the harness sees it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def arm(self, process: str, marks: Sequence[str], step: str = "", number: int = 0, side: str = "") -> None:
        """Have a process die at a step of the work with these marks; without a step it writes its steps down."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for suffix in ("sprung", "steps"):
            (self._folder / f"{process}.{suffix}").unlink(missing_ok=True)
        armed = {"marks": list(marks), "step": step, "number": number, "side": side}
        new = self._folder / f"{process}.new"
        new.write_text(json.dumps(armed))
        new.rename(self._folder / f"{process}.armed")

    def disarm(self, process: str) -> bool:
        """Take a trap away; return whether the process has come to its step."""
        (self._folder / f"{process}.armed").unlink(missing_ok=True)
        return self.has_sprung(process)

    def has_sprung(self, process: str) -> bool:
        """Return whether a process has come to the step of its trap."""
        return (self._folder / f"{process}.sprung").exists()

    def steps(self, process: str) -> list[tuple[str, int, str]]:
        """Return the steps that a process has written down: name, number, side."""
        path = self._folder / f"{process}.steps"
        if not path.exists():
            return []
        rows = [line.split("\t") for line in path.read_text().splitlines()]
        return [(step, int(number), side) for step, number, side in rows]


def name_command(words: Sequence[bytes], scripts: dict[str, str]) -> str:
    """Return the name of the step that sends a command; '' for one that changes nothing."""
    command = words[0].decode(errors="replace").upper()
    if command == "EVALSHA":
        name = scripts.get(words[1].decode(), "a script")
        return "" if name in _READ_SCRIPTS else name
    if command in _READS or len(words) < 2:
        return ""
    return f"{command} {_IDS.sub('*', words[1].decode(errors='replace')).replace(chr(0), ' ')}"


def unpack(data: bytes) -> list[list[bytes]]:
    """Return the commands of a request as it is sent (RESP): lists of words."""
    commands, at = [], 0
    while at < len(data):
        end = data.index(b"\r\n", at)
        words = []
        count, at = int(data[at + 1 : end]), end + 2
        for _ in range(count):
            end = data.index(b"\r\n", at)
            length = int(data[at + 1 : end])
            words.append(data[end + 2 : end + 2 + length])
            at = end + 2 + length + 2
        commands.append(words)
    return commands


def find_parts(value: Any) -> Iterable[bytes]:
    """Yield the texts in a reply."""
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, str):
        yield value.encode()
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from find_parts(part)


def decode_body(words: Sequence[bytes]) -> bytes:
    """Return the body of a message that a command publishes: kombu sends it in base64."""
    try:
        return base64.b64decode(json.loads(words[-1])["body"])
    except (ValueError, KeyError, TypeError):
        return b""


def name_pipeline(commands: Sequence[Sequence[bytes]], scripts: dict[str, str]) -> str:
    """Return the name of the step that sends commands together; '' if none of them changes anything."""
    names = []
    for words in commands:
        name = ""
        if words[0] not in (b"MULTI", b"EXEC"):
            name = name_command(words, scripts)
        if name:
            names.append(name)
    return " + ".join(names)
