"""Files that a scripted server gives away, whole or in parts, honestly or not; and a hub that does."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.servers import Handler, drop

#: Bytes that leave the server at once.
BLOCK = 16 * 1024
COMMIT = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00"


def noise(size: int, seed: int) -> bytes:
    """Return bytes that are the same every time and nothing else's."""
    return hashlib.shake_128(bytes([seed])).digest(size)


def gguf(size: int = 300_000, seed: int = 1) -> bytes:
    """Return something that begins as a GGUF file."""
    return b"GGUF" + struct.pack("<I", 3) + noise(size - 8, seed)


def safetensors(size: int = 1000, seed: int = 1) -> bytes:
    """Return a whole .safetensors file with ``size`` bytes of tensors."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + noise(size, seed)


def sha256(content: bytes) -> str:
    """Return the hash of some bytes as people write it."""
    return hashlib.sha256(content).hexdigest()


def digest_of(path: Path) -> str:
    """Return the hash of a file."""
    return sha256(path.read_bytes())


@dataclass
class Served:
    """An answer: a file, as a server with ranges gives it."""

    content: bytes
    etag: str = '"v1"'
    #: Other headers.
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    #: Offsets at which the connection breaks, each once.
    drops: list[int] = field(default_factory=list)
    #: Called before each block with its offset.
    before: Callable[[Handler, int], None] = lambda *_: None
    #: Whether ``If-Range`` is heeded.
    heeds: bool = True
    length: bool = True

    def __call__(self, handler: Handler) -> None:
        begin, end = 0, len(self.content)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
        if_range = handler.headers.get("If-Range")
        part = bool(asked and self.ranges and (if_range in (None, self.etag) or not self.heeds))
        if asked and part:
            begin, end = int(asked[1]), min(int(asked[2]) + 1, end) if asked[2] else end
        if part and begin >= len(self.content):
            handler.send_response(416)
            self._headers(handler, {"Content-Range": f"bytes */{len(self.content)}", "Content-Length": "0"})
            return
        handler.send_response(206 if part else 200)
        about = {"Content-Range": f"bytes {begin}-{end - 1}/{len(self.content)}"} if part else {}
        self._headers(handler, about | ({"Content-Length": str(end - begin)} if self.length else {}))
        if handler.command != "HEAD":
            self._body(handler, begin, end)

    def _headers(self, handler: Handler, headers: dict[str, str]) -> None:
        for name, value in (({"ETag": self.etag} if self.etag else {}) | headers | self.headers).items():
            handler.send_header(name, value)
        handler.send_header("Connection", "close")
        handler.close_connection = True
        handler.end_headers()

    def _body(self, handler: Handler, begin: int, end: int) -> None:
        place = begin
        while place < end:
            self.before(handler, place)
            cut = next((offset for offset in self.drops if place <= offset < place + BLOCK and offset < end), None)
            stop = min(place + BLOCK, end) if cut is None else cut
            handler.wfile.write(self.content[place:stop])
            handler.wfile.flush()
            if cut is not None:
                self.drops.remove(cut)
                drop(handler)
                return
            place = stop


def hub_answers(repo: str, path: str, content: bytes, token: str = "", served: Served | None = None) -> dict[str, Any]:
    """Return the answers of a hub that has one file, on a branch and at a commit; its bytes lie elsewhere."""
    about = {
        "X-Repo-Commit": COMMIT,
        "X-Linked-Etag": f'"{sha256(content)}"',
        "X-Linked-Size": str(len(content)),
        "ETag": f'"{sha256(content)}"',
    }

    def resolve(handler: Handler) -> None:
        allowed = not token or handler.headers.get("Authorization") == f"Bearer {token}"
        handler.send_response(302 if allowed else 401)
        elsewhere = f"http://localhost:{handler.connection.getsockname()[1]}/cdn/{sha256(content)}"
        headers = about | {"Location": elsewhere} if allowed else {"X-Error-Code": "RepoNotFound"}
        for name, value in (headers | {"Content-Length": "0"}).items():
            handler.send_header(name, value)
        handler.end_headers()

    answers = {
        f"{method} /{repo}/resolve/{revision}/{path}": resolve
        for method in ("HEAD", "GET")
        for revision in ("main", "v1", COMMIT)
    }
    return answers | {f"GET /cdn/{sha256(content)}": served or Served(content, etag='"edge"')}
