"""The REST task API on a running stack: one task, four ways to consume it, and nothing lost or made twice."""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from graycat.broker.client import connect
from graycat.fleet.workers import WorkerRegistry
from tests.conftest import NewHome
from tests.support.processes import eventually
from tests.support.stack import REQUEST_S, ROOT, Client, Stack, running
from tests.support.unity import send_post

EXAMPLE = ROOT / "docs" / "examples" / "task.py"
ENGINE = shlex.join([sys.executable, str(ROOT / "tests" / "fakes" / "llama_server.py")])
#: Slots of the engine, and seconds between two tokens.
SLOTS, TOKEN_S = 4, 0.02
#: Seconds that anything gets which takes a second on an idle machine.
PATIENCE_S = 60.0
#: Tasks that a worker may still take from a queue that it leaves, at most.
TRIES = 3


@pytest.fixture(scope="module")
def parts(new_home: NewHome) -> Iterator[Stack]:
    """Yield a stack with a fake text engine, and the placeholder for images."""
    command = f"{ENGINE} --port {{port}} --slots {SLOTS} --interval {TOKEN_S}"
    env = {"STARTUP_COMMAND": command, "RUN_SD": "true", "GRAYCAT_KEEPALIVE_S": "0.5"}
    stack = Stack(new_home(), env=env)
    stack.set_env({"API_TOKENS": f"tests:{stack.token},others:{stack.token}-other"})
    with running(stack) as started:
        yield started


@pytest.fixture(scope="module")
def api(parts: Stack) -> Client:
    return parts.client()


@pytest.fixture(scope="module")
def other_api(parts: Stack) -> Iterator[Client]:
    """Yield a client with another API token."""
    client = Client(parts.url, f"{parts.token}-other")
    with client.session:
        yield client


def completion(prompt: str, tokens: int = 1, **fields: Any) -> dict[str, Any]:
    """Return the body of a task."""
    return {"kind": "llm.completion", "input": {"prompt": prompt, "n_predict": tokens}} | fields


def submitted(api: Client, prompt: str, tokens: int = 1, **fields: Any) -> str:
    """Submit a task; return its address."""
    response = api.post("/tasks", completion(prompt, tokens, **fields))
    assert response.status_code == 202, response.text
    return response.headers["Location"]


def ended(api: Client, address: str) -> dict[str, Any]:
    """Wait for a task's end; return what it tells."""

    def found() -> dict[str, Any]:
        response = api.get(f"{address}?wait=20")
        task: dict[str, Any] = response.json()
        return {} if "Retry-After" in response.headers else task

    return eventually(found, PATIENCE_S)


def lines(response: requests.Response) -> Iterator[dict[str, Any]]:
    """Yield the events of an answer in JSON lines as they come."""
    return (json.loads(line) for line in response.iter_lines() if line)


def read(parts: Stack, address: str, after: str = "0", count: int = 10**6) -> list[dict[str, Any]]:
    """Read a task's events on a connection of its own, to the end or until there are so many; then hang up."""
    headers = {"Authorization": f"Bearer {parts.token}", "Last-Event-ID": after}
    found: list[dict[str, Any]] = []
    with requests.get(
        f"{parts.url}{address}/events?format=ndjson", headers=headers, stream=True, timeout=REQUEST_S
    ) as response:
        assert response.status_code in (200, 204), response.text
        for event in lines(response):
            found.append(event)
            if len(found) == count:
                break
    return found


def asked(parts: Stack) -> dict[str, int]:
    """Return how often the engine was asked to complete each prompt."""
    with (bare := Client(parts.llm_url)).session:
        prompts: dict[str, int] = bare.get("/stats").json()["prompts"]
    return prompts


def test_the_example_of_thirty_lines_runs_as_it_is(parts: Stack, tmp_path: Path) -> None:
    assert sum(bool(line.strip()) for line in EXAMPLE.read_text().splitlines()) <= 30
    env = os.environ | {"GRAYCAT_URL": parts.url, "GRAYCAT_TOKEN": parts.token}
    command = [sys.executable, str(EXAMPLE)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "lighthouse.png").read_bytes().startswith(b"\x89PNG")


def crashing_client(parts: Stack, number: int, tasks: int) -> dict[str, str]:
    """Submit tasks with keys, crash now and then, and begin again; return the tasks' ids by prompt."""
    chance = random.Random(number)  # noqa: S311 (a test that fails should fail again)
    prompts = [f"client {number} task {place}" for place in range(tasks)]
    crashes = 3
    while True:
        ids: dict[str, str] = {}
        with (client := Client(parts.url, parts.token)).session:
            for prompt in prompts:
                key = {"Idempotency-Key": prompt.replace(" ", "-")}
                if crashes and chance.random() < 0.1:
                    # Gone before it has read the answer.
                    send_post(parts.url, "/tasks", completion(prompt), parts.token, key).close()
                    crashes -= 1
                    break
                response = client.post("/tasks", completion(prompt), headers=key)
                assert response.status_code in (200, 202), response.text
                ids[prompt] = response.json()["id"]
        if len(ids) == tasks:
            return ids


