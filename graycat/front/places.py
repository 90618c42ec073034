"""Which connections are in which state, those that entered it first in front."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graycat.front.connection import Connection

#: Waits for a request's head to be complete.
HEAD = "head"
#: Waits for the next request.
IDLE = "idle"
#: Its request is being answered.
RUN = "run"
#: Waits for the next bytes of a body.
BODY = "body"
#: Waits until its client takes more of an answer.
STALLED = "stalled"
#: Is closed for writing after an error, so that its client can still read that.
LINGER = "linger"
STATES = (HEAD, IDLE, RUN, BODY, STALLED, LINGER)
#: States of connections that have no request, in the order in which they make room for others.
WITHOUT_REQUEST = (HEAD, LINGER, IDLE)


class Places:
    """The connections of all clients, or those of one address."""

    def __init__(self) -> None:
        self.count = 0
        # Dictionaries without values keep an order, and lose any member as fast as the first.
        self._members: dict[str, dict[Connection, None]] = {state: {} for state in STATES}

    def add(self, connection: Connection, state: str) -> None:
        """Add a connection behind all others in a state."""
        self.count += 1
        self._members[state][connection] = None

    def move(self, connection: Connection, old: str, new: str) -> None:
        """Move a connection to the end of a state, which may be its own."""
        del self._members[old][connection]
        self._members[new][connection] = None

    def remove(self, connection: Connection, state: str) -> None:
        """Remove a connection."""
        self.count -= 1
        del self._members[state][connection]

    def number_of(self, state: str) -> int:
        """Return how many connections are in a state."""
        return len(self._members[state])

    def oldest(self, state: str) -> Connection | None:
        """Return the connection that has been in a state for longest; None if there is none."""
        return next(iter(self._members[state]), None)

    @property
    def busy(self) -> int:
        """Return how many connections have a request."""
        return self.count - sum(map(self.number_of, WITHOUT_REQUEST))
