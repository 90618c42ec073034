"""Every command that asks the broker itself, in every trouble of docs/broker.md: one plain line, and an exit status."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest

from graycat.cli import main
from tests.support.helpers import SECRET, Stopwatch, eventually
from tests.support.processes import Output
from tests.support.troubles import UNUSABLE, UNWRITABLE, FrailValkey, Trouble

#: Seconds until a command has given up.
ENDED_S = 8.0
READING = ("tokens list",)
WRITING = (
    "queue pause llm",
    "queue resume llm",
    "tokens create new",
    "worker pause llm@box",
    "worker resume llm@box",
    "worker drain llm@box",
)


@pytest.fixture
def frail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FrailValkey]:
    """Yield the embedded broker of the commands, which may be brought into trouble."""
    valkey = FrailValkey(tmp_path)
    valkey.begin()
    valkey.client.sadd("graycat:paused", "llm")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAYCAT_HOME", str(tmp_path))
    monkeypatch.setenv("API_TOKENS", f"tests:{SECRET}")
    yield valkey
    valkey.end()


def failed(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that fails; return the one line that it prints."""
    monkeypatch.setattr(sys, "argv", ["graycat", *command.split()])
    watch = Stopwatch()
    with pytest.raises(SystemExit) as caught:
        main()
    printed = capsys.readouterr()
    assert (caught.value.code, printed.out) == (1, ""), (command, caught.value.code, printed)
    assert watch.seconds < ENDED_S, command
    (line,) = printed.err.splitlines()
    return line


@pytest.mark.parametrize("name", ["loading", "busy", "without its primary", "locked", "forbidden", "cluster down"])
def test_a_broker_that_cannot_be_used_makes_no_backup(frail: FrailValkey, name: str, monkeypatch, capsys) -> None:
    with UNUSABLE[name](frail):
        assert failed("backup file", monkeypatch, capsys).startswith("Error: the broker ")
    assert not (frail.settings.home / "file").exists()


@pytest.mark.parametrize("trouble", UNUSABLE.values(), ids=UNUSABLE)
def test_a_broker_that_cannot_be_used_is_one_line(frail: FrailValkey, trouble: Trouble, monkeypatch, capsys) -> None:
    with trouble(frail):
        for command in (*READING, *WRITING, "tokens revoke old"):
            assert "broker" in failed(command, monkeypatch, capsys), command


@pytest.mark.parametrize("trouble", UNWRITABLE.values(), ids=UNWRITABLE)
def test_a_broker_that_cannot_be_written_is_one_line(frail: FrailValkey, trouble: Trouble, monkeypatch, capsys) -> None:
    with trouble(frail):
        for command in WRITING:
            if command == "queue resume llm" and trouble is UNWRITABLE["full"]:
                # What is removed needs no memory.
                continue
            assert "broker" in failed(command, monkeypatch, capsys), command


#: Seconds until a process has noticed, or has come back.
NOTICED_S = 30.0
#: The troubles that no other test brings a running process into.
LASTING = ("full", "disk full", "busy", "loading", "forbidden", "locked")


@pytest.fixture
def processes(frail: FrailValkey, bare_environment: dict[str, str]) -> Iterator[dict[subprocess.Popen[str], Output]]:
    """Yield a beat and a control worker, which have begun, and what they print."""
    env = bare_environment | {"GRAYCAT_HOME": str(frail.settings.home), "API_TOKENS": f"tests:{SECRET}"}
    env |= {"GRAYCAT_SCHEDULE_TICK_S": "0.5"}
    started = {}
    for name in ("beat", "worker control"):
        command = [str(Path(sys.executable).parent / "graycat"), *name.split()]
        process = subprocess.Popen(
            command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=frail.settings.home
        )
        assert process.stdout is not None
        started[process] = Output(process.stdout)
    eventually(lambda: fired_at(frail), 60)
    yield started
    for process, output in started.items():
        process.kill()
        process.wait(30)
        output.close(30)


def fired_at(frail: FrailValkey) -> float:
    """Return when the control worker last did what beat had sent to it: both are well then."""
    return float(frail.client.get("graycat:schedules:fired") or 0)


def grown(outputs: Iterable[Output], lengths: list[int]) -> bool:
    """Return whether each process has printed something since its output had these lengths."""
    return all(len(output.text) > length for output, length in zip(outputs, lengths, strict=True))


def test_beat_and_a_worker_outlive_troubles(frail: FrailValkey, processes: dict[subprocess.Popen[str], Output]) -> None:
    for name in LASTING:
        lengths = [len(output.text) for output in processes.values()]
        with (UNUSABLE | UNWRITABLE)[name](frail):
            eventually(partial(grown, processes.values(), lengths), NOTICED_S)
        frail.begin()
        before = fired_at(frail)
        eventually(partial(is_after, frail, before), NOTICED_S)
    assert [process.poll() for process in processes] == [None, None]


def is_after(frail: FrailValkey, moment: float) -> bool:
    """Return whether both processes have done something since a moment."""
    return fired_at(frail) > moment
