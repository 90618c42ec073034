"""The guard: how many connections there may be, who makes room, and who has waited for too long."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from graycat.front.connection import TOO_MANY_BYTES, TOO_SLOW, Connection
from graycat.front.cors import Cors
from graycat.front.errors import RequestTimeout
from graycat.front.places import BODY, HEAD, IDLE, LINGER, RUN, STALLED, WITHOUT_REQUEST, Places
from graycat.front.replies import error_reply
from graycat.front.tally import Tally
from graycat.front.turns import WOKEN_PER_ROUND, Turns
from graycat.settings import Settings
from graycat.settings.rules import networks

#: Connections beyond ``max_connections`` that may send a head, so that ``/health`` is answered while all are busy. They
#: need some time for it even while hundreds a second make room for each other.
RESERVE = 256
#: A client that has read nothing for this many seconds may have to make room for others.
STALLED_FOR_S = 1.0
#: How many stalled connections are looked at to make room for one.
STALLED_LOOKS = 8
#: Connections of one state that are ended in one look, at most: it is some ten microseconds for each.
MAX_ENDED = 100
#: Seconds that a client gets to read an error before its connection is closed.
LINGER_S = 2.0

#: Why a connection was refused (the first three) or cut; labels of metrics.
ADDRESS_FULL, FULL, NOT_A_PROXY = "address", "all", "not a proxy"
MADE_ROOM, SLOW_HEAD, SLOW_READER, IDLE_TOO_LONG = "made room", "slow head", "slow reader", "idle"


class Source:
    """The connections of one address. ``is_trusted``: it is a proxy's, so its clients are many."""

    def __init__(self, name: str, is_trusted: bool) -> None:
        self.name = name
        self.is_trusted = is_trusted
        self.places = Places()


