"""The sockets and who hears what: section 6 of the reference."""

from __future__ import annotations

import asyncio
import json
import struct
from io import BytesIO
from typing import Any

from PIL import Image
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from tests.fakes.comfyui.values import Picture

PREVIEW, PREVIEW_WITH_METADATA = 1, 4
JPEG = 1
#: A preview of this many bytes is one that no server sends.
BIG = 100 * 1024 * 1024


class Hub:
    """Sockets by client id. Two with the same: the newer gets all, and is forgotten when the older closes."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.sockets: dict[str, WebSocketHandler] = {}
        self.flags: dict[str, dict[str, Any]] = {}

    def add(self, client_id: str, socket: WebSocketHandler) -> None:
        """Take a socket in."""
        self.sockets[client_id] = socket
        self.flags[client_id] = {}

    def remove(self, client_id: str) -> None:
        """Forget whatever socket has that id now."""
        self.sockets.pop(client_id, None)
        self.flags.pop(client_id, None)

    def send(self, kind: str, data: Any, client_id: str | None = None) -> None:
        """Send a message to one client, or to all."""
        if self.mode != "silent":
            self.deliver(json.dumps({"type": kind, "data": data}), client_id)

    def greet(self, kind: str, data: Any, client_id: str) -> None:
        """Send a message that even a silent socket sends."""
        self.deliver(json.dumps({"type": kind, "data": data}), client_id)

    def send_frame(self, frame: bytes, client_id: str | None) -> None:
        """Send a binary frame."""
        if self.mode != "silent":
            self.deliver(frame, client_id)

    def deliver(self, message: str | bytes, client_id: str | None) -> None:
        """Write to one socket or to all; one that is gone hears nothing."""
        sockets = list(self.sockets.values())
        if client_id is not None:
            sockets = [self.sockets[client_id]] if client_id in self.sockets else []
        for socket in sockets:
            try:
                sent = socket.write_message(message, binary=isinstance(message, bytes))
            except WebSocketClosedError:
                continue
            asyncio.ensure_future(sent).add_done_callback(lambda done: done.exception())

    def cut(self) -> None:
        """Drop all connections without a close frame."""
        for socket in list(self.sockets.values()):
            stream = getattr(socket.ws_connection, "stream", None)
            if stream is not None:
                stream.close()

    def knows_metadata(self, client_id: str | None) -> bool:
        """Return whether a client has said that it understands previews with metadata."""
        return client_id is not None and self.flags.get(client_id, {}).get("supports_preview_metadata") is True


def encoded(picture: Picture, size: int) -> bytes:
    """Return a preview's bytes."""
    small = picture.copy()
    small.thumbnail((size, size), Image.Resampling.BILINEAR)
    file = BytesIO()
    small.save(file, "JPEG", quality=95)
    return file.getvalue()


def preview(image: bytes) -> bytes:
    """Return a preview as a frame that names no prompt."""
    return struct.pack(">II", PREVIEW, JPEG) + image


def preview_with_metadata(image: bytes, node_id: str, prompt_id: str) -> bytes:
    """Return a preview as a frame that names its prompt and node."""
    told = {"node_id": node_id, "prompt_id": prompt_id, "display_node_id": node_id, "parent_node_id": None}
    raw = json.dumps(told | {"real_node_id": node_id, "image_type": "image/jpeg"}).encode()
    return struct.pack(">II", PREVIEW_WITH_METADATA, len(raw)) + raw + image
