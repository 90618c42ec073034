"""gunicorn's gevent worker with a guard: it bounds connections and their silences, and answers errors as JSON.

Nothing but gunicorn is imported before the worker has let gevent patch the standard library.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import gevent
from gunicorn.workers.ggevent import GeventWorker

if TYPE_CHECKING:
    from graycat.front.connection import Connection
    from graycat.front.forwarded import Forwarded
    from graycat.front.guard import Guard
    from graycat.front.server import GuardedServer
    from graycat.front.turns import Turns
    from graycat.gctuning import FullCollections

#: Seconds between two looks at what has waited for too long, and when a look has left some of it.
SWEEP_S, SWEEP_AGAIN_S = 0.25, 0.01
#: Up to this size (bytes) the rest of a body that no view has read is thrown away: its client then reads the answer,
#: and does not meet a broken pipe.
MAX_DISCARDED_BYTES = 64 * 1024 * 1024
#: Bytes that are read at most after an error, so that the client can read its answer.
MAX_LINGER_BYTES = 1024 * 1024
#: What is answered while all places are taken, and before all others.
ALWAYS_ANSWERED = frozenset({"/health", "/v1/health", "/health/web", "/ready", "/metrics"})


class GuardedWorker(GeventWorker):
    """Serves the connections of one web process."""

    guard: Guard
    turns: Turns
    forwarded: Forwarded
    collections: FullCollections
    #: Paths that are answered before all others.
    urgent_paths: frozenset[str]

    def run(self) -> None:
        """Serve until the process is told to stop."""
        self.prepare()
        self.server_class = self._make_server
        gevent.spawn(self._watch)
        super().run()

    def prepare(self) -> None:
        """Make what all connections share."""
        from graycat.front.forwarded import Forwarded
        from graycat.front.guard import Guard
        from graycat.front.turns import Turns
        from graycat.gctuning import FullCollections

        self.guard = Guard(self.app.settings)
        self.turns = Turns()
        self.forwarded = Forwarded(self.app.settings.forwarded_from)
        self.collections = FullCollections()
        # A proxy may leave the prefix of the public address in front of them.
        prefix = self.app.settings.public_prefix
        self.urgent_paths = ALWAYS_ANSWERED.union(prefix + path for path in ALWAYS_ANSWERED)

    def _make_server(self, listener: Any, *, spawn: Any, **_: Any) -> GuardedServer:
        from graycat.front.server import GuardedServer

        for_proxies = listener.getsockname()[1] == self.app.settings.proxy_protocol_port
        handle = self.handle
        if for_proxies:
            handle = self.handle_proxied
        server = GuardedServer(listener, partial(handle, listener), spawn, self.guard, for_proxies=for_proxies)
        if self.cfg.workers > 1:
            # The next connection is another process's.
            server.max_accept = 1
        return server

    def _watch(self) -> None:
        from graycat.loops.unexpected import guarded

        pause_s = SWEEP_S
        while True:
            gevent.sleep(pause_s)
            pause_s = SWEEP_S
            with guarded("front"):
                self.guard.is_closing = not self.alive
                if self.guard.sweep():
                    pause_s = SWEEP_AGAIN_S
            with guarded("front"):
                self.collections.look(is_idle=self.guard.places.busy == 0)

    def timeout_ctx(self) -> AbstractContextManager[None]:
        """Return no time-out of gunicorn's own: the guard has all of them."""
        return nullcontext()

    def handle_proxied(self, listener: Any, client: Connection, addr: Any) -> None:
        """Serve a connection of a proxy, which says first whose it is."""
        from graycat.front.errors import ProxyHeaderInvalid
        from graycat.front.proxy_protocol import receive
        from graycat.front.replies import error_reply
        from graycat.front.server import REFUSALS

        try:
            found = receive(client)
        except ProxyHeaderInvalid as error:
            self.handle_error(None, client, addr, error)
            return
        except OSError:
            return
        if found is not None:
            addr = found
            reason = self.guard.introduce(client, found[0])
            if reason:
                client.send_now(error_reply(REFUSALS[reason](), client.cors_headers()))
                self._linger(client)
                return
        self.handle(listener, client, addr)

    def handle_request(self, listener_name: Any, req: Any, sock: Connection, addr: Any) -> None:
        """Answer one request. Raises StopIteration if the connection is not to be used again."""
        self.guard.begin_request(sock)
        is_urgent = req.path in self.urgent_paths
        try:
            self.turns.wait(self._client_name(req, sock, addr), is_urgent=is_urgent)
            if self.guard.is_full() and not is_urgent:
                self._refuse_request(sock)
            super().handle_request(listener_name, req, sock, addr)
            self._discard_rest(req, sock)
        finally:
            self.guard.end_request(sock)

    def _client_name(self, req: Any, sock: Connection, addr: Any) -> str:
        """Return by which name a request has its turn: its connection's, or that of whom a trusted proxy speaks."""
        from graycat.front.guard import source_name
        from graycat.front.server import host_of

        peer = host_of(addr)
        client = self.forwarded.find_client(peer, req.headers)
        if client == peer:
            return sock.source.name
        return source_name(client)

    def _refuse_request(self, sock: Connection) -> None:
        from graycat.front.errors import ServerBusy
        from graycat.front.replies import error_reply

        self.guard.tally.refuse("all")
        sock.sendall(error_reply(ServerBusy(), sock.cors_headers()))
        self._linger(sock)
        raise StopIteration

    def _discard_rest(self, req: Any, sock: Connection) -> None:
        """Read the body to its end, where the next request begins. Raises StopIteration if that cannot be done."""
        self.guard.discard_body(sock)
        if announced_bytes(req) > MAX_DISCARDED_BYTES:
            self._linger(sock)
            raise StopIteration
        discarded = 0
        while not sock.cut and discarded <= MAX_DISCARDED_BYTES:
            try:
                data = req.body.read(65536)
            except Exception:  # noqa: BLE001 (gunicorn has several kinds of errors for a broken body)
                break
            if not data:
                if not sock.cut:
                    return
                break
            discarded += len(data)
        raise StopIteration

    def handle_error(self, req: Any, client: Connection, addr: Any, exc: BaseException) -> None:
        """Answer a request that could not be read, or whose answer broke."""
        from graycat.errors import GraycatError
        from graycat.front.replies import error_of, error_reply
        from graycat.loops.unexpected import note

        if isinstance(exc, (gevent.GreenletExit, SystemExit)):
            # The process stops.
            return
        error = error_of(exc)
        if error is None:
            # Without its message, which may quote what the client sent.
            note("front", exc)
            error = GraycatError("an unexpected error; the server's log has it")
        else:
            self.guard.tally.reject(error.type)
        with suppress(OSError):
            client.send_now(error_reply(error, client.cors_headers()))
            self._linger(client)

    def _linger(self, client: Connection) -> None:
        """Read for a moment what the client still sends: closing at once would take the answer away from it."""
        import socket

        from graycat.front.places import LINGER

        self.guard.move(client, LINGER)
        client.head_bytes = 0
        with suppress(OSError):
            client._sock.shutdown(socket.SHUT_WR)
            received = 0
            while received < MAX_LINGER_BYTES:
                data = client.recv(65536)
                if not data:
                    return
                received += len(data)


def announced_bytes(req: Any) -> int:
    """Return how long a request says that its body is; 0 if it does not say."""
    for name, value in req.headers:
        if name == "CONTENT-LENGTH":
            return int(value)
    return 0