class Guard:
    """Counts the connections of one web process. All of it runs in gevent's thread and never waits."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._trusted: list[IPv4Network | IPv6Network] = networks(settings.trusted_addresses)
        self._sources: dict[str, Source] = {}
        self._held_bytes = 0
        self.places = Places()
        self.tally = Tally()
        self.cors = Cors(settings.allowed_origins)
        #: Whose turn it is, of the connections that have waited for their clients.
        self.woken = Turns(WOKEN_PER_ROUND)
        #: Whether connections without a request are ended at once, because the process stops.
        self.is_closing = False

    # -- Coming and going.

    def admit(self, host: str) -> str:
        """Make room for a connection of an address. Return '' if there is some, else the limit that it is over."""
        source = self._sources.get(source_name(host))
        if source is not None and not source.is_trusted:
            reason = self._admit_of(source)
            if reason:
                return reason
        if self.places.number_of(HEAD) >= self._settings.max_half_open:
            self._make_room(self.places)
        if self.places.count < self._settings.max_connections + RESERVE or self._make_room(self.places):
            return ""
        self.tally.refuse(FULL)
        return FULL

    def _admit_of(self, source: Source) -> str:
        if source.places.number_of(HEAD) >= self._settings.max_half_open_per_address:
            self._make_room(source.places)
        limit = self._settings.max_connections_per_address
        if source.places.count >= limit and not self._make_room(source.places):
            self.tally.refuse(ADDRESS_FULL)
            return ADDRESS_FULL
        return ""

    def enter(self, host: str, family: int, kind: int, proto: int, fileno: int) -> Connection:
        """Return the connection of a socket that was admitted."""
        source = self._source_of(host)
        connection = Connection(self, source, family, kind, proto, fileno)
        connection.since = self._clock()
        connection.is_counted = True
        for places in (self.places, source.places):
            places.add(connection, HEAD)
        return connection

    def _source_of(self, host: str) -> Source:
        name = source_name(host)
        source = self._sources.get(name)
        if source is None:
            source = Source(name, self._is_trusted(name))
            self._sources[name] = source
        return source

    def introduce(self, connection: Connection, host: str) -> str:
        """Count a proxy's connection as that of its client from now on.

        Return '' if the client may have one more, else the limit that it is over.
        """
        source = self._sources.get(source_name(host))
        if source is not None and not source.is_trusted:
            reason = self._admit_of(source)
            if reason:
                return reason
        if connection.is_counted:
            self._leave_source(connection)
            connection.source = self._source_of(host)
            connection.source.places.add(connection, connection.state)
        return ""

    def _leave_source(self, connection: Connection) -> None:
        source = connection.source
        source.places.remove(connection, connection.state)
        if source.places.count == 0:
            self._sources.pop(source.name, None)

    def leave(self, connection: Connection) -> None:
        """Stop counting a connection; one that was cut is not counted any more."""
        self.end_request(connection)
        if not connection.is_counted:
            return
        connection.is_counted = False
        self.places.remove(connection, connection.state)
        self._leave_source(connection)

    def takes_proxy(self, host: str) -> bool:
        """Return whether an address is a proxy's that may say whose its connections are; if not, count a refusal."""
        if self._is_trusted(source_name(host)):
            return True
        self.tally.refuse(NOT_A_PROXY)
        return False

    def free_file(self) -> bool:
        """Cut a connection for its file descriptor, which is free a moment later; return whether there was one."""
        return self._make_room(self.places)

    def _is_trusted(self, name: str) -> bool:
        try:
            address = ip_address(name.partition("/")[0])
        except ValueError:
            # A Unix socket: only a proxy of this machine has such a one.
            return True
        return any(address in network for network in self._trusted)

    # -- What a connection does.

    def move(self, connection: Connection, state: str) -> None:
        """Note that a connection enters a state."""
        old = connection.state
        connection.state = state
        connection.since = self._clock()
        if connection.is_counted:
            self.places.move(connection, old, state)
            connection.source.places.move(connection, old, state)

    def begin_request(self, connection: Connection) -> None:
        """Note that the head of a request is complete."""
        connection.body_began_at = 0.0
        connection.body_bytes = 0
        connection.held_bytes = 0
        self.move(connection, RUN)

    def end_request(self, connection: Connection) -> None:
        """Note that a request is answered, and its body no longer in memory."""
        self.discard_body(connection)
        connection.head_bytes = 0
        if connection.origin is not None:
            connection.origin.forget()
        if connection.state == RUN:
            self.move(connection, IDLE)

    def discard_body(self, connection: Connection) -> None:
        """Note that a request's body is no longer in memory, and that what still comes of it is thrown away."""
        if connection.held_bytes:
            self._held_bytes -= connection.held_bytes
        connection.held_bytes = None

    def is_full(self) -> bool:
        """Return whether more connections have requests than may be open."""
        return self.places.busy > self._settings.max_connections

    def received_body(self, connection: Connection, count: int) -> None:
        """Count bytes of a body; reading it ends if it comes too slowly, or all have too many."""
        now = self._clock()
        if not connection.body_began_at:
            connection.body_began_at = now
        connection.body_bytes += count
        if connection.held_bytes is not None:
            connection.held_bytes += count
            self._held_bytes += count
        allowed_s = self._settings.body_timeout_s + connection.body_bytes / self._settings.body_min_rate
        if now - connection.body_began_at > allowed_s:
            self._end_body(connection, TOO_SLOW)
        elif self._held_bytes > self._settings.max_bodies_bytes and connection.held_bytes:
            self._end_body(connection, TOO_MANY_BYTES)

    def _end_body(self, connection: Connection, reason: str) -> None:
        connection.cut = reason
        self.tally.cut(reason)
        connection.stop_reading()

    # -- Cutting.

    def cut(self, connection: Connection, reason: str) -> None:
        """End a connection: it is no longer counted, and its greenlet ends at its next step."""
        connection.cut = reason
        self.tally.cut(reason)
        self.leave(connection)
        connection.break_off()

    def _make_room(self, places: Places) -> bool:
        """Cut the connection that needs its place least; return whether there was one that may be cut."""
        found = self._find_silent(places) or self._find_stalled(places)
        if found is None:
            return False
        self.cut(found, MADE_ROOM)
        return True

    @staticmethod
    def _find_silent(places: Places) -> Connection | None:
        """Return the connection without a request that makes room first, None if there is none.

        Those whose bytes have come, and wait for their greenlet to read them, are not silent: many clients may connect
        at the same moment.
        """
        for state in WITHOUT_REQUEST:
            found = places.oldest(state)
            if found is not None and not found.has_unread():
                return found
        return None

    def _find_stalled(self, places: Places) -> Connection | None:
        """Return the connection that has read nothing for longest, at least STALLED_FOR_S."""
        for _ in range(STALLED_LOOKS):
            found = places.oldest(STALLED)
            if found is None or self._clock() - found.since < STALLED_FOR_S:
                return None
            if not self._has_read(found):
                return found
        return None

    def _has_read(self, connection: Connection) -> bool:
        """Return whether a stalled client has read something since the last look; its time then begins anew."""
        unsent = connection.count_unsent()
        if unsent >= connection.unsent_bytes:
            return False
        connection.unsent_bytes = unsent
        self.move(connection, STALLED)
        return True

    def sweep(self) -> bool:
        """End what has waited for too long; return whether some is left for another look, which is due at once."""
        settings = self._settings
        idle_s = settings.idle_timeout_s
        if self.is_closing:
            idle_s = 0.0
        is_left = False
        for state, limit_s, end in (
            (HEAD, settings.head_timeout_s, self._end_head),
            (BODY, settings.body_timeout_s, self._end_waiting_body),
            (STALLED, settings.write_timeout_s, self._end_reader),
            (LINGER, LINGER_S, partial(self.cut, reason="lingering")),
            (IDLE, idle_s, partial(self.cut, reason=IDLE_TOO_LONG)),
        ):
            if not self._end_overdue(state, limit_s, end):
                is_left = True
        self.tally.report(self.places)
        return is_left

    def _end_overdue(self, state: str, limit_s: float, end: Callable[[Connection], None]) -> bool:
        """Call ``end``, which takes a connection out of the state or to its end, for those that are in it too long.

        Return whether that were all: thousands may be overdue at the same moment.
        """
        deadline = self._clock() - limit_s
        for _ in range(MAX_ENDED):
            found = self.places.oldest(state)
            if found is None or found.since >= deadline:
                return True
            end(found)
        return False

    def _end_head(self, connection: Connection) -> None:
        if connection.head_bytes:
            connection.send_now(error_reply(RequestTimeout(), connection.cors_headers()))
        self.cut(connection, SLOW_HEAD)

    def _end_waiting_body(self, connection: Connection) -> None:
        # Its client is told, by the view that reads the body.
        self.move(connection, RUN)
        self._end_body(connection, TOO_SLOW)

    def _end_reader(self, connection: Connection) -> None:
        if not self._has_read(connection):
            self.cut(connection, SLOW_READER)


def source_name(host: str) -> str:
    """Return by which name the connections of an address are counted: IPv6 has a network of 64 bits a client."""
    if ":" not in host:
        return host
    try:
        address = IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address.is_loopback:
        return str(address)
    return str(IPv6Network((address, 64), strict=False))
