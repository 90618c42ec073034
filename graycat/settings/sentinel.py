"""The address of a broker that sentinels watch: where they are, and how to log in to them and to its servers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from graycat.errors import SettingsError

SCHEMES = ("sentinel", "sentinels")
DEFAULT_PORT = 26379
FORM = "sentinel://[USER:PASSWORD@]HOST:26379,HOST:26379,HOST:26379/MASTER[/DB]"


@dataclass(frozen=True, kw_only=True)
class SentinelAddress:
    """``sentinels``: host and port of each. ``master``: the name that they know the broker by."""

    sentinels: tuple[tuple[str, int], ...]
    master: str
    db: int = 0
    #: The broker's own user and password.
    username: str = ""
    password: str = field(default="", repr=False)
    #: What the sentinels themselves ask for.
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)
    #: Whether the sentinels and the servers are behind TLS, and the CA that signed their certificates ('': any that
    #: this machine trusts).
    tls: bool = False
    ca_file: str = ""

    def __str__(self) -> str:
        """Return what may be shown, as the end of "the broker at"."""
        return f"{self.master} of {', '.join(f'{host}:{port}' for host, port in self.sentinels)}"

    #: kombu's hook: Celery puts the options of its broker into what ``inspect stats`` answers.
    __json__ = __str__

    @property
    def tls_options(self) -> dict[str, Any]:
        """Return redis-py's options for the certificate."""
        if not self.tls:
            return {}
        options = {"ssl_cert_reqs": "required"}
        if self.ca_file:
            options["ssl_ca_certs"] = self.ca_file
        return options

    @property
    def urls(self) -> list[str]:
        """Return an address of each sentinel as kombu reads it, with the broker's login and database."""
        login = ""
        if self.username or self.password:
            login = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@"
        return [f"sentinel://{login}{_bracketed(host)}:{port}/{self.db}" for host, port in self.sentinels]


def is_sentinel(url: str) -> bool:
    """Return whether an address names sentinels."""
    return url.partition("://")[0] in SCHEMES


def parse(url: str, *, username: str = "", password: str = "", ca_file: str = "") -> SentinelAddress:
    """Return what an address says. Raises SettingsError.

    ``username``, ``password``: those of the sentinels. ``ca_file``: of ``sentinels://``, see SentinelAddress.
    """
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    name, _, password_of_broker = login.partition(":")
    master, _, db = parts.path.strip("/").partition("/")
    if parts.query or parts.fragment:
        raise _malformed("takes no options")
    if not master:
        raise _malformed("lacks the master's name")
    if db and not (db.isascii() and db.isdecimal()):
        raise _malformed("ends in the number of a database")
    return SentinelAddress(
        sentinels=tuple(_parse_host(host) for host in hosts.split(",")),
        master=unquote(master),
        db=int(db or 0),
        username=unquote(name),
        password=unquote(password_of_broker),
        sentinel_username=username,
        sentinel_password=password,
        tls=parts.scheme == "sentinels",
        ca_file=ca_file,
    )


def _parse_host(text: str) -> tuple[str, int]:
    try:
        parts: SplitResult = urlsplit(f"//{text.strip()}")
        port = parts.port
    except ValueError:
        raise _malformed("has a port that is none") from None
    if not parts.hostname:
        raise _malformed("lacks the host of a sentinel")
    return parts.hostname, port or DEFAULT_PORT


def _bracketed(host: str) -> str:
    if ":" in host:
        return f"[{host}]"
    return host


def _malformed(what: str) -> SettingsError:
    # Not the address itself, which holds a password.
    return SettingsError(f"REDIS_URL {what}: its form is {FORM}")
