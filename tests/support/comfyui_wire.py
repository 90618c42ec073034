"""A ComfyUI server as tests see it: the double, or a real one at ``COMFYUI_REAL_URL``."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.support.processes import Output

ROOT = Path(__file__).resolve().parents[2]
DOUBLE = "tests.fakes.comfyui"
#: What both the real server and its double print when they answer.
READY = "To see the GUI go to: "
#: Seconds that anything gets which takes milliseconds on an idle machine.
PATIENCE_S = 60.0

Prompt = dict[str, Any]
Message = dict[str, Any]


class ComfyUI:
    """One server; ``process`` is None if somebody else started it."""

    def __init__(self, url: str, process: subprocess.Popen[str] | None = None) -> None:
        self.url = url.rstrip("/")
        self.process = process
        self.session = requests.Session()
        #: The name of a checkpoint that is there.
        self.checkpoint = "model1.safetensors"

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        """Call a route; ``body`` is sent as JSON if given."""
        if body is not None:
            options["json"] = body
        return self.session.request(method, self.url + path, timeout=PATIENCE_S, allow_redirects=False, **options)

    def get(self, path: str) -> Any:
        """Return the JSON of a route."""
        response = self.call("GET", path)
        assert response.status_code == 200, response.text
        return response.json()

    def set(self, **options: Any) -> None:
        """Change the double's options while it runs, by their names in the code."""
        assert self.call("POST", "/double", options).status_code == 200

    def send(self, prompt: Prompt, **fields: Any) -> requests.Response:
        """Send a prompt."""
        return self.call("POST", "/prompt", {"prompt": prompt, **fields})

    def history(self, prompt_id: str) -> Any:
        """Return the entry of a prompt that is over, or None."""
        return self.get(f"/history/{prompt_id}").get(prompt_id)


@contextmanager
def running(*options: str, base: Path, port: int = 0) -> Iterator[ComfyUI]:
    """Run the double until the block ends. ``base``: where its files lie; ``port``: 0 for one of its own choice."""
    command = [sys.executable, "-m", DOUBLE, "--port", str(port), "--base-directory", str(base), *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    output = Output(process.stdout)
    try:
        output.wait_for(READY, PATIENCE_S)
        line = next(line for line in output.text.splitlines() if READY in line)
        server = ComfyUI(line.partition(READY)[2].strip(), process)
        with server.session:
            yield server
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        output.close(PATIENCE_S)


class Listener:
    """A socket of a server, read in a thread of its own. ``messages``: JSON as dictionaries, frames as bytes."""

    def __init__(self, server: ComfyUI, client_id: str | None = None) -> None:
        self.client_id = client_id if client_id is not None else uuid.uuid4().hex
        self._url = f"{server.url.replace('http', 'ws', 1)}/ws?clientId={self.client_id}"
        self.messages: list[Message | bytes] = []
        self.closed = False
        self._news = threading.Condition()
        self._connection: WebSocketClientConnection | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._listen(),), daemon=True)
        self._thread.start()
        self.wait(lambda _: self.closed or bool(self.messages))
        assert self.messages, "the server took no socket"

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _listen(self) -> None:
        try:
            self._connection = await websocket_connect(self._url, max_message_size=2**30)
            while (message := await self._connection.read_message()) is not None:
                with self._news:
                    self.messages.append(message if isinstance(message, bytes) else json.loads(message))
                    self._news.notify_all()
        finally:
            with self._news:
                self.closed = True
                self._news.notify_all()

    def say(self, message: Any) -> None:
        """Send a message."""
        assert self._connection is not None
        self._loop.call_soon_threadsafe(self._connection.write_message, json.dumps(message))

    def close(self) -> None:
        """Close the socket and wait for the server's answer to that."""
        if self._connection is not None and not self.closed:
            self._loop.call_soon_threadsafe(self._connection.close)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def wait(self, seen: Callable[[list[Message]], bool], timeout_s: float = PATIENCE_S) -> None:
        """Return as soon as the JSON messages so far are what is waited for."""
        with self._news:
            assert self._news.wait_for(lambda: seen(self.json), timeout_s), f"not seen: {self.kinds()}"

    @property
    def json(self) -> list[Message]:
        """Return the messages that are JSON."""
        return [message for message in self.messages if isinstance(message, dict)]

    @property
    def frames(self) -> list[bytes]:
        """Return the binary frames."""
        return [message for message in self.messages if isinstance(message, bytes)]

    def kinds(self) -> list[str]:
        """Return the types of the messages, in order."""
        return [message["type"] for message in self.json]

    def of(self, kind: str) -> list[Any]:
        """Return the data of all messages of a type."""
        return [message["data"] for message in self.json if message["type"] == kind]

    def wait_for_end(self, prompt_id: str) -> None:
        """Return when a prompt is over and in the history."""
        end = {"node": None, "prompt_id": prompt_id}
        self.wait(lambda messages: {"type": "executing", "data": end} in messages)


def txt2img(server: ComfyUI, seed: int = 1, **sampler: Any) -> Prompt:
    """Return a small workflow: node 5 is the sampler, node 9 saves."""
    values = {"seed": seed, "steps": 4, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    return {
        "1": node("CheckpointLoaderSimple", ckpt_name=server.checkpoint),
        "2": node("CLIPTextEncode", text="a fox", clip=["1", 1]),
        "3": node("CLIPTextEncode", text="", clip=["1", 1]),
        "4": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "5": node("KSampler", **(links | values | sampler)),
        "6": node("VAEDecode", samples=["5", 0], vae=["1", 2]),
        "9": node("SaveImage", images=["6", 0], filename_prefix="graycat-test"),
    }


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """Return a node of a workflow."""
    return {"class_type": class_type, "inputs": inputs}
