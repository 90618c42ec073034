"""Where graycat lets itself be sent: which addresses a caller may have it call, and what an operator opens beyond."""

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
#: Ports below this one are other services': nobody gets graycat to knock there, but for 443.
FIRST_FREE_PORT = 1024

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
#: A name that ends so is read as an IPv4 address by resolvers, in whatever way it is written.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

#: What is not for everybody, or nobody's: besides private and reserved networks, addresses at which clouds tell a
#: machine its credentials. 169.254.169.254, 100.100.100.200, 192.0.0.192 and fd00:ec2::254 lie in networks named here;
#: 168.63.129.16 looks public.
_REFUSED = tuple(
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
    """Tell whether an address is somewhere on the internet, also inside of one that carries another."""
    if isinstance(address, IPv6Address):
        tail = IPv4Address(address.packed[12:])
        if address.ipv4_mapped or address in _NAT64:
            return is_public(tail)
        carried = address.sixtofour or (tail if address.packed[8:12] in _ISATAP else None)
        if address not in _GLOBAL_UNICAST or (carried and not is_public(carried)):
            return False
    return address.is_global and not any(address in network for network in _REFUSED)


@dataclass(frozen=True, slots=True)
class Target:
    """An http or https address, taken apart. ``path`` goes into the request as it is."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def literal(self) -> IPAddress | None:
        """Return the address that the host is; None where it is a name."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """Return host and port as they stand in an address, the port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @classmethod
    def from_url(cls, url: str) -> Target:
        """Return what ``url`` is made of. Raises ValueError, which never repeats the address: it may hold a secret."""
        parts = _split(url)
        if parts.scheme not in DEFAULT_PORTS:
            raise ValueError("must begin with https://")
        if "@" in parts.netloc:
            raise ValueError("must not hold a user or a password")
        if "#" in url:
            raise ValueError("must not hold a fragment")
        path = parts.path or "/"
        if parts.query:
            path += f"?{parts.query}"
        host = _host(parts.hostname or "", bracketed="[" in parts.netloc)
        return cls(parts.scheme, host, _port(parts), path)


def _split(url: str) -> SplitResult:
    """Return the parts of an address. Raises ValueError if its characters or its length cannot be those of one."""
    if len(url) > MAX_URL_CHARS:
        raise ValueError(f"is longer than {MAX_URL_CHARS} characters")
    if not re.fullmatch(r"[!-~]*", url) or "\\" in url:
        raise ValueError("may hold plain ASCII only: no blanks, a host's name as xn--..., all else %-encoded")
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError("has a host that is none") from None


def _port(parts: SplitResult) -> int:
    """Return the port, by default the scheme's. Raises ValueError if the address names one that cannot be."""
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port is None:
        return DEFAULT_PORTS[parts.scheme]
    if port == 0:
        raise ValueError("has a port that is none")
    return port


def _host(host: str, *, bracketed: bool) -> str:
    """Return a host as it is looked up. Raises ValueError where it is neither a name nor an address."""
    if bracketed or _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            address = IPv6Address(host) if bracketed else IPv4Address(host)
        except ValueError:
            raise ValueError("has a host that is none") from None
        if "%" in host:
            raise ValueError("has a host that is none")
        return str(address)
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise ValueError("has a host that is none")
    return host


@dataclass(frozen=True, slots=True)
class Allowlist:
    """What an operator opens beside public addresses over https."""

    hosts: frozenset[tuple[str, int]] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def names(self, target: Target) -> bool:
        """Tell whether a target's host and port are opened by name."""
        return (target.host, target.port) in self.hosts

    def holds(self, address: IPAddress) -> bool:
        """Tell whether an address lies in a network that is opened."""
        return any(address in network for network in self.networks)

    def permits(self, target: Target, address: IPAddress) -> bool:
        """Tell whether a target may be called at an address."""
        if self.names(target) or self.holds(address):
            return True
        return not _complaint(target) and is_public(address)

    def complaint(self, target: Target) -> str:
        """Return why a target cannot be called whatever its name resolves to; '' where it may be."""
        if self.names(target):
            return ""
        if target.literal is not None:
            permitted = self.permits(target, target.literal)
            return "" if permitted else _complaint(target) or "must be a public address"
        # A name may turn out to lie in one of the networks.
        return "" if self.networks else _complaint(target)


def _complaint(target: Target) -> str:
    if target.scheme != "https":
        return "must begin with https://"
    if target.port != 443 and target.port < FIRST_FREE_PORT:
        return f"must have port 443, or one from {FIRST_FREE_PORT} on"
    if target.host == "localhost" or target.host.endswith(".localhost"):
        return "must be a public address"
    return ""


@lru_cache(maxsize=8)
def allowlist(text: str, variable: str = "GRAYCAT_WEBHOOK_ALLOW") -> Allowlist:
    """Return the list that a setting holds. Raises SettingsError naming its variable."""
    hosts: set[tuple[str, int]] = set()
    networks = []
    for item in filter(None, map(str.strip, text.split(","))):
        try:
            if "/" in item:
                networks.append(ip_network(item))
            else:
                hosts |= _opened(item.lower())
        except ValueError:
            raise SettingsError(f"{variable}: {item!r} is no host, host:port or network (10.0.0.0/8)") from None
    return Allowlist(frozenset(hosts), tuple(networks))


def _opened(item: str) -> set[tuple[str, int]]:
    """Return hosts and ports that ``host`` or ``host:port`` opens: a web server's, where it names none."""
    ports = [parts.port] if (parts := urlsplit(f"//{item}")).port is not None else list(DEFAULT_PORTS.values())
    if parts.netloc != item or "@" in item:
        raise ValueError
    host = _host(parts.hostname or "", bracketed="[" in item)
    return {(host, port) for port in ports if port}
