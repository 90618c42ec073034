"""The broker's address, in the form that redis-py and kombu read."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from urllib.parse import quote, urlsplit

#: The longest path the kernel takes for a Unix socket is 107 bytes; Valkey adds a suffix while it binds.
MAX_SOCKET_PATH = 90

#: How an address may begin.
SCHEMES = ("redis://", "rediss://", "unix://", "sentinel://", "sentinels://")


def is_known(url: str) -> bool:
    """Return whether an address is of a kind that graycat can use."""
    return url.startswith(SCHEMES)


def has_port(url: str) -> bool:
    """Return whether the port in an address can be one. Addresses of Sentinels are read elsewhere."""
    if url.startswith("sentinel"):
        return True
    try:
        # Its port is read when it is asked for.
        return urlsplit(url).port != 0
    except ValueError:
        return False


def embedded_socket(home: Path) -> Path:
    """Return the socket of the embedded Valkey: in ``home``, or in a private folder if that path is too long."""
    path = (home / "broker" / "valkey.sock").resolve()
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"graycat-{os.getuid()}-{digest}" / "valkey.sock"


def host_url(host: str, password: str) -> str:
    """Return the address of a broker on port 6379 of a host."""
    auth = ""
    if password:
        auth = f":{quote(password, safe='')}@"
    return f"redis://{auth}{host}:6379/0"


def add_tls_options(url: str, ca_file: str) -> str:
    """Add certificate checks to a ``rediss://`` address; any other is returned as it is.

    ``ca_file``: PEM of the CA that must have signed the certificate, '' for those that this machine trusts. Without
    these options kombu accepts every certificate.
    """
    if not uses_tls(url):
        return url
    options = []
    if "ssl_cert_reqs=" not in url:
        options.append("ssl_cert_reqs=required")
    if ca_file:
        options.append(f"ssl_ca_certs={quote(ca_file)}")
    if not options:
        return url
    separator = "?"
    if "?" in url:
        separator = "&"
    return url + separator + "&".join(options)


def uses_tls(url: str) -> bool:
    """Return whether an address is that of a broker behind TLS."""
    return url.startswith(("rediss://", "sentinels://"))
