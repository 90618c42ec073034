"""What HTTP proxies say of their clients in ``X-Forwarded-For``, and whom of them is believed."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from graycat.settings.rules import networks

HEADER = "X-FORWARDED-FOR"


class Forwarded:
    """Finds a request's client behind the proxies of some addresses and networks (parted by commas)."""

    def __init__(self, trusted: str) -> None:
        self._trusted = networks(trusted)

    def find_client(self, peer: str, headers: Iterable[tuple[str, str]]) -> str:
        """Return the client of a request that ``peer`` sends: the last address that no trusted proxy has.

        Each proxy adds who has called it at the end, so what stands before an address that is not trusted is its word.
        """
        if not self._trusted or not self._is_trusted(peer):
            return peer
        chain = []
        for name, value in headers:
            if name == HEADER:
                chain += value.split(",")
        for item in reversed(chain):
            address = item.strip()
            if not _is_address(address):
                return peer
            if not self._is_trusted(address):
                return address
        return peer

    def _is_trusted(self, address: str) -> bool:
        if not _is_address(address):
            return False
        found = ip_address(address)
        return any(found in network for network in self._trusted)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
