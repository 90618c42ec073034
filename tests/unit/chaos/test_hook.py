"""What the harness puts into processes: traps at steps, and mutants that apply to graycat as it is now."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chaos.hook import mutations, timeouts
from chaos.hook.mutations import MUTATIONS, SCRIPTS_MODULE, DoesNotApply
from chaos.hook.traps import AFTER, BEFORE, Trap, Traps, name_command, name_pipeline, unpack
from chaos.hook.watchers import WATCHERS
from chaos.mutants import MUTANTS, Verdict, describe, find_unused
from chaos.windows import Window, choose
from chaos.windows_run import divide
from graycat.broker import scripts
from tests.support.broker import BrokerClient

ROOT = Path(__file__).resolve().parents[3]
TASK = "0123456789abcdef0123456789abcdef"
#: No line of graycat runs here.
pytestmark = pytest.mark.not_covered
#: Imports what the harness changes, with the change of one mutant after the other.
APPLY_ALL = """
import importlib
from chaos.hook.mutations import MUTATIONS
for name, mutation in MUTATIONS.items():
    for module, changes in mutation.changes.items():
        for change in changes:
            change(importlib.import_module(module))
    print(name)
"""
#: Imports what traps and shorter time-outs change; the hook is in the process.
IMPORT_WATCHED = """
import importlib
from chaos.hook import timeouts, watchers
for name in [*watchers.WATCHERS, *timeouts.SHORTER]:
    importlib.import_module(name)