def test_500_tasks_of_clients_that_crash_and_submit_again_are_made_once_each(parts: Stack, api: Client) -> None:
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda number: crashing_client(parts, number, 25), range(20)))
    ids = {prompt: task_id for part in found for prompt, task_id in part.items()}
    assert len(ids) == len(set(ids.values())) == 500
    results = {prompt: ended(api, f"/tasks/{task_id}") for prompt, task_id in ids.items()}
    assert {task["state"] for task in results.values()} == {"succeeded"}
    assert all(task["result"]["tokens_predicted"] == 1 for task in results.values())
    prompts = asked(parts)
    assert {prompt: prompts.get(prompt) for prompt in ids} == dict.fromkeys(ids, 1)
    listed, cursor = [], ""
    while True:
        page = api.get(f"/tasks?limit=100&kind=llm.completion{cursor}").json()
        listed += [task["id"] for task in page["tasks"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(listed) == len(set(listed))
    assert set(ids.values()) <= set(listed)


def test_readers_who_lose_their_connection_see_every_event_once(parts: Stack, api: Client) -> None:
    address = submitted(api, "for several readers", tokens=100)

    def reader(piece: int) -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["event"] != "result":
            seen += read(parts, address, seen[-1]["id"] if seen else "0", count=piece)
        return seen

    with ThreadPoolExecutor(4) as pool:
        views = list(pool.map(reader, (1, 7, 30, 10**6)))
    replay = read(parts, address)
    assert [event["event"] for event in replay] == ["started", *["chunk"] * 101, "result"]
    assert all(view == replay for view in views)
    text = "".join(event["data"]["content"] for event in replay if event["event"] == "chunk")
    assert ended(api, address)["result"]["content"] == text
    assert read(parts, address, replay[-1]["id"]) == []
    assert asked(parts)["for several readers"] == 1


def test_a_reader_who_hangs_up_cancels_nothing(parts: Stack, api: Client) -> None:
    address = submitted(api, "left alone", tokens=30)
    assert read(parts, address, count=3)
    assert ended(api, address)["state"] == "succeeded"


def test_a_submit_that_waits_is_answered_with_the_result(api: Client) -> None:
    response = api.post("/tasks", completion("at once", tokens=2), headers={"Prefer": "wait=20"})
    assert (response.status_code, response.json()["state"]) == (200, "succeeded")


def test_a_cancelled_task_s_engine_is_free_when_that_is_confirmed(parts: Stack, api: Client) -> None:
    address = submitted(api, "to be cancelled", tokens=3000)
    eventually(lambda: api.get(address).json()["state"] == "running", PATIENCE_S)
    for _ in range(3):
        answer = api.request("DELETE", address).json()
        assert (answer["state"], answer["confirmed"]) == ("cancelled", True)
    with (bare := Client(parts.llm_url)).session:
        eventually(lambda: bare.get("/stats").json()["running"] == 0, 20)
    assert read(parts, address)[-1]["event"] == "cancelled"


def test_a_cancelled_task_can_be_tried_again(api: Client) -> None:
    address = submitted(api, "tried again", tokens=50)
    api.request("DELETE", address)
    assert_retried(api, address)


def test_a_failed_task_can_be_tried_again(parts: Stack, api: Client) -> None:
    address = submitted(api, "refuse me once")
    failed = ended(api, address)
    assert (failed["state"], failed["status"], failed["error"]["message"]) == ("failed", 400, "no")
    assert_retried(api, address)
    assert asked(parts)["refuse me once"] == 2


def test_an_expired_task_can_be_tried_again(api: Client) -> None:
    blockers = [submitted(api, f"blocker {number}", tokens=3000) for number in range(SLOTS)]
    eventually(lambda: all(api.get(blocker).json()["state"] == "running" for blocker in blockers), PATIENCE_S)
    address = submitted(api, "too late", queue_ttl_s=2)
    eventually(lambda: api.get(address).json()["state"] == "expired", PATIENCE_S)
    for blocker in blockers:
        api.request("DELETE", blocker)
    assert_retried(api, address)


def assert_retried(api: Client, address: str) -> None:
    """Try a task again; check that it is another one, which succeeds, and that it cannot be tried once more."""
    response = api.post(f"{address}/retry")
    assert (response.status_code, response.json()["retry_of"]) == (202, address.rpartition("/")[2])
    again = response.headers["Location"]
    assert again != address
    assert ended(api, again)["state"] == "succeeded"
    assert api.post(f"{again}/retry").status_code == 409


def test_bulk_work_begins_when_nothing_interactive_waits(api: Client) -> None:
    holders = [submitted(api, f"holder {number}", tokens=3000) for number in range(SLOTS)]
    eventually(lambda: all(api.get(holder).json()["state"] == "running" for holder in holders), PATIENCE_S)
    bulk = [submitted(api, f"bulk {number}", tokens=5, priority="batch") for number in range(6)]
    interactive = [submitted(api, f"interactive {number}", tokens=5) for number in range(12)]
    for holder in holders:
        api.request("DELETE", holder)
    first = min(ended(api, address)["started_ms"] for address in bulk)
    started = sorted(ended(api, address)["started_ms"] for address in interactive)
    # A task starts a moment after its message has left the queue. So a bulk one may start before those interactive
    # ones whose messages the other slots have taken, and before no more.
    assert first >= started[-SLOTS]


def test_a_task_by_a_name_of_its_own_is_one_task(parts: Stack, api: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.request("PUT", "/tasks/level-7", json=completion("by name")), range(8)))
    assert sorted({answer.status_code for answer in answers}) in ([200, 202], [202])
    assert ended(api, "/tasks/level-7")["id"] == "level-7"
    assert asked(parts)["by name"] == 1
    assert api.request("PUT", "/tasks/level-7", json=completion("another")).status_code == 409


def test_what_is_told_of_the_queue_comes_true(parts: Stack, api: Client, other_api: Client) -> None:
    parts.redis().delete("graycat:means.llm")
    # Such a task takes three seconds.
    ended(api, submitted(api, "measure", 150))
    running = [submitted(api, f"run {number}", 150) for number in range(SLOTS)]
    eventually(lambda: all(api.get(address).json()["state"] == "running" for address in running), PATIENCE_S)
    # The batch tasks come first, and each token's interactive ones together: neither is the order of their starts.
    batch = [(client, submitted(client, "later", 50, priority="batch")) for client in (api, other_api)]
    own = [(api, submitted(api, f"soon {number}", 50)) for number in range(4)]
    others = [(other_api, submitted(other_api, f"soon {number}", 50)) for number in range(2)]
    in_order = [own[0], others[0], own[1], others[1], own[2], own[3], *batch]
    told = [client.get(address).json() for client, address in in_order]
    assert [view["state"] for view in told] == ["queued"] * 8
    assert [view["queue_position"] for view in told] == list(range(1, 9))

    done = [ended(client, address) for client, address in in_order]
    starts = [task["started_ms"] for task in done]
    # A task starts a moment after its message has left the queue: beside it, the other slots have taken theirs.
    assert sorted(starts[:6])[-SLOTS] <= min(starts[6:])
    for view, task in zip(told, done, strict=True):
        waited_s = task["timings"]["queued_ms"] / 1000
        assert waited_s / 4 <= view["eta_s"] <= max(waited_s, 1.0) * 4


def submit_held(api: Client, name: str, **options: Any) -> tuple[str, dict[str, Any]]:
    """Submit tasks to a paused queue until one waits; return its address and its view.

    The look at its queues that a worker has begun before it left one may still bring a message of it.
    """
    for number in range(TRIES):
        address = submitted(api, f"{name} {number}", **options)
        view = eventually(lambda: waits_or_ran(api, address), PATIENCE_S)  # noqa: B023 (it is called at once)
        if view["state"] == "queued":
            return address, view
    raise AssertionError(f"a paused queue has served {TRIES} tasks")


def waits_or_ran(api: Client, address: str) -> dict[str, Any]:
    """Return a task's view if it says why it waits, or if it was taken."""
    view: dict[str, Any] = api.get(address).json()
    return view if view.get("eta_reason") or view["state"] != "queued" else {}


def test_while_no_worker_takes_a_task_it_has_a_place_and_a_reason(parts: Stack, api: Client) -> None:
    registry = WorkerRegistry(connect(parts.settings))

    def is_left() -> bool:
        workers = [worker for worker in registry.workers() if "llm" in worker.queues]
        return bool(workers) and all("llm.batch" in worker.left for worker in workers)

    registry.pause_queue("llm.batch")
    try:
        eventually(is_left, PATIENCE_S)
        address, view = submit_held(api, "paused", priority="batch")
        assert (view["queue_position"], view["eta_s"]) == (1, None)
        assert view["eta_reason"] == "the queue llm.batch is paused"
    finally:
        registry.resume_queue("llm.batch")
    assert ended(api, address)["state"] == "succeeded"


def test_a_paused_interactive_queue_holds_up_no_batch_task(parts: Stack, api: Client) -> None:
    registry = WorkerRegistry(connect(parts.settings))

    def is_left() -> bool:
        workers = [worker for worker in registry.workers() if "llm" in worker.queues]
        return bool(workers) and all("llm" in worker.left for worker in workers)

    registry.pause_queue("llm")
    try:
        eventually(is_left, PATIENCE_S)
        # The second waits behind the first of its token: it is parked.
        held = [submit_held(api, f"held {number}", tokens=5)[0] for number in range(2)]
        assert ended(api, submitted(api, "bulk", tokens=5, priority="batch"))["state"] == "succeeded"
        views = [api.get(address).json() for address in held]
        assert [(view["state"], view["eta_reason"]) for view in views] == [("queued", "the queue llm is paused")] * 2
    finally:
        registry.resume_queue("llm")
    assert [ended(api, address)["state"] for address in held] == ["succeeded"] * 2
