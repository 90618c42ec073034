"""A load of every kind on one stack (streams, polled tasks, images, one batch), and what must be true at its end."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import requests

from graycat.queue.events import TERMINAL
from graycat.queue.models import TERMINAL_STATES
from tests.fakes.llama_server import ASKED as TEXT_ASKED
from tests.fakes.webui import ASKED as IMAGES_ASKED
from tests.support.boxes import FAKE
from tests.support.images import start_command
from tests.support.processes import eventually
from tests.support.stack import Stack
from tests.support.unity import BrokenAnswer, ErrorAnswer, V3Reader, send_post

#: Tokens of a stream and of a task, and the seconds between two.
STREAM_TOKENS, TASK_TOKENS, INTERVAL_S = 30, 6, 0.02
#: Streams at a time, and the seconds between two polled tasks and between two images.
STREAMS, TASK_PAUSE_S, IMAGE_PAUSE_S = 3, 0.2, 0.7
IMAGE = {"width": 64, "height": 64, "steps": 2}
BATCH_IMAGES = 100
#: Seconds that one request may take, and that all accepted work gets to end.
REQUEST_S, END_S = 20.0, 90.0

ENGINES = {
    "RUN_SD": "true",
    "STARTUP_COMMAND": f"{FAKE} --port {{port}} --interval {INTERVAL_S} --tells-prompts",
    "SD_STARTUP_COMMAND": start_command(),
}


class MixedLoad:
    """Callers of every kind, each in a thread, until ``stop``; then ``audit``."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._headers = {"Authorization": f"Bearer {stack.token}"}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        #: How the streams went: whole, refused, broken, or the status of an error.
        self.streams: Counter[str] = Counter()
        #: The names of the tasks that were accepted.
        self.tasks: list[str] = []
        self.batch_id = ""

    def start(self) -> None:
        """Submit the batch, and let the callers begin."""
        document = {"name": "gaps", "items": [f"batch {n}" for n in range(BATCH_IMAGES)], "defaults": IMAGE}
        self.batch_id = self._stack.client().post("/batches", document).json()["id"]
        callers: list[Callable[[], None]] = [self._play] * STREAMS + [self._submit_text, self._submit_images]
        self._threads = [threading.Thread(target=caller, daemon=True) for caller in callers]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let the callers finish what they wait for."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(END_S)
            assert not thread.is_alive(), "a caller hangs"

    def _play(self) -> None:
        while not self._stopping.is_set():
            how = self._stream()
            self.streams[how] += 1
            if how != "whole":
                self._stopping.wait(0.2)

    def _stream(self) -> str:
        body = {"prompt": "a game", "n_predict": STREAM_TOKENS, "stream": True}
        try:
            connection = send_post(self._stack.url, "/completion", body, self._stack.token)
        except OSError:
            return "refused"
        try:
            with connection:
                answer = V3Reader().read(connection)
        except ErrorAnswer as error:
            return str(error.status)
        except (BrokenAnswer, OSError):
            return "broken"
        final = answer.events[-1]["tokens_predicted"]
        return "whole" if len(answer.tokens) == final == STREAM_TOKENS else f"wrong: {len(answer.tokens)} tokens"

    def _submit_text(self) -> None:
        number = 0
        while not self._stopping.wait(TASK_PAUSE_S):
            number += 1
            name = f"text-{number}"
            # The second can be continued, the first cannot.
            body: dict[str, Any] = {"messages": [{"role": "user", "content": name}], "max_tokens": TASK_TOKENS}
            kind = "llm.chat"
            if number % 2:
                kind, body = "llm.completion", {"prompt": name, "n_predict": TASK_TOKENS}
            self._submit(name, kind, body | {"stream": True})

    def _submit_images(self) -> None:
        number = 0
        while not self._stopping.wait(IMAGE_PAUSE_S):
            number += 1
            self._submit(f"image-{number}", "sd.txt2img", {"prompt": f"image-{number}", **IMAGE})

    def _submit(self, name: str, kind: str, body: dict[str, Any]) -> None:
        """Submit a task under a name, again and again until it is accepted."""
        while not self._stopping.is_set():
            try:
                answer = self._request("PUT", f"/tasks/{name}", json={"kind": kind, "input": body})
            except requests.RequestException:
                continue
            if answer.ok:
                self.tasks.append(name)
                return
            assert answer.status_code == 503, answer.text
            self._stopping.wait(0.1)

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        return requests.request(method, self._stack.url + path, headers=self._headers, timeout=REQUEST_S, **options)

    def audit(self) -> None:
        """Check that everything accepted has ended once, and that nothing was made twice without need."""
        views = {name: self._request("GET", f"/tasks/{name}?wait=15").json() for name in self.tasks}
        assert {name: view["state"] for name, view in views.items() if view["state"] != "succeeded"} == {}
        self._check_calls({name: view["attempt"] for name, view in views.items()})
        for name in filter(lambda name: name.startswith("image-"), self.tasks):
            paths = [f"/tasks/{name}/images/{number}" for number in (0, 1)]
            assert [self._request("GET", path).status_code for path in paths] == [200, 404]
        self._check_batch()
        self._check_broker()

    def _check_calls(self, attempts: dict[str, int]) -> None:
        """Check that each attempt has asked its engine once at most."""
        calls = Counter(self._asked("llm", TEXT_ASKED) + self._asked("sd", IMAGES_ASKED))
        assert {name: (calls[name], most) for name, most in attempts.items() if not 1 <= calls[name] <= most} == {}

    def _asked(self, engine: str, mark: str) -> list[str]:
        lines = (self._stack.home / "log" / f"{engine}-engine.log").read_text().splitlines()
        return [line.removeprefix(mark).strip() for line in lines if line.startswith(mark)]

    def _check_batch(self) -> None:
        """Check that the batch has each of its images once."""
        path = f"/batches/{self.batch_id}"
        eventually(lambda: self._request("GET", path).json()["state"] == "succeeded", END_S)
        folder = Path(self._stack.home / "batches" / self._request("GET", path).json()["folder"])
        eventually(lambda: self._stack.redis().zscore("graycat:batches:live", self.batch_id) is None, 20)
        lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
        assert [line["item"] for line in lines] == list(range(1, BATCH_IMAGES + 1))
        assert sorted(path.name for path in folder.glob("*.png")) == sorted(line["file"] for line in lines)
        assert all(sha256((folder / line["file"]).read_bytes()).hexdigest() == line["sha256"] for line in lines)
        self._check_calls({line["prompt"]: line["attempts"] for line in lines})

    def _check_broker(self) -> None:
        """Check that every task that was ever begun has one end, and that no message or place is left of any."""
        broker = self._stack.redis()
        eventually(lambda: broker.zcard("graycat:live.llm") + broker.zcard("graycat:live.sd") == 0, END_S)
        eventually(lambda: sum(broker.hlen(f"unacked:{kind}") for kind in ("llm", "quick", "sd", "control")) == 0, 20)
        assert [broker.llen(queue) for queue in ("llm", "llm.quick", "llm.batch", "sd", "sd.batch")] == [0] * 5
        for key in broker.scan_iter("graycat:task:*", count=1000):
            assert broker.hget(key, "state") in TERMINAL_STATES, key
            kinds = [fields["kind"] for _, fields in broker.xrange(key.replace(":task:", ":events:"))]
            assert [kind for kind in kinds if kind in TERMINAL] == kinds[-1:], key
