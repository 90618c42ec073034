"""What traps watch: the places in redis-py, in graycat's connections and in its clients that steps pass through."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from chaos.hook.traps import Trap, decode_body, find_parts, name_command, name_pipeline, unpack

_TASK_KEY = re.compile(rb"graycat:task:([0-9a-f]{32})")
_IDS = re.compile(r"[0-9a-f]{32}")
#: Celery's events: what operators see of a task, and no part of its way.
_EVENTS = b"celeryev"


def name_request(data: bytes, trap: Trap) -> tuple[str, int]:
    """Return the name of the step that a request over redis-py is, and how many replies it has; '' for none."""
    if _EVENTS in data or not (trap.concerns(data) or b"PUBLISH" in data):
        return "", 0
    commands = unpack(data)
    if not trap.concerns(data, *map(decode_body, commands)):
        return "", 0
    return name_pipeline(commands, trap.scripts), len(commands)


def watch_redis(module: Any, trap: Trap) -> None:
    """Watch what redis-py's connections send and read: kombu's, RedBeat's, and graycat's own."""
    connection = module.AbstractConnection
    send, read = connection.send_packed_command, connection.read_response

    def send_watched(self: Any, command: Any, check_health: bool = True) -> None:
        data = command
        if not isinstance(data, bytes):
            data = b"".join(command)
        step, replies = name_request(data, trap)
        number = 0
        if step:
            number = trap.before(step)
        send(self, command, check_health)
        if step:
            self.chaos_pending = [replies, step, number]

    def read_watched(self: Any, *args: Any, **options: Any) -> Any:
        reply = read(self, *args, **options)
        note_reply(self, trap)
        if isinstance(reply, (list, tuple)) and len(reply) == 2 and isinstance(reply[1], bytes):
            note_taken(reply, trap)
        return reply

    connection.send_packed_command, connection.read_response = send_watched, read_watched


def note_reply(connection: Any, trap: Trap) -> None:
    """Note one of the replies that a connection waits for: behind the last of them, its step was taken."""
    pending = getattr(connection, "chaos_pending", None)
    if pending is None:
        return
    pending[0] -= 1
    if pending[0] <= 0:
        connection.chaos_pending = None
        trap.after(pending[1], pending[2])


def note_taken(reply: Sequence[bytes], trap: Trap) -> None:
    """Note a message that BRPOP has taken from its queue: from now on it is nowhere but here."""
    if not trap.concerns(reply[1]):
        return
    try:
        tag = json.loads(reply[1])["properties"]["delivery_tag"]
    except (ValueError, KeyError, TypeError):
        return
    # It is acknowledged by its tag alone.
    trap.learn(tag.encode())
    step = f"BRPOP {reply[0].decode()}"
    trap.after(step, trap.before(step))


class RawSteps:
    """The commands of one raw connection whose replies are to come."""

    def __init__(self, trap: Trap) -> None:
        self._trap = trap
        self._pending: deque[tuple[str, int, list[bytes]]] = deque()

    def begin(self, commands: Sequence[Sequence[Any]]) -> list[tuple[str, int, list[bytes]]]:
        """Note commands that are about to be sent; return them."""
        steps = []
        for command in commands:
            words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
            step, number = "", 0
            if self._trap.concerns(*words):
                step = name_command(words, self._trap.scripts)
            if step:
                number = self._trap.before(step)
            steps.append((step, number, words))
        return steps

    def sent(self, steps: Sequence[tuple[str, int, list[bytes]]]) -> None:
        """Note that commands were sent."""
        self._pending += steps

    def replied(self, reply: Any) -> None:
        """Note the reply to the oldest command. Of what is pushed without a command, there is nothing to note."""
        if not self._pending:
            return
        step, number, words = self._pending.popleft()
        if not step and self._trap.concerns(*find_parts(reply)):
            # What is claimed under an id that only its record ties to the marks.
            step = name_command(words, self._trap.scripts)
            number = self._trap.before(step) if step else 0
        if step:
            for found in _TASK_KEY.finditer(b" ".join(words)):
                self._trap.learn(found[1])
            self._trap.after(step, number)


def watch_raw_connections(module: Any, trap: Trap) -> None:
    """Watch the raw connections, over which scripts run."""
    raw = module.RawConnection

    def steps_of(connection: Any) -> RawSteps:
        steps: RawSteps = connection.__dict__.setdefault("chaos_steps", RawSteps(trap))
        return steps

    def watch_sending(send: Callable[..., None]) -> Callable[..., None]:
        def send_watched(self: Any, commands: Sequence[Sequence[Any]]) -> None:
            begun = steps_of(self).begin(commands)
            send(self, commands)
            steps_of(self).sent(begun)

        return send_watched

    def watch_reading(read: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        def read_watched(self: Any, *args: Any) -> list[Any]:
            replies = read(self, *args)
            for reply in replies:
                steps_of(self).replied(reply)
            return replies

        return read_watched

    raw.send, raw.send_nowait = watch_sending(raw.send), watch_sending(raw.send_nowait)
    # read_some reads with read_nowait.
    raw.read, raw.read_nowait = watch_reading(raw.read), watch_reading(raw.read_nowait)


def watch_scripts(module: Any, trap: Trap) -> None:
    """Learn the names of scripts."""
    make = module.Scripts.__init__

    def make_named(self: Any, client: Any, folder: Path, names: Sequence[str]) -> None:
        make(self, client, folder, names)
        for name, found in self._digests.items():
            trap.scripts[found] = f"{folder.parent.name}.{name}"

    module.Scripts.__init__ = make_named


def watch_engine_client(module: Any, trap: Trap) -> None:
    """Watch what is asked of an engine."""
    exchange = module.EngineClient._exchange

    def exchange_watched(self: Any, connection: Any, method: str, path: str, body: bytes | None, *more: Any) -> Any:
        if not body or not trap.concerns(body):
            return exchange(self, connection, method, path, body, *more)
        step = f"engine {method} {path}"
        number = trap.before(step)
        response = exchange(self, connection, method, path, body, *more)
        trap.after(step, number)
        return response

    module.EngineClient._exchange = exchange_watched


def watch_webhooks(module: Any, trap: Trap) -> None:
    """Watch what is sent to the receivers of webhooks."""
    post = module.PublicHttpClient.post

    def post_watched(self: Any, target: Any, headers: Any, body: bytes) -> Any:
        if not trap.concerns(body):
            return post(self, target, headers, body)
        number = trap.before("webhook POST")
        status = post(self, target, headers, body)
        trap.after("webhook POST", number)
        return status

    module.PublicHttpClient.post = post_watched


def watch_outputs(module: Any, trap: Trap) -> None:
    """Watch the files of batches: the part under a temporary name, the file itself, the line of the manifest."""
    output = module.Output

    def name_file(args: Sequence[Any]) -> str:
        if not isinstance(args[0], str):
            return str(module.MANIFEST)
        name = args[0].rpartition("/")[2]
        if ".png" in name:
            return "an image"
        return _IDS.sub("*", re.sub(r"[0-9a-f]{64}", "*", name))

    def watch(method: Callable[..., Any], verb: str) -> Callable[..., Any]:
        def watched(self: Any, *args: Any, **options: Any) -> Any:
            if not trap.concerns(self._folder.encode()):
                return method(self, *args, **options)
            step = f"{verb} {name_file(args)}"
            number = trap.before(step)
            result = method(self, *args, **options)
            trap.after(step, number)
            return result

        return watched

    output._write = watch(output._write, "write")
    output._write_bytes = watch(output._write_bytes, "write the bytes of")
    output._append_to_manifest = watch(output._append_to_manifest, "append to")


WATCHERS: dict[str, Callable[[Any, Trap], None]] = {
    "redis.connection": watch_redis,
    "graycat.broker.connections": watch_raw_connections,
    "graycat.broker.scripts": watch_scripts,
    "graycat.engines.client": watch_engine_client,
    "graycat.webhooks.http": watch_webhooks,
    "graycat.batches.output": watch_outputs,
}


def name_process() -> str:
    """Return what this process is called: the last word of its command (``graycat worker llm``)."""
    # The hook is loaded before the command's own words are there.
    return os.environ.get("CHAOS_PROCESS") or sys.orig_argv[-1]


def changes() -> dict[str, Callable[[Any], None]]:
    """Return what is changed in which module, for the process that the environment names."""
    folder = Path(os.environ.get("GRAYCAT_HOME", ".")) / os.environ["CHAOS_TRAPS"]
    trap = Trap(folder, name_process().rpartition("/")[2])

    def bind(watch: Callable[[Any, Trap], None]) -> Callable[[Any], None]:
        return lambda module: watch(module, trap)

    return {name: bind(watch) for name, watch in WATCHERS.items()}
