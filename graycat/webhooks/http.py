"""An HTTP client for addresses that callers of graycat name: it calls only public ones, and reads only the status.

A name is resolved once, every address of it is checked, and the connection goes to a checked address. A second look-up
between the check and the call could return another address (DNS rebinding). TLS verifies the name all the same.
The client uses sockets and http.client directly: libraries resolve names by themselves, read proxies from the
environment, or follow redirects (docs/decisions/0010).
"""

from __future__ import annotations

import io
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from ipaddress import ip_address
from typing import Any

import certifi

from graycat.egress import Allowlist, IPAddress, Target

logger = logging.getLogger(__name__)

#: Seconds that one call may take, from the look-up of its name to the status of its reply.
CALL_TIMEOUT_S = 10.0
#: The most bytes of a reply that are read, with its headers.
MAX_REPLY_BYTES = 4096
#: The most addresses of one name that are tried.
MAX_ADDRESSES = 4

#: Returns the addresses of a host, as text. Raises OSError.
Resolve = Callable[[str, int], list[str]]


class Unreachable(Exception):
    """Raised when a receiver returns no status; ``reason`` is a word for its owner."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in the order in which the system would try them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def create_tls_context() -> ssl.SSLContext:
    """Return a TLS context that trusts the system's certificates (``SSL_CERT_FILE`` too) and those of certifi."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


@dataclass
class PublicHttpClient:
    """Posts to receivers. Any thread may use it."""

    allow: Allowlist
    tls: ssl.SSLContext = field(default_factory=create_tls_context)
    resolve: Resolve = resolve
    timeout_s: float = CALL_TIMEOUT_S

    def post(self, target: Target, headers: Mapping[str, str], body: bytes) -> int:
        """Send a body; return the status of the reply. Raises Unreachable."""
        deadline = time.monotonic() + self.timeout_s
        try:
            addresses = self._find_addresses(target, deadline)
            sock = self._connect(target, addresses, deadline)
        except TimeoutError:
            raise Unreachable("timeout") from None
        except ssl.SSLError:
            raise Unreachable("tls") from None
        except OSError:
            raise Unreachable("connection") from None
        with sock:
            try:
                return _exchange(sock, target, headers, body, deadline)
            except TimeoutError:
                raise Unreachable("timeout") from None
            except HTTPException:
                raise Unreachable("protocol") from None
            except OSError:
                raise Unreachable("connection") from None

    def _find_addresses(self, target: Target, deadline: float) -> list[IPAddress]:
        """Return the addresses of a target. Raises Unreachable if one may not be called, TimeoutError."""
        if target.literal is not None:
            addresses = [target.literal]
        else:
            addresses = self._resolve(target, deadline)
        # No honest receiver has public and private addresses, so one private address refuses all. The reason is the
        # same as for a name that does not exist: a caller must not learn the names of a private network.
        if not addresses or not all(self.allow.permits(target, address) for address in addresses):
            raise Unreachable("no_public_address")
        return addresses[:MAX_ADDRESSES]

    def _resolve(self, target: Target, deadline: float) -> list[IPAddress]:
        """Return the addresses of a name; none if it has none. Raises TimeoutError."""
        found: list[IPAddress] = []

        def look_up() -> None:
            try:
                found.extend(map(ip_address, self.resolve(target.host, target.port)))
            except (OSError, UnicodeError) as error:
                logger.debug("name not resolved", extra={"host": target.host, "reason": error})

        # The system's resolver has no timeout. A thread that waits too long for it is left to end by itself.
        thread = threading.Thread(target=look_up, name="resolver", daemon=True)
        thread.start()
        thread.join(_remaining_s(deadline))
        if thread.is_alive():
            raise TimeoutError
        return found

    def _connect(self, target: Target, addresses: list[IPAddress], deadline: float) -> socket.socket:
        """Return a connection, with TLS for https, to the first address that accepts one. Raises OSError."""
        sock = _connect_to_first(addresses, target.port, deadline)
        if target.scheme == "http":
            return sock
        try:
            sock.settimeout(_remaining_s(deadline))
            return self.tls.wrap_socket(sock, server_hostname=target.host)
        except BaseException:
            sock.close()
            raise


def _connect_to_first(addresses: list[IPAddress], port: int, deadline: float) -> socket.socket:
    """Return a connection to the first address that accepts one. Raises OSError."""
    for number, address in enumerate(addresses, start=1):
        # An address that does not answer must leave time for the others.
        timeout_s = _remaining_s(deadline) / (len(addresses) - number + 1)
        try:
            return socket.create_connection((str(address), port), timeout=timeout_s)
        except OSError:
            if number == len(addresses):
                raise
    raise OSError("there is no address")


def _remaining_s(deadline: float) -> float:
    """Return the seconds until ``deadline``. Raises TimeoutError if it has passed."""
    remaining_s = deadline - time.monotonic()
    if remaining_s <= 0:
        raise TimeoutError
    return remaining_s


def _exchange(sock: socket.socket, target: Target, headers: Mapping[str, str], body: bytes, deadline: float) -> int:
    """Send a request and return the status of its reply. The reply's body is not read."""
    connection = HTTPConnection(target.host, target.port)
    connection.sock = sock
    sock.settimeout(_remaining_s(deadline))
    connection.putrequest("POST", target.path, skip_host=True, skip_accept_encoding=True)
    own_headers = {"Host": target.authority, "Content-Length": str(len(body)), "Connection": "close"}
    for name, value in {**own_headers, **headers}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    limited: Any = _LimitedReply(sock, deadline)
    response = HTTPResponse(limited, method="POST")
    response.begin()
    return response.status


class _LimitedReply(io.RawIOBase):
    """The first bytes of a reply, as a file. One deadline holds for all of them together."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline
        self._remaining_bytes = MAX_REPLY_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._remaining_bytes:
            return 0
        self._sock.settimeout(_remaining_s(self._deadline))
        count = self._sock.recv_into(memoryview(buffer)[: self._remaining_bytes])
        self._remaining_bytes -= count
        return count

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return a file, as http.client asks a socket for one."""
        return io.BufferedReader(self)
