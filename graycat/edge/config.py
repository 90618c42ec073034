"""What a proxy before graycat must do, computed from the settings, and whether the settings allow it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from graycat.errors import SettingsError
from graycat.families import FAMILIES
from graycat.params import MAX_WAIT_S
from graycat.settings import LOOPBACK, Settings, variable
from graycat.settings.rules import networks

NGINX, HAPROXY, CADDY = "nginx", "haproxy", "caddy"
PROGRAMS = (NGINX, HAPROXY, CADDY)
#: Programs that can end TLS and pass on the TCP connection.
WITH_TCP = (NGINX, HAPROXY)

#: Seconds for which graycat may be late with an answer: the proxy must be later still.
MARGIN_S = 30.0
#: The longest time-out that all three programs can count, in seconds (their timers have 31 bits of milliseconds).
MAX_TIMEOUT_S = 2_000_000.0
#: The most that nginx counts: connections of one address, open files that a Linux system allows, half of them for
#: connections, and bytes of a body.
MAX_PER_ADDRESS, MAX_OPEN_FILES, MAX_BODY_BYTES = 65_535, 524_288, 2**53
#: One client at HTTP level takes two connections of a proxy, and twice two of an nginx.
CONNECTIONS_PER_CLIENT = 4
HTTPS_PORT = 443
#: Characters that no program's configuration gives a meaning.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+@~-]+")
_PLAIN_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class EdgeOptions:
    """What the settings do not know: where the proxy listens, its certificate, where it finds graycat."""

    #: PEM files: the certificate with its chain, and its key. Without ``key`` both are in one file.
    certificate: str = ""
    key: str = ""
    #: Hosts on which ``graycat web`` runs; none: this machine.
    servers: Sequence[str] = ()
    #: Names beside that of the public address.
    names: Sequence[str] = ()
    #: 0: the port of the public address.
    port: int = 0
    #: nginx's own port between its TCP level and its HTTP level, on this machine's loopback.
    inner_port: int = 8444
    ipv6: bool = True
    #: Seconds for which browsers call the name over https only; 0: they are not told.
    hsts_s: int = 365 * 24 * 3600
    #: nginx's log of requests; '' for none.
    access_log: str = "/var/log/nginx/access.log"


@dataclass(frozen=True, kw_only=True)
class Server:
    """One ``graycat web``: where it takes HTTP, and connections of a TCP proxy."""

    host: str
    port: int
    proxy_protocol_port: int

    @property
    def is_name(self) -> bool:
        """Return whether its host has to be looked up."""
        return not _is_address(self.host)

    @property
    def http(self) -> str:
        """Return its address for HTTP."""
        return f"{_bracketed(self.host)}:{self.port}"

    @property
    def tcp(self) -> str:
        """Return its address for TCP connections with a PROXY protocol header."""
        return f"{_bracketed(self.host)}:{self.proxy_protocol_port}"


@dataclass(frozen=True, kw_only=True)
class EdgeConfig:
    """All that a configuration is made of. Times are in seconds."""

    servers: tuple[Server, ...]
    #: As a browser writes them: an IPv6 address in brackets.
    names: tuple[str, ...]
    port: int
    inner_port: int
    ipv6: bool
    certificate: str
    key: str
    hsts_s: int
    access_log: str
    origins: tuple[str, ...]

    #: The longest that a whole answer can take without a byte.
    longest_wait_s: float
    head_timeout_s: float
    body_timeout_s: float
    write_timeout_s: float
    idle_timeout_s: float
    max_body_bytes: int
    max_connections: int
    max_connections_per_address: int

    @property
    def max_open_files(self) -> int:
        """Return how many connections the proxy itself may have."""
        return min(CONNECTIONS_PER_CLIENT * self.max_connections * len(self.servers), MAX_OPEN_FILES)

    @property
    def has_names(self) -> bool:
        """Return whether the address of a server has to be looked up."""
        return any(server.is_name for server in self.servers)


def make_config(program: str, settings: Settings, options: EdgeOptions) -> EdgeConfig:
    """Return what a program's configuration is made of.

    Raises SettingsError if the settings, the options and the program cannot work together.
    """
    _check_settings(program, settings)
    _check_options(program, options)
    hosts = tuple(dict.fromkeys(map(_bare, options.servers))) or (_own_host(settings),)
    for host in hosts:
        _check_reaches(program, settings, host)
    public = urlsplit(settings.public_base)
    port = options.port or public.port or HTTPS_PORT
    _check_ports(program, settings, hosts, {"--port": port, "--inner-port": options.inner_port})
    ports = {"port": settings.port, "proxy_protocol_port": settings.proxy_protocol_port}
    return EdgeConfig(
        servers=tuple(Server(host=host, **ports) for host in hosts),
        names=tuple(dict.fromkeys(map(_bracketed, (str(public.hostname), *options.names)))),
        port=port,
        inner_port=options.inner_port,
        ipv6=options.ipv6,
        certificate=options.certificate,
        key=options.key or options.certificate,
        hsts_s=options.hsts_s,
        access_log=options.access_log,
        origins=settings.allowed_origins,
        longest_wait_s=longest_wait_s(settings),
        head_timeout_s=min(settings.head_timeout_s, MAX_TIMEOUT_S),
        body_timeout_s=min(settings.body_timeout_s, MAX_TIMEOUT_S),
        write_timeout_s=min(settings.write_timeout_s, MAX_TIMEOUT_S),
        idle_timeout_s=min(settings.idle_timeout_s, MAX_TIMEOUT_S),
        max_body_bytes=min(max(settings.max_body_bytes, settings.max_image_body_bytes), MAX_BODY_BYTES),
        max_connections=min(settings.max_connections, MAX_OPEN_FILES),
        max_connections_per_address=min(settings.max_connections_per_address, MAX_PER_ADDRESS),
    )


def longest_wait_s(settings: Settings) -> float:
    """Return the longest that a client waits for the first byte of an answer, with some time to spare."""
    waits = [sum(family.deadlines(settings)) for family in FAMILIES]
    return min(max(MAX_WAIT_S, *waits) + MARGIN_S, MAX_TIMEOUT_S)


def duration(seconds: float) -> str:
    """Return a time as all three programs read it."""
    if seconds == int(seconds):
        return f"{int(seconds)}s"
    return f"{math.ceil(seconds * 1000)}ms"


def _check_settings(program: str, settings: Settings) -> None:
    if settings.remote is not None:
        raise SettingsError("REMOTE: no web server runs on this machine; use the settings of the machine that has it")
    if not settings.public_url.startswith("https://"):
        raise SettingsError(
            f"set {variable('public_url')}=https://YOUR.NAME for every process of graycat: the proxy is called by that "
            f"name, and links begin with it"
        )
    if program in WITH_TCP and not settings.proxy_protocol_port:
        raise SettingsError(
            f"set {variable('proxy_protocol_port')}=8001 (or another free port) for graycat web: {program} passes on "
            f"games' connections to it"
        )


def _check_options(program: str, options: EdgeOptions) -> None:
    if program in WITH_TCP:
        _check_tcp_options(program, options)
    if options.key and not options.certificate:
        raise SettingsError("--key needs --certificate FILE")
    for path in (options.certificate, options.key, options.access_log):
        if path and not _PLAIN_PATH.fullmatch(path):
            raise SettingsError(f"a path may have letters, digits and / . _ + @ ~ - only, not {path!r}")
    for host in (*options.servers, *options.names):
        if not _is_host(host):
            raise SettingsError(f"{host!r} is no name and no IP address")


def _is_host(host: str) -> bool:
    """Return whether a host is a name or an IP address, and cannot be anything else in a configuration."""
    return _PLAIN_HOST.fullmatch(host) is not None or _is_address(host)


def _check_tcp_options(program: str, options: EdgeOptions) -> None:
    if not options.certificate:
        raise SettingsError(f"{program} needs --certificate FILE")
    if options.names:
        raise SettingsError(f"--name is for caddy: {program} takes every name that its certificate has")
    if program == HAPROXY and options.key:
        join = "cat fullchain.pem privkey.pem > FILE"
        raise SettingsError(f"haproxy reads certificate and key from one file: {join}, and --certificate FILE")


def _check_reaches(program: str, settings: Settings, host: str) -> None:
    """Check that graycat listens where the proxy calls it, and believes it. Raises SettingsError."""
    is_here = _is_loopback(host)
    if not is_here and settings.host in LOOPBACK:
        raise SettingsError(f"HOST={settings.host} takes connections of this machine only, not from a proxy of {host}")
    wanted = {"forwarded_from": settings.forwarded_from}
    if program in WITH_TCP:
        wanted["trusted_addresses"] = settings.trusted_addresses
    for name, value in wanted.items():
        if not _has_proxy(value, host, is_here=is_here):
            address = "the proxy's address"
            if is_here:
                address = _bare(host)
            raise SettingsError(
                f"{variable(name)} must have {address}: graycat web does not believe the proxy without it"
            )


def _has_proxy(value: str, host: str, *, is_here: bool) -> bool:
    """Return whether addresses and networks have the proxy's: on this machine it is known, elsewhere any other."""
    found = networks(value)
    if is_here:
        address = ip_address(_bare(host))
        return any(address in network for network in found)
    return any(not network.is_loopback for network in found)


