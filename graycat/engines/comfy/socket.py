"""ComfyUI's WebSocket: what a prompt does, as messages. Their size is bounded, and whatever is no message is left out.

The protocol is Tornado's, which Flower brings anyway, in an event loop that runs only while the caller waits: so the
threads of a worker stay plain threads, and every wait has a deadline.
"""

from __future__ import annotations

import contextlib
import json
import struct
from asyncio import Event, wait_for
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tornado.httpclient import HTTPRequest
from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketClientConnection, websocket_connect

from graycat.bounds.stored import parse_json

CONNECT_TIMEOUT_S = 3.0
#: Seconds between two pings: it sends none itself.
PING_INTERVAL_S = 20.0
#: The most bytes of one message (a preview is some 10 kB).
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
#: Kinds of binary messages, and how a preview begins: JPEG, PNG.
_PREVIEW, _PREVIEW_WITH_METADATA = 1, 4
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


class SocketLost(Exception):
    """Raised when the socket cannot be opened, or is over. The prompt goes on; HTTP tells how."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message: its type and data; or a preview image. ``prompt_id``: '' if it does not say whose it is."""

    type: str
    data: Mapping[str, Any]
    prompt_id: str
    image: bytes = b""


class ComfySocket:
    """One connection under a client id of its own. For one thread."""

    def __init__(self, url: str, client_id: str, headers: Mapping[str, str]) -> None:
        """Connect. ``url``: of the engine, without user and password. Raises SocketLost."""
        self._messages: deque[Message] = deque()
        #: Whether previews say whose they are.
        self.has_metadata = False
        self._closed = False
        self._arrived = Event()
        self._loop = IOLoop(make_current=False)
        request = HTTPRequest(
            f"ws{url.removeprefix('http')}/ws?clientId={client_id}",
            headers=dict(headers),
            connect_timeout=CONNECT_TIMEOUT_S,
            request_timeout=CONNECT_TIMEOUT_S,
        )
        try:
            self._connection: WebSocketClientConnection = self._loop.run_sync(
                partial(
                    websocket_connect,
                    request,
                    on_message_callback=self._on_message,
                    max_message_size=MAX_MESSAGE_BYTES,
                    ping_interval=PING_INTERVAL_S,
                ),
                timeout=CONNECT_TIMEOUT_S,
            )
            flags = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
            self._loop.run_sync(partial(self._connection.write_message, json.dumps(flags)), timeout=CONNECT_TIMEOUT_S)
        # Tornado raises what the resolver, the socket or the HTTP answer brings.
        except Exception as error:
            self._loop.close(all_fds=True)
            raise SocketLost from error

    def receive(self, timeout_s: float) -> Message | None:
        """Return the next message; None if none came in time. Raises SocketLost."""
        if not self._messages and not self._closed:
            with contextlib.suppress(TimeoutError):
                self._loop.run_sync(partial(self._wait, timeout_s))
        if self._messages:
            return self._messages.popleft()
        if self._closed:
            raise SocketLost
        return None

    async def _wait(self, timeout_s: float) -> None:
        self._arrived.clear()
        await wait_for(self._arrived.wait(), timeout_s)

    def _on_message(self, message: str | bytes | None) -> None:
        """Note a message; None is the end of the connection."""
        self._arrived.set()
        if message is None:
            self._closed = True
            return
        parsed = parse_text(message) if isinstance(message, str) else parse_binary(message)
        if parsed is None:
            return
        if parsed.type == "feature_flags":
            self.has_metadata = parsed.data.get("supports_preview_metadata") is True
        self._messages.append(parsed)

    def close(self) -> None:
        """Close the connection, without waiting for the other side."""
        with contextlib.suppress(Exception):
            self._loop.run_sync(self._say_goodbye)
        self._loop.close(all_fds=True)

    async def _say_goodbye(self) -> None:
        self._connection.close()


def parse_text(text: str) -> Message | None:
    """Return a text message ``{"type", "data"}``; None if it is none."""
    try:
        value = parse_json(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str) or not isinstance(value.get("data"), dict):
        return None
    prompt_id = value["data"].get("prompt_id")
    return Message(value["type"], value["data"], prompt_id if isinstance(prompt_id, str) else "")


def parse_binary(frame: bytes) -> Message | None:
    """Return the preview image in a binary message, its type ``preview``; None for any other.

    Big-endian: u32 1, u32 format (1 JPEG, 2 PNG), image; or u32 4, u32 length, JSON with ``prompt_id``, image.
    """
    if len(frame) < 8:
        return None
    kind, number = struct.unpack(">II", frame[:8])
    if kind == _PREVIEW and number in (1, 2):
        return _preview(frame[8:], {})
    if kind != _PREVIEW_WITH_METADATA or number > len(frame) - 8:
        return None
    try:
        metadata = parse_json(frame[8 : 8 + number])
    except ValueError:
        return None
    if not isinstance(metadata, dict):
        return None
    return _preview(frame[8 + number :], metadata)


def _preview(image: bytes, metadata: Mapping[str, Any]) -> Message | None:
    if not image.startswith(_MAGIC):
        return None
    prompt_id = metadata.get("prompt_id")
    return Message("preview", metadata, prompt_id if isinstance(prompt_id, str) else "", image)
