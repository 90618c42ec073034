"""Writes chunks of a streamed response straight to the client's socket, past the generator and the WSGI server.

While a response waits for its next event, the hub may write that event itself. Waking the request's greenlet for it and
going through werkzeug and gunicorn costs three times as much CPU, which engines on the same machine need
(docs/decisions/0015).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any


class DirectWriter:
    """Writes chunks of one streamed response to its client's socket. HTTP/1.1 with chunked encoding only.

    ``encode`` turns an event into the bytes that the client gets. The writer may only be used between two chunks of
    the WSGI server's own, after the server has sent the last one completely.
    """

    def __init__(self, connection: socket.socket, encode: Callable[[bytes], bytes]) -> None:
        self._connection = connection
        self._encode = encode
        #: The end of a chunk that the client's socket did not take at once; its beginning is already sent.
        self.unsent = b""
        #: When a chunk was last written, on the monotonic clock.
        self.sent_at = 0.0

    def write(self, event: bytes) -> bool:
        """Write an event as one chunk without ever blocking; return False if the server has to send it."""
        if self.unsent:
            return False
        data = self._encode(event)
        chunk = b"%X\r\n%b\r\n" % (len(data), data)
        try:
            sent = os.write(self._connection.fileno(), chunk)
        except OSError:
            # The socket's buffer is full or the client is gone: the server meets the same error and handles it.
            return False
        self.unsent = chunk[sent:]
        self.sent_at = time.monotonic()
        return True

    def flush(self) -> bool:
        """Send what is unsent, and block as the server would; return False if there was nothing.

        Raises OSError if the client is gone.
        """
        unsent = self.unsent
        self.unsent = b""
        if not unsent:
            return False
        self._connection.sendall(unsent)
        return True


def direct_writer_for(environ: dict[str, Any], encode: Callable[[bytes], bytes]) -> DirectWriter | None:
    """Return a writer for a request's response, or None if every chunk has to go through the server."""
    connection: socket.socket | None = environ.get("gunicorn.socket")
    if connection is None:
        return None
    if environ.get("SERVER_PROTOCOL") != "HTTP/1.1" or environ["REQUEST_METHOD"] == "HEAD":
        return None
    return DirectWriter(connection, encode)
