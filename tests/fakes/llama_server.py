"""A llama.cpp-family server without a model: the wire as llama.cpp speaks it, answers at once or token by token.

A double for what cannot run here (undreamai_server, whose routes are all POST) and for measuring graycat itself: its
own cost a request is far below that of everything in front of it. Run as ``python llama_server.py --port N``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

PROPS = {"default_generation_settings": {"n_ctx": 4096}, "model_path": "fake.gguf", "chat_template": "{{ messages }}"}
REASONS = {200: "OK", 401: "Unauthorized", 404: "Not Found", 400: "Bad Request", 503: "Service Unavailable"}
NOT_FOUND = {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}
#: A prompt that begins so is refused the first time.
REFUSED_ONCE = "refuse"
#: A prompt that begins so ends the server's process.
DEADLY = "deadly"
#: The first time, a prompt that begins so gets all its tokens and no final event; or that too, and the body has no end.
UNFINISHED, UNCLOSED = "unfinished", "unclosed"
#: What a line begins with that tells a prompt.
ASKED = "asked for:"
#: Routes that need no slot, with their answers.
QUICK: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "/health": lambda _: {"status": "ok"},
    "/tokenize": lambda body: {"tokens": [ord(letter) for letter in str(body.get("content", ""))]},
    "/detokenize": lambda body: {"content": "".join(map(chr, body.get("tokens", [])))},
    "/apply-template": lambda body: {"prompt": "".join(part["content"] for part in body.get("messages", []))},
}


class Connection(asyncio.Protocol):
    """One kept connection; requests come one after the other."""

    options: argparse.Namespace
    #: Requests so far by path, and generations that go on; GET /stats tells them.
    seen: ClassVar[Counter[str]] = Counter()
    #: How often each prompt was asked to be completed.
    prompts: ClassVar[Counter[str]] = Counter()
    running: ClassVar[set[Connection]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self.transport: Any = transport
        self.buffer = b""
        self.streaming: asyncio.Task[None] | None = None
        #: The prompt that is answered, if it is asked for the first time.
        self.held = ""

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
            key = self.options.api_key
            authorized = not key or headers.get("authorization") == f"bearer {key}".lower()
            self.answer(method, path, json.loads(rest[:length] or b"{}"), authorized=authorized)

    def answer(self, method: str, path: str, body: dict[str, Any], *, authorized: bool) -> None:
        """Answer one request."""
        if path == "/stats":
            self.reply(200, {"seen": self.seen, "running": len(self.running), "prompts": self.prompts})
            return
        self.seen[path] += 1
        if path == "/health" and self.options.mute_if and self.options.mute_if.exists():
            # Slow under load: it generates, and answers nothing else.
            return
        if path == "/health" and self.options.loads_until and not self.options.loads_until.exists():
            self.reply(503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}})
            return
        if not authorized and path != "/health":
            self.reply(401, {"error": {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}})
        elif method == "GET" and self.options.post_only:
            self.reply(404, NOT_FOUND)
        else:
            self.route(method, path, body)

    def route(self, method: str, path: str, body: dict[str, Any]) -> None:
        """Answer a request that is allowed."""
        if path in QUICK:
            self.reply(200, QUICK[path](body))
        elif path == "/props":
            # undreamai_server and old servers do not tell their slots.
            slots = {} if self.options.post_only else {"total_slots": self.options.slots}
            self.reply(200, PROPS | slots)
        elif path == "/v1/models" and not self.options.post_only:
            self.reply(200, {"object": "list", "data": [{"id": self.options.model, "object": "model"}]})
        elif path in ("/completion", "/v1/chat/completions") and method == "POST":
            self.complete(path, body)
        else:
            self.reply(404, NOT_FOUND)

    def complete(self, path: str, body: dict[str, Any]) -> None:
        """Begin to generate, unless the prompt is one of the special ones."""
        tokens = int(body.get("n_predict", body.get("max_tokens", 8)))
        messages = body.get("messages") or [{"content": body.get("prompt", "")}]
        prompt, read = read_prompt(messages[-1]["content"])
        is_first = False
        if not read:
            # What continues an answer is no call from its beginning.
            self.prompts[prompt] += 1
            is_first = self.prompts[prompt] == 1
        if self.options.tells_prompts:
            print(ASKED, prompt, flush=True)  # noqa: T201 (whoever counts calls reads the log)
        if prompt.startswith(DEADLY):
            os._exit(1)
        if prompt.startswith(REFUSED_ONCE) and is_first:
            self.reply(400, {"error": {"code": 400, "message": "no", "type": "invalid_request_error"}})
            return
        self.held = prompt if is_first else ""
        first = 0
        if self.options.counts:
            first = read
        self.streaming = asyncio.create_task(self.generate(tokens, path, bool(body.get("stream")), first))

    def reply(self, status: int, body: dict[str, Any]) -> None:
        """Send a whole answer."""
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
        self.transport.write(head.encode() + b"\r\n\r\n" + data)

    async def generate(self, tokens: int, path: str, stream: bool, first: int = 0) -> None:
        """Generate tokens, ``interval`` seconds apart; send each at once, or all at the end. ``first``: its number."""
        write = (self.native if path == "/completion" else self.chat) if stream else self.nothing
        if stream:
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
        self.running.add(self)
        text = ""
        try:
            for number in range(first, first + tokens):
                # The time of writing, so that whoever reads it knows how long it took.
                piece = f"{time.time():.6f} "
                if self.options.counts:
                    piece = f"{number} "
                text += piece
                write(piece, number)
                await asyncio.sleep(self.options.interval)
        finally:
            self.running.discard(self)
        if stream:
            await self.hold(UNFINISHED)
            write("", tokens, last=True)
            await self.hold(UNCLOSED)
            self.transport.write(b"0\r\n\r\n")
        elif path == "/completion":
            self.reply(200, {"index": 0, "content": text, "tokens": [], "stop": True, "tokens_predicted": tokens})
        else:
            self.reply(200, {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]})
        self.streaming = None

    async def hold(self, beginning: str) -> None:
        """Wait until the caller is gone, if the prompt is one that is held here."""
        if self.held.startswith(beginning):
            await asyncio.Event().wait()

    def nothing(self, piece: str, number: int, *, last: bool = False) -> None:
        """Send nothing yet."""

    def native(self, piece: str, number: int, *, last: bool = False) -> None:
        """Send an event of ``/completion``."""
        event: dict[str, Any] = {"index": 0, "content": piece, "tokens": [] if last else [number], "stop": last}
        if last:
            event |= {"tokens_predicted": number, "generation_settings": {"stream": True}, "stop_type": "limit"}
        self.event(event)

    def chat(self, piece: str, number: int, *, last: bool = False) -> None:
        """Send an event of ``/v1/chat/completions``."""
        self.event(
            {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": "length" if last else None}]}
        )
        if last:
            self.chunk(b"data: [DONE]\n\n")

    def event(self, event: dict[str, Any]) -> None:
        """Send one event as one chunk, as llama.cpp does."""
        # Without spaces, as llama.cpp writes it: graycat looks for the end of a stream in its bytes.
        self.chunk(b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n")

    def chunk(self, data: bytes) -> None:
        """Send a chunk."""
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))


def read_prompt(prompt: Any) -> tuple[str, int]:
    """Return the text of a prompt, and how many token ids follow it: those of an answer that is continued."""
    if not isinstance(prompt, list):
        return str(prompt), 0
    ids = [part for part in prompt if isinstance(part, int)]
    return "".join(part for part in prompt if isinstance(part, str)), len(ids)


async def serve(options: argparse.Namespace) -> None:
    """Serve until killed."""
    Connection.options = options
    server = await asyncio.get_running_loop().create_server(Connection, options.host, options.port, backlog=2048)
    await server.serve_forever()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--api-key", default="")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--model", default="fake")
    parser.add_argument("--interval", type=float, default=0.0, help="seconds between two tokens")
    parser.add_argument("--loads-until", type=Path, help="its model is loaded once this file exists")
    parser.add_argument("--fails-if", type=Path, help="it ends at once while this file exists")
    parser.add_argument("--mute-if", type=Path, help="it does not answer health checks while this file exists")
    parser.add_argument("--tells", default="", help="print these variables, parted by commas")
    parser.add_argument("--counts", action="store_true", help="its tokens are numbers; it counts on where it resumes")
    parser.add_argument("--tells-prompts", action="store_true", help="print each prompt")
    parser.add_argument("--post-only", action="store_true", help="no GET route, as undreamai_server")
    options = parser.parse_args()
    for name in filter(None, options.tells.split(",")):
        print(f"{name}={os.environ.get(name)}", flush=True)  # noqa: T201 (whoever looks after it reads the log)
    if options.fails_if and options.fails_if.exists():
        raise SystemExit("the model cannot be loaded")
    # At once, whatever its streams wait for.
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()
