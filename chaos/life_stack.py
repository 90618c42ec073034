"""``python -m chaos life --stack N``: tasks on a whole graycat, of which one part is killed in each example.

What is seen of a task must be a way through its states, forwards only but for a release; at the end each has ended, and
its engine was asked once an attempt at most.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import requests
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from chaos.callers import TRY_AGAIN
from chaos.facts import read_left
from chaos.system import UNHURRIED, System
from graycat.queue.models import TERMINAL_STATES, UNSUCCESSFUL_STATES
from tests.support.processes import eventually

#: What is killed: one of them in an example, since the supervisor waits longer for what ends again and again.
VICTIMS = ("llm", "web", "control", "text engine")
PICKS = st.integers(0, 9)
#: Seconds until all of an example must have ended.
END_S = 120.0


class StackLife(RuleBasedStateMachine):
    """Callers, an operator and a killer. ``system`` is set before it runs."""

    system: ClassVar[System]
    numbers: ClassVar[Any] = count(1)
    done: ClassVar[Counter[str]] = Counter()

    @initialize()
    def begin(self) -> None:
        """Begin an example with names of its own."""
        self.prefix = f"life-{next(self.numbers)}"
        #: By name: the request, and state and attempt as they were seen last.
        self.bodies: dict[str, dict[str, Any]] = {}
        self.seen: dict[str, tuple[str, int]] = {}
        self.killed = ""
        self.paused = False
        for tokens in (2, 60, 60):
            self.submit(tokens)

    def _ask(self, method: str, path: str, **options: Any) -> requests.Response | None:
        """Send a request; None if it was refused, or broke."""
        try:
            answer = self.system.request(method, path, "rest", **options)
        except requests.RequestException:
            assert self.killed, "a request broke, and nothing was killed"
            return None
        assert answer.status_code < 500 or answer.status_code in TRY_AGAIN, answer.text
        return None if answer.status_code in TRY_AGAIN else answer

    def _see(self, name: str, view: dict[str, Any]) -> None:
        state, attempt = view["state"], view.get("attempt", 0)
        before, attempts = self.seen.get(name, ("queued", 0))
        assert attempt >= attempts, f"{name}: attempt {attempt} behind {attempts}"
        if before in TERMINAL_STATES:
            assert (state, attempt) == (before, attempts), f"{name} was {before}, and is {state}"
        self.seen[name] = (state, attempt)
        self.done[f"seen {state}"] += 1

    def _pick(self, pick: int) -> str:
        names = sorted(self.bodies)
        return names[pick % len(names)]

    @rule(tokens=st.sampled_from((2, 20, 60)))
    def submit(self, tokens: int) -> None:
        """Submit a task under a new name."""
        name = f"{self.prefix}-{len(self.bodies)}"
        self.bodies[name] = {"kind": "llm.completion", "input": {"prompt": name, "n_predict": tokens}}
        self._put(name)

    def _put(self, name: str) -> bool:
        answer = self._ask("PUT", f"/tasks/{name}", json=self.bodies[name])
        if answer is None:
            return False
        assert answer.ok, answer.text
        self._see(name, answer.json())
        return True

    @precondition(lambda self: self.bodies)
    @rule(pick=PICKS, other=st.booleans())
    def submit_again(self, pick: int, other: bool) -> None:
        """Submit a name again: the same request is the same task, another is refused."""
        name = self._pick(pick)
        if not other or name not in self.seen:
            self._put(name)
            return
        answer = self._ask("PUT", f"/tasks/{name}", json=self.bodies[name] | {"metadata": {"other": True}})
        assert answer is None or answer.status_code == 409, answer.text

    @precondition(lambda self: self.seen)
    @rule(pick=PICKS, wait=st.sampled_from((0, 0.2, 1)))
    def poll(self, pick: int, wait: float) -> None:
        """Look at a task."""
        name = self._pick(pick)
        answer = self._ask("GET", f"/tasks/{name}?wait={wait}")
        if answer is not None and name in self.seen:
            self._see(name, answer.json())

    @precondition(lambda self: self.seen)
    @rule(pick=PICKS, method=st.sampled_from(("cancel", "retry")))
    def act(self, pick: int, method: str) -> None:
        """Cancel a task, or try one again; only what did not succeed is tried again."""
        name = self._pick(pick)
        answer = self._ask("POST", f"/tasks/{name}/{method}")
        if answer is None or name not in self.seen:
            return
        if method == "cancel":
            self._see(name, answer.json())
        elif self.seen[name][0] in UNSUCCESSFUL_STATES:
            assert answer.status_code == 202, answer.text
        self.done[method] += 1

    @rule()
    def pause_or_resume(self) -> None:
        """Pause the queue, or have it go on."""
        if self.system.graycat("queue", "resume" if self.paused else "pause", "llm").returncode == 0:
            self.paused = not self.paused

    @precondition(lambda self: not self.killed and len(self.bodies) > 1)
    @rule(victim=st.sampled_from(VICTIMS))
    def kill(self, victim: str) -> None:
        """Kill a part; its supervisor starts it again."""
        self.killed = victim
        self.system.kill(victim)
        self.done[f"kill {victim}"] += 1

    def teardown(self) -> None:
        """Have everything go on: then all ends, once, and nothing is left."""
        if not hasattr(self, "bodies"):
            return
        if self.paused:
            eventually(lambda: self.system.graycat("queue", "resume", "llm").returncode == 0, END_S)
        self.system.wait_until_ready()
        for name in self.bodies:
            eventually(partial(self._put, name), END_S)
            eventually(partial(self._has_ended, name), END_S)
        eventually(lambda: not any(read_left(self.system).values()), END_S, 0.2)
        asked = Counter(self.system.asked())
        for name, (state, attempts) in self.seen.items():
            # A retry asks for the same prompt again: it is a task of its own.
            assert state == "cancelled" or asked[name] >= 1, f"{name} has {state} without its engine"
            if state == "succeeded":
                assert asked[name] <= attempts, f"{name}: {asked[name]} calls in {attempts} attempts"

    def _has_ended(self, name: str) -> bool:
        answer = self._ask("GET", f"/tasks/{name}?wait=5")
        if answer is None:
            return False
        self._see(name, answer.json())
        return self.seen[name][0] in TERMINAL_STATES


def search(examples: int, steps: int = 12) -> Counter[str]:
    """Run the machine on one system; return how often each thing was done. Raises AssertionError."""
    with tempfile.TemporaryDirectory(prefix="chaos-life-", ignore_cleanup_errors=True) as folder:
        StackLife.system = System(Path(folder), UNHURRIED)
        StackLife.done = Counter()
        profile = settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, database=None,
            suppress_health_check=list(HealthCheck), phases=(Phase.generate,),
        )  # fmt: skip
        try:
            StackLife.system.start()
            run_state_machine_as_test(StackLife, settings=profile)
            StackLife.system.stop()
        finally:
            StackLife.system.kill_all()
    return StackLife.done
