"""What callers do in the state machine of ``chaos.life``: submit, poll, cancel, retry; and they lose a token."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from chaos.life_model import QUEUED, RUNNING, ModelTask
from chaos.life_testbed import LASTING, Delivery, Testbed
from graycat.queue.models import UNSUCCESSFUL_STATES

#: Names that callers choose, and requests that they send under them; and which of so many tasks a rule is about.
NAMES, CONTENTS, PICKS = st.sampled_from(("a", "b")), st.sampled_from(("one", "two")), st.integers(0, 9)
OWNERS, LANES = st.sampled_from((LASTING, "")), st.sampled_from(("interactive", "interactive", "batch"))
#: A token is not revoked before there are so many tasks.
BEFORE_REVOKED = 8


class CallerRules(RuleBasedStateMachine):
    """Two owners and what they do. ``testbed`` is set before it runs."""

    testbed: ClassVar[Testbed]
    #: How often each rule did something, over all examples.
    done: ClassVar[Counter[str]] = Counter()

    @initialize()
    def begin(self) -> None:
        """Begin with an empty broker."""
        self.testbed.empty()
        self.tasks: dict[str, ModelTask] = {}
        #: Tasks whose records are gone.
        self.gone: list[ModelTask] = []
        self.named: dict[tuple[str, str], str] = {}
        self.workers = [self.testbed.new_worker(f"llm@w{number}") for number in (0, 1)]
        #: What workers had taken that died, until it is restored.
        self.orphans: list[Delivery] = []
        self.mortal_lives = True
        # So that there is something to do from the first step on.
        for owner in (LASTING, LASTING, ""):
            self.submit(owner, "batch", "first")
            self.submit(owner, "interactive", "first")

    # Callers.

    def _owner(self, drawn: str) -> str:
        return drawn if drawn or not self.mortal_lives else self.testbed.mortal

    def _is_callable(self, task: ModelTask) -> bool:
        return task.owner == LASTING or self.mortal_lives

    def _pick(self, pick: int, *states: str) -> ModelTask | None:
        """Return one of the tasks in some states (none: in any) whose owner may call."""
        found = [t for t in self.tasks.values() if (not states or t.state in states) and self._is_callable(t)]
        return found[pick % len(found)] if found else None

    def _accept(self, task: ModelTask, what: str) -> None:
        self.tasks[task.id] = task
        if task.name:
            self.named[task.owner, task.name] = task.id
        self.done[what] += 1

    @rule(drawn=OWNERS, lane=LANES, content=CONTENTS)
    def submit(self, drawn: str, lane: str, content: str) -> None:
        """Submit a task under an id that graycat makes."""
        owner = self._owner(drawn) or LASTING
        answer = self.testbed.web[owner].post("/tasks", json=body_of(content, lane))
        assert answer.status_code == 202, answer.text
        self._accept(ModelTask(answer.get_json()["id"], owner, lane, f"{content} {lane}"), "submit")

    @rule(drawn=OWNERS, name=NAMES, content=CONTENTS, lane=LANES, by_key=st.booleans())
    def put(self, drawn: str, name: str, content: str, lane: str, by_key: bool) -> None:
        """Submit under a chosen id or with an idempotency key: the same again is the same task, another is refused."""
        owner = self._owner(drawn) or LASTING
        web, body = self.testbed.web[owner], body_of(content, lane)
        if by_key:
            answer = web.post("/tasks", json=body, headers={"Idempotency-Key": name})
            name = f"key {name}"
        else:
            answer = web.put(f"/tasks/{name}", json=body)
        known = self.tasks.get(self.named.get((owner, name), ""))
        if known is None:
            assert answer.status_code == 202, answer.text
            view = answer.get_json()
            task_id = view["id"] if by_key else self.testbed.named_id(owner, name)
            self._accept(ModelTask(task_id, owner, lane, f"{content} {lane}", name), "put")
        elif known.content == f"{content} {lane}":
            assert (answer.status_code, answer.get_json()["state"]) == (200, known.state)
            self.done["put again"] += 1
        else:
            assert answer.status_code == 409, answer.text
            self.done["put refused"] += 1

    @rule(pick=PICKS, wait=st.booleans())
    def poll(self, pick: int, wait: bool) -> None:
        """Look at a task; a caller that looks at an overdue one ends it."""
        task = self._pick(pick)
        if task is None:
            return
        path = f"/tasks/{self._address(task)}" + ("?wait=0.01" if wait else "")
        view = self.testbed.web[task.owner].get(path).get_json()
        if task.state == QUEUED and task.overdue and task.attempts == 0:
            self._end_queued(task, "expired")
        assert (view["state"], view.get("attempt", 0)) == (task.state, task.attempts)
        self.done[f"poll {task.state}"] += 1

    def _address(self, task: ModelTask) -> str:
        return task.name if task.name and not task.name.startswith("key ") else task.id

    @rule(pick=PICKS)
    def cancel(self, pick: int) -> None:
        """Cancel a task: one that is queued ends at once, one that runs is asked to stop, one that ended stays."""
        task = self._pick(pick)
        if task is None:
            return
        before = task.state
        view = self.testbed.web[task.owner].delete(f"/tasks/{self._address(task)}").get_json()
        self._stop(task)
        assert (view["state"], view["confirmed"]) == (task.state, task.ended)
        self.done[f"cancel {before}"] += 1

    def _stop(self, task: ModelTask) -> None:
        """Change a task as a request to stop does; what is overdue is found so first, by who looks at it."""
        if task.state == QUEUED:
            overdue = task.overdue and task.attempts == 0 and self._is_callable(task)
            self._end_queued(task, "expired" if overdue else "cancelled")
        elif task.state == RUNNING:
            task.stopping = True

    def _end_queued(self, task: ModelTask, state: str) -> None:
        # It is counted as dead also if the broker has lost it.
        task.left_message = task.unheld or self.testbed.has_message(task.id)
        task.move(state)

    @rule(pick=PICKS, unsuccessful=st.booleans())
    def retry(self, pick: int, unsuccessful: bool) -> None:
        """Submit a task again that did not succeed; any other is refused."""
        task = self._pick(pick, *(UNSUCCESSFUL_STATES if unsuccessful else ()))
        if task is None or task.overdue:
            return
        answer = self.testbed.web[task.owner].post(f"/tasks/{self._address(task)}/retry")
        if task.state in UNSUCCESSFUL_STATES:
            assert answer.status_code == 202, answer.text
            again = ModelTask(answer.get_json()["id"], task.owner, task.lane, f"retry {task.id}")
            self._accept(again, "retry")
        else:
            assert answer.status_code == 409, answer.text
            self.done["retry refused"] += 1

    @precondition(lambda self: self.mortal_lives and len(self.tasks) > BEFORE_REVOKED)
    @rule()
    def revoke(self) -> None:
        """Revoke the token of an owner: what it has left ends, and it may call no more."""
        self.testbed.end_mortal()
        self.mortal_lives = False
        for task in self.tasks.values():
            if task.owner == self.testbed.mortal:
                self._stop(task)
        assert self.testbed.web[self.testbed.mortal].get("/tasks").status_code == 401
        self.done["revoke"] += 1


def body_of(content: str, lane: str) -> dict[str, Any]:
    """Return the body of a request for a task."""
    return {"kind": "llm.completion", "input": {"prompt": content}, "priority": lane}
