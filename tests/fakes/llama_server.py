"""A llama.cpp-family server without a model: the wire as llama.cpp speaks it, answers at once or token by token.

A double for what cannot run here (undreamai_server, whose routes are all POST) and for measuring graycat itself: its
own cost a request is far below that of everything in front of it. Run as ``python llama_server.py --port N``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any

PROPS = {"default_generation_settings": {"n_ctx": 4096}, "model_path": "fake.gguf", "chat_template": "{{ messages }}"}
REASONS = {200: "OK", 404: "Not Found", 400: "Bad Request"}


class Connection(asyncio.Protocol):
    """One kept connection; requests come one after the other."""

    options: argparse.Namespace

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self.transport: Any = transport
        self.buffer = b""
        self.streaming: asyncio.Task[None] | None = None

    def connection_lost(self, _error: Exception | None) -> None:
        """Stop generating: the client hung up."""
        if self.streaming is not None:
            self.streaming.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer when a request is whole."""
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        length = int(headers.get("content-length", 0))
        if len(rest) >= length:
            self.buffer = rest[length:]
            method, path, _ = lines[0].split(" ")
            self.answer(method, path, json.loads(rest[:length] or b"{}"))

    def answer(self, method: str, path: str, body: dict[str, Any]) -> None:
        """Answer one request."""
        if method == "GET" and self.options.post_only:
            self.reply(404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}})
        elif path == "/health":
            self.reply(200, {"status": "ok"})
        elif path == "/props":
            # undreamai_server and old servers do not tell their slots.
            slots = {} if self.options.post_only else {"total_slots": self.options.slots}
            self.reply(200, PROPS | slots)
        elif path == "/v1/models" and not self.options.post_only:
            self.reply(200, {"object": "list", "data": [{"id": self.options.model, "object": "model"}]})
        elif path == "/tokenize":
            self.reply(200, {"tokens": [1, 2, 3]})
        elif path == "/completion" and body.get("stream"):
            self.streaming = asyncio.create_task(self.generate(int(body.get("n_predict", 8))))
        else:
            self.reply(404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}})

    def reply(self, status: int, body: dict[str, Any]) -> None:
        """Send a whole answer."""
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
        self.transport.write(head.encode() + b"\r\n\r\n" + data)

    async def generate(self, tokens: int) -> None:
        """Stream tokens, ``interval`` seconds apart."""
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(tokens):
            # The time of writing, so that whoever reads it knows how long it took.
            self.event({"index": 0, "content": f"{time.time():.6f} ", "tokens": [number], "stop": False})
            await asyncio.sleep(self.options.interval)
        final = {"index": 0, "content": "", "tokens": [], "stop": True, "tokens_predicted": tokens}
        self.event(final | {"generation_settings": {"stream": True}, "stop_type": "limit"})
        self.transport.write(b"0\r\n\r\n")
        self.streaming = None

    def event(self, event: dict[str, Any]) -> None:
        """Send one event as one chunk, as llama.cpp does."""
        data = b"data: " + json.dumps(event).encode() + b"\n\n"
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))


async def serve(options: argparse.Namespace) -> None:
    """Serve until killed."""
    Connection.options = options
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", options.port, backlog=2048)
    await server.serve_forever()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--model", default="fake")
    parser.add_argument("--interval", type=float, default=0.0, help="seconds between two tokens")
    parser.add_argument("--post-only", action="store_true", help="no GET route, as undreamai_server")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
