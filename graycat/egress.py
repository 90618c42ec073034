"""Egress policy: which URLs callers may make graycat request (SSRF protection), and the operator's allowlist."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from graycat.errors import SettingsError

IPAddress = IPv4Address | IPv6Address

MAX_URL_CHARS = 2048
DEFAULT_PORTS = {"https": 443, "http": 80}
#: Ports below this one belong to other services. Callers cannot make graycat connect to them, except to 443.
FIRST_FREE_PORT = 1024

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
#: Resolvers read a name whose last label looks like this as an IPv4 address, in one of several notations.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

#: Networks that are not public: besides private and reserved ones, the addresses at which clouds give a machine its
#: credentials. 169.254.169.254, 100.100.100.200, 192.0.0.192 and fd00:ec2::254 are in the networks below;
#: 168.63.129.16 looks public.
_NOT_PUBLIC = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        # Teredo and other protocols' own; documentation.
        *("2001::/23", "2001:db8::/32", "3fff::/20"),
    )
)
_GLOBAL_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")
_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")


def is_public(address: IPAddress) -> bool:
    """Return whether an address is public. An IPv6 address that contains an IPv4 address is public if both are."""
    if isinstance(address, IPv6Address):
        tail = IPv4Address(address.packed[12:])
        if address.ipv4_mapped or address in _NAT64:
            return is_public(tail)
        if address not in _GLOBAL_UNICAST:
            return False
        inner = address.sixtofour
        if inner is None and address.packed[8:12] in _ISATAP:
            inner = tail
        if inner is not None and not is_public(inner):
            return False
    return address.is_global and not any(address in network for network in _NOT_PUBLIC)


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of an http or https URL. ``path`` is sent unchanged."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def literal(self) -> IPAddress | None:
        """Return the host's IP address; None if the host is a name."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """Return the host, with the port if it is not the default of the scheme."""
        host = self.host
        if ":" in host:
            host = f"[{host}]"
        if self.port == DEFAULT_PORTS[self.scheme]:
            return host
        return f"{host}:{self.port}"

    @classmethod
    def from_url(cls, url: str) -> Target:
        """Return the parts of ``url``. Raises ValueError, which never repeats the URL: it may contain a secret."""
        parts = _split(url)
        if parts.scheme not in DEFAULT_PORTS:
            raise ValueError("must begin with https://")
        if "@" in parts.netloc:
            raise ValueError("must not hold a user or a password")
        if "#" in url:
            raise ValueError("must not hold a fragment")
        host = _normalize_host(parts.hostname or "", bracketed="[" in parts.netloc)
        path = parts.path or "/"
        if parts.query:
            path += f"?{parts.query}"
        return cls(parts.scheme, host, _port(parts), path)


def _split(url: str) -> SplitResult:
    """Return the parts of a URL. Raises ValueError if it is too long, or has characters that a URL cannot have."""
    if len(url) > MAX_URL_CHARS:
        raise ValueError(f"is longer than {MAX_URL_CHARS} characters")
    if not re.fullmatch(r"[!-~]*", url) or "\\" in url:
        raise ValueError("may hold plain ASCII only: no blanks, a host's name as xn--..., all else %-encoded")
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError("has an invalid host") from None


def _port(parts: SplitResult) -> int:
    """Return the port of a URL. Raises ValueError if it is invalid."""
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port is None:
        return DEFAULT_PORTS[parts.scheme]
    if port == 0:
        raise ValueError("has an invalid port")
    return port


def _normalize_host(host: str, *, bracketed: bool) -> str:
    """Return a host as it is looked up. Raises ValueError if it is neither a name nor an IP address."""
    address: IPAddress
    try:
        if bracketed:
            address = IPv6Address(host)
        elif _NUMBER.fullmatch(host.rpartition(".")[2]):
            address = IPv4Address(host)
        else:
            if len(host) > 253 or not _NAME.fullmatch(host):
                raise ValueError
            return host
        # A zone index would select a network interface of this machine.
        if "%" in host:
            raise ValueError
    except ValueError:
        raise ValueError("has an invalid host") from None
    return str(address)


@dataclass(frozen=True, slots=True)
class Allowlist:
    """Hosts and networks that an operator allows beside public addresses over https."""

    hosts: frozenset[tuple[str, int]] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def names(self, target: Target) -> bool:
        """Return whether a target's host and port are on the list."""
        return (target.host, target.port) in self.hosts

    def holds(self, address: IPAddress) -> bool:
        """Return whether an address is in one of the networks."""
        return any(address in network for network in self.networks)

    def permits(self, target: Target, address: IPAddress) -> bool:
        """Return whether a target may be requested at an address."""
        if self.names(target) or self.holds(address):
            return True
        return not _complaint_without_list(target) and is_public(address)

    def complaint(self, target: Target) -> str:
        """Return why a target may not be requested, whatever its name resolves to; '' if it may depend on that."""
        if self.names(target):
            return ""
        if target.literal is not None:
            if self.permits(target, target.literal):
                return ""
            return _complaint_without_list(target) or "must be a public address"
        if self.networks:
            # The name may resolve to an address in one of them.
            return ""
        return _complaint_without_list(target)


def _complaint_without_list(target: Target) -> str:
    if target.scheme != "https":
        return "must begin with https://"
    if target.port != 443 and target.port < FIRST_FREE_PORT:
        return f"must have port 443, or one from {FIRST_FREE_PORT} on"
    if target.host == "localhost" or target.host.endswith(".localhost"):
        return "must be a public address"
    return ""


@lru_cache(maxsize=8)
def allowlist(text: str, variable: str = "GRAYCAT_WEBHOOK_ALLOW") -> Allowlist:
    """Return the allowlist in a setting. Raises SettingsError naming its variable."""
    hosts: set[tuple[str, int]] = set()
    networks = []
    for item in filter(None, map(str.strip, text.split(","))):
        try:
            if "/" in item:
                networks.append(ip_network(item))
            else:
                hosts |= _parse_host_item(item.lower())
        except ValueError:
            raise SettingsError(f"{variable}: {item!r} is no host, host:port or network (10.0.0.0/8)") from None
    return Allowlist(frozenset(hosts), tuple(networks))


def _parse_host_item(item: str) -> set[tuple[str, int]]:
    """Return the hosts with ports that ``host`` or ``host:port`` stands for: without a port, those of web servers."""
    parts = urlsplit(f"//{item}")
    if parts.netloc != item or "@" in item:
        raise ValueError
    host = _normalize_host(parts.hostname or "", bracketed="[" in item)
    if parts.port is None:
        return {(host, port) for port in DEFAULT_PORTS.values()}
    if parts.port == 0:
        return set()
    return {(host, parts.port)}
