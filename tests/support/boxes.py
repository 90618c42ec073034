"""Boxes: a broker with a port, and workers that reach it as strangers do, each process a real one."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis
import requests

from graycat.cli.broker import create_private_folder
from graycat.engines.process.child import ChildProcess
from graycat.worker.broker_acl import setuser, worker_rules
from tests.support.broker import server_command
from tests.support.helpers import Valkey
from tests.support.processes import eventually
from tests.support.stack import REQUEST_S, ROOT, START_S, Client, Stack, free_ports

FAKE = f"{shlex.quote(sys.executable)} {ROOT / 'tests' / 'fakes' / 'llama_server.py'}"
#: A dead worker is noticed after this many seconds.
LEASE_S = "1.5"


class OpenValkey(Valkey):
    """A broker with a port as well; the operator's own processes reach it by its socket."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        (self.port,) = free_ports(1)
        self.users: dict[str, list[str]] = {}
        folder = create_private_folder(home / "broker")
        command = server_command(folder, self.settings.broker_socket)
        command += ["--port", str(self.port), "--bind", "127.0.0.1", "--enable-debug-command", "yes"]
        self._process = ChildProcess(command, folder / "valkey.log")

    def add_box(self, name: str, *kinds: str, port: int = 0, scheme: str = "redis", host: str = "127.0.0.1") -> str:
        """Make a user for a box; return the address that it is given."""
        password = uuid4().hex
        self.users[name] = setuser(name, password, worker_rules(name, kinds)).split()
        self.add_user(name)
        return f"{scheme}://{name}:{password}@{host}:{port or self.port}/0"

    def add_user(self, name: str) -> None:
        """Make a box's user, again after a restart: what is not in a file is forgotten."""
        self.client.execute_command(*self.users[name])

    def refusals(self) -> list[str]:
        """Return what users were refused so far: the command or name, and where it came from."""
        return [f"{row['reason']} {row['object']} ({row['context']})" for row in self.client.acl_log()]


class Home:
    """A broker and a web server, and boxes elsewhere that work for them."""

    def __init__(self, home: Path) -> None:
        self.path = home
        self.broker = OpenValkey(home)
        env = {"RUN_SD": "false", "GRAYCAT_LEASE_S": LEASE_S, "GRAYCAT_WEBHOOK_ALLOW": "127.0.0.0/8"}
        self.web = Stack(home, separately=True, env=env)
        self.boxes: list[Stack] = []
        #: Where the broker is reached over TLS, if it is.
        self.tls_port = 0

    def box(self, name: str, url: str, **env: str) -> Stack:
        """Return a box that has started nothing yet."""
        given = {"RUN_SD": "false", "REDIS_URL": url, "GRAYCAT_BOX": name, "GRAYCAT_LEASE_S": LEASE_S} | env
        stack = Stack(self.path.with_name(name), separately=True, env=given)
        self.boxes.append(stack)
        return stack

    def kill_all(self) -> None:
        """Kill every process but the broker's."""
        for stack in (*self.boxes, self.web):
            stack.kill_all()

    def client(self) -> Client:
        """Return a client of the API."""
        return self.web.client()

    def row(self, worker: str) -> dict[str, Any]:
        """Return what /ready says of a worker; empty where there is none."""
        rows = requests.get(f"{self.web.url}/ready", timeout=REQUEST_S).json()["workers"]
        return next((row for row in rows if row["name"] == worker), {})

    def wait_until_consuming(self, worker: str) -> None:
        """Return when a worker takes tasks."""
        eventually(lambda: self.row(worker).get("consuming"), START_S)


@contextmanager
def at_home(path: Path, **web_env: str) -> Iterator[Home]:
    """Run a broker and a web server for the block; nothing is left of them and their boxes in any case."""
    home = Home(path)
    home.broker.start()
    home.web.set_env(web_env)
    try:
        home.web.launch("web")
        eventually(lambda: answers(home.web.url), START_S)
        yield home
    finally:
        home.kill_all()
        home.broker.stop()


def answers(url: str) -> bool:
    """Return whether a web server is up."""
    try:
        return requests.get(f"{url}/health", timeout=2).ok
    except (requests.ConnectionError, requests.Timeout):
        return False


def fake_engine(stack: Stack, *options: str) -> str:
    """Start a fake text engine beside a box's workers; return its address."""
    stack.launch("engine", f"{FAKE} --port {stack.llm_port} {' '.join(options)}")
    return stack.llm_url


def refused(url: str, *command: str | int) -> bool:
    """Return whether a user may not do something. Raises what else goes wrong."""
    with redis.Redis.from_url(url) as client:
        try:
            client.execute_command(*command)
        except redis.exceptions.NoPermissionError:
            return True
    return False


def certificates(folder: Path, address: str = "127.0.0.1", *others: str) -> tuple[Path, Path]:
    """Return a CA's certificate, and the certificate and key of some addresses that it has signed, in one file."""
    folder.mkdir(parents=True)
    _make_certificate(folder, 90, "-subj", "/CN=tests", "-keyout", "ca.key", "-out", "ca.pem")
    return folder / "ca.pem", sign_certificate(folder, 2, address, *others)


def sign_certificate(folder: Path, days: int, address: str = "127.0.0.1", *others: str) -> Path:
    """Sign a new certificate of some addresses, in a folder of ``certificates``; return it and its key, in one file."""
    alternatives = ",".join(f"IP:{name}" for name in (address, *others))
    extensions = ("-addext", f"subjectAltName={alternatives}", "-addext", "basicConstraints=critical,CA:FALSE")
    names = ("-subj", f"/CN={address}", "-keyout", "server.key", "-out", "server.crt")
    _make_certificate(folder, days, *names, *extensions, "-CA", "ca.pem", "-CAkey", "ca.key")
    both, new = folder / "server.pem", folder / "server.new"
    new.write_text((folder / "server.key").read_text() + (folder / "server.crt").read_text())
    new.replace(both)
    return both


def _make_certificate(folder: Path, days: int, *options: str) -> None:
    command = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", str(days))
    subprocess.run(["openssl", *command, *options], cwd=folder, check=True, capture_output=True)
