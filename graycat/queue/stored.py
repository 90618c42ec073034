"""What tasks and batches hold in the broker: who has stored how many bytes, and what is taken back.

The scripts that create them charge them to their owner's accounts, and refuse what does not fit
(``queue/lua/stored.lua``). A charge lasts for as long as the record has its input.
"""

from __future__ import annotations

from pathlib import Path

from graycat.broker.client import broker_errors
from graycat.broker.keys import STORED
from graycat.broker.protocol import Broker
from graycat.broker.scripts import Scripts
from graycat.errors import BrokerFull, GraycatError, StoredBytesExceeded
from graycat.settings import Settings

#: What a task's record and its message take beside what its caller has sent, about.
OVERHEAD_BYTES = 1024
#: The account of all owners together.
ALL = "*"
#: Charges that one run of a script looks at: about a millisecond of the broker's time.
SETTLED_AT_ONCE = 1000
#: Each charge is looked at within so many calls of ``settle``.
SETTLE_ROUNDS = 5
#: With more charges than these the accounts are not added up anew: that would stop the broker for longer than a token
#: takes.
MAX_RECOUNTED = 10_000


class StoredBytes:
    """The accounts of what callers' tasks and batches hold in the broker."""

    def __init__(self, client: Broker) -> None:
        self._client = client
        self._scripts = Scripts(client, Path(__file__).parent / "lua", ("settle", "recount"))

    def settle(self) -> None:
        """Take back the charges of what holds nothing any more; called about once a second.

        Raises BrokerUnavailable.
        """
        left = self._run("settle", SETTLED_AT_ONCE)
        for _ in range(left // SETTLE_ROUNDS // SETTLED_AT_ONCE):
            self._run("settle", SETTLED_AT_ONCE)

    def recount(self) -> int:
        """Add the accounts up anew; return how many were wrong, -1 if there is too much to add up at once.

        Raises BrokerUnavailable.
        """
        return self._run("recount", MAX_RECOUNTED)

    def total(self) -> int:
        """Return how many bytes all together hold. Raises BrokerUnavailable."""
        with broker_errors():
            return int(self._client.hget(STORED, ALL) or 0)

    def _run(self, name: str, number: int) -> int:
        with broker_errors():
            return int(self._scripts.run(name, [], [number]))


def stored_limits(settings: Settings) -> tuple[int, int, int]:
    """Return the most bytes of a player, of an API token and of all, as the scripts take them."""
    return settings.stored_bytes_per_player, settings.stored_bytes_per_token, settings.stored_bytes


def no_room(reply: bytes, owner: str, settings: Settings) -> GraycatError:
    """Return the error for what a script has refused because there is no room for it; ``reply``: why."""
    if reply == b"player":
        return StoredBytesExceeded("this player", settings.stored_bytes_per_player)
    if reply != b"token":
        return BrokerFull()
    whose = "this API token"
    if "/" in owner:
        whose = "all players of this API token"
    return StoredBytesExceeded(whose, settings.stored_bytes_per_token)