print(importlib.import_module("graycat.webhooks.deliveries").HOLD_MS)
"""


def run_python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | env, check=False, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip


def test_every_mutant_changes_what_is_there() -> None:
    done = run_python(APPLY_ALL, PYTHONPATH=str(ROOT))
    assert done.stdout.splitlines() == list(MUTATIONS), done.stderr


def test_the_command_line_has_windows_and_mutants() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chaos", "--help"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    assert "--windows" in done.stdout
    assert done.stdout.count("  --mutants") == 1


def test_every_mutation_is_run_by_a_mutant_and_every_mutant_has_one() -> None:
    assert find_unused() == []
    assert len(MUTANTS) >= 10


EDITED = [name for name, mutation in MUTATIONS.items() if SCRIPTS_MODULE in mutation.changes]


@pytest.mark.parametrize("name", EDITED)
def test_an_edited_script_is_one_that_the_broker_takes(client: BrokerClient, name: str) -> None:
    module = ModuleType(SCRIPTS_MODULE)
    module.__dict__.update(__file__=scripts.__file__, load=scripts.load)
    for change in MUTATIONS[name].changes[SCRIPTS_MODULE]:
        change(module)
    edited = []
    for path in sorted(ROOT.glob("graycat/*/lua/*.lua")):
        text = module.load(path)
        if text != scripts.load(path):
            edited.append(path.stem)
            # It is compiled, and not run.
            client.script_load(text)
    assert edited


def test_a_mutant_that_does_not_apply_any_more_ends_the_process() -> None:
    module = ModuleType("graycat.broker.scripts")
    module.__dict__.update(__file__=str(ROOT / "graycat" / "broker" / "scripts.py"), load=str)
    changes = mutations.edit("queue/finish", "no such text", "")
    with pytest.raises(DoesNotApply, match="0 times"):
        changes["graycat.broker.scripts"][0](module)
    changes = mutations.replace("graycat.worker.sweeper", "Sweeper.swept", mutations.returning(0))
    module.__dict__["Sweeper"] = type("Sweeper", (), {})
    with pytest.raises(DoesNotApply, match=r"no Sweeper\.swept"):
        changes["graycat.worker.sweeper"][0](module)


def test_a_process_with_the_hook_has_all_that_it_watches(tmp_path: Path) -> None:
    path = f"{ROOT / 'chaos' / 'hook'}{os.pathsep}{ROOT}"
    done = run_python(IMPORT_WATCHED, PYTHONPATH=path, CHAOS_TRAPS=str(tmp_path), CHAOS_PROCESS="control")
    assert done.stdout.split() == [str(timeouts.SHORTER["graycat.webhooks.deliveries"]["HOLD_MS"])], done.stderr
    assert "redis.connection" in WATCHERS


def request(*commands: tuple[bytes, ...]) -> bytes:
    """Return commands as redis-py sends them."""
    parts = []
    for words in commands:
        parts.append(b"*%d\r\n" % len(words))
        parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


def test_steps_are_named_by_what_they_change() -> None:
    key = f"graycat:task:{TASK}".encode()
    sent = request((b"MULTI",), (b"ZADD", b"unacked_index:llm", b"1", b"tag"), (b"HGET", key, b"state"), (b"EXEC",))
    assert unpack(sent)[1] == [b"ZADD", b"unacked_index:llm", b"1", b"tag"]
    assert name_pipeline(unpack(sent), {}) == "ZADD unacked_index:llm"
    assert name_command([b"HSET", key, b"state", b"running"], {}) == "HSET graycat:task:*"
    scripts = {"aa": "queue.claim", "bb": "queue.position"}
    names = [name_command([b"EVALSHA", digest, b"1", key], scripts) for digest in (b"aa", b"bb")]
    assert names == ["queue.claim", ""]


def arm(folder: Path, **armed: Any) -> Trap:
    Traps(folder).arm("llm", [TASK], **armed)
    return Trap(folder, "llm")


def test_a_trap_without_a_step_writes_the_steps_of_its_work_down(tmp_path: Path) -> None:
    trap = arm(tmp_path)
    assert trap.concerns(b"graycat:task:", TASK.encode())
    assert not trap.concerns(b"graycat:task:" + b"f" * 32)
    for _ in range(2):
        trap.after("queue.publish", trap.before("queue.publish"))
    steps = [("queue.publish", number, side) for number in (1, 2) for side in (BEFORE, AFTER)]
    assert Traps(tmp_path).steps("llm") == steps


def test_a_trap_ends_the_process_at_its_step_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr("chaos.hook.traps.end_here", ended.append)
    trap = arm(tmp_path, step="queue.publish", number=2, side=AFTER)
    assert trap.concerns(TASK.encode())
    trap.after("queue.claim", trap.before("queue.claim"))
    trap.after("queue.publish", trap.before("queue.publish"))
    number = trap.before("queue.publish")
    assert not ended
    trap.after("queue.publish", number)
    assert len(ended) == 1
    # The process in its place finds no trap.
    assert Traps(tmp_path).disarm("llm")
    assert not Trap(tmp_path, "llm").concerns(TASK.encode())


def test_each_window_is_chosen_once_and_none_is_the_same_as_another() -> None:
    known: set[tuple[str, str, int, str]] = set()
    steps = [("BRPOP llm", 1, BEFORE), ("BRPOP llm", 1, AFTER)]
    for number in range(1, 8):
        steps += [("queue.publish", number, BEFORE), ("queue.publish", number, AFTER)]
    windows = choose("llm", "text", steps, known)
    told = [(window.step, window.number, window.side) for window in windows]
    assert told[0] == ("BRPOP llm", 1, AFTER)
    assert told[1:] == [("queue.publish", number, side) for number in (1, 2, 7) for side in (BEFORE, AFTER)]
    # Transport is the same for all work, chunks are not.
    assert {window.step for window in choose("llm", "stream", steps, known)} == {"queue.publish"}


def test_windows_are_divided_evenly_among_stacks() -> None:
    windows = [Window(process, "text", "a", number, AFTER) for process in ("web", "llm") for number in range(5)]
    shares = divide(windows, 2)
    assert sorted(map(len, shares)) == [4, 6]
    assert sorted(map(str, shares[0] + shares[1])) == sorted(map(str, windows))


def test_the_table_says_what_found_a_mutant_and_which_one_survives() -> None:
    found, survived, missed = (
        Verdict("no sweeper", ["lost | gone"]),
        Verdict("lost turn"),
        Verdict("no takeover", ["x"]),
    )
    missed.reached = False
    assert [verdict.killed for verdict in (found, survived, missed)] == [True, False, False]
    rows = describe([found, survived, missed]).splitlines()[2:]
    assert rows[0].endswith("| lost \\| gone |")
    assert rows[1].endswith("| **SURVIVED** |")
    assert rows[2].endswith("| **its fault did not happen** |")
