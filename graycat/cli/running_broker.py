"""The broker of a command that needs one for itself: the embedded one is started if graycat does not run."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from graycat.broker.client import check, connect
from graycat.broker.protocol import Broker
from graycat.cli.broker import (
    POLL_INTERVAL_S,
    accepts_commands,
    build_server_command,
    choose_max_memory,
    create_private_folder,
)
from graycat.cli.running import lock_home
from graycat.engines.process.child import ChildProcess
from graycat.errors import SettingsError
from graycat.settings import Settings

#: Seconds that the embedded broker may take to read its data.
START_S = 120.0


@contextmanager
def running_broker(settings: Settings, *, create: bool = False) -> Iterator[None]:
    """Run the embedded broker for the block, if it does not run; ``create``: also where it has no data yet.

    Raises SettingsError.
    """
    check(settings)
    client = connect(settings)
    with closing(client):
        if not settings.embedded_broker or _listens(settings.broker_socket):
            yield
            return
        folder = settings.home.resolve() / "broker"
        if not create and not folder.is_dir():
            raise SettingsError(
                f"no broker runs, and {settings.home} has no data of one: set REDIS_URL or GRAYCAT_HOME"
            )
        # Nobody starts graycat here meanwhile.
        with lock_home(settings.home):
            create_private_folder(folder)
            create_private_folder(settings.broker_socket.parent)
            command = build_server_command(folder, settings.broker_socket, choose_max_memory(settings))
            server = ChildProcess(command, folder / "valkey.log")
            server.start()
            try:
                _wait(server, client)
                yield
            finally:
                server.stop()


def _listens(path: Path) -> bool:
    """Return whether a server has the socket, in whatever state it is: a second one would take it away from it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(START_S)
        try:
            connection.connect(str(path))
        except OSError:
            return False
        return True


def _wait(server: ChildProcess, client: Broker) -> None:
    """Wait until the server accepts commands. Raises SettingsError."""
    give_up_at = time.monotonic() + START_S
    while not accepts_commands(client):
        if not server.alive():
            raise SettingsError("the broker died; see GRAYCAT_HOME/broker/valkey.log")
        if time.monotonic() > give_up_at:
            raise SettingsError(f"the broker has not read its data in {START_S:.0f} s")
        time.sleep(POLL_INTERVAL_S)
