"""A whole graycat under ``graycat up``, with fake engines: its parts by name, and what can be done to them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from chaos import brokers, clocks, disks
from chaos.ledger import Ledger
from graycat.queue.models import TERMINAL_STATES
from tests.fakes.llama_server import ASKED as TEXT_ASKED
from tests.fakes.webui import ASKED as IMAGES_ASKED
from tests.support.boxes import FAKE
from tests.support.images import start_command
from tests.support.processes import eventually, parent_of
from tests.support.stack import BIN, ROOT, START_S, Stack, free_metrics_port, free_ports

if TYPE_CHECKING:
    from chaos.snapshots import Snapshot

#: Names of API tokens, by who calls.
OWNERS = ("game", "rest", "webui", "cron", "operator")
#: Seconds between two tokens, and of a sampling step.
TOKEN_S, STEP_S = 0.04, 0.02
#: Seconds that any request may take: longer than a task may wait in its queue, so that graycat has the last word.
REQUEST_S = 80.0
#: Seconds that a command may take: it starts a Python, on a machine that has much else to do.
COMMAND_S = 90.0
#: Seconds that a task may wait, and run: so short that an audit sees it if one goes on behind its time.
QUEUED_S, RUN_S = 40.0, 20.0
#: Settings of a run in which tasks may wait and run as long as they do by default.
UNHURRIED = {
    "GRAYCAT_QUEUE_TTL_S": "60",
    "GRAYCAT_SD_QUEUE_TTL_S": "600",
    "GRAYCAT_EXEC_TIMEOUT_S": "600",
    "GRAYCAT_SD_EXEC_TIMEOUT_S": "900",
}
#: Seconds that records and artifacts are kept after their end: longer than a fault's audit, shorter than a run.
KEPT_S = 300.0
#: The box of a worker beside those of ``graycat up``; seconds in which the load has work for each of two workers.
SPARE, BUSY_S = "spare", 30.0
#: Parts by the end of their command lines; the web process that serves is a child of the first.
COMMANDS = {
    "up": "graycat up",
    "broker": "graycat broker",
    "web": "graycat web",
    "llm": "graycat worker llm",
    "quick": "graycat worker quick",
    "sd": "graycat worker sd",
    "control": "graycat worker control",
    "beat": "graycat beat",
    "flower": "graycat flower",
}
#: Parts that are no command of graycat, by words of their command lines.
WORDS = {
    "valkey": "valkey-server",
    "text engine": "fakes/llama_server.py",
    "image engine": "tests.fakes.webui",
}
#: Which part starts them: the parent of their shim (graycat/engines/process/shim.py), which is their own parent.
STARTED_BY = {"valkey": "broker", "text engine": "llm", "image engine": "sd"}
#: All of them but the supervisor, and the process of web that serves.
PARTS = (*(name for name in COMMANDS if name != "up"), "web server", *WORDS)


class Skip(Exception):
    """Raised if a fault cannot be done here; its text says what is missing."""


class System:
    """A running graycat, its processes supervised. ``env``: further settings."""

    def __init__(self, home: Path, env: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.tokens = {owner: f"{owner}-{os.urandom(12).hex()}" for owner in OWNERS}
        self.metrics_port = free_metrics_port()
        given = {
            "RUN_SD": "true",
            "GRAYCAT_FLOWER": "true",
            "FLOWER_PORT": str(free_ports(1)[0]),
            "GRAYCAT_METRICS_PORT": str(self.metrics_port),
            "GRAYCAT_ADMINS": "operator",
            "GRAYCAT_QUEUE_TTL_S": str(QUEUED_S),
            "GRAYCAT_SD_QUEUE_TTL_S": str(QUEUED_S),
            "GRAYCAT_EXEC_TIMEOUT_S": str(RUN_S),
            "GRAYCAT_SD_EXEC_TIMEOUT_S": str(RUN_S),
            "GRAYCAT_RECORD_TTL_S": str(KEPT_S),
            "GRAYCAT_ARTIFACT_TTL_S": str(KEPT_S),
            "GRAYCAT_BATCH_TTL_S": str(KEPT_S),
            "API_TOKENS": ",".join(f"{owner}:{secret}" for owner, secret in self.tokens.items()),
            "STARTUP_COMMAND": f"{FAKE} --port {{port}} --interval {TOKEN_S} --counts --tells-prompts",
            "SD_STARTUP_COMMAND": start_command(step_s=STEP_S),
        }
        wanted = dict(env or {})
        own_disks, own_clocks = wanted.pop("CHAOS_DISKS", ""), wanted.pop("CHAOS_CLOCKS", "")
        #: A broker of the harness, if the fault needs one that is no part of graycat.
        self.outside = brokers.open_broker(wanted.pop(brokers.SETTING, ""))
        #: The parts that are to run.
        self.parts = PARTS
        if self.outside is not None:
            given |= self.outside.env
            self.parts = tuple(part for part in PARTS if part not in ("broker", "valkey"))
        if own_disks:
            given |= disks.settings(home)
        self.stack = Stack(home, env=given | wanted)
        self._up = "graycat up"
        if own_disks:
            self._mount()
        if own_clocks:
            self._up = f"graycat up --procfile {clocks.procfile(home)}"
        #: The ledger of the present load.
        self.ledger = Ledger("start")
        #: When the harm of the present fault was done, or ended (monotonic, seconds): recovery is counted from here.
        self.harmed_at = 0.0
        #: What the broker knew when it was copied, if the present fault has it go back to that.
        self.snapshot: Snapshot | None = None
        #: What the present fault has measured itself.
        self.notes: list[str] = []

    @property
    def url(self) -> str:
        """Return the address of its web server."""
        return self.stack.url

    def start(self) -> System:
        """Start it; returns when it would answer."""
        if self.outside is not None:
            self.outside.start()
        self.stack.launch("up", self._up).wait_for("graycat is ready at", START_S)
        self.wait_until_ready()
        return self

    def _mount(self) -> None:
        """Give it small disks. Raises Skip."""
        if not disks.may_mount(self.home):
            raise Skip("this user may not mount a tmpfs in a namespace of its own (unshare -rm)")
        self.stack.prefix = disks.prefix(self.home)

    def stop(self) -> None:
        """Stop it as Ctrl-C does; nothing is left of it in any case."""
        try:
            self.stack.stop()
        finally:
            self.stack.kill_all()

    def kill_all(self) -> None:
        """Kill all that is left of it."""
        self.stack.kill_all()
        if self.outside is not None:
            self.outside.stop()
            self.outside = None

    def harm_done(self) -> None:
        """Note that the harm of a fault was done just now, or has just ended: recovery begins."""
        self.harmed_at = time.monotonic()

    def pids(self) -> dict[str, int]:
        """Return the process id of each part that runs, by name; spare workers are none."""
        lines = self.stack.command_lines()
        parents = {pid: parent_of(pid) for pid in lines}
        found: dict[str, int] = {}
        for name, command in COMMANDS.items():
            # The supervisor's may have options behind it.
            same = [pid for pid, line in lines.items() if f"/{command} " in f"{line} "]
            # Children that were forked look like their parent.
            first = [pid for pid in same if parents[pid] not in same]
            ours = [pid for pid in first if parents[pid] == found.get("up")]
            if ours or first:
                found[name] = max(ours or first)
        servers = [pid for pid, parent in parents.items() if parent == found.get("web")]
        if servers:
            found["web server"] = min(servers)
        for name, words in WORDS.items():
            same = [pid for pid, line in lines.items() if words in line and "shim.py" not in line]
            # A part's engine is the child of its shim, and that is the worker's.
            owned = [pid for pid in same if parents.get(parents[pid]) == found.get(STARTED_BY[name])]
            if owned or same:
                found[name] = min(owned or same)
        return found

    def pid(self, part: str) -> int:
        """Return a part's process id, as soon as it runs. Raises AssertionError if it does not."""
        return eventually(lambda: self.pids().get(part), START_S)  # type: ignore[return-value]

    def signal(self, part: str, number: int) -> int:
        """Send a part a signal; returns its process id."""
        pid = self.pid(part)
        os.kill(pid, number)
        return pid

    def kill(self, *parts: str) -> None:
        """Kill parts at once (SIGKILL); returns when they are gone."""
        pids = [self.pid(part) for part in parts]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.harm_done()
        eventually(lambda: not set(pids) & set(self.stack.command_lines()), START_S)

    def freeze(self, part: str, seconds: float) -> None:
        """Stop a part (SIGSTOP) for some seconds, and let it go on."""
        pid = self.signal(part, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            self.harm_done()

    def is_whole(self) -> bool:
        """Return whether every part runs, is a child of its supervisor, and would answer."""
        pids = self.pids()
        up = pids.get("up")
        if any(part not in pids for part in self.parts):
            return False
        if any(parent_of(pids[part]) != up for part in COMMANDS if part in self.parts):
            return False
        # What is left of a web process that was killed still listens.
        return self.stack.ready() and self.quick_answers()

    def quick_answers(self) -> bool:
        """Return whether the quick lane answers."""
        with contextlib.suppress(requests.RequestException):
            headers = {"X-Request-ID": f"{self.ledger.prefix}-whole-{time.monotonic_ns()}"}
            return self.request("POST", "/tokenize", "game", json={"content": "Hi"}, headers=headers, timeout=5).ok
        return False

    def wait_until_ready(self, timeout_s: float = START_S) -> None:
        """Return when it is whole. Raises AssertionError."""
        eventually(self.is_whole, timeout_s, 0.1)

    def request(self, method: str, path: str, owner: str, **options: Any) -> requests.Response:
        """Send a request with the API token of a caller; the options are those of requests."""
        headers = {"Authorization": f"Bearer {self.tokens[owner]}", **options.pop("headers", {})}
        given: dict[str, Any] = {"timeout": REQUEST_S, "headers": headers, **options}
        return requests.request(method, self.url + path, **given)  # noqa: S113 (given has one)

    def redis(self) -> Any:
        """Return a client of its broker (a ``redis.Redis`` that decodes)."""
        if self.outside is not None:
            return self.outside.client()
        return self.stack.redis()

    def graycat(self, *words: str, timeout_s: float = COMMAND_S) -> subprocess.CompletedProcess[str]:
        """Run a command of graycat's to its end."""
        command = [sys.executable, str(BIN / "graycat"), *words]
        return subprocess.run(
            command, cwd=ROOT, env=self.stack.env, check=False, capture_output=True, text=True, timeout=timeout_s
        )

    def command(self, *words: str) -> None:
        """Run a command of graycat's that must succeed. Raises AssertionError."""
        done = self.graycat(*words)
        if done.returncode:
            raise AssertionError(f"graycat {' '.join(words)} ends with {done.returncode}: {done.stderr}")

    @contextlib.contextmanager
    def spare_worker(self, kind: str, env: Mapping[str, str] | None = None) -> Iterator[None]:
        """Run one more worker for the block, with an engine of its own; then have it end in order."""
        (port,) = free_ports(1)
        own = {"GRAYCAT_BOX": SPARE, "GRAYCAT_METRICS_PORT": "0", f"{kind.upper()}_PORT": str(port)}
        before, prefix = self.stack.env, self.stack.prefix
        self.stack.set_env({**own, **(env or {})})
        self.stack.prefix = []
        try:
            self._spare = self.stack.launch("spare", f"graycat worker {kind}")
        finally:
            restored = {name: before.get(name, "") for name in (*own, *(env or {}))}
            self.stack.set_env(restored)
            self.stack.prefix = prefix
        try:
            eventually(lambda: self._read_worker(kind, SPARE).get("consuming"), START_S)
            yield
        finally:
            self.stack.send_signal("spare", signal.SIGTERM)
            self.stack.wait("spare", START_S)

    def wait_until_busy(self, kind: str, box: str = "") -> None:
        """Return when a worker has tasks in its engine's slots; ``box``: of the spare one (``SPARE``).

        Raises AssertionError if the load has no work for it.
        """
        eventually(lambda: self._read_worker(kind, box).get("busy"), BUSY_S)

    def count_ends(self, outcome: str, box: str = "") -> int:
        """Return how many attempts have ended so: ``stale``: refused, since their task is another attempt's by now.

        ``box``: only those of the spare worker (``SPARE``).
        """
        output = self.stack.output
        if box:
            output = self._spare.text
        return output.count(f" outcome={outcome} ")

    def wait_for_end_of_attempt(self, outcome: str, before: int, box: str = "") -> None:
        """Return when more attempts have ended so than ``before`` (of ``count_ends``). Raises AssertionError."""
        eventually(lambda: self.count_ends(outcome, box) > before, BUSY_S)

    def _read_worker(self, kind: str, box: str) -> dict[str, Any]:
        """Return what the web server knows of a worker; nothing if it knows none."""
        with contextlib.suppress(requests.RequestException, ValueError):
            for row in requests.get(f"{self.url}/ready", timeout=5).json()["workers"]:
                name, _, its_box = row["name"].partition("@")
                if name == kind and (its_box == SPARE) == (box == SPARE):
                    return dict(row)
        return {}

    def wait_for_end(self, name: str, timeout_s: float = 60.0) -> None:
        """Return when a task has ended."""

        def ended() -> bool:
            with contextlib.suppress(requests.RequestException, ValueError):
                answer = self.request("GET", f"/tasks/{name}?wait=5", "rest")
                return answer.ok and answer.json()["state"] in TERMINAL_STATES
            return False

        eventually(ended, timeout_s)

    def inside(self, path: Path) -> Path:
        """Return a path of this system's as others reach it: it may have disks of its own."""
        if not self.stack.prefix:
            return path
        return Path(f"/proc/{self.pid('up')}/root{path}")

    def engine_log(self, engine: str, mark: str, offset: int = 0) -> list[str]:
        """Return the prompts that an engine (``llm``, ``sd``) was asked for, in order, from a place in its log on."""
        path = self.inside(self.home / "log" / f"{engine}-engine.log")
        if not path.exists():
            return []
        with path.open(errors="replace") as log:
            log.seek(offset)
            return [line.removeprefix(mark).strip() for line in log if line.startswith(mark)]

    def asked(self) -> list[str]:
        """Return the prompts that both engines were asked for so far."""
        return self.engine_log("llm", TEXT_ASKED) + self.engine_log("sd", IMAGES_ASKED)


def wait_for(predicate: Callable[[], object], timeout_s: float, every_s: float = 0.1) -> bool:
    """Return whether something became true in time."""
    try:
        eventually(predicate, timeout_s, every_s)
    except AssertionError:
        return False
    return True
