"""What tasks hold in the broker: who has stored how many bytes, and what is taken back.

``queue/lua/create.lua`` charges a task to its owner's accounts, and refuses one that does not fit. A charge lasts for
as long as the task's record has its body.
"""

from __future__ import annotations

from pathlib import Path

from graycat.broker.client import broker_errors
from graycat.broker.keys import LIVE_TASKS, STORED, events_key, record_key
from graycat.broker.protocol import Broker
from graycat.broker.scripts import Scripts
from graycat.queue import ids
from graycat.queue.topology import CONTROL

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
    """The accounts of what callers' tasks hold in the broker."""

    def __init__(self, client: Broker) -> None:
        self._client = client
        self._scripts = Scripts(client, Path(__file__).parent / "lua", ("settle", "recount"))

    def settle(self) -> None:
        """Take back the charges of tasks that hold nothing any more; called about once a second.

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
        """Return how many bytes all tasks hold. Raises BrokerUnavailable."""
        with broker_errors():
            return int(self._client.hget(STORED, ALL) or 0)

    def _run(self, name: str, number: int) -> int:
        # It is about no task, but the scripts know the prefix of all keys by these.
        unused = ids.unused_task_id(CONTROL)
        with broker_errors():
            return int(self._scripts.run(name, [record_key(unused), events_key(unused), LIVE_TASKS], [number]))
