"""The load: all four kinds of users at once, each in a thread, until it is stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from chaos.callers import hang_up, play, read_json, send
from chaos.ledger import Accepted, AcceptedBatch, Call, Caller, Ledger, Outcome
from chaos.system import System

#: Streams at a time, images over the WebUI's API at a time, tokens of a task, and images of a batch.
STREAMS, RENDERS, TASK_TOKENS, BATCH_IMAGES = 3, 1, 12, 3
#: Seconds between two requests of a caller, and after one that was refused.
PROBE_PAUSE_S, TASK_PAUSE_S, IMAGE_PAUSE_S, REFUSED_PAUSE_S = 0.15, 0.25, 0.6, 0.25
#: Seconds between two commands of the operator: each starts a Python.
COMMAND_PAUSE_S = 2.0
#: Seconds that a caller gets to finish what it waits for.
END_S = 120.0
IMAGE: dict[str, Any] = {"width": 64, "height": 64, "steps": 2}


class Load:
    """Callers of every kind. What they do is in ``ledger``."""

    def __init__(self, system: System, ledger: Ledger) -> None:
        self.system = system
        self.ledger = ledger
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        #: What a caller raised: a defect of the harness, or of an answer's form.
        self.troubles: list[str] = []

    def start(self) -> None:
        """Let the callers begin."""
        callers: list[Callable[[], None]] = [self._play] * STREAMS + [self._render] * RENDERS
        callers += [self._submit_texts, self._submit_images, self._submit_batches, self._probe, self._operate]
        for caller in callers:
            thread = threading.Thread(target=self._run, args=(caller,), name=caller.__name__.strip("_"), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> list[str]:
        """Have the callers finish what they wait for; return the names of those that do not."""
        self._stopping.set()
        hanging = []
        for thread in self._threads:
            thread.join(END_S)
            if thread.is_alive():
                hanging.append(thread.name)
        return hanging

    def _run(self, caller: Callable[[], None]) -> None:
        try:
            caller()
        except Exception as error:  # noqa: BLE001 (whatever it is, the audit tells of it)
            self.troubles.append(f"{caller.__name__}: {type(error).__name__}: {error}"[:300])

    def _play(self) -> None:
        """Games: one stream after the other."""
        while not self._stopping.is_set():
            call = self.ledger.begin(self.ledger.new_name("stream"), Caller.GAME)
            play(self.system, self.ledger, call)
            if call.outcome is not Outcome.WHOLE:
                self._stopping.wait(REFUSED_PAUSE_S)

    def _render(self) -> None:
        """WebUI clients: an image, and wait for it."""
        while not self._stopping.wait(IMAGE_PAUSE_S / 2):
            name = self.ledger.new_name("webui")
            call = self.ledger.begin(name, Caller.WEBUI)
            body = {"prompt": name, **IMAGE}
            answer = send(self.system, self.ledger, call, "POST", "/sdapi/v1/txt2img", "webui", json=body)
            if answer is not None:
                images = (read_json(answer) or {}).get("images", [])
                outcome = Outcome.WHOLE
                if len(images) != 1:
                    outcome = Outcome.WRONG
                self.ledger.end(call, outcome, f"{len(images)} images")

    def _probe(self) -> None:
        """The quick lane: calls that need no slot, the sign of life that recovery is measured with."""
        while not self._stopping.wait(PROBE_PAUSE_S):
            call = self.ledger.begin(self.ledger.new_name("probe"), Caller.PROBE)
            answer = send(self.system, self.ledger, call, "POST", "/tokenize", "game", json={"content": "Hi"})
            if answer is not None:
                self.ledger.end(call, Outcome.WHOLE)

    def _submit_texts(self) -> None:
        """REST clients: tasks under names of their own. Every third one crashes and submits all again."""
        number = 0
        while not self._stopping.wait(TASK_PAUSE_S):
            number += 1
            name = self.ledger.new_name("text")
            # The first can be continued by another worker, the second cannot.
            kind, body = "llm.completion", {"prompt": name, "n_predict": TASK_TOKENS, "stream": True}
            if number % 2:
                messages = [{"role": "user", "content": name}]
                kind, body = "llm.chat", {"messages": messages, "max_tokens": TASK_TOKENS, "stream": True}
            if number % 3 == 0:
                hang_up(self.system, name, kind, body)
            accepted = self._submit(name, kind, body, images=0)
            if accepted and number % 3 == 1:
                self._submit(name, kind, body, images=0)
            if accepted and number % 7 == 5:
                self._cancel(name)

    def _submit_images(self) -> None:
        """REST clients: images as tasks under names of their own."""
        while not self._stopping.wait(IMAGE_PAUSE_S):
            name = self.ledger.new_name("image")
            self._submit(name, "sd.txt2img", {"prompt": name, **IMAGE}, images=1)

    def _submit(self, name: str, kind: str, body: dict[str, Any], images: int) -> bool:
        """Submit a task under a name; return whether it was accepted, under one id."""
        content = {"kind": kind, "input": body}
        call, view = self._insist(name, Caller.REST, "PUT", f"/tasks/{name}", "rest", json=content)
        if view is None:
            return False
        task_id = str(view.get("id", ""))
        trouble = self.ledger.accept(Accepted(name, Caller.REST, task_id, images=images))
        if trouble or not task_id:
            self.ledger.end(call, Outcome.WRONG, trouble or "it has no id")
        return call.outcome is Outcome.WHOLE

    def _insist(
        self, name: str, caller: Caller, method: str, path: str, owner: str, **options: Any
    ) -> tuple[Call, dict[str, Any] | None]:
        """Send a request again and again until it is known whether it was accepted; return its answer, or None."""
        while True:
            call = self.ledger.begin(name, caller)
            answer = send(self.system, self.ledger, call, method, path, owner, **options)
            if answer is not None:
                self.ledger.end(call, Outcome.WHOLE)
                return call, read_json(answer) or {}
            if not self._goes_on(call):
                return call, None

    def _cancel(self, name: str) -> None:
        self.ledger.permit(name, "cancelled")
        call = self.ledger.begin(f"{name}-cancel", Caller.REST)
        answer = send(self.system, self.ledger, call, "DELETE", f"/tasks/{name}", "rest")
        if answer is not None:
            self.ledger.end(call, Outcome.WHOLE)

    def _submit_batches(self) -> None:
        """Cron jobs: a batch under a key; and a schedule that is run under a key."""
        name = self.ledger.new_name("batch")
        prompts, document = self._make_batch(name)
        headers = {"Idempotency-Key": name}
        _, view = self._insist(name, Caller.BATCH, "POST", "/batches", "cron", json=document, headers=headers)
        if view is not None:
            self.ledger.accept_batch(AcceptedBatch(str(view.get("id", "")), prompts))
        self._run_schedule(self.ledger.new_name("schedule"))

    def _run_schedule(self, name: str) -> None:
        prompts, document = self._make_batch(name)
        path = f"/schedules/{name}"
        schedule = {"cron": "@yearly", "spec": document}
        _, view = self._insist(f"{name}-put", Caller.BATCH, "PUT", path, "cron", json=schedule)
        if view is None:
            return
        headers = {"Idempotency-Key": name}
        _, view = self._insist(f"{name}-run", Caller.BATCH, "POST", f"{path}/run", "cron", headers=headers)
        if view is not None:
            self.ledger.accept_batch(AcceptedBatch(str(view.get("batch", "")), prompts))
        self._insist(f"{name}-delete", Caller.BATCH, "DELETE", path, "cron")

    @staticmethod
    def _make_batch(name: str) -> tuple[list[str], dict[str, Any]]:
        """Return the prompts and the document of a batch."""
        prompts = [f"{name}-{number}" for number in range(1, BATCH_IMAGES + 1)]
        return prompts, {"name": name, "items": prompts, "defaults": IMAGE}

    def _goes_on(self, call: Call) -> bool:
        """Wait a moment after a call that got no answer; return whether its caller sends it again.

        One whose submit was cut off cannot know whether it was accepted: it goes on until it knows.
        """
        stopped = self._stopping.wait(REFUSED_PAUSE_S)
        if stopped:
            time.sleep(REFUSED_PAUSE_S)
        return call.outcome is Outcome.BROKEN or (call.outcome is Outcome.REFUSED and not stopped)

    def _operate(self) -> None:
        """An operator: looks at the status, and pauses and resumes a queue, which must not stay paused."""
        while not self._stopping.wait(COMMAND_PAUSE_S):
            self._command("status", "--json")
            self._command("queue", "pause", "llm.batch")
            while not self._command("queue", "resume", "llm.batch"):
                time.sleep(REFUSED_PAUSE_S)

    def _command(self, *words: str) -> bool:
        """Run a command; return whether it has succeeded."""
        call = self.ledger.begin(self.ledger.new_name(words[0]), Caller.OPERATOR)
        done = self.system.graycat(*words)
        # Status 1 of this command is an answer: games are not served.
        if words[0] == "status" and done.returncode == 1 and done.stdout.startswith("{"):
            done.returncode = 0
        self._judge_command(call, done.returncode, done.stderr)
        return call.outcome is Outcome.WHOLE

    def _judge_command(self, call: Call, status: int, errors: str) -> None:
        """A command succeeds, or fails with a sentence; a traceback is wrong."""
        # One that a fault has killed (a negative status) could say nothing.
        if "Traceback" in errors or (status > 0 and not errors.strip()):
            self.ledger.end(call, Outcome.WRONG, f"status {status}: {errors[-300:]}")
        elif status:
            self.ledger.end(call, Outcome.REFUSED, errors.strip()[-200:])
        else:
            self.ledger.end(call, Outcome.WHOLE)
