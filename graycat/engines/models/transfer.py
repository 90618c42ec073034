"""One HTTP request for a file or a part of it: read under timeouts; error messages never contain the URL."""

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
from graycat.engines.models.sources import PLAIN_HTTP_NOTE, is_private_host

#: Seconds for the connection to open, and for each wait for bytes.
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 30.0
#: A connection that delivers fewer than MIN_WINDOW_BYTES within SPEED_WINDOW_S seconds is replaced by a new one.
SPEED_WINDOW_S, MIN_WINDOW_BYTES = 60.0, 60 * 1024
CHUNK_BYTES = 1024 * 1024
#: The longest range that is requested at once: content delivery networks refuse tens of gigabytes in one response.
MAX_RANGE_BYTES = 32 * 1024**3
#: The longest ``Retry-After`` that is respected, in seconds.
MAX_RETRY_AFTER_S = 120.0
#: Statuses below 500 after which the same request may succeed later.
RETRY_STATUSES = (408, 425, 429)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class TransferInterrupted(Exception):
    """A transfer that failed in a way that may not happen again."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class RestartRequired(TransferInterrupted):
    """The bytes on disk cannot be continued: the download must begin again."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """The response of a server: the content of the file from byte ``offset`` on."""

    offset: int
    #: Bytes of the complete file; None if the server does not tell.
    size: int | None
    #: The value for ``If-Range`` in later requests; '' if this response cannot be resumed.
    validator: str
    #: The file names that the server sends: in ``Content-Disposition``, and in the final URL.
    names: tuple[str, str]
    #: Whether the framing of the response shows if it was cut short.
    framed: bool
    chunks: Iterator[bytes]


class _PrivateHttpAdapter(HTTPAdapter):
    """Plain http, for this machine and private networks only; checks every redirect too."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        check_plain_http(request.url or "")
        return super().send(request, *args, **kwargs)


class _Session(requests.Session):
    """A session that never follows a redirect from https to something else."""

    def __init__(self) -> None:
        super().__init__()
        self.mount("http://", _PrivateHttpAdapter())

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return the URL that a response redirects to. Raises DownloadFailed if it leaves https."""
        target = super().get_redirect_target(resp)
        if target and urlsplit(resp.url).scheme == "https" and urlsplit(urljoin(resp.url, target)).scheme != "https":
            raise DownloadFailed(f"the server redirects away from https; {PLAIN_HTTP_NOTE}", permanent=True)
        return target


def check_plain_http(url: str) -> None:
    """Raise DownloadFailed if a URL is plain http to a public host."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        return
    try:
        private = is_private_host(parts.hostname or "")
    except OSError:
        raise TransferInterrupted("the server's name cannot be resolved") from None
    if not private:
        raise DownloadFailed(PLAIN_HTTP_NOTE, permanent=True)


@contextmanager
def open_transfer(
    url: str, headers: Mapping[str, str], offset: int = 0, validator: str = "", size: int | None = None
) -> Iterator[Transfer]:
    """Yield the file from ``offset`` on, or from its beginning if the file has changed on the server.

    ``size``: of the complete file, if it is known. Raises TransferInterrupted, RestartRequired and DownloadFailed,
    also while the chunks are read.
    """
    with _translate_errors(), _Session() as session:
        request_headers = {**headers, "Accept-Encoding": "identity"}
        too_long = size is not None and size > MAX_RANGE_BYTES
        if offset or too_long:
            request_headers["Range"] = _range_header(offset, size)
        if offset and validator:
            request_headers["If-Range"] = validator
        timeout = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        with session.get(url, headers=request_headers, stream=True, timeout=timeout) as response:
            _check_status(response)
            yield _parse_response(response, offset, validator)


def _range_header(offset: int, size: int | None) -> str:
    """Return a Range header: from ``offset`` to the end, or MAX_RANGE_BYTES of a longer rest."""
    last = offset + MAX_RANGE_BYTES - 1
    if size is not None and size > last:
        return f"bytes={offset}-{last}"
    return f"bytes={offset}-"


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status == 416:
        raise RestartRequired("the file has changed on the server")
    if status in RETRY_STATUSES or status >= 500:
        retry_after = response.headers.get("Retry-After", "")
        retry_after_s = 0.0
        if retry_after.isdecimal():
            retry_after_s = min(float(retry_after), MAX_RETRY_AFTER_S)
        raise TransferInterrupted(f"the server answered {status}", retry_after_s)
    if status not in (200, 206):
        raise DownloadFailed(f"the server answered {status}", permanent=True)


def _parse_response(response: requests.Response, offset: int, validator: str) -> Transfer:
    """Return the transfer that a response with status 200 or 206 begins. Raises RestartRequired."""
    headers = response.headers
    compressed = headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity")
    length = headers.get("Content-Length", "")
    new_validator = _read_validator(headers)

    size: int | None = None
    if response.status_code == 206:
        match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        changed = bool(validator and new_validator and new_validator != validator)
        if match is None or int(match[1]) != offset or compressed or changed:
            raise RestartRequired("the file has changed on the server")
        if match[2] != "*":
            size = int(match[2])
    else:
        offset = 0
        # If the server compresses although that was not requested, the length is that of the compressed bytes.
        if length.isdecimal() and not compressed:
            size = int(length)

    if compressed:
        new_validator = ""
    name_in_header = parse_options_header(headers.get("Content-Disposition", ""))[1].get("filename", "")
    name_in_url = unquote(urlsplit(response.url).path.rpartition("/")[2])
    return Transfer(
        offset=offset,
        size=size,
        validator=new_validator,
        names=(name_in_header, name_in_url),
        framed=length.isdecimal() or "chunked" in headers.get("Transfer-Encoding", "").lower(),
        chunks=_read_chunks(response),
    )


def _read_validator(headers: Mapping[str, str]) -> str:
    """Return what identifies this version of the file: a strong ETag, else the date; '' if there is neither."""
    etag = headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return headers.get("Last-Modified", "")


def _read_chunks(response: requests.Response) -> Iterator[bytes]:
    window_start = time.monotonic()
    window_bytes = 0
    # read1 returns what has arrived. A read of full chunks would hide a server that sends almost nothing.
    while data := response.raw.read1(CHUNK_BYTES, decode_content=True):
        yield data
        window_bytes += len(data)
        now = time.monotonic()
        if now - window_start > SPEED_WINDOW_S:
            if window_bytes < MIN_WINDOW_BYTES:
                raise TransferInterrupted("the server sends almost nothing")
            window_start = now
            window_bytes = 0


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Raise our own errors in place of the libraries', whose messages contain the URL."""
    try:
        yield
    except (requests.exceptions.SSLError, urllib3.exceptions.SSLError):
        raise DownloadFailed("the server's certificate is not trusted", permanent=True) from None
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError):
        raise TransferInterrupted("the server sent nothing for too long") from None
    except (requests.exceptions.TooManyRedirects, requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL):
        raise DownloadFailed("the server redirects in circles or to an invalid URL", permanent=True) from None
    except requests.exceptions.ConnectionError:
        raise TransferInterrupted("the server cannot be reached") from None
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError):
        raise TransferInterrupted("the connection broke off") from None
