"""What is so after a fault, for the audit: read from the broker, the API, the engines' logs and /proc."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import requests

from chaos.ledger import Accepted, AcceptedBatch, Call, Ledger
from chaos.leftovers import find_leftovers
from chaos.system import OWNERS, System
from graycat.broker.keys import PREFIX
from graycat.queue.events import TERMINAL
from graycat.queue.models import TERMINAL_STATES

#: What the state of a batch begins with that nobody knows.
UNKNOWN = "unknown"


@dataclass(slots=True)
class Task:
    """A task as the broker has it, and what its engine was asked."""

    task_id: str
    name: str
    state: str
    kind: str = ""
    attempt: int = 0
    #: How often the engine was asked for it.
    calls: int = 0
    #: Terminal events in its stream, and whether the last event is one.
    ends: int = 0
    ends_last: bool = True
    images: int = 0
    submitted_ms: int = 0
    started_ms: int = 0
    #: When its last attempt began.
    begun_ms: int = 0
    finished_ms: int = 0
    queue_ttl_ms: int = 0
    exec_timeout_ms: int = 0


@dataclass(slots=True)
class Batch:
    """A batch as the API, its manifest and its folder have it."""

    batch_id: str
    state: str
    #: Prompt and attempts of each line of the manifest.
    lines: list[tuple[str, int]] = field(default_factory=list)
    files: int = 0
    #: Files whose hash is not the manifest's, or that are half written.
    damaged: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Resources:
    """What one process holds."""

    threads: int = 0
    descriptors: int = 0
    memory_mb: float = 0.0


@dataclass(slots=True)
class Usage:
    """What the callers of the load have used: by graycat's counters, or by the records of their tasks."""

    requests: int = 0
    failed: int = 0
    cancelled: int = 0
    images: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def since(self, before: Usage) -> Usage:
        """Return what was used after an earlier look."""
        return Usage(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))


@dataclass(slots=True)
class Facts:
    """Everything that the audit looks at."""

    calls: list[Call] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    accepted_batches: list[AcceptedBatch] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    #: Calls that engines got by prompt, of this load.
    asked: Counter[str] = field(default_factory=Counter)
    #: What should be empty, and how much is in it.
    left: dict[str, int] = field(default_factory=dict)
    #: What each part holds now, and held before the fault.
    resources: dict[str, Resources] = field(default_factory=dict)
    base: dict[str, Resources] = field(default_factory=dict)
    connections: int = 0
    base_connections: int = 0
    #: What graycat has counted since the load began; None if the audit is not to look.
    usage: Usage | None = None
    #: What the records of the load's tasks say, those of the images of its batches among them.
    recorded: Usage = field(default_factory=Usage)
    #: Gauges that tell of waiting work, by name.
    gauges: dict[str, float] = field(default_factory=dict)
    #: Parts that do not run, callers that hang, what the load's own threads raised.
    missing_parts: list[str] = field(default_factory=list)
    hanging: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


def read_records(system: System) -> dict[str, dict[str, str]]:
    """Return the records of all tasks from the broker, by task id."""
    broker = system.redis()
    keys = list(broker.scan_iter(f"{PREFIX}task:*", count=1000))
    with broker.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hgetall(key)
        records = dict(zip(keys, pipe.execute(raise_on_error=False), strict=True))
    # A key of another type has an error in place of its fields.
    return {key.rpartition(":")[2]: record for key, record in records.items() if isinstance(record, dict)}


def read_tasks(system: System, records: Mapping[str, dict[str, str]], prefix: str, asked: Counter[str]) -> list[Task]:
    """Return the tasks of a load. The images of batches are none of them: their records carry no name of the load."""
    ours = {}
    for task_id, record in records.items():
        if record.get("request_id", "").startswith(f"{prefix}-"):
            ours[task_id] = record
    with system.redis().pipeline(transaction=False) as pipe:
        for task_id in ours:
            pipe.xrange(f"{PREFIX}events:{task_id}")
        replies = pipe.execute(raise_on_error=False)
    tasks = []
    for (task_id, record), events in zip(ours.items(), replies, strict=True):
        tasks.append(_task(task_id, record, events, asked))
    return tasks


def _task(task_id: str, record: dict[str, str], events: Any, asked: Counter[str]) -> Task:
    name = record["request_id"]
    kinds = [str(fields.get("kind")) for _, fields in events] if isinstance(events, list) else []
    ends = [kind for kind in kinds if kind in TERMINAL]
    # Ids of events begin with the broker's time.
    begun = [int(at.partition("-")[0]) for at, fields in events if fields.get("kind") == "started"] if kinds else []
    return Task(
        task_id=task_id,
        name=name,
        state=record.get("state", ""),
        kind=record.get("kind", ""),
        attempt=_number(record, "attempt"),
        calls=asked[name],
        ends=len(ends),
        ends_last=ends == kinds[-1:],
        submitted_ms=_number(record, "submitted_ms"),
        started_ms=_number(record, "started_ms"),
        begun_ms=max(begun, default=0),
        finished_ms=_number(record, "finished_ms"),
        queue_ttl_ms=_number(record, "queue_ttl_ms"),
        exec_timeout_ms=_number(record, "exec_timeout_ms"),
    )


