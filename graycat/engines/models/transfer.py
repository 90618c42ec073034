"""One HTTP reply with a part of a file: read under deadlines, its errors told without its address."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from werkzeug.http import parse_options_header

from graycat.engines.models.errors import DownloadFailed
from graycat.engines.models.sources import PLAIN_NOTE, is_private

#: Seconds that a connection may take, and each wait for bytes.
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 30.0
#: A connection that brings fewer bytes than this within so many seconds is given up for a new one.
SLOW_AFTER_S, SLOWEST_BYTES = 60.0, 60 * 1024
PIECE_BYTES = 1024 * 1024
#: No reply is asked to be longer: content networks refuse tens of gigabytes in one.
MAX_RANGE_BYTES = 32 * 1024**3
#: The longest that a server's ``Retry-After`` is heeded, in seconds.
MAX_RETRY_AFTER_S = 120.0
#: Statuses that say "later".
LATER = (408, 425, 429)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class Broken(Exception):
    """A transfer that did not end well and may do better next time."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class StartAnew(Broken):
    """The bytes that are here cannot be gone on with."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server sends, from byte ``begin`` of the file on."""

    begin: int
    #: Bytes of the whole file; None where the server does not tell.
    size: int | None
    #: What ``If-Range`` takes; '' where this reply cannot be gone on with.
    validator: str
    #: What the server calls the file: in so many words, and in the address that it led to.
    names: tuple[str, str]
    #: Whether a reply that is cut short can be told from a whole one.
    framed: bool
    pieces: Iterator[bytes]


class _PrivateOnly(HTTPAdapter):
    """Plain http, for this machine and private networks; asked at every redirect too."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        check_plain(request.url or "")
        return super().send(request, *args, **kwargs)


class _Session(requests.Session):
    """A session that leaves https for nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.mount("http://", _PrivateOnly())

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where a reply redirects to."""
        target = super().get_redirect_target(resp)
        if target and urlsplit(resp.url).scheme == "https" and urlsplit(urljoin(resp.url, target)).scheme != "https":
            raise DownloadFailed(f"the server redirects away from https; {PLAIN_NOTE}", permanent=True)
        return target


def check_plain(url: str) -> None:
    """Raise DownloadFailed for plain http to a public host."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        return
    try:
        private = is_private(parts.hostname or "")
    except OSError:
        raise Broken("the server's name cannot be resolved") from None
    if not private:
        raise DownloadFailed(PLAIN_NOTE, permanent=True)


@contextmanager
def opened(
    url: str, headers: Mapping[str, str], begin: int = 0, validator: str = "", size: int | None = None
) -> Iterator[Reply]:
    """Yield a reply with the file from ``begin`` on, or from its beginning where the file has changed.

    Raises Broken, StartAnew and DownloadFailed, also while the pieces are read.
    """
    with _errors(), _Session() as session:
        asked = dict(headers) | {"Accept-Encoding": "identity"}
        if begin or (size or 0) > MAX_RANGE_BYTES:
            last = begin + MAX_RANGE_BYTES - 1
            asked["Range"] = f"bytes={begin}-{last if (size or 0) > last else ''}"
        if begin and validator:
            asked["If-Range"] = validator
        timeout = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        with session.get(url, headers=asked, stream=True, timeout=timeout) as response:
            _check_status(response)
            yield _understood(response, begin, validator)


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status == 416:
        raise StartAnew("the file has changed")
    if status in LATER or status >= 500:
        text = response.headers.get("Retry-After", "")
        after_s = min(float(text), MAX_RETRY_AFTER_S) if text.isdecimal() else 0.0
        raise Broken(f"the server answered {status}", after_s)
    if status not in (200, 206):
        raise DownloadFailed(f"the server answered {status}", permanent=True)


def _understood(response: requests.Response, begin: int, validator: str) -> Reply:
    headers = response.headers
    encoded = headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity")
    length = headers.get("Content-Length", "")
    now = _validator(headers)
    if response.status_code == 206:
        match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        changed = bool(validator and now and now != validator)
        if match is None or int(match[1]) != begin or encoded or changed:
            raise StartAnew("the file has changed")
        size = int(match[2]) if match[2] != "*" else None
    else:
        # Compressed although asked not to be: the length is that of something else.
        begin, size = 0, int(length) if length.isdecimal() and not encoded else None
    framed = length.isdecimal() or "chunked" in headers.get("Transfer-Encoding", "").lower()
    name = parse_options_header(headers.get("Content-Disposition", ""))[1].get("filename", "")
    names = (name, unquote(urlsplit(response.url).path.rpartition("/")[2]))
    return Reply(begin, size, "" if encoded else now, names, framed, _pieces(response))


def _validator(headers: Mapping[str, str]) -> str:
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def _pieces(response: requests.Response) -> Iterator[bytes]:
    since, got = time.monotonic(), 0
    # What is there, at once: a piece that has to be full would hide a server that hardly sends anything.
    while data := response.raw.read1(PIECE_BYTES, decode_content=True):
        yield data
        got += len(data)
        if (now := time.monotonic()) - since > SLOW_AFTER_S:
            if got < SLOWEST_BYTES:
                raise Broken("the server sends hardly anything")
            since, got = now, 0


@contextmanager
def _errors() -> Iterator[None]:
    """Tell of a library's error in words of ours: its own hold the address."""
    try:
        yield
    except (requests.exceptions.SSLError, urllib3.exceptions.SSLError):
        raise DownloadFailed("the server's certificate is not trusted", permanent=True) from None
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError):
        raise Broken("the server was silent for too long") from None
    except (requests.exceptions.TooManyRedirects, requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL):
        raise DownloadFailed("the server redirects in circles, or to what is no web address", permanent=True) from None
    except requests.exceptions.ConnectionError:
        raise Broken("the server cannot be reached") from None
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError):
        raise Broken("the connection broke off") from None
