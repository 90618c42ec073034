"""A burst on slow engines, and a scaler that follows the hint: ``python -m bench.scaling``.

Real workers come and go by ``scale`` of ``/status``, which is what KEDA and ``graycat scale-hint`` read. Nothing may be
lost or begun twice, and no worker started that has nothing to do.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.boxes import FAKE
from tests.support.ports import free_ports
from tests.support.processes import eventually
from tests.support.stack import BIN, ROOT, Client, Stack

METRICS_TOKEN = "bench-token-of-metrics"  # noqa: S105 (of this run alone)
#: Seconds between two looks of the scaler, and between two tasks of the trickle that follows the burst.
LOOK_INTERVAL_S, TRICKLE_INTERVAL_S = 2.0, 2.0


@dataclass
class Seen:
    """What was seen: seconds since the burst with the hint and the workers, and how the workers ended."""

    steps: list[tuple[float, int, int]] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    started: int = 0

    def note(self, at_s: float, hint: int, workers: int) -> None:
        """Note a change."""
        if not self.steps or self.steps[-1][1:] != (hint, workers):
            self.steps.append((round(at_s, 1), hint, workers))
            sys.stdout.write(f"{at_s:7.1f} s: hint {hint}, workers {workers}\n")
            sys.stdout.flush()


class Workers:
    """Workers on this machine, each with an engine, a name and a port of its own, as if each were a box."""

    def __init__(self, stack: Stack, seen: Seen, most: int) -> None:
        self._stack, self._seen = stack, seen
        self._ports = free_ports(3 * most)
        self.running: list[str] = []
        self._ending: list[str] = []

    def scale_to(self, count: int) -> None:
        """Start workers, or have the newest ones drain: as an orchestrator does, without waiting for either."""
        while len(self.running) < count:
            name = f"box{self._seen.started}"
            port = self._ports[self._seen.started % len(self._ports)]
            self._stack.set_env({"GRAYCAT_BOX": name, "LLM_PORT": str(port)})
            self._stack.launch(name, "graycat worker llm")
            self.running.append(name)
            self._seen.started += 1
        while len(self.running) > count:
            name = self.running.pop()
            self._stack.send_signal(name, 15)
            self._ending.append(name)
        for name in [name for name in self._ending if not self._stack.alive(name)]:
            self._ending.remove(name)
            self._seen.exits.append(self._stack.wait(name, 1))

    @property
    def settled(self) -> bool:
        """Return whether none is ending."""
        return not self._ending


def build_stack(home: Path, most: int, start_s: float, down_s: float) -> Stack:
    """Return a stack whose workers are started by the scaler."""
    env = {
        "STARTUP_COMMAND": f"{FAKE} --port {{port}} --interval 0.2 --slots 4",
        "GRAYCAT_METRICS_TOKEN": METRICS_TOKEN,
        "GRAYCAT_QUEUE_TTL_S": "3600",
        "GRAYCAT_STOP_GRACE_S": "60",
        "GRAYCAT_LLM_MAX_WORKERS": str(most),
        "GRAYCAT_SCALE_WAIT_S": str(start_s),
        "GRAYCAT_SCALE_START_S": str(start_s),
        "GRAYCAT_SCALE_DOWN_S": str(down_s),
    }
    return Stack(home, separately=True, env=env)


def submit(client: Client, number: int) -> str:
    """Submit a task of four seconds; return its id."""
    body = {"prompt": f"task {number}", "n_predict": 20}
    answer = client.post("/tasks", {"kind": "llm.completion", "input": body})
    answer.raise_for_status()
    return str(answer.json()["id"])


def states(stack: Stack, ids: list[str]) -> list[dict[str, str]]:
    """Return the records of tasks."""
    with stack.redis().pipeline() as pipe:
        for task_id in ids:
            pipe.hgetall(f"graycat:task:{task_id}")
        found: list[dict[str, str]] = pipe.execute()
    return found


def measure(stack: Stack, tasks: int, most: int, limit_s: float) -> tuple[Seen, list[dict[str, str]], float]:
    """Send the burst, follow the hint until one worker is left; return what was seen, the records, and the seconds."""
    seen = Seen()
    workers = Workers(stack, seen, most)
    client, status = stack.client(), Client(stack.url, METRICS_TOKEN)

    def look() -> dict[str, Any]:
        scale: dict[str, Any] = status.get("/status").json()["scale"]["llm"]
        return scale

    workers.scale_to(1)
    eventually(lambda: look()["serving"] == 1, 60)
    seen.note(0.0, look()["hint"], 1)
    began = time.monotonic()
    ids = [submit(client, number) for number in range(tasks)]
    grown = False
    done_s = 0.0
    trickle_at = 0.0
    while time.monotonic() - began < limit_s:
        at_s = time.monotonic() - began
        hint = int(look()["hint"])
        workers.scale_to(hint)
        seen.note(at_s, hint, len(workers.running))
        grown = grown or hint == most
        left = sum(record["state"] in ("queued", "running") for record in states(stack, ids[:tasks]))
        if not left and not done_s:
            done_s = at_s
        if done_s and grown and hint == 1 and workers.settled:
            break
        if done_s and at_s >= trickle_at:
            # Something runs while workers drain.
            ids.append(submit(client, len(ids)))
            trickle_at = at_s + TRICKLE_INTERVAL_S
        time.sleep(LOOK_INTERVAL_S)
    eventually(lambda: {row["state"] for row in states(stack, ids)} <= {"succeeded", "failed", "expired"}, 60)
    status.session.close()
    return seen, states(stack, ids), done_s


def check_command(stack: Stack) -> int:
    """Return what ``graycat scale-hint llm`` prints."""
    command = [str(BIN / "graycat"), "scale-hint", "llm"]
    done = subprocess.run(command, cwd=ROOT, env=stack.env, capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout)


def report(seen: Seen, records: list[dict[str, str]], done_s: float, most: int) -> dict[str, Any]:
    """Return what was measured, and ``faults``: what must not be."""
    by_state = Counter(record.get("state", "gone") for record in records)
    by_worker = Counter(record.get("worker", "") for record in records)
    twice = sum(record.get("attempt") != "1" for record in records)
    faults = []
    if set(by_state) != {"succeeded"}:
        faults.append(f"lost: {dict(by_state)}")
    if twice:
        faults.append(f"begun twice: {twice}")
    in_vain = [f"llm@box{number}" for number in range(seen.started) if not by_worker[f"llm@box{number}"]]
    if in_vain:
        faults.append(f"started in vain: {in_vain}")
    if set(seen.exits) - {0}:
        faults.append(f"exit statuses: {seen.exits}")
    counts = [workers for _, _, workers in seen.steps]
    if max(counts) != most or counts[0] != 1 or counts[-1] != 1:
        faults.append(f"workers: {counts}")
    return {
        "tasks": len(records), "states": dict(by_state), "begun twice": twice, "started": seen.started,
        "burst done after s": round(done_s, 1), "tasks by worker": dict(by_worker), "steps": seen.steps,
        "faults": faults,
    }  # fmt: skip


def run(home: Path, tasks: int, most: int, start_s: float, down_s: float, limit_s: float) -> dict[str, Any]:
    """Run all of it; no process is left in any case."""
    stack = build_stack(home, most, start_s, down_s)
    try:
        for name in ("broker", "web"):
            stack.launch(name)
        eventually(lambda: (home / "valkey.sock").exists() or stack.outputs["broker"].text, 60)
        eventually(lambda: stack.outputs["web"].text and _answers(stack), 60)
        seen, records, done_s = measure(stack, tasks, most, limit_s)
        found = report(seen, records, done_s, most)
        if check_command(stack) != 1:
            found["faults"].append("the command does not say 1")
        stack.stop()
        return found
    finally:
        stack.kill_all()


def _answers(stack: Stack) -> bool:
    try:
        return stack.engine_pid() is None and Client(stack.url).get("/health", timeout=5).ok
    except OSError:
        return False


def main() -> int:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--start-s", type=float, default=20.0)
    parser.add_argument("--down-s", type=float, default=30.0)
    parser.add_argument("--limit-s", type=float, default=900.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        found = run(home, options.tasks, options.workers, options.start_s, options.down_s, options.limit_s)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 1 if found["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
