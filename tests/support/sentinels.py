"""A broker that outlives its machine: servers that copy each other, and sentinels that choose another master."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import redis

from graycat.cli.broker import build_server_command
from graycat.engines.process.child import ChildProcess
from tests.support.broker import server_command
from tests.support.processes import eventually
from tests.support.stack import free_ports

MASTER = "mymaster"
#: Milliseconds without an answer after which a sentinel calls a server down; and seconds that a failover may take here.
DOWN_AFTER_MS, FAILOVER_S = 500, 30.0
START_S = 120.0


class Trio:
    """``servers`` servers, the first of them the master at first, and ``sentinels`` sentinels, all on loopback."""

    def __init__(
        self, folder: Path, *, servers: int = 2, sentinels: int = 3, password: str = "", sentinel_password: str = ""
    ) -> None:
        self._folder = folder
        self.password, self.sentinel_password = password, sentinel_password
        self.ports = free_ports(servers)
        self.sentinel_ports = free_ports(sentinels)
        self._processes: dict[int, ChildProcess] = {}

    @property
    def url(self) -> str:
        """Return its address as graycat reads it."""
        login = f":{self.password}@" if self.password else ""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        return f"sentinel://{login}{hosts}/{MASTER}/0"

    @property
    def env(self) -> dict[str, str]:
        """Return the settings of who uses it."""
        return {"REDIS_URL": self.url, "GRAYCAT_SENTINEL_PASSWORD": self.sentinel_password}

    def start(self) -> None:
        """Start all; return when the sentinels know all servers and each other."""
        for port in self.ports:
            self.start_server(port)
        for port in self.ports[1:]:
            eventually(partial(self._is_copy, port), START_S)
        for port in self.sentinel_ports:
            self._start_sentinel(port)
        for port in self.sentinel_ports:
            eventually(partial(self._knows_all, port), START_S)

    def start_server(self, port: int) -> None:
        """Start a server, as a replica of the first one if it is not the first; again as what it was."""
        folder = self._folder / str(port)
        config = folder / "server.conf"
        if not folder.exists():
            folder.mkdir(parents=True)
            lines = [f"port {port}", "bind 127.0.0.1", "repl-diskless-sync-delay 0", "repl-ping-replica-period 1"]
            if self.password:
                lines += [f"requirepass {self.password}", f"masterauth {self.password}"]
            if port != self.ports[0]:
                lines.append(f"replicaof 127.0.0.1 {self.ports[0]}")
            config.write_text("\n".join(lines) + "\n")
        binary, *options = server_command(folder, folder / "socket")
        # A server that sentinels watch has a file, into which they write.
        without_port = options[options.index("--port") + 2 :] if "--port" in options else options
        self._run(port, [binary, str(config), *without_port], folder / "log")
        eventually(lambda: self._pings(self.client(port)), START_S)

    def start_dead(self) -> None:
        """Start each server again that was killed: it becomes a replica of the master that there is now."""
        for port in self.ports:
            if not self._processes[port].alive():
                self.start_server(port)

    def _start_sentinel(self, port: int) -> None:
        folder = self._folder / str(port)
        folder.mkdir(parents=True)
        config = folder / "sentinel.conf"
        lines = [
            f"port {port}",
            "bind 127.0.0.1",
            f"dir {folder}",
            f"sentinel monitor {MASTER} 127.0.0.1 {self.ports[0]} {len(self.sentinel_ports) // 2 + 1}",
            f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {MASTER} 10000",
            f"sentinel auth-pass {MASTER} {self.password}" if self.password else "",
            f"requirepass {self.sentinel_password}" if self.sentinel_password else "",
            f"sentinel sentinel-pass {self.sentinel_password}" if self.sentinel_password else "",
        ]
        config.write_text("\n".join(lines) + "\n")
        binary = build_server_command(folder, folder / "socket")[0]
        self._run(port, [binary, str(config), "--sentinel"], folder / "log")
        eventually(lambda: self._pings(self.sentinel(port)), START_S)

    def _run(self, port: int, command: list[str], log: Path) -> None:
        self._processes[port] = ChildProcess(command, log)
        self._processes[port].start()

    def client(self, port: int) -> Any:
        """Return a client of one server, which decodes."""
        return redis.Redis(port=port, password=self.password or None, decode_responses=True, socket_timeout=5)

    def sentinel(self, port: int) -> Any:
        """Return a client of one sentinel."""
        return redis.Redis(port=port, password=self.sentinel_password or None, decode_responses=True, socket_timeout=5)

    def master(self) -> int:
        """Return the port of the server that the first living sentinel calls the master."""
        for port in self.sentinel_ports:
            with suppress(redis.RedisError):
                # Not sentinel_get_master_addr_by_name, which fails in redis-py 6.4.
                return int(self.sentinel(port).sentinel_masters()[MASTER]["port"])
        raise AssertionError("no sentinel answers")

    def signal(self, port: int, number: int) -> None:
        """Send a server or a sentinel a signal."""
        pid = self._processes[port].pid
        assert pid is not None
        os.kill(pid, number)

    def kill(self, port: int) -> None:
        """Kill a server or a sentinel at once."""
        self.signal(port, signal.SIGKILL)
        self._processes[port].stop()

    def wait_for_failover(self, old: int) -> int:
        """Return the port of the new master, when it takes writes."""

        def is_done() -> int:
            new = self.master()
            if new == old:
                return 0
            with suppress(redis.RedisError):
                if self.client(new).role()[0] == "master":
                    return new
            return 0

        return eventually(is_done, FAILOVER_S)

    def wait_for_copies(self, count: int) -> None:
        """Return when as many replicas have all that the master has."""

        def are_there() -> bool:
            with suppress(redis.RedisError):
                return int(self.client(self.master()).wait(count, 100)) >= count
            return False

        eventually(are_there, START_S)

    def stop(self) -> None:
        """End all."""
        for process in self._processes.values():
            pid = process.pid
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.stop()

    def _is_copy(self, port: int) -> bool:
        with suppress(redis.RedisError):
            return str(self.client(port).info("replication")["master_link_status"]) == "up"
        return False

    def _knows_all(self, port: int) -> bool:
        with suppress(redis.RedisError):
            state = self.sentinel(port).sentinel_masters()[MASTER]
            return (state["num-other-sentinels"], state["num-slaves"]) == (
                len(self.sentinel_ports) - 1,
                len(self.ports) - 1,
            )
        return False

    @staticmethod
    def _pings(client: Any) -> bool:
        with suppress(redis.RedisError):
            return bool(client.ping())
        return False


@contextmanager
def trio(folder: Path, **options: Any) -> Iterator[Trio]:
    """Run servers and sentinels for the block."""
    made = Trio(folder, **options)
    try:
        made.start()
        yield made
    finally:
        made.stop()