def _check_ports(program: str, settings: Settings, hosts: Sequence[str], ports: dict[str, int]) -> None:
    """Check that the proxy's own ports are not graycat's, if both are on one machine. Raises SettingsError."""
    if program != NGINX:
        ports = {"--port": ports["--port"]}
    taken = {}
    if any(_is_loopback(host) for host in hosts):
        taken = {settings.port: "PORT", settings.proxy_protocol_port: variable("proxy_protocol_port")}
    for name, port in ports.items():
        if port in taken:
            raise SettingsError(f"{name} {port} is the same port as {taken[port]}")
        taken[port] = name


def _own_host(settings: Settings) -> str:
    """Return where graycat is reached on this machine. Raises SettingsError if that is no address for a proxy."""
    if settings.host in ("", "0.0.0.0", "localhost"):  # noqa: S104 (compared, not bound)
        return "127.0.0.1"
    if settings.host in ("::", "[::]"):
        return "::1"
    if not _is_host(settings.host):
        raise SettingsError(f"HOST={settings.host!r} is no name and no IP address")
    return _bare(settings.host)


def _is_loopback(host: str) -> bool:
    return _is_address(host) and ip_address(_bare(host)).is_loopback


def _is_address(host: str) -> bool:
    try:
        address = ip_address(_bare(host))
    except ValueError:
        return False
    # Python takes any text behind the "%" of an IPv6 address.
    return "%" not in str(address)


def _bare(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1]
    return host


def _bracketed(host: str) -> str:
    if ":" in host and not host.startswith("["):
        return f"[{host}]"
    return host
