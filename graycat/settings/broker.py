"""Where the broker listens, as redis-py and kombu write it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from urllib.parse import quote

#: The longest path the kernel takes for a Unix socket is 107 bytes; Valkey adds a suffix while it binds.
MAX_SOCKET_PATH = 90


def embedded_socket(home: Path) -> Path:
    """Return where the embedded Valkey listens: in ``home``, or in a private folder where that path is too long."""
    path = (home / "broker" / "valkey.sock").resolve()
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"graycat-{os.getuid()}-{digest}" / "valkey.sock"


def host_url(host: str, password: str) -> str:
    """Return the address of a broker on the usual port of a host."""
    auth = f":{quote(password, safe='')}@" if password else ""
    return f"redis://{auth}{host}:6379/0"


def add_tls_options(url: str, ca_file: str) -> str:
    """Return a broker's address; behind TLS, with whose signature its certificate needs: '' is for any that is trusted.

    kombu takes every certificate where the address does not tell it otherwise.
    """
    if not uses_tls(url):
        return url
    parts = [] if "ssl_cert_reqs=" in url else ["ssl_cert_reqs=required"]
    parts += [f"ssl_ca_certs={quote(ca_file)}"] if ca_file else []
    return f"{url}{'&' if '?' in url else '?'}{'&'.join(parts)}" if parts else url


def uses_tls(url: str) -> bool:
    """Tell whether an address is that of a broker behind TLS."""
    return url.startswith("rediss://")
