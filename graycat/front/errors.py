"""Errors of connections, and of requests that do not come as far as a view."""

from __future__ import annotations

from graycat.errors import GraycatError, RequestError


class TooManyConnections(GraycatError):
    """Raised when a client's address has as many connections as it may."""

    status, type, retry_after_s = 429, "too_many_connections", 5

    def __init__(self) -> None:
        super().__init__("your address has too many connections to this server; use each for more than one request")


class NotAProxy(GraycatError):
    """Raised when somebody else than a trusted proxy connects to the port for proxies."""

    status, type = 403, "not_a_proxy"

    def __init__(self) -> None:
        super().__init__("this port is for the server's own proxies; call the server's public address")


class ProxyHeaderInvalid(RequestError):
    """Raised when a connection to the port for proxies does not begin with a header of the PROXY protocol."""

    type = "proxy_header_invalid"

    def __init__(self) -> None:
        super().__init__("a connection to this port must begin with a PROXY protocol header (v1 or v2): turn it on")


class ServerBusy(GraycatError):
    """Raised when a web process has as many connections or bytes of bodies as it may."""

    status, type, retry_after_s = 503, "server_busy", 2

    def __init__(self) -> None:
        super().__init__("this server has as many requests as it takes; try again in a moment")


class RequestTimeout(RequestError):
    """Raised when a request's head or body comes too slowly."""

    status, type = 408, "request_timeout"

    def __init__(self) -> None:
        super().__init__("the request did not come in time; send it again, without pauses")


class MalformedRequest(RequestError):
    """Raised when what a client sends is not HTTP, or its head is ambiguous."""

    type = "malformed_request"

    def __init__(self) -> None:
        super().__init__("the request is not HTTP/1.1 (RFC 9112): look at its first line, its headers and its chunks")


class UriTooLong(RequestError):
    """Raised when the first line of a request is too long."""

    status, type = 414, "uri_too_long"

    def __init__(self) -> None:
        super().__init__("the request's first line is too long; send parameters in the body")


class UnsupportedEncoding(RequestError):
    """Raised when a body is compressed."""

    status, type = 415, "unsupported_encoding"

    def __init__(self) -> None:
        super().__init__("send the body without Content-Encoding: this server takes none that is compressed")


class ExpectationFailed(RequestError):
    """Raised when a request expects something else than ``100-continue``."""

    status, type = 417, "expectation_failed"

    def __init__(self) -> None:
        super().__init__("the only expectation that this server meets is 'Expect: 100-continue'")


class HeadersTooLarge(RequestError):
    """Raised when the headers of a request are too many or too long."""

    status, type = 431, "headers_too_large"

    def __init__(self) -> None:
        super().__init__("the request's headers are too many or too long; send fewer, or shorter ones")


class UnsupportedTransferEncoding(RequestError):
    """Raised when a body is sent in another form than whole or in chunks."""

    status, type = 501, "unsupported_transfer_encoding"

    def __init__(self) -> None:
        super().__init__("the only Transfer-Encoding that this server takes is 'chunked'")
