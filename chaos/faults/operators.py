"""What operators do to a running graycat, by its own commands and by those of its broker."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

from chaos.faults import BREAKS, ENDS, REFUSES, Fault
from chaos.system import System, wait_for
from graycat.broker.keys import PROCESSES
from tests.support.processes import eventually

#: Seconds for which a queue is paused, and that a drain and a graceful stop may take.
PAUSED_S, DRAINED_S = 4.0, 60.0
QUEUES = ("llm", "sd", "llm.quick")
WORKERS = ("llm", "quick", "sd", "control")


def pause(system: System) -> None:
    """Pause the queues of all engines for some seconds. They go on taking tasks."""
    for queue in QUEUES:
        system.command("queue", "pause", queue)
    time.sleep(PAUSED_S)
    for queue in QUEUES:
        system.command("queue", "resume", queue)
    system.harm_done()


def drain(system: System) -> None:
    """Drain all workers at once, then restart everything: drained workers stay away until then."""
    box = next(iter(system.redis().hkeys(PROCESSES)))
    pids = {system.pid(worker) for worker in WORKERS}
    with ThreadPoolExecutor(len(WORKERS)) as pool:
        list(pool.map(lambda worker: system.command("worker", "drain", f"{worker}@{box}"), WORKERS))
    eventually(lambda: not pids & set(system.stack.command_lines()), DRAINED_S)
    restart(system)


def restart(system: System) -> None:
    """Stop everything as Ctrl-C does, and start it anew."""
    stop(system)
    system.harm_done()
    system.start()


def stop(system: System) -> None:
    """Stop everything as Ctrl-C does."""
    pid = system.signal("up", signal.SIGINT)
    eventually(lambda: pid not in system.stack.command_lines(), DRAINED_S)


def purge(system: System) -> None:
    """Purge the queues, as ``celery purge`` does: every message that waits is gone."""
    for _ in range(5):
        system.redis().delete("llm", "sd", "sd.batch", "llm.batch")
        time.sleep(0.2)


def forget_scripts(system: System) -> None:
    """Flush the broker's scripts."""
    for _ in range(5):
        system.redis().script_flush()
        time.sleep(0.2)


def disconnect(system: System) -> None:
    """Close all connections of the broker, again and again."""
    for _ in range(3):
        for kind in ("normal", "pubsub"):
            system.redis().client_kill_filter(_type=kind, skipme=True)
        # Who was cut off is back, and can be cut off again.
        eventually(system.quick_answers, DRAINED_S)
    system.harm_done()


def restart_engines(system: System) -> None:
    """Restart both engines by ending them, as an operator does who has changed a model's file."""
    for part in ("text engine", "image engine"):
        pid = system.signal(part, signal.SIGTERM)
        eventually(lambda part=part, pid=pid: system.pids().get(part) != pid, DRAINED_S)  # type: ignore[misc]
    system.harm_done()
    wait_for(system.is_whole, DRAINED_S)


def ask_status(system: System) -> None:
    """Ask for the status, the tasks and the usage, again and again."""
    until = time.monotonic() + PAUSED_S
    while time.monotonic() < until:
        for path in ("/status", "/tasks?owner=*", "/usage", "/ready", "/metrics"):
            system.request("GET", path, "operator")


FAULTS = [
    Fault("pause queues", "operators", f"`graycat queue pause` of three queues for {PAUSED_S:g} s", pause),
    Fault("disconnect", "operators", "`CLIENT KILL` of every connection of the broker, three times", disconnect,
          permits=BREAKS | REFUSES | ENDS),
    Fault("forget scripts", "operators", "`SCRIPT FLUSH`, five times", forget_scripts, permits=REFUSES),
    Fault("purge", "operators", "the queues are deleted, as `celery purge` does, five times", purge),
    Fault("ask much", "operators", "status, tasks, usage and metrics without a pause", ask_status),
    Fault("restart engines", "operators", "SIGTERM to both engines", restart_engines),
    Fault("restart", "operators", "Ctrl-C, and `graycat up` again", restart,
          permits=BREAKS | REFUSES | ENDS, starts_anew=True),
    Fault("drain", "operators", "`graycat worker drain` of each worker, then Ctrl-C and `graycat up` again", drain,
          permits=BREAKS | REFUSES | ENDS, starts_anew=True),
]  # fmt: skip
