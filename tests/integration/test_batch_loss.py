"""kill -9 of everything around a batch, at random, and a disk that is full: each image once, none lost."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.images import ImageStack
from tests.support.processes import SLACK_S, eventually
from tests.support.stack import running

#: How often each process is killed; a long run finds what is rare.
REPEATS = int(os.environ.get("GRAYCAT_TEST_REPEATS", "1"))
COUNT = 60 * REPEATS
#: An image takes a tenth of a second, so that the kills come in quick succession.
STEP_S, STEPS = 0.02, 4
#: The processes that are killed meanwhile, and how often any is.
VICTIMS = ("sd", "web", "control", "beat", "broker")
KILLS = len(VICTIMS) * REPEATS
#: Seconds until all is back and done.
END_S = 200.0
SMALL = {"width": 64, "height": 64, "steps": STEPS}


@pytest.fixture
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageStack]:
    """Yield a stack of separate processes, whose dead workers are noticed within two seconds."""
    home = tmp_path_factory.mktemp("parts")
    with running(ImageStack(home, separately=True, env={"GRAYCAT_LEASE_S": "2"}, step_s=STEP_S)) as started:
        yield started


def in_state(stack: ImageStack, batch_id: str, state: str, timeout_s: float) -> dict[str, Any]:
    """Return a batch once it is in a state."""

    def look() -> dict[str, Any]:
        found = view(stack, batch_id)
        return found if found.get("state") == state else {}

    return eventually(look, timeout_s, 0.1)


def done(stack: ImageStack, batch_id: str) -> int:
    """Return how many items of a batch are done; -1 while nobody can tell."""
    return int(view(stack, batch_id).get("progress", {}).get("done", -1))


def view(stack: ImageStack, batch_id: str) -> dict[str, Any]:
    """Return a batch; empty while nobody can tell."""
    headers = {"Authorization": f"Bearer {stack.token}"}
    try:
        answer = requests.get(f"{stack.url}/batches/{batch_id}", headers=headers, timeout=5)
    except requests.RequestException:
        return {}
    return answer.json() if answer.ok else {}


@pytest.mark.timeout(300 * REPEATS)
def test_a_batch_while_everything_is_killed_again_and_again(parts: ImageStack) -> None:
    document = {"name": "night", "items": [f"image {n}" for n in range(COUNT)], "defaults": SMALL}
    batch_id = parts.client().post("/batches", document).json()["id"]
    chance = random.Random(7)  # noqa: S311 (the same kills each time)
    # In any order, spread over the whole batch.
    victims = list(VICTIMS) * REPEATS
    chance.shuffle(victims)

    def reached(least: float) -> bool:
        return done(parts, batch_id) >= least

    for place, victim in enumerate(victims):
        wanted = (place + chance.random()) * COUNT * 0.9 / KILLS
        eventually(partial(reached, wanted), END_S, 0.05)
        parts.kill(victim)
        if victim == "broker":
            eventually(lambda: parts.server_pid() is None, SLACK_S)
        parts.launch(victim)
    batch = in_state(parts, batch_id, "succeeded", END_S)
    assert batch["progress"]["done"] == COUNT
    folder = parts.home / "batches" / batch["folder"]
    live = "graycat:batches:live"
    eventually(lambda: parts.redis().zscore(live, batch_id) is None, SLACK_S)
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert [line["item"] for line in lines] == list(range(1, COUNT + 1))
    assert sorted(path.name for path in folder.glob("*.png")) == sorted(line["file"] for line in lines)
    assert all(sha256((folder / line["file"]).read_bytes()).hexdigest() == line["sha256"] for line in lines)
    assert not list(folder.glob(".*")), "something is left half written"
    attempts = {line["prompt"]: line["attempts"] for line in lines}
    asked = Counter(prompt for prompt in parts.asked() if prompt.startswith("image "))
    assert {prompt: count for prompt, count in asked.items() if count > attempts[prompt]} == {}
    # A kill of the worker costs the image that it had, and nothing else is made twice.
    assert sum(asked.values()) <= COUNT + KILLS


def may_mount(folder: Path) -> bool:
    """Return whether this user may mount a small disk in a namespace of its own."""
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    return subprocess.run(command, check=False, capture_output=True, timeout=20).returncode == 0


def test_a_batch_on_a_full_disk_waits_for_room(parts: ImageStack, tmp_path: Path) -> None:
    if not may_mount(tmp_path):
        pytest.skip("this user may not mount a tmpfs in a namespace of its own (unshare -rm)")
    parts.kill("control")
    parts.set_env({"GRAYCAT_BATCH_DIR": str(tmp_path)})
    mount = f"mount -t tmpfs -o size=3m none {tmp_path}; head -c 3100000 /dev/zero > {tmp_path}/ballast"
    parts.launch("control", f"unshare -rm /bin/sh -c '{mount}; exec {parts.commands['control']}'")
    document = {"name": "full", "items": [f"image {n}" for n in range(40)], "defaults": SMALL}
    batch_id = parts.client().post("/batches", document).json()["id"]
    paused = in_state(parts, batch_id, "paused", 60)
    assert paused["reason"] == "there is no space left"
    assert 0 < paused["progress"]["done"] < 40
    pid = eventually(lambda: parts.processes().get("control"), SLACK_S)
    disk = Path(f"/proc/{pid}/root{tmp_path}")
    (disk / "ballast").unlink()
    batch = in_state(parts, batch_id, "succeeded", 60)
    folder = disk / batch["folder"]
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert len(lines) == len(list(folder.glob("*.png"))) == 40
    assert {line["attempts"] for line in lines} == {1}
    assert len(parts.asked()) == 40
