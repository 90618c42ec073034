"""``graycat up`` restarts what ends: each of its processes is killed under load, and everybody else goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import requests

from tests.support.mixed_load import ENGINES, STREAMS, MixedLoad
from tests.support.processes import eventually, parent_of
from tests.support.stack import START_S, Stack, running

#: Seconds in which everything answers again after a kill.
BACK_S = 120.0
SHORT = {"prompt": "1, 2, 3,", "n_predict": 4, "temperature": 0}
#: Each is killed twice.
NAMES = ("llm", "quick", "sd", "web", "control", "beat", "broker")


@pytest.fixture(scope="module")
def supervised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield a stack under ``graycat up``, whose dead workers are noticed within two seconds."""
    home = tmp_path_factory.mktemp("supervised")
    with running(Stack(home, env={"GRAYCAT_LEASE_S": "2", **ENGINES})) as started:
        yield started


@pytest.fixture(scope="module")
def load(supervised: Stack) -> Iterator[MixedLoad]:
    """Yield a load that goes on while processes are killed."""
    made = MixedLoad(supervised)
    made.start()
    yield made
    made.stop()


def answers(stack: Stack) -> bool:
    """Return whether a completion and the quick lane answer; what is left of a killed web process may hang up."""
    calls = (("/completion", SHORT), ("/tokenize", {"content": "Hi"}))
    try:
        return all(stack.client().post(path, body).status_code == 200 for path, body in calls)
    except requests.ConnectionError:
        return False


def settled(stack: Stack) -> bool:
    """Return whether all is ready, and nothing is left of a process that was killed: each is a child of ``up``."""
    processes = stack.processes()
    up = processes.pop("up")
    return stack.ready() and all(parent_of(pid) == up for pid in processes.values())


@pytest.mark.usefixtures("load")
@pytest.mark.parametrize("turn", ["first", "second"])
@pytest.mark.parametrize("name", NAMES)
def test_a_process_that_is_killed_comes_back(supervised: Stack, name: str, turn: str) -> None:
    eventually(lambda: settled(supervised), START_S)
    before = supervised.processes()
    supervised.kill(name)
    killed_at = time.monotonic()
    eventually(lambda: supervised.processes().get(name, before[name]) != before[name], BACK_S)
    eventually(supervised.ready, BACK_S)
    eventually(lambda: answers(supervised), BACK_S)
    assert time.monotonic() - killed_at < BACK_S
    # What is left of a killed web process may answer for a moment, and then hang up.
    eventually(lambda: settled(supervised), START_S)
    after = supervised.processes()
    assert {other for other in before if other != name and before[other] != after.get(other)} == set()


def test_all_accepted_work_has_ended_once(load: MixedLoad) -> None:
    load.stop()
    load.audit()
    assert load.streams.pop("whole") > 2 * len(NAMES) * STREAMS
    # A killed web process takes its streams with it; those of a killed worker go on with the next.
    assert load.streams.pop("broken", 0) <= 2 * STREAMS
    assert load.streams.keys() <= {"refused", "502", "503", "504"}


@pytest.mark.parametrize("key", ["live.llm", "turns.llm", "fleet.llm", "deliveries"])
def test_a_key_of_another_type_stops_nobody_for_long(supervised: Stack, key: str) -> None:
    supervised.redis().set(f"graycat:{key}", "another program's")
    eventually(lambda: supervised.redis().exists(f"graycat:wrong-type:graycat:{key}"), BACK_S)
    eventually(lambda: answers(supervised) and supervised.ready(), BACK_S)


def test_a_worker_that_is_drained_stays_away_until_everything_starts_anew(supervised: Stack) -> None:
    eventually(supervised.ready, START_S)
    pid = supervised.processes()["quick"]
    reply = supervised.redis().zrange("graycat:fleet.llm", 0, -1)
    (name,) = [worker for worker in reply if worker.startswith("quick@")]
    supervised.launch("drain", f"graycat worker drain {name}")
    eventually(lambda: pid not in supervised.command_lines(), BACK_S)
    eventually(lambda: "quick was drained and stays away" in supervised.output, BACK_S)
    assert supervised.client().post("/completion", SHORT).status_code == 200
