"""The PROXY protocol, versions 1 and 2: what a TCP proxy says of a connection before it passes that on.

The form of both is that of HAProxy's ``doc/proxy-protocol.txt``. gunicorn reads them too, but with a request's head:
the guard has to know whose a connection is before that. It also guesses whether there is such a header; here it must
be there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from graycat.front.errors import ProxyHeaderInvalid

if TYPE_CHECKING:
    from graycat.front.connection import Connection

V1_PREFIX = b"PROXY "
#: The longest line of version 1, with its end.
MAX_V1_BYTES = 107
V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
#: Signature, version and command, family and protocol, length of the rest.
_V2_HEAD = struct.Struct("!12sBBH")
#: Addresses take 216 bytes at most; what a proxy adds (a certificate's names, an id) follows them.
MAX_V2_BYTES = 4096
#: Version 2, and its commands: a connection of the proxy's own, and one of a client.
_V2_LOCAL, _V2_PROXY = 0x20, 0x21
#: TCP over IPv4 and IPv6: the form of the addresses and ports of both ends.
_V2_FORMS = {0x11: struct.Struct("!4s4sHH"), 0x21: struct.Struct("!16s16sHH")}
#: Families without addresses that could be of use: unknown ones, and Unix sockets.
_V2_NAMELESS = frozenset({0x00, 0x31})
_V1_FAMILIES: dict[bytes, type[IPv4Address] | type[IPv6Address]] = {b"TCP4": IPv4Address, b"TCP6": IPv6Address}

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What stands before a connection's bytes: ``size`` bytes.

    ``client``: address and port of who has connected to the proxy; None: it is a connection of the proxy's own (a
    health check), or of somebody without an address.
    """

    size: int
    client: Address | None


def parse(data: bytes) -> ProxyHeader | None:
    """Return the header that some bytes begin with; None if more must come. Raises ProxyHeaderInvalid."""
    if data.startswith(V1_PREFIX):
        return _parse_v1(data)
    if data.startswith(V2_SIGNATURE):
        return _parse_v2(data)
    if V1_PREFIX.startswith(data) or V2_SIGNATURE.startswith(data):
        return None
    raise ProxyHeaderInvalid


def _parse_v1(data: bytes) -> ProxyHeader | None:
    line, end, _ = data[:MAX_V1_BYTES].partition(b"\r\n")
    if not end:
        if len(data) >= MAX_V1_BYTES:
            raise ProxyHeaderInvalid
        return None
    size = len(line) + len(end)
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":
        # Whatever follows is to be ignored.
        return ProxyHeader(size, None)
    if len(words) != 6 or words[1] not in _V1_FAMILIES:
        raise ProxyHeaderInvalid
    family = _V1_FAMILIES[words[1]]
    try:
        source, _ = (str(family(word.decode("ascii"))) for word in words[2:4])
        port, _ = (_parse_port(word) for word in words[4:])
    except ValueError:
        raise ProxyHeaderInvalid from None
    return ProxyHeader(size, (source, port))


def _parse_port(word: bytes) -> int:
    if not word.isdigit() or int(word) > 65535:
        raise ValueError("not a port")
    return int(word)


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_HEAD.size:
        return None
    _, command, family, length = _V2_HEAD.unpack_from(data)
    size = _V2_HEAD.size + length
    if command not in (_V2_LOCAL, _V2_PROXY) or size > MAX_V2_BYTES:
        raise ProxyHeaderInvalid
    if len(data) < size:
        return None
    if command == _V2_LOCAL or family in _V2_NAMELESS:
        return ProxyHeader(size, None)
    form = _V2_FORMS.get(family)
    if form is None or length < form.size:
        raise ProxyHeaderInvalid
    source, _, port, _ = form.unpack_from(data, _V2_HEAD.size)
    return ProxyHeader(size, (str(ip_address(source)), port))


def receive(connection: Connection) -> Address | None:
    """Take the header from a connection, and return its client; None: it is the proxy's own.

    Raises ProxyHeaderInvalid; ConnectionError if the connection is gone or the guard has cut it.
    """
    data = b""
    while True:
        piece = connection.recv(MAX_V2_BYTES)
        if not piece:
            raise ConnectionResetError
        data += piece
        header = parse(data)
        if header is not None:
            connection.put_back(data[header.size :])
            return header.client
