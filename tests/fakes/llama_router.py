"""llama.cpp's router without models: the wire of ``llama-server`` without ``-m`` (build 11434), as a process.

Its facts are from ``tools/server/server-models.cpp``. ``--models a,b``: their names; a name that begins with ``bad``
cannot be loaded, and one that begins with ``slow`` loads for ever. Run as ``python -m tests.fakes.llama_router``.
"""

from __future__ import annotations

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

#: What nobody but the router's own machine is to read.
SECRET = "/srv/secret"


class Router(ThreadingHTTPServer):
    """The router, and the states of its models."""

    daemon_threads = True

    def __init__(self, port: int, models: list[str], *, autoload: bool) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.states = dict.fromkeys(models, "unloaded")
        self.failed: set[str] = set()
        self.autoload = autoload
        self.asked: list[tuple[str, Any]] = []

    def load(self, model: str) -> None:
        """Load a model, or fail to."""
        if model.startswith("bad"):
            self.failed.add(model)
        elif model.startswith("slow"):
            self.states[model] = "loading"
        else:
            self.states[model] = "loaded"

    def describe(self, model: str) -> dict[str, Any]:
        """Return a model's entry in the list."""
        state = self.states[model]
        status: dict[str, Any] = {
            "value": state,
            "args": ["/usr/bin/llama-server", "--model", f"{SECRET}/{model}.gguf", "--api-key-file", f"{SECRET}/key"],
            "preset": f"[{model}]\nmodel = {SECRET}/{model}.gguf\n",
        }
        if model in self.failed:
            status |= {"exit_code": 1, "failed": True}
        return {
            "id": model,
            "aliases": [f"{model}-alias"],
            "tags": [],
            "object": "model",
            "owned_by": "llamacpp",
            "created": 1,
            "status": status,
            "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
            "source": "models_dir",
            "path": f"{SECRET}/{model}.gguf",
            "can_remove": False,
        }


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Router

    def do_GET(self) -> None:
        """Answer the router's own routes, and those of a model."""
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        model = query.get("model", "")
        if address.path == "/health":
            self.reply(200, {"status": "ok"})
        elif address.path in ("/models", "/v1/models"):
            self.reply(200, {"object": "list", "data": list(map(self.server.describe, self.server.states))})
        elif address.path == "/props" and not model:
            settings = {"params": {}, "n_ctx": 0}
            self.reply(
                200,
                {
                    "role": "router",
                    "max_instances": 4,
                    "models_autoload": self.server.autoload,
                    "model_alias": "llama-server",
                    "model_path": "none",
                    "default_generation_settings": settings,
                },
            )
        elif self.serves(model, query.get("autoload", str(self.server.autoload)).lower() == "true"):
            self.server.asked.append((address.path, model))
            if address.path == "/props":
                props = {
                    "default_generation_settings": {"n_ctx": 1024 + len(model), "params": {"top_k": 40}},
                    "total_slots": 3,
                    "model_alias": model,
                    "model_path": f"{SECRET}/{model}.gguf",
                    "cmdline": f"--model {SECRET}/{model}.gguf",
                }
                self.reply(200, props)
            else:
                self.reply(200, [{"id": 0, "is_processing": False, "n_ctx": 1024}])

    def do_POST(self) -> None:
        """Load a model, or answer for one."""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        model = body.get("model", "") if isinstance(body, dict) else ""
        if self.path == "/models/load":
            if model not in self.server.states:
                self.error(404, "model is not found", "not_found_error")
            elif self.server.states[model] != "unloaded":
                self.error(400, "model is already running")
            else:
                self.server.load(model)
                self.reply(200, {"success": True})
        elif self.serves(model, self.server.autoload):
            self.server.asked.append((self.path, body))
            if body.get("stream"):
                self.stream({"content": model, "stop": True, "tokens_predicted": 1, "tokens_evaluated": 1})
            else:
                self.reply(200, {"content": model, "tokens": [1], "model": model})

    def serves(self, model: str, autoload: bool) -> bool:
        """Return whether a model answers; send the router's error if not."""
        if not model:
            self.error(400, "model name is missing from the request")
            return False
        name = model.removesuffix("-alias")
        if name not in self.server.states:
            self.error(400, f"model '{model}' not found")
            return False
        if autoload and self.server.states[name] == "unloaded":
            self.server.load(name)
        if self.server.states[name] != "loaded":
            self.error(400, "model is not loaded")
            return False
        return True

    def error(self, status: int, message: str, kind: str = "invalid_request_error") -> None:
        """Send an error in the engine's form."""
        self.reply(status, {"error": {"code": status, "message": message, "type": kind}})

    def reply(self, status: int, value: Any) -> None:
        """Send JSON."""
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def stream(self, event: Any) -> None:
        """Send a stream of one event."""
        data = b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--models", default="a,b")
    parser.add_argument("--no-models-autoload", action="store_true")
    options = parser.parse_args()
    Router(options.port, options.models.split(","), autoload=not options.no_models_autoload).serve_forever()


if __name__ == "__main__":
    main()
