"""``make upgrade FROM=COMMIT``: another version is upgraded to this one under load, process by process, and back again.

Each pass replaces every process but the broker, in the order of docs/operating.md or in the other one, and audits at
its end. Between two steps both versions work side by side. ``FROM`` is a commit of this repository, or a wheel.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import count
from pathlib import Path

from chaos import audit, facts
from chaos.audit import Violation
from chaos.console import say
from chaos.ledger import Caller, Outcome
from chaos.load import Load
from chaos.runner import new_ledger
from chaos.system import System, wait_for
from graycat.broker.keys import UNCOUNTED
from tests.support.processes import eventually
from tests.support.stack import ROOT, START_S, STOP_S

#: What a version consists of.
PACKAGE = ("graycat", "celeryconfig.py")
#: The processes that are replaced, in both orders. The broker stays: whoever stops it has stopped everything.
WORKERS = ("llm", "quick", "sd", "control")
ORDERS = {
    "workers first": (*WORKERS, "beat", "flower", "web"),
    "web first": ("web", "flower", "beat", "control", "quick", "sd", "llm"),
}
#: For versions that cannot work side by side.
AT_ONCE = "all at once"
#: There and back in both orders: each is an upgrade once and a rollback once.
PASSES = (("workers first", "new"), ("web first", "old"), ("web first", "new"), ("workers first", "old"))
#: Seconds that both versions work side by side after each step.
BESIDE_S = 3.0
#: Seconds until all tasks are counted.
COUNTED_S = 30.0
#: While a process is replaced, what it serves is refused, and callers try again.
PERMITTED = "refused "


def unpack(source: str, folder: Path) -> Path:
    """Put the package of a commit or a wheel into a folder, and return that. Raises SystemExit."""
    folder.mkdir()
    if source.endswith(".whl"):
        with zipfile.ZipFile(source) as wheel:
            wheel.extractall(folder)  # noqa: S202 (a wheel of ours)
        return folder
    command = ["git", "archive", source, *PACKAGE]
    archive = subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
    if archive.returncode:
        raise SystemExit(f"{source} is no commit of this repository: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def check_package(folder: Path, env: dict[str, str]) -> None:
    """Check that the processes with this environment run the package of a folder. Raises AssertionError."""
    command = [sys.executable, "-c", "import celeryconfig, graycat; print(graycat.__file__, celeryconfig.__file__)"]
    # Not in the checkout: Python would look for the package there first.
    done = subprocess.run(command, cwd=folder.parent, env=env, check=True, capture_output=True, text=True)
    assert all(path.startswith(str(folder)) for path in done.stdout.split()), done.stdout  # noqa: S101 (a harness)


class Fleet(System):
    """A system whose processes are started one by one, each of them in one of two versions."""

    def __init__(self, home: Path, old: Path) -> None:
        super().__init__(home, {"GRAYCAT_EXPORTER": ""})
        self.folders = {"old": old, "new": ROOT}
        self.versions: dict[str, str] = {}
        self._numbers = count()
        for folder in self.folders.values():
            self._run_from(folder)
            check_package(folder, self.stack.env)

    def _run_from(self, folder: Path) -> None:
        self.stack.set_env({"PYTHONPATH": str(folder)})

    def start(self) -> Fleet:
        """Start all processes of the old version."""
        for name in self.stack.commands:
            self.launch(name, "old")
        eventually(self.is_whole, 2 * START_S, 0.25)
        return self

    def launch(self, name: str, version: str) -> None:
        """Start a process of a version."""
        self._run_from(self.folders[version])
        self.stack.launch(name)
        self.versions[name] = version

    def replace(self, name: str, version: str) -> float:
        """Stop a process, and start it in a version; return the seconds until it works. Raises AssertionError."""
        began = time.monotonic()
        self.stack.send_signal(name, signal.SIGTERM)
        status = self.stack.wait(name, STOP_S)
        if status:
            raise AssertionError(f"{name} of the {self.versions[name]} version ended with status {status}")
        self.launch(name, version)
        eventually(lambda: self._works(name), START_S, 0.1)
        return time.monotonic() - began

    def replace_all(self, version: str) -> float:
        """Stop everything but the broker, and start it in a version; return the seconds until it works."""
        began = time.monotonic()
        for name in ORDERS["web first"]:
            self.stack.send_signal(name, signal.SIGTERM)
        for name in ORDERS["web first"]:
            self.stack.wait(name, STOP_S)
        for name in ORDERS["web first"]:
            self.launch(name, version)
        eventually(self.is_whole, 2 * START_S, 0.25)
        return time.monotonic() - began

    def _works(self, name: str) -> bool:
        if name in WORKERS:
            return bool(self.stack.ready() and self._read_worker(name, "").get("consuming"))
        if name == "web":
            return self.stack.ready()
        return self.stack.alive(name)

    def pids(self) -> dict[str, int]:
        """Return the process id of each part that runs."""
        found = super().pids()
        # There is no supervisor.
        return {name: pid for name, pid in found.items() if name != "up"}

    def is_whole(self) -> bool:
        """Return whether every process runs and would answer."""
        return all(self._works(name) for name in self.stack.commands) and self.quick_answers()

    def graycat(self, *words: str, timeout_s: float = 90.0) -> subprocess.CompletedProcess[str]:
        """Run a command of either version by turns: an operator's terminal may be of either, too."""
        folder = self.folders[("old", "new")[next(self._numbers) % 2]]
        env = self.stack.env | {"PYTHONPATH": str(folder)}
        command = [sys.executable, shutil.which("graycat", path=env["PATH"]) or "graycat", *words]
        return subprocess.run(
            command, cwd=self.home, env=env, check=False, capture_output=True, text=True, timeout=timeout_s
        )