def add_up(records: Iterable[Mapping[str, str]], prefix: str, batch_ids: Iterable[str]) -> Usage:
    """Return what ended tasks of a load and of its batches have used, by their records."""
    used, known = Usage(), set(batch_ids)
    for record in records:
        ours = record.get("request_id", "").startswith(f"{prefix}-") or record.get("batch") in known
        state = record.get("state", "")
        if not ours or state not in TERMINAL_STATES:
            continue
        used.requests += 1
        used.failed += int(state in ("failed", "expired"))
        used.cancelled += int(state == "cancelled")
        used.images += _number(record, "images")
        used.prompt_tokens += _number(record, "prompt_tokens")
        used.completion_tokens += _number(record, "completion_tokens")
    return used


def _number(record: Mapping[str, str], name: str) -> int:
    text = record.get(name, "")
    return int(text) if text.isdigit() else 0


def count_images(system: System, tasks: list[Task], accepted: list[Accepted]) -> None:
    """Note how many images of each accepted task can be fetched."""
    wanted = {one.name: one.images for one in accepted if one.images}
    for task in tasks:
        if task.state != "succeeded" or task.name not in wanted:
            continue
        for number in range(wanted[task.name] + 1):
            answer = system.request("GET", f"/tasks/{task.name}/images/{number}", "rest")
            task.images += int(answer.ok and answer.content[:4] == b"\x89PNG")


def read_batch(system: System, batch: AcceptedBatch) -> Batch:
    """Return a batch as the API and its folder have it."""
    answer = system.request("GET", f"/batches/{batch.batch_id}", "cron")
    if not answer.ok:
        return Batch(batch.batch_id, f"{UNKNOWN} ({answer.status_code})")
    view = answer.json()
    found = Batch(batch.batch_id, view["state"])
    folder = system.inside(system.home / "batches") / view["folder"]
    manifest = folder / "manifest.jsonl"
    if not manifest.exists():
        return found
    for line in map(json.loads, manifest.read_text().splitlines()):
        found.lines.append((line["prompt"], line["attempts"]))
        file = folder / line["file"]
        if not file.exists() or sha256(file.read_bytes()).hexdigest() != line["sha256"]:
            found.damaged.append(line["file"])
    found.files = len(list(folder.glob("*.png")))
    found.damaged += [path.name for path in folder.glob(".*") if path.is_file()]
    return found


def read_left(system: System) -> dict[str, int]:
    """Return what is left in places that must be empty when all work has ended."""
    left: Counter[str] = Counter()
    for leftover in find_leftovers(system.redis()):
        left[leftover.name] += leftover.count
    return dict(left)


def read_resources(system: System) -> dict[str, Resources]:
    """Return what each part holds."""
    found = {}
    for name, pid in system.pids().items():
        with contextlib.suppress(OSError, KeyError, ValueError):
            folder = Path("/proc") / str(pid)
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            descriptors = len(os.listdir(folder / "fd"))
            found[name] = Resources(int(status["Threads"]), descriptors, int(status["VmRSS"].split()[0]) / 1024)
    return found


def read_connections(system: System) -> int:
    """Return how many connections the broker has."""
    return int(system.redis().info("clients")["connected_clients"])


def read_usage(system: System) -> Usage:
    """Return what graycat has counted for all callers so far."""
    total = Usage()
    answer = system.request("GET", "/usage", "operator").json()
    for row in answer["rows"]:
        if row["owner"] in OWNERS:
            total.requests += row["requests"]
            total.failed += row["failed"]
            total.cancelled += row["cancelled"]
            total.images += row["images"]
            total.prompt_tokens += row["prompt_tokens"]
            total.completion_tokens += row["completion_tokens"]
    return total


def read_gauges(system: System) -> dict[str, float]:
    """Return the gauges of web and workers that tell of work under way."""
    token = (system.home / "metrics-token").read_text().strip()
    wanted = ("graycat_http_streams_open", "graycat_queue_depth", "graycat_engine_slots_busy", "graycat_stored_bytes")
    text = requests.get(f"{system.url}/metrics", headers={"Authorization": f"Bearer {token}"}, timeout=20).text
    found = {}
    for line in text.splitlines():
        if line.startswith(wanted):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def names_of_loads(prompts: Iterable[str], prefix: str) -> Counter[str]:
    """Return how often each prompt of a load was asked for."""
    return Counter(prompt for prompt in prompts if prompt.startswith(f"{prefix}-"))


def collect(system: System, ledger: Ledger) -> Facts:
    """Return what is so now, without the base, which the caller has."""
    asked = names_of_loads(system.asked(), ledger.prefix)
    pids, accepted, batches = system.pids(), ledger.accepted(), ledger.batches()
    records = read_records(system)
    tasks = read_tasks(system, records, ledger.prefix, asked)
    count_images(system, tasks, accepted)
    return Facts(
        calls=ledger.calls(),
        accepted=accepted,
        accepted_batches=batches,
        tasks=tasks,
        recorded=add_up(records.values(), ledger.prefix, [batch.batch_id for batch in batches]),
        batches=[read_batch(system, batch) for batch in batches],
        asked=asked,
        left=read_left(system),
        resources=read_resources(system),
        connections=read_connections(system),
        gauges=read_gauges(system),
        missing_parts=[part for part in system.parts if part not in pids],
    )
