"""Real proxies in front of a graycat, each with the configuration that ``graycat edge-config`` prints for it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graycat.edge.config import CADDY, HAPROXY, NGINX, EdgeOptions, make_config
from graycat.edge.render import render
from graycat.settings import Settings
from tests.support.ports import free_ports
from tests.support.processes import eventually
from tests.support.programs import program

START_S = 90.0
PACKAGES = {NGINX: "nginx-light", HAPROXY: "haproxy", CADDY: "caddy"}
#: Where Debian keeps nginx's module for TCP (package libnginx-mod-stream).
NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
#: Folders that only root may write; nginx makes them at its start.
NGINX_FOLDERS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

#: A CA's certificate; the certificate and key of 127.0.0.1 and ::1, in one file.
Certificates = tuple[Path, Path]


@dataclass(frozen=True)
class Reply:
    """What curl got."""

    status: int
    version: str
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> Any:
        """Return the error of the body."""
        return json.loads(self.body)["error"]


#: curl's status if a proxy answers before it has read a body, and ends the stream while curl (7.88) still sends. It
#: depends on the moment, so another try meets another one.
STREAM_ENDED, TRIES = 92, 20


class Edge:
    """A running proxy."""

    def __init__(self, kind: str, port: int, folder: Path, ca: Path, process: subprocess.Popen[bytes]) -> None:
        self.kind = kind
        self.port = port
        self.url = f"https://127.0.0.1:{port}"
        self.process = process
        self._folder = folder
        self._ca = ca

    def connect(self, host: str = "127.0.0.1", timeout_s: float = 60.0) -> ssl.SSLSocket:
        """Return a TLS connection to it from an address of this machine, as a game makes it: without HTTP/2."""
        target = "::1" if ":" in host else "127.0.0.1"
        plain = socket.create_connection((target, self.port), timeout_s, source_address=(host, 0))
        context = ssl.create_default_context(cafile=str(self._ca))
        return context.wrap_socket(plain, server_hostname=target)

    def curl(self, path: str, *options: str, host: str = "127.0.0.1") -> Reply:
        """Return the answer to a request over HTTP/2, or as curl's options have it."""
        files = {name: self._folder / f"curl-{name}" for name in ("head", "body")}
        files["body"].write_bytes(b"")
        command = [program("curl", "curl"), "-sS", "--http2", "--cacert", str(self._ca), "-m", "60"]
        command += ["-D", str(files["head"]), "-o", str(files["body"]), "-w", "%{http_version} %{http_code}"]
        command += [*options, f"https://{host}:{self.port}{path}"]
        for _ in range(TRIES):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != STREAM_ENDED:
                break
        assert done.returncode == 0, done.stderr
        version, status = done.stdout.split()
        # The last of them: before it may stand 100 Continue.
        lines = files["head"].read_text().strip().split("\n\n")[-1].splitlines()[1:]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Reply(int(status), version, headers, files["body"].read_bytes())

    @contextmanager
    def curl_process(self, path: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run curl for the block, over HTTP/2; its output is the body."""
        command = [program("curl", "curl"), "-sS", "--http2", "--cacert", str(self._ca), *options, self.url + path]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            yield process
            process.kill()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the proxy for the block, as a machine that swaps does: nothing is lost, all of it comes at once."""
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)


def edge_config(
    kind: str, certificates: Certificates, env: dict[str, str], servers: Sequence[str] = (), **changes: Any
) -> str:
    """Return what ``graycat edge-config`` prints for a graycat with some settings."""
    (inner_port,) = free_ports(1)
    settings = Settings.from_env({"GRAYCAT_FORWARDED_FROM": "127.0.0.1"} | env)
    options = EdgeOptions(certificate=str(certificates[1]), servers=servers, inner_port=inner_port, access_log="")
    return render(kind, replace(make_config(kind, settings, options), **changes))


@contextmanager
def running_edge(
    kind: str, folder: Path, certificates: Certificates, env: dict[str, str], **changes: Any
) -> Iterator[Edge]:
    """Run a proxy for the block, in front of a graycat with some settings.

    ``changes``: of the configuration's values (``EdgeConfig``).
    """
    port, http_port = free_ports(2)
    addresses = {"GRAYCAT_PUBLIC_URL": f"https://127.0.0.1:{port}"}
    # Caddy answers for names, the others for all that come.
    text = edge_config(kind, certificates, env | addresses, **{"names": ("127.0.0.1", "[::1]"), **changes})
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "proxy.conf"
    command = command_of(kind, file)
    file.write_text(_fitted(kind, text, folder, http_port))
    own_env = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=own_env, start_new_session=True)
    edge = Edge(kind, port, folder, certificates[0], process)
    try:
        eventually(lambda: _accepts(port, process, folder / "log"), START_S)
        yield edge
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)
            process.terminate()
        process.wait(START_S)


def command_of(kind: str, file: Path, *, check: bool = False) -> list[str]:
    """Return the command that runs a proxy in the foreground, or checks its configuration. Skips if it is not here."""
    path = program(kind, PACKAGES[kind])
    if kind == NGINX:
        assert NGINX_STREAM.exists(), "apt-get install libnginx-mod-stream"
        alone = f"daemon off; pid {file.parent}/nginx.pid;"
        return [path, "-c", str(file), "-g", alone, *(["-t"] if check else [])]
    if kind == HAPROXY:
        return [path, "-c" if check else "-db", "-f", str(file)]
    return [path, "validate" if check else "run", "--adapter", "caddyfile", "--config", str(file)]


def _fitted(kind: str, text: str, folder: Path, http_port: int) -> str:
    """Return a configuration that keeps to this test's folder and ports, and needs no root."""
    if kind == CADDY:
        # A log that tells all that it can: no secret may be in it.
        return text.replace("{\n\tservers", f"{{\n\tdebug\n\tadmin off\n\thttp_port {http_port}\n\tservers", 1)
    if kind == HAPROXY:
        # Its default tries for three seconds to reach a server that is down.
        text = text.replace("  timeout connect 5s\n", "  timeout connect 5s\n  retries 0\n", 1)
        if os.getuid() != 0:
            text = text.replace("  user haproxy\n  group haproxy\n", "")
        return text
    paths = "".join(f"  {name}_temp_path {folder}/{name};\n" for name in NGINX_FOLDERS)
    # Processes that are not root's may not write into the folder of one that is.
    return text.replace("http {\n", f"http {{\n{paths}", 1) if os.getuid() != 0 else text


def _accepts(port: int, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
