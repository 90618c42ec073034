"""Errors of the client's connection, and of requests that the server could not read as HTTP."""

from __future__ import annotations

from graycat.client.errors import Forbidden, RequestError, ServerError, Unavailable


class TooManyConnections(RequestError):
    """Raised when the client's address has too many connections to the server."""

    type = "too_many_connections"


class NotAProxy(Forbidden):
    """Raised when the client calls the port that is for the server's own proxies."""

    type = "not_a_proxy"


class ProxyHeaderInvalid(RequestError):
    """Raised when a proxy in front of the server does not say who its client is."""

    type = "proxy_header_invalid"


class ServerBusy(Unavailable):
    """Raised when the server has as many requests as it takes."""

    type = "server_busy"


class RequestTimeout(RequestError):
    """Raised when the request reached the server too slowly."""

    type = "request_timeout"


class MalformedRequest(RequestError):
    """Raised when what reached the server is not HTTP."""

    type = "malformed_request"


class UriTooLong(RequestError):
    """Raised when the address of the request is too long."""

    type = "uri_too_long"


class UnsupportedEncoding(RequestError):
    """Raised when the body is compressed."""

    type = "unsupported_encoding"


class ExpectationFailed(RequestError):
    """Raised when the request expects what the server does not do."""

    type = "expectation_failed"


class HeadersTooLarge(RequestError):
    """Raised when the request's headers are too many or too long."""

    type = "headers_too_large"


class UnsupportedTransferEncoding(ServerError):
    """Raised when the body comes in a form that the server does not take."""

    type = "unsupported_transfer_encoding"
