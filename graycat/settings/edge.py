"""Settings of a server that others reach by another address than its own: its links, its proxies, pages elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from graycat.settings.rules import addresses, optional_port, plain

#: A host as a browser writes it: ASCII in lower case, an IPv6 address in brackets.
_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\]")
#: One part of a prefix. Nothing in it may be quoted, so proxies, browsers and graycat all write it the same way.
_SEGMENT = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
#: Ports that browsers leave out of an origin.
_DEFAULT_PORTS = {"http": 80, "https": 443}


def public_url() -> Any:
    """Return a field for the address by which callers reach this server; '' if it is that which they call."""
    return plain("", check=_check_public_url)


def origins() -> Any:
    """Return a field for origins of web pages, parted by commas."""
    return plain("", check=_check_origins)


def split_origins(text: str) -> list[str]:
    """Return the origins in such a field."""
    return [item.strip() for item in text.split(",") if item.strip()]


def _check_public_url(value: str) -> str:
    if not value:
        return ""
    parts = _split(value)
    if parts is None or parts.scheme not in _DEFAULT_PORTS or not _is_host(parts):
        return f"must be like https://HOST or https://HOST:PORT/PREFIX, with the host in lower case, not {value!r}"
    if "?" in value or "#" in value or "@" in value:
        return "must have no user, no query and no fragment: paths are added to its end"
    path = parts.path.rstrip("/")
    for segment in path.split("/")[1:]:
        if not _SEGMENT.fullmatch(segment):
            return f"has {segment!r} in its prefix: use letters, digits, dots (not first), dashes, underscores and ~"
    return ""


def _check_origins(value: str) -> str:
    for origin in split_origins(value):
        wrong = _check_origin(origin)
        if wrong:
            return wrong
    return ""


def _check_origin(origin: str) -> str:
    """Return what is wrong with an origin. Browsers compare it letter by letter, so it must be as they write it."""
    if origin in ("*", "null"):
        return f"must name each origin; {origin!r} is every page"
    parts = _split(origin)
    if parts is None or not _SCHEME.fullmatch(origin.partition("://")[0]) or not _is_host(parts):
        return f"must be origins like https://HOST or https://HOST:PORT in lower case, parted by commas, not {origin!r}"
    if origin != f"{parts.scheme}://{parts.netloc}":
        return f"must be origins without a path, not even a '/' at the end: {origin!r}"
    if parts.port is not None and _DEFAULT_PORTS.get(parts.scheme) == parts.port:
        return f"must not name a scheme's own port, which browsers leave out: {origin!r}"
    return ""


def _split(value: str) -> SplitResult | None:
    """Return the parts of an address; None if it is none. Reading ``port`` does not fail then."""
    if not value.isascii() or not value.isprintable() or " " in value:
        return None
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _is_host(parts: SplitResult) -> bool:
    host = parts.netloc
    if parts.port is not None:
        host = host.removesuffix(f":{parts.port}")
    return _HOST.fullmatch(host) is not None


@dataclass(frozen=True, kw_only=True)
class EdgeSettings:
    """What stands between callers and this server; docs/edge.md."""

    #: The address of this server for its callers (``https://play.example/gpu``); every link begins with it. Empty:
    #: links are paths.
    public_url: str = public_url()
    #: Origins of the web pages that may call the API (``https://game.example``), parted by commas. Empty: none.
    cors_origins: str = origins()
    #: A port for proxies that pass on TCP connections and say whose each is (the PROXY protocol, v1 or v2). It is open
    #: to ``trusted_addresses`` alone. 0: none.
    proxy_protocol_port: int = optional_port()
    #: Addresses and networks, parted by commas, of HTTP proxies whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are
    #: believed. Empty: nobody's.
    forwarded_from: str = addresses("")

    @property
    def public_base(self) -> str:
        """Return what stands in front of a path in a link; '' if links are paths."""
        return self.public_url.rstrip("/")

    @property
    def public_prefix(self) -> str:
        """Return the path in ``public_url`` (``/gpu``); '' if it has none."""
        return urlsplit(self.public_base).path

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """Return the origins whose pages may call the API."""
        return tuple(split_origins(self.cors_origins))
