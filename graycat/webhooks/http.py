"""Calls to addresses that callers of ours have named: only public ones, and never more of the answer than its status.

A name is resolved once, every address it has is checked, and the connection goes to an address that was checked:
between the check and the call there is no second look-up that could answer otherwise (DNS rebinding). TLS verifies the
name all the same. On sockets and http.client, because both have to be ours: libraries resolve by themselves, read
proxies from the environment, or follow redirects (docs/decisions/0010).
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

#: Seconds that one call may take from the look-up of its name to the status of its answer.
DEADLINE_S = 10.0
#: Bytes of an answer that are read at most, its headers included.
MAX_REPLY_BYTES = 4096
#: Addresses of one name that are tried.
MAX_ADDRESSES = 4

#: Returns the addresses of a host, as text. Raises OSError.
Resolve = Callable[[str, int], list[str]]


class Unreachable(Exception):
    """Raised when a receiver gave no status; ``reason`` is a word that its owner is told."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in the order in which the system would try them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def verifying() -> ssl.SSLContext:
    """Return a TLS context that trusts what the system trusts (``SSL_CERT_FILE`` too), and the usual authorities."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


@dataclass
class PublicHttpClient:
    """Posts to receivers; any thread may use it."""

    allow: Allowlist
    tls: ssl.SSLContext = field(default_factory=verifying)
    resolve: Resolve = resolve
    deadline_s: float = DEADLINE_S

    def post(self, target: Target, headers: Mapping[str, str], body: bytes) -> int:
        """Return the status with which a receiver answers. Raises Unreachable."""
        deadline = time.monotonic() + self.deadline_s
        try:
            connected = self._connect(target, self._addresses(target, deadline), deadline)
        except TimeoutError:
            raise Unreachable("timeout") from None
        except ssl.SSLError:
            raise Unreachable("tls") from None
        except OSError:
            raise Unreachable("connection") from None
        with connected:
            try:
                return _exchange(connected, target, headers, body, deadline)
            except TimeoutError:
                raise Unreachable("timeout") from None
            except HTTPException:
                raise Unreachable("protocol") from None
            except OSError:
                raise Unreachable("connection") from None

    def _addresses(self, target: Target, deadline: float) -> list[IPAddress]:
        """Return the addresses of a target, all of which may be called. Raises Unreachable, TimeoutError."""
        literal = target.literal
        addresses = [literal] if literal is not None else self._looked_up(target, deadline)
        # One that may not be called spoils the others: no receiver has both kinds. The word is that of a name which
        # does not exist, so that nobody learns the names of a private network from the difference.
        if not addresses or not all(self.allow.permits(target, address) for address in addresses):
            raise Unreachable("no_public_address")
        return addresses[:MAX_ADDRESSES]

    def _looked_up(self, target: Target, deadline: float) -> list[IPAddress]:
        found: list[IPAddress] = []

        def look_up() -> None:
            try:
                found.extend(map(ip_address, self.resolve(target.host, target.port)))
            except (OSError, UnicodeError) as error:
                logger.debug("name not resolved", extra={"host": target.host, "reason": error})

        # The system's resolver knows no deadline; a thread that it holds is left to end by itself.
        thread = threading.Thread(target=look_up, name="resolver", daemon=True)
        thread.start()
        thread.join(_left(deadline))
        if thread.is_alive():
            raise TimeoutError
        return found

    def _connect(self, target: Target, addresses: list[IPAddress], deadline: float) -> socket.socket:
        """Return a connection to the first address that takes one. Raises OSError."""
        for place, address in enumerate(addresses):
            try:
                # One that swallows everything leaves the others their share of the time.
                patience_s = _left(deadline) / (len(addresses) - place)
                plain = socket.create_connection((str(address), target.port), timeout=patience_s)
                break
            except OSError:
                if place == len(addresses) - 1:
                    raise
        if target.scheme == "http":
            return plain
        try:
            plain.settimeout(_left(deadline))
            return self.tls.wrap_socket(plain, server_hostname=target.host)
        except BaseException:
            plain.close()
            raise


def _left(deadline: float) -> float:
    """Return the seconds until ``deadline``. Raises TimeoutError where it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _exchange(
    connected: socket.socket, target: Target, headers: Mapping[str, str], body: bytes, deadline: float
) -> int:
    """Send a request and return the status of its answer, whose body nobody reads."""
    connection = HTTPConnection(target.host, target.port)
    connection.sock = connected
    connected.settimeout(_left(deadline))
    connection.putrequest("POST", target.path, skip_host=True, skip_accept_encoding=True)
    ours = {"Host": target.authority, "Content-Length": str(len(body)), "Connection": "close"}
    for name, value in {**ours, **headers}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    reply: Any = _Reply(connected, deadline)
    response = HTTPResponse(reply, method="POST")
    response.begin()
    return response.status


class _Reply(io.RawIOBase):
    """The first bytes of an answer: its end is where they are read, and the deadline holds for all of them together."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket = connected
        self._deadline = deadline
        self._left = MAX_REPLY_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            return 0
        self._socket.settimeout(_left(self._deadline))
        count = self._socket.recv_into(memoryview(buffer)[: self._left])
        self._left -= count
        return count

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return a file as http.client reads it off a socket."""
        return io.BufferedReader(self)
