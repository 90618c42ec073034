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

from tests.fakes.comfyui.options import DEFAULT_VERSION
from tests.fakes.comfyui.versions import habits_of
from tests.support.processes import Output, eventually

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
        #: What the server's release does.
        self.habits = habits_of(DEFAULT_VERSION)

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

    def look(self) -> None:
        """Ask for the release and for a checkpoint."""
        self.habits = habits_of(self.get("/system_stats")["system"]["comfyui_version"])
        self.checkpoint = self.get("/models/checkpoints")[0]

    def set(self, **options: Any) -> None:
        """Change the double's options while it runs, by their names in the code."""
        assert self.call("POST", "/double", options).status_code == 200

    def send(self, prompt: Prompt, **fields: Any) -> requests.Response:
        """Send a prompt."""
        return self.call("POST", "/prompt", {"prompt": prompt, **fields})

    def accept(self, prompt: Prompt, **fields: Any) -> str:
        """Send a prompt that is queued; return its id."""
        response = self.send(prompt, **fields)
        assert response.status_code == 200, response.text
        return str(response.json()["prompt_id"])

    def finish(self, prompt: Prompt, **fields: Any) -> Any:
        """Send a prompt and return its entry in the history."""
        prompt_id = self.accept(prompt, **fields)
        return eventually(lambda: self.history(prompt_id), PATIENCE_S)

    def queued(self) -> tuple[list[str], list[str]]:
        """Return the ids that run and those that wait, in the order of the answer."""
        queue = self.get("/queue")
        running, waiting = queue["queue_running"], queue["queue_pending"]
        return [item[1] for item in running], [item[1] for item in waiting]

    def wait_until_running(self, prompt_id: str) -> None:
        """Return when a prompt runs."""
        eventually(lambda: prompt_id in self.queued()[0], PATIENCE_S, every_s=0.01)

    def wait_until_idle(self) -> None:
        """Return when nothing runs or waits."""
        eventually(lambda: self.queued() == ([], []), PATIENCE_S)

    @contextmanager
    def busy(self) -> Iterator[str]:
        """Have a prompt run during the block and end it afterwards; yields its id."""
        running = self.accept(stepping(steps=100_000, step_s=0.01))
        self.wait_until_running(running)
        try:
            yield running
        finally:
            self.interrupt(running)

    def interrupt(self, prompt_id: str) -> None:
        """End a running prompt, and return when it is over."""
        assert self.call("POST", "/interrupt", {"prompt_id": prompt_id}).status_code == 200
        eventually(lambda: self.history(prompt_id), PATIENCE_S)

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
            server.look()
            yield server
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        output.close(PATIENCE_S)


def at(url: str) -> ComfyUI:
    """Return a server that somebody else started."""
    server = ComfyUI(url)
    server.look()
    return server


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
            if self._connection is not None:
                self._connection.close()
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


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """Return a node of a workflow."""
    return {"class_type": class_type, "inputs": inputs}


def txt2img(server: ComfyUI, seed: int = 1, **sampler: Any) -> Prompt:
    """Return a small workflow with a model: node 5 is the sampler, node 9 saves."""
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


def still(color: int | None = None, prefix: str = "graycat-test") -> Prompt:
    """Return a workflow without a model: a picture of one colour, a new one by default."""
    if color is None:
        color = uuid.uuid4().int % 2**24
    return {
        "1": node("EmptyImage", width=32, height=16, batch_size=1, color=color),
        "9": node("SaveImage", images=["1", 0], filename_prefix=prefix),
    }


def through(class_type: str, **inputs: Any) -> Prompt:
    """Return such a workflow with a node 5 between picture and file."""
    prompt = still()
    prompt["5"] = node(class_type, image=["1", 0], **inputs)
    prompt["9"]["inputs"]["images"] = ["5", 0]
    return prompt


def stepping(steps: int = 4, step_s: float = 0.0) -> Prompt:
    """Return a workflow whose node 5 tells its steps and heeds interrupts."""
    return through("OperatorSteps", steps=steps, step_s=step_s)


def pausing(seconds: float) -> Prompt:
    """Return a workflow whose node 5 tells nothing and heeds no interrupt."""
    return through("OperatorPause", seconds=seconds)
