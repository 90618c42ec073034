"""A backup of a graycat under load, restored on another machine: what was accepted is there, whole and once."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from graycat.backup.archive import BackupFile
from tests.support.backups import run_backup, run_restore
from tests.support.boxes import FAKE
from tests.support.images import ADMIN, ANNA, ImageStack
from tests.support.processes import eventually
from tests.support.stack import Client

IMAGES, STEP_S = 40, 0.02
#: Tokens of a task, and seconds between two: with one slot they queue up.
TOKENS, INTERVAL_S = 20, 0.05
PATIENCE_S = 120.0
SPEC = {"name": "portraits", "defaults": {"width": 64, "height": 64, "steps": 1}, "items": ["a tavern"]}


class Machine(ImageStack):
    """A machine that makes text and images."""

    def __init__(self, home: Path, tokens: dict[str, str] | None = None) -> None:
        engine = f"{FAKE} --port {{port}} --interval {INTERVAL_S}"
        env = {"RUN_LLM": "true", "STARTUP_COMMAND": engine, "GRAYCAT_LEASE_S": "2", "GRAYCAT_SCHEDULE_TICK_S": "0.5"}
        if tokens:
            env["API_TOKENS"] = ",".join(f"{owner}:{secret}" for owner, secret in tokens.items())
        super().__init__(home, env=env, step_s=STEP_S)
        if tokens:
            self.tokens, self.token = tokens, tokens[ANNA]


@pytest.fixture
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, Machine]]:
    """Yield a machine that runs, and one that does not yet. Of neither anything is left at the end."""
    first = Machine(tmp_path_factory.mktemp("first") / "home")
    second = Machine(tmp_path_factory.mktemp("second") / "home", first.tokens)
    try:
        first.start()
        yield first, second
    finally:
        first.kill_all()
        second.kill_all()


class Load:
    """Submits text tasks, one behind the other, until it is stopped."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stopping = threading.Event()
        self.accepted: list[str] = []
        self.refused: list[int] = []

    def run(self) -> None:
        """Submit until ``stop``."""
        while not self._stopping.wait(0.02):
            name = f"task-{len(self.accepted) + 1}"
            body = {"kind": "llm.completion", "input": {"prompt": name, "n_predict": TOKENS}}
            answer = self._client.request("PUT", f"/tasks/{name}", json=body)
            if answer.ok:
                self.accepted.append(name)
            elif answer.status_code != 429:
                self.refused.append(answer.status_code)

    def stop(self) -> None:
        """End ``run``."""
        self._stopping.set()


def back_up_under_load(machine: Machine, app: Client, file: Path) -> Load:
    """Back a machine up while tasks come; return what was submitted."""
    load = Load(app)
    with ThreadPoolExecutor(1) as callers:
        submitting = callers.submit(load.run)
        try:
            eventually(lambda: len(load.accepted) >= 20, PATIENCE_S)
            assert "1 API tokens, 1 schedules, 1 batches" in run_backup(machine.env, file, "--files")
            before = len(load.accepted)
            eventually(lambda: len(load.accepted) >= before + 3, PATIENCE_S)
        finally:
            load.stop()
        submitting.result(PATIENCE_S)
    return load


def states_in(file: Path) -> dict[str, str]:
    """Return the states of the text tasks that a backup has, by their names."""
    backup = BackupFile.open(file)
    records: dict[bytes, dict[bytes, bytes]] = {}
    for command, name, *rest in backup.rows():
        if command == b"DEL":
            records.pop(name, None)
        elif command == b"HSET" and name.startswith(b"graycat:task:"):
            records.setdefault(name, {}).update(zip(rest[::2], rest[1::2], strict=True))
    backup.close()
    return {
        record.get(b"name", name).decode(): record[b"state"].decode()
        for name, record in records.items()
        if record[b"kind"] == b"llm.completion"
    }


def usage_of(client: Client) -> int:
    """Return how many requests have been counted for a caller."""
    return sum(row["requests"] for row in client.get("/usage").json()["rows"] if row["family"] == "llm")


@pytest.mark.timeout(300)
def test_another_machine_goes_on_where_the_backup_was_made(machines: tuple[Machine, Machine], tmp_path: Path) -> None:
    first, second = machines
    secret = first.caller(ADMIN).post("/tokens", {"name": "app"}).json()["token"]
    app = Client(first.url, secret)
    schedule = {"name": "nightly", "cron": "0 4 * * *", "spec": SPEC, "missed": "once"}
    assert first.client().post("/schedules", schedule).status_code == 201
    document = {**SPEC, "name": "night", "items": [f"image {n}" for n in range(IMAGES)]}
    document["defaults"] = {**SPEC["defaults"], "steps": 4}  # type: ignore[dict-item]
    batch_id = first.client().post("/batches", document).json()["id"]
    eventually(lambda: view(first.client(), f"/batches/{batch_id}")["progress"]["done"] >= 5, PATIENCE_S)
    assert app.post("/completion", {"prompt": "x", "n_predict": 2}).ok
    eventually(lambda: usage_of(app) >= 1, PATIENCE_S)
    load = back_up_under_load(first, app, tmp_path / "backup")
    assert load.refused == []
    app.session.close()
    first.kill_all()

    states = states_in(tmp_path / "backup")
    assert {"queued", "running"} <= set(states.values()), Counter(states.values())
    assert "restored 1 API tokens, 1 schedules, 1 batches" in run_restore(second.env, tmp_path / "backup")
    second.start()
    with Client(second.url, secret).session as session:
        app = Client(second.url)
        app.session = session
        check_text(app, load, states)
    check_batch(second, batch_id)
    second.redis().hset("graycat:schedule:anna:nightly", "mark", int(second.redis().time()[0]) - 25 * 3600)
    eventually(lambda: len(second.client().get("/batches").json()["batches"]) == 2, PATIENCE_S)
    second.stop()


def view(client: Client, path: str) -> Any:
    """Return what a path shows."""
    return client.get(path).json()


def check_text(app: Client, load: Load, states: dict[str, str]) -> None:
    """Every task of the backup ends well, and is counted once."""
    known = [name for name in load.accepted if app.get(f"/tasks/{name}").ok]
    # Tasks of the time after the backup are unknown; there are no holes before.
    assert known == load.accepted[: len(known)]
    assert 20 <= len(known) < len(load.accepted)
    for name in known:
        shown = view(app, f"/tasks/{name}?wait=30")
        assert shown["state"] == "succeeded", shown
        # What ran in the backup has begun again.
        assert shown["attempt"] <= 2
    eventually(lambda: usage_of(app) == len(states), PATIENCE_S)


def check_batch(machine: Machine, batch_id: str) -> None:
    """The batch ends whole: each image once, its file as the manifest says."""
    eventually(lambda: view(machine.client(), f"/batches/{batch_id}")["state"] == "succeeded", PATIENCE_S, 0.2)
    batch = view(machine.client(), f"/batches/{batch_id}")
    assert batch["progress"]["done"] == IMAGES
    folder = machine.home / "batches" / batch["folder"]
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert [line["item"] for line in lines] == list(range(1, IMAGES + 1))
    assert sorted(path.name for path in folder.glob("*.png")) == sorted(line["file"] for line in lines)
    # At most those that were under way are made again.
    asked = Counter(prompt for prompt in machine.asked() if prompt.startswith("image "))
    assert len(asked) < IMAGES
