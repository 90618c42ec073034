"""A TLS-terminating proxy in front of a broker: the packaged one is built without TLS."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def tls_proxy(certificate: Path, port: int, host: str = "127.0.0.1") -> Iterator[int]:
    """Accept TLS for the block and hand the bytes on to ``port`` of this machine; yield where it listens.

    Each connection gets the certificate that the file has then.
    """
    with socket.create_server((host, 0), backlog=128) as server:
        threading.Thread(target=_accept, args=(server, certificate, port), daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def _accept(server: socket.socket, certificate: Path, port: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = server.accept()
            threading.Thread(target=_carry, args=(client, certificate, port), daemon=True).start()


def _carry(client: socket.socket, certificate: Path, port: int) -> None:
    """Carry one connection's bytes both ways, by one thread: an SSL socket is not for two."""
    with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", port)) as behind:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        client.settimeout(10)
        with context.wrap_socket(client, server_side=True) as front:
            front.setblocking(False)
            behind.setblocking(False)
            _both_ways(front, behind)


def _both_ways(front: ssl.SSLSocket, behind: socket.socket) -> None:
    with selectors.DefaultSelector() as selector:
        for end in (front, behind):
            selector.register(end, selectors.EVENT_READ)
        while True:
            selector.select()
            for source, target in ((front, behind), (behind, front)):
                if not _move(source, target):
                    return


def _move(source: socket.socket, target: socket.socket) -> bool:
    """Move what has come; False at the end of it."""
    with contextlib.suppress(ssl.SSLWantReadError, BlockingIOError):
        while data := source.recv(65536):
            target.setblocking(True)
            target.sendall(data)
            target.setblocking(False)
        return False
    return True
