"""HTTP requests to one server, repeated while the server is away or busy.

A request may therefore reach the server twice. Every request of the client is made so that it still counts once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from graycat import __version__
from graycat.client.error_parsing import parse_error
from graycat.client.errors import ApiError, InvalidArgument, UnexpectedReply, Unreachable

#: Seconds in which a server accepts a connection.
CONNECT_TIMEOUT_S = 10.0
#: Seconds that a server may be silent before its answer.
READ_TIMEOUT_S = 60.0
#: Pauses between two attempts if the server names none: the first, doubled each time up to the largest.
FIRST_PAUSE_S, MAX_PAUSE_S = 0.2, 5.0
#: What a proxy answers while the server behind it is away.
PROXY_STATUSES = (502, 504)


class BearerAuth(AuthBase):
    """Sends an API token. It is an ``auth`` because requests would let a ``.netrc`` overrule a plain header."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the API token into a request."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


@dataclass(frozen=True, slots=True)
class RetryableFailure:
    """An attempt that failed, though the same request may succeed in a moment."""

    error: ApiError | Unreachable
    #: Seconds after which the server asks for the next attempt; None if it names none.
    retry_after_s: float | None = None


class HttpTransport:
    """Sends requests to one server. ``patience_s``: seconds for which a failed request is repeated."""

    def __init__(self, url: str, token: str, patience_s: float) -> None:
        if not is_http_address(url):
            raise InvalidArgument(f"the address must be like http://HOST:PORT, not {url!r}")
        if not token.isascii() or not token.isprintable():
            raise InvalidArgument("the API token has a character that no API token has: copy it again")
        self.url = url.rstrip("/")
        self.patience_s = patience_s
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"graycat-client/{__version__}"
        if token:
            self._session.auth = BearerAuth(token)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def request(
        self, method: str, path: str, *, until: float | None = None, read_s: float = READ_TIMEOUT_S, **options: Any
    ) -> requests.Response:
        """Return the answer to a request; its status is below 300, or 304.

        ``until``: when to give up (``time.monotonic()``), by default after ``patience_s``. ``read_s``: seconds that
        the server may be silent. The other options are those of ``requests``.
        Raises ApiError, Unreachable, UnexpectedReply; InvalidArgument for text that HTTP cannot carry.
        """
        _check_writable(options)
        give_up_at = until
        if give_up_at is None:
            give_up_at = monotonic() + self.patience_s

        attempts = 0
        while True:
            outcome = self._attempt(method, path, timeout=(CONNECT_TIMEOUT_S, read_s), **options)
            if isinstance(outcome, requests.Response):
                return outcome

            pause_s = outcome.retry_after_s
            if pause_s is None:
                pause_s = backoff_s(attempts)
            if monotonic() + pause_s > give_up_at:
                raise outcome.error
            sleep(pause_s)
            attempts += 1

    def _attempt(self, method: str, path: str, **options: Any) -> requests.Response | RetryableFailure:
        """Send a request once. Raises the errors that another attempt would meet again."""
        try:
            response = self._session.request(method, self.url + path, allow_redirects=False, **options)
        except requests.exceptions.SSLError as error:
            raise Unreachable(f"{self.url}: {why_no_tls(error)}") from error
        except requests.RequestException as error:
            if not is_connection_loss(error):
                raise UnexpectedReply(f"{self.url}: {error}") from error
            return RetryableFailure(Unreachable(f"{self.url} cannot be reached: {root_cause(error)}"))

        if response.status_code < 300 or response.status_code == 304:
            return response
        with response:
            if response.is_redirect:
                raise UnexpectedReply(f"{self.url} redirects to {response.headers['Location']}: use that address")
            retry_after_s = parse_retry_after(response.headers.get("Retry-After"))
            problem = parse_error(response.status_code, response.content, retry_after_s)
        if not is_retryable(problem):
            raise problem
        return RetryableFailure(problem, retry_after_s)


def _check_writable(options: dict[str, Any]) -> None:
    """Raise InvalidArgument for a header that is no ASCII, and for half a character in the query.

    A command line in another encoding than UTF-8 is read as such halves.
    """
    for name, value in (options.get("headers") or {}).items():
        if not value.isascii() or not value.isprintable():
            raise InvalidArgument(f"{name} may hold printable ASCII characters alone, not {value!r}")
    for name, value in (options.get("params") or {}).items():
        for text in value if isinstance(value, (list, tuple)) else (value,):
            try:
                str(text).encode()
            except UnicodeEncodeError:
                raise InvalidArgument(f"{name!r} has a character that UTF-8 cannot write: {text!r}") from None


def is_retryable(problem: ApiError) -> bool:
    """Return whether the same request may succeed in a moment."""
    if problem.status == 429:
        # Without a time, the request itself asks for too much.
        return problem.retry_after_s is not None
    return problem.status == 503 or (problem.status in PROXY_STATUSES and problem.type == "server_error")


def is_connection_loss(error: requests.RequestException) -> bool:
    """Return whether the connection to the server failed, which may work again in a moment."""
    losses = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, losses) and not isinstance(error, requests.exceptions.SSLError)


def why_no_tls(error: requests.exceptions.SSLError) -> str:
    """Return why no TLS connection was made, and what to do about a certificate."""
    cause = next((part for part in error.args if getattr(part, "reason", None)), error)
    reason = root_cause(getattr(cause, "reason", error))
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        reason = reason.partition("certificate verify failed: ")[2].partition(" (_ssl")[0] or reason
        return (
            f"its certificate is not trusted here ({reason}): "
            "name the file with the certificate of its authority in REQUESTS_CA_BUNDLE"
        )
    return f"no TLS connection: {reason}"


def root_cause(error: Exception) -> str:
    """Return the innermost reason of a failed request: the operating system's own words."""
    cause: BaseException = error
    while True:
        inner = cause.__cause__ or cause.__context__
        if inner is None:
            if isinstance(cause, OSError) and cause.strerror:
                return cause.strerror
            return str(cause) or type(cause).__name__
        cause = inner


def is_http_address(url: str) -> bool:
    """Return whether a text can be the address of a server."""
    try:
        parts = urlsplit(url)
        # Its port is read when it is asked for: one above 65535, or of letters, is a ValueError only then.
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def backoff_s(attempts: int) -> float:
    """Return the seconds until the next attempt; random, so that clients do not come back at the same moment."""
    longest = min(FIRST_PAUSE_S * 2 ** min(attempts, 10), MAX_PAUSE_S)
    pause_s: float = longest * random.uniform(0.5, 1.0)  # noqa: S311 (nobody gains by guessing it)
    return pause_s


def parse_retry_after(header: str | None) -> float | None:
    """Return the seconds of a ``Retry-After``, which is a number or a date; None if it is missing or invalid."""
    if not header:
        return None
    try:
        return max(float(header), 0.0)
    except ValueError:
        pass
    try:
        left = parsedate_to_datetime(header) - datetime.now(UTC)
    except (ValueError, TypeError):
        return None
    return max(left.total_seconds(), 0.0)


def parse_object(response: requests.Response) -> dict[str, Any]:
    """Return an answer's JSON object. Raises UnexpectedReply."""
    try:
        value = response.json()
    except requests.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        address, _, _ = response.url.partition("?")
        raise unexpected_reply(address)
    return value


def unexpected_reply(url: str) -> UnexpectedReply:
    """Return the error for an answer that no graycat server sends."""
    return UnexpectedReply(f"{url} did not answer as graycat does: check the address")
