"""Real proxies in front of a stack, which end TLS and pass TCP connections on with a PROXY protocol header."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import eventually
from tests.support.programs import program

START_S = 20.0
#: Where Debian keeps nginx's module for TCP (package libnginx-mod-stream).
NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

HAPROXY = """
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen games
  bind 127.0.0.1:{port} ssl crt {pem}
  server graycat 127.0.0.1:{behind} {version}
"""
NGINX = """
load_module {module};
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 256; }}
stream {{
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {pem};
    ssl_certificate_key {pem};
    proxy_pass 127.0.0.1:{behind};
    proxy_protocol on;
  }}
}}
"""
#: Which program runs which configuration; nginx sends version 1.
KINDS = ("nginx", "haproxy v1", "haproxy v2")


class Edge:
    """A running proxy."""

    def __init__(self, port: int, ca: Path, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self._ca = ca
        self._process = process

    def connect(self, host: str = "127.0.0.1", timeout_s: float = 60.0) -> ssl.SSLSocket:
        """Return a TLS connection to it from an address of this machine."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout_s, source_address=(host, 0))
        context = ssl.create_default_context(cafile=str(self._ca))
        return context.wrap_socket(plain, server_hostname="127.0.0.1")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the proxy for the block, as a machine that swaps does: nothing is lost, all of it comes at once."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextmanager
def running_edge(kind: str, folder: Path, certificates: tuple[Path, Path], port: int, behind: int) -> Iterator[Edge]:
    """Run a proxy of a kind for the block, in front of a port of this machine."""
    ca, pem = certificates
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "proxy.conf"
    name, _, version = kind.partition(" ")
    if name == "nginx":
        path = program("nginx", "nginx-light")
        assert NGINX_STREAM.exists(), "apt-get install libnginx-mod-stream"
        config.write_text(NGINX.format(module=NGINX_STREAM, folder=folder, port=port, pem=pem, behind=behind))
        command = [path, "-p", str(folder), "-c", str(config)]
    else:
        path = program("haproxy", "haproxy")
        option = "send-proxy-v2" if version == "v2" else "send-proxy"
        config.write_text(HAPROXY.format(port=port, pem=pem, behind=behind, version=option))
        command = [path, "-db", "-f", str(config)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=os.environ)
    edge = Edge(port, ca, process)
    try:
        eventually(lambda: _accepts(port, process, folder / "log"), START_S)
        yield edge
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        process.wait(START_S)


def _accepts(port: int, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