@dataclass
class Pass:
    """How one pass went."""

    order: str
    version: str
    violations: list[Violation] = field(default_factory=list)
    #: Seconds that each process took from the request to stop until its successor worked.
    replaced: dict[str, float] = field(default_factory=dict)
    outcomes: Counter[tuple[Caller, Outcome]] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    longest_gap_s: float = 0.0

    @property
    def unforeseen(self) -> list[Violation]:
        """Return what must not be."""
        return [found for found in self.violations if not found.kind.startswith(PERMITTED)]


def read_usage(fleet: Fleet) -> facts.Usage | None:
    """Return what is counted so far; None if the version of the web server does not count."""
    if fleet.request("GET", "/usage", "operator").status_code == 404:
        return None
    return facts.read_usage(fleet)


def count_since(fleet: Fleet, before: facts.Usage | None, found: facts.Facts) -> facts.Usage | None:
    """Return what was counted since, as soon as that is what the records say; None if a version does not count."""
    if before is None or read_usage(fleet) is None:
        return None
    wait_for(lambda: facts.read_usage(fleet).since(before) == found.recorded, COUNTED_S)
    return facts.read_usage(fleet).since(before)


def run_pass(fleet: Fleet, order: str, version: str) -> Pass:
    """Replace every process under load, and audit."""
    done = Pass(order, version)
    ledger = new_ledger(fleet)
    wait_for(lambda: not fleet.redis().zcard(UNCOUNTED), COUNTED_S)
    usage = read_usage(fleet)
    load = Load(fleet, ledger)
    load.start()
    try:
        time.sleep(BESIDE_S)
        if order == AT_ONCE:
            done.replaced["all"] = fleet.replace_all(version)
            time.sleep(BESIDE_S)
        for name in ORDERS.get(order, ()):
            done.replaced[name] = fleet.replace(name, version)
            time.sleep(BESIDE_S)
    except AssertionError as error:
        done.violations.append(Violation("step", f"{order} to {version}", str(error)[-300:]))
    finally:
        hanging = load.stop()
    audit.settle(fleet, ledger)
    found = facts.collect(fleet, ledger)
    found.hanging, found.troubles = hanging, load.troubles
    # Its processes are others now: there is nothing to compare their memory with.
    found.base, found.base_connections = {}, found.connections
    found.usage = count_since(fleet, usage, found)
    done.violations += audit.check(found)
    done.outcomes = ledger.outcomes()
    done.states = Counter(task.state for task in found.tasks)
    done.longest_gap_s = max((call.gap_s for call in found.calls if call.caller is Caller.GAME), default=0.0)
    return done


def tell(done: Pass) -> None:
    """Print how a pass went."""
    calls: Counter[str] = Counter()
    streams: Counter[str] = Counter()
    for (caller, outcome), number in done.outcomes.items():
        calls[str(outcome)] += number
        if caller is Caller.GAME:
            streams[str(outcome)] += number
    verdict = "FAILED" if done.unforeseen else "ok"
    replaced = {name: round(seconds, 1) for name, seconds in done.replaced.items()}
    say(f"{verdict}: {done.order}, to the {done.version} version")
    say(f"  tasks {dict(done.states)}; calls {dict(calls)}")
    say(f"  streams {dict(streams)}, longest gap {done.longest_gap_s:.1f} s")
    say(f"  replaced in s: {replaced}")
    for violation in done.unforeseen[:20]:
        say(f"  {violation}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do all passes; return the exit status."""
    parser = argparse.ArgumentParser(prog="chaos.upgrade", description=__doc__)
    parser.add_argument("source", metavar="FROM", help="a commit, a tag or a wheel")
    parser.add_argument("--passes", type=int, default=len(PASSES), help="only the first so many")
    parser.add_argument("--at-once", action="store_true", help="stop everything, then start everything; only there")
    parser.add_argument("--keep", action="store_true", help="keep the home, with its logs")
    options = parser.parse_args(arguments)
    home = Path(tempfile.mkdtemp(prefix="upgrade-"))
    old = unpack(options.source, home / "old-version")
    fleet = Fleet(home / "home", old)
    passes: list[Pass] = []
    wanted = ((AT_ONCE, "new"),) if options.at_once else PASSES[: options.passes]
    try:
        fleet.start()
        for order, version in wanted:
            passes.append(run_pass(fleet, order, version))
            tell(passes[-1])
        fleet.stop()
    finally:
        fleet.kill_all()
        (home / "output.log").write_text(fleet.stack.output)
        if options.keep:
            say(f"kept {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    return int(any(done.unforeseen for done in passes))


if __name__ == "__main__":
    raise SystemExit(main())
