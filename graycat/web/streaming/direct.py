"""Spouts: chunks of a streamed response that go straight to the client's socket, past generator and WSGI server.

While a response waits for its next event, the hub may write that event itself. Waking the request's greenlet for it and
going through werkzeug and gunicorn costs three times as much, on cores that an engine wants (docs/decisions/0015).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any


class DirectWriter:
    """One response's way past the server, good for HTTP/1.1 and a body whose length nobody told.

    ``edit`` makes of an event what the client gets. Used only between two chunks of the server's own: it has sent the
    last one whole.
    """

    def __init__(self, connection: socket.socket, edit: Callable[[bytes], bytes]) -> None:
        self._connection = connection
        self._edit = edit
        #: What the client's socket did not take at once, of a chunk whose begin is on its way.
        self.rest = b""
        #: When a chunk was last sent, on the monotonic clock.
        self.sent_at = 0.0

    def send(self, event: bytes) -> bool:
        """Send an event as one chunk, without ever waiting; False where the server has to."""
        if self.rest:
            return False
        data = self._edit(event)
        chunk = b"%X\r\n%b\r\n" % (len(data), data)
        try:
            sent = os.write(self._connection.fileno(), chunk)
        except OSError:
            # It is full, or its client is gone: the server finds the same, and deals with it.
            return False
        self.rest = chunk[sent:]
        self.sent_at = time.monotonic()
        return True

    def flush(self) -> bool:
        """Send the rest, waiting as the server would; False where there is none. Raises OSError: the client is gone."""
        rest, self.rest = self.rest, b""
        if rest:
            self._connection.sendall(rest)
        return bool(rest)


def spout_of(environ: dict[str, Any], edit: Callable[[bytes], bytes]) -> DirectWriter | None:
    """Return the spout of a request's response; None where every chunk has to go through the server."""
    connection: socket.socket | None = environ.get("gunicorn.socket")
    if connection is None or environ.get("SERVER_PROTOCOL") != "HTTP/1.1" or environ["REQUEST_METHOD"] == "HEAD":
        return None
    return DirectWriter(connection, edit)
