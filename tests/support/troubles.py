"""A real Valkey in trouble: each condition in which graycat may find its broker, made and undone."""

from __future__ import annotations

import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

from graycat.cli.broker import build_server_command
from graycat.engines.process.child import ChildProcess
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, eventually
from tests.support.ports import free_port

#: Valkey waits this long for a script before it answers BUSY (ms); its default is 5,000.
BUSY_AFTER_MS = 10
#: Keys that make loading last, and how long each of them takes (microseconds).
LOADED_KEYS = 3000
LOAD_DELAY_US = 5_000
#: More than a test's own connections, and fewer than an application may open.
MAX_CLIENTS = 64


class FrailValkey(Valkey):
    """An embedded Valkey that can be started again with other options, and that can be brought into trouble."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._folder = home / "broker"
        self.admin = new_admin(self)

    def start_with(self, *options: str) -> None:
        """Stop it and start it on the same socket and data with more options; returns when it takes connections."""
        self.end()
        command = build_server_command(self._folder, self.settings.broker_socket) + list(options)
        # A limit on a file's size is an error of the write, as a full disk is, only for who ignores its signal.
        ignoring = ["sh", "-c", 'trap "" XFSZ; exec "$@"', "sh", *command]
        self._process = ChildProcess(ignoring, self._folder / "valkey.log")
        self._process.start()
        eventually(self._listens)

    def begin(self) -> None:
        """Start it afresh and without any trouble."""
        self.start_with()
        eventually(lambda: pings(self.admin))

    def end(self) -> None:
        """End it at once."""
        pid = self._process.pid
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.stop()

    @property
    def pid(self) -> int:
        """Return its process id."""
        assert self._process.pid is not None
        return self._process.pid

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.settings.broker_socket)) == 0


def new_admin(valkey: Valkey) -> BrokerClient:
    """Return a client for commands about the trouble itself."""
    client: Any = redis.Redis(unix_socket_path=str(valkey.settings.broker_socket), socket_timeout=10.0)
    return client


def pings(client: BrokerClient) -> bool:
    """Return whether the broker answers that all is well."""
    with suppress(redis.RedisError):
        return bool(client.ping())
    return False


@contextmanager
def away(valkey: FrailValkey) -> Iterator[None]:
    """Nobody listens."""
    valkey.end()
    yield


@contextmanager
def silent(valkey: FrailValkey) -> Iterator[None]:
    """It takes connections and never answers; connections that are open are silent as well."""
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(valkey.pid, signal.SIGCONT)


@contextmanager
def full(valkey: FrailValkey) -> Iterator[None]:
    """Its memory is at the limit, and nothing may be evicted."""
    valkey.admin.config_set("maxmemory-policy", "noeviction")
    valkey.admin.config_set("maxmemory", 1)
    yield


@contextmanager
def read_only(valkey: FrailValkey) -> Iterator[None]:
    """It has become a replica."""
    valkey.admin.replicaof("127.0.0.1", 1)
    yield


@contextmanager
def without_primary(valkey: FrailValkey) -> Iterator[None]:
    """It is a replica that answers only while it has a primary, and has none."""
    valkey.admin.config_set("replica-serve-stale-data", "no")
    valkey.admin.replicaof("127.0.0.1", 1)
    yield


@contextmanager
def without_replicas(valkey: FrailValkey) -> Iterator[None]:
    """It is a primary that takes writes only while it has a replica, and has none."""
    valkey.admin.config_set("min-replicas-to-write", 1)
    yield


@contextmanager
def disk_full(valkey: FrailValkey) -> Iterator[None]:
    """It cannot write its file."""
    written = (valkey.settings.home / "broker").rglob("*.incr.aof")
    size = max(path.stat().st_size for path in written)
    resource.prlimit(valkey.pid, resource.RLIMIT_FSIZE, (size, size))

    def write_fails() -> bool:
        try:
            valkey.admin.set("filler", "x" * 1000)
        except redis.ResponseError as error:
            return "MISCONF" in str(error)
        return False

    eventually(write_fails)
    yield


@contextmanager
def loading(valkey: FrailValkey) -> Iterator[None]:
    """It reads its data, for a minute."""
    with valkey.admin.pipeline() as pipe:
        for number in range(LOADED_KEYS):
            pipe.set(f"filler:{number}", os.urandom(1000))
        pipe.execute()
    valkey.admin.bgrewriteaof()
    eventually(lambda: valkey.admin.info("persistence")["aof_rewrite_in_progress"] == 0)
    slowly = ("--key-load-delay", str(LOAD_DELAY_US), "--loading-process-events-interval-bytes", "1024")
    valkey.start_with(*slowly)
    yield


@contextmanager
def busy(valkey: FrailValkey) -> Iterator[None]:
    """It runs a script that does not end, for longer than it is silent about that."""
    valkey.admin.config_set("busy-reply-threshold", BUSY_AFTER_MS)
    with running_script(valkey):
        eventually(lambda: not pings(new_admin(valkey)))
        yield


@contextmanager
def running_script(valkey: FrailValkey) -> Iterator[None]:
    """Run a script for the block that does not end by itself."""
    runner = new_admin(valkey)

    def run() -> None:
        with suppress(redis.RedisError):
            runner.eval("while true do end", 0)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with suppress(redis.RedisError):
            new_admin(valkey).script_kill()
        valkey.end()
        thread.join(10)


@contextmanager
def locked(valkey: FrailValkey) -> Iterator[None]:
    """It wants a password that nobody here has."""
    valkey.start_with("--requirepass", "another-password")
    yield


@contextmanager
def forbidden(valkey: FrailValkey) -> Iterator[None]:
    """The user may neither read nor write keys."""
    valkey.admin.execute_command("ACL", "SETUSER", "default", "-@read", "-@write", "-@scripting")
    yield


@contextmanager
def crowded(valkey: FrailValkey) -> Iterator[None]:
    """It takes no more connections."""
    valkey.start_with("--maxclients", str(MAX_CLIENTS))
    held = []
    for _ in range(MAX_CLIENTS):
        held.append(socket.socket(socket.AF_UNIX))
        held[-1].connect(str(valkey.settings.broker_socket))
    eventually(lambda: not pings(new_admin(valkey)))
    try:
        yield
    finally:
        for connection in held:
            connection.close()


@contextmanager
def cluster_without_slots(valkey: FrailValkey) -> Iterator[None]:
    """It is a node of a cluster that is down."""
    start_node(valkey)
    yield


@contextmanager
def cluster_node(valkey: FrailValkey) -> Iterator[None]:
    """It is the only node of a cluster: keys of one command may not lie in different slots."""
    start_node(valkey)
    valkey.admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    eventually(lambda: b"cluster_state:ok" in bytes(valkey.admin.execute_command("CLUSTER", "INFO")))
    yield


def start_node(valkey: FrailValkey) -> None:
    """Start it as a node of a cluster, without data."""
    valkey.admin.flushall()
    # Without a port of its own for the cluster it would take 10000, which another test may have.
    cluster = ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port", str(free_port()))
    valkey.start_with(*cluster)
    eventually(lambda: pings(new_admin(valkey)))


Trouble = Callable[[FrailValkey], AbstractContextManager[None]]

#: Troubles in which no command on a key is answered.
UNUSABLE: dict[str, Trouble] = {
    "away": away,
    "silent": silent,
    "loading": loading,
    "busy": busy,
    "without its primary": without_primary,
    "locked": locked,
    "forbidden": forbidden,
    "crowded": crowded,
    "cluster down": cluster_without_slots,
}
#: Troubles in which it answers reads and refuses writes.
UNWRITABLE: dict[str, Trouble] = {
    "full": full,
    "read-only": read_only,
    "disk full": disk_full,
    "without its replicas": without_replicas,
}
