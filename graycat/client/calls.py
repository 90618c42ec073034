"""Calls to a server, tried again while it is away or busy: every one of them may be sent twice and counts once."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from graycat import __version__
from graycat.client.errors import ApiError, InvalidArgument, UnexpectedReply, Unreachable, error_in

#: A server that is there takes a connection within this many seconds, and answers within this many.
CONNECT_S, READ_S = 10.0, 60.0
#: Pauses between two tries, in seconds, where the server names none: doubled up to the larger.
FIRST_PAUSE_S, MAX_PAUSE_S = 0.2, 5.0
#: What a proxy answers while the server behind it is away.
PROXY_STATUSES = (502, 504)


class BearerAuth(AuthBase):
    """Sends an API token. As an ``auth``, since requests would let a ``.netrc`` overrule a plain header."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the API token into a request."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Caller:
    """Sends requests to one address. ``patience_s``: seconds that a call is tried for before it fails."""

    def __init__(self, url: str, token: str, patience_s: float) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise InvalidArgument(f"the address must be like http://HOST:PORT, not {url!r}")
        if not token.isascii() or not token.isprintable():
            raise InvalidArgument("the API token holds what no API token does")
        self.url = url.rstrip("/")
        self.patience_s = patience_s
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"graycat-client/{__version__}"
        if token:
            self._session.auth = BearerAuth(token)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def call(
        self, method: str, path: str, *, until: float | None = None, read_s: float = READ_S, **options: Any
    ) -> requests.Response:
        """Return the answer to a request; its status is below 400.

        ``until``: when to give up (``time.monotonic()``), by default when the patience ends. ``read_s``: seconds that
        the server may be silent. The other options are those of ``requests``. Raises ApiError, Unreachable.
        """
        give_up_at = monotonic() + self.patience_s if until is None else until
        tries = 0
        while True:
            problem, after_s = self._try(method, path, timeout=(CONNECT_S, read_s), **options)
            if isinstance(problem, requests.Response):
                return problem
            pause_s = pause_of(tries) if after_s is None else after_s
            if monotonic() + pause_s > give_up_at:
                raise problem
            sleep(pause_s)
            tries += 1

    def _try(
        self, method: str, path: str, **options: Any
    ) -> tuple[requests.Response | ApiError | Unreachable, float | None]:
        """Return an answer, or what would be raised, with the pause that the server asks for. Raises what will stay."""
        try:
            response = self._session.request(method, self.url + path, allow_redirects=False, **options)
        except requests.exceptions.SSLError as error:
            raise Unreachable(f"{self.url}: {error}") from error
        except requests.RequestException as error:
            if not is_lost(error):
                raise UnexpectedReply(f"{self.url}: {error}") from error
            return Unreachable(f"{self.url} cannot be reached: {reason_of(error)}"), None
        if response.status_code < 300 or response.status_code == 304:
            return response, None
        with response:
            if response.is_redirect:
                raise UnexpectedReply(f"{self.url} sends on to {response.headers['Location']}: use that address")
            problem = error_in(response.status_code, response.content, seconds(response.headers.get("Retry-After")))
        if not worth_retrying(problem):
            raise problem
        return problem, problem.retry_after_s


def worth_retrying(problem: ApiError) -> bool:
    """Tell whether the same request may succeed in a moment."""
    if problem.status == 429:
        # Without a time, the request itself asks for too much.
        return problem.retry_after_s is not None
    return problem.status == 503 or (problem.status in PROXY_STATUSES and problem.type == "server_error")


def is_lost(error: requests.RequestException) -> bool:
    """Tell whether an error is one of the way to the server, which may be whole again in a moment."""
    ways = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, ways) and not isinstance(error, requests.exceptions.SSLError)


def reason_of(error: Exception) -> str:
    """Return the innermost reason of a failed request: what the operating system said."""
    cause: BaseException = error
    while (below := cause.__cause__ or cause.__context__) is not None:
        cause = below
    return str(cause) or type(cause).__name__


def pause_of(tries: int) -> float:
    """Return the seconds until the next try; never the same for two clients, so that they do not come back at once."""
    longest = min(FIRST_PAUSE_S * 2 ** min(tries, 10), MAX_PAUSE_S)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 (nobody gains by guessing it)


def seconds(retry_after: str | None) -> float | None:
    """Return what a ``Retry-After`` says, in seconds; a proxy may send a date."""
    if not retry_after:
        return None
    try:
        return max(float(retry_after), 0.0)
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None


def object_in(response: requests.Response) -> dict[str, Any]:
    """Return an answer's JSON object. Raises UnexpectedReply."""
    try:
        value = response.json()
    except requests.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise UnexpectedReply(f"{response.url.partition('?')[0]} did not answer as graycat does")
    return value
