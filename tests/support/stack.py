"""Stack: the real thing, started for a test. Every process of the Procfile, in a home and on ports of its own."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import redis
import requests

from graycat.families import BY_NAME
from graycat.metrics.server import BEAT_OFFSET
from graycat.queue.topology import WORKER_KINDS
from graycat.settings import Settings, variable
from graycat.supervision.specs import PROCESSES
from tests.support.ports import free_port_range as free_port_range
from tests.support.ports import free_ports as free_ports
from tests.support.processes import Output, eventually, parent_of

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

_prctl = ctypes.CDLL(None).prctl

#: Seconds that a stack gets to start and to stop: far more than it takes, on a machine that is busy.
START_S, STOP_S = 180.0, 90.0
#: Seconds that any one request may take.
REQUEST_S = 180.0


def free_metrics_port() -> int:
    """Return a port behind which those of the metrics of all workers and of beat are free."""
    return free_port_range(max(BEAT_OFFSET, *(kind.metrics_offset for kind in WORKER_KINDS.values())) + 1)


def end_with_tests() -> None:
    """Have the kernel stop this process when the tests end, however they end (Linux)."""
    _prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class Client:
    """HTTP to one address, with a deadline on everything."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url
        self.session = requests.Session()
        if token:
            self.session.headers["Authorization"] = f"Bearer {token}"

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request; the options are those of requests."""
        return self.session.request(method, self.url + path, **{"timeout": REQUEST_S, **options})

    def get(self, path: str, **options: Any) -> requests.Response:
        """Send a GET."""
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        """Send a POST, with ``body`` as JSON."""
        return self.request("POST", path, json=body, **options)


class Stack:
    """A running graycat. ``separately``: each command of the Procfile by itself, so that one can be killed."""

    #: Cores that an engine with a model computes with; 0: all.
    engine_threads = 0
    #: Seconds that it gets to start.
    start_s = START_S

    def __init__(self, home: Path, *, separately: bool = False, env: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.token = "it-" + os.urandom(12).hex()
        self.port, self.llm_port, self.sd_port = free_ports(3)
        self.url, self.llm_url = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.llm_port}"
        self.sd_url = f"http://127.0.0.1:{self.sd_port}"
        self.settings = Settings(home=home)
        self.commands = {spec.name: spec.command for spec in PROCESSES}
        self._separately = separately
        #: A command that runs its commands: with other rights, or in another network.
        self.prefix: list[str] = []
        # Images cost a stack two processes, Flower one, so only the tests of these turn them on.
        self._own_env = {"RUN_SD": "false", "GRAYCAT_FLOWER": "false", "GRAYCAT_LLM_THREADS": str(self.engine_threads)}
        # An engine beside other tests may be as slow as it likes. Tests of these deadlines set their own.
        self._own_env |= {"GRAYCAT_QUICK_TIMEOUT_S": f"{REQUEST_S:g}", "GRAYCAT_QUEUE_TTL_S": f"{REQUEST_S:g}"}
        # A model that a test has put there.
        for model in (home / "models" / "text").glob("*.gguf"):
            self._own_env["MODEL_URL"] = str(model)
        self._own_env |= env or {}
        if self._own_env.get("GRAYCAT_EXPORTER") != "true":
            self.commands.pop("exporter")
        for flag, names in (("RUN_SD", ("sd",)), ("RUN_LLM", ("llm", "quick")), ("GRAYCAT_FLOWER", ("flower",))):
            if self._own_env.get(flag) == "false":
                self.commands = {name: line for name, line in self.commands.items() if name not in names}
        self._popen: dict[str, subprocess.Popen[str]] = {}
        self._outputs: list[Output] = []
        #: What the newest process of each name prints.
        self.outputs: dict[str, Output] = {}
        self._redis: Any = None
        self._tasks: dict[str, str] = {}
        self._clients: list[Client] = []

    @property
    def env(self) -> dict[str, str]:
        """Return the environment of its processes. Every setting is named, so that no .env file is asked."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("GRAYCAT_")}
        env |= {variable(field.name): "" for field in fields(Settings)}
        env |= {"API_TOKENS": f"tests:{self.token}", "PORT": str(self.port), "LLM_PORT": str(self.llm_port)}
        env |= {"GRAYCAT_HOME": str(self.home), "PATH": f"{BIN}{os.pathsep}{env['PATH']}", "PYTHONUNBUFFERED": "1"}
        return env | {"SD_PORT": str(self.sd_port)} | self._own_env

    def set_env(self, env: Mapping[str, str]) -> None:
        """Add to the environment of what is started from now on."""
        self._own_env |= env

    def start(self) -> Stack:
        """Start everything; return when a model would answer."""
        if not self._separately:
            self.launch("up", "graycat up").wait_for("graycat is ready at", self.start_s)
            return self
        for name in self.commands:
            self.launch(name)
        eventually(self.ready, self.start_s)
        return self

    def launch(self, name: str, command: str = "") -> Output:
        """Start one process, by default the Procfile's of this name."""
        if name in self._popen:
            self._popen[name].wait(STOP_S)
        words = [*self.prefix, *shlex.split(command or self.commands[name])]
        process = subprocess.Popen(
            words, cwd=ROOT, env=self.env, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=end_with_tests,  # noqa: PLW1509 (one C call, looked up before the fork)
        )  # fmt: skip
        assert process.stdout is not None
        self._popen[name] = process
        self._outputs.append(Output(process.stdout))
        self.outputs[name] = self._outputs[-1]
        return self._outputs[-1]

    def restart_dead(self) -> None:
        """Start each separate process that has died; return when a model would answer."""
        for name, process in list(self._popen.items()):
            if process.poll() is not None:
                self.launch(name)
        eventually(self.ready, START_S)

    def ready(self) -> bool:
        """Return whether /ready says that a model would answer."""
        try:
            return requests.get(f"{self.url}/ready", timeout=5).ok
        except (requests.ConnectionError, requests.Timeout):
            # While a process of gunicorn's is started anew, its port is open, and nobody answers.
            return False

    @property
    def output(self) -> str:
        """Return all that its processes have printed, up to now."""
        return "".join(output.text for output in self._outputs)

    def client(self) -> Client:
        """Return a client with its API token."""
        self._clients.append(Client(self.url, self.token))
        return self._clients[-1]

    def engine(self) -> Client:
        """Return a client of the bare engine."""
        client = Client(self.llm_url)
        # llama.cpp closes a connection after five idle seconds, perhaps at the moment of the next request.
        client.session.headers["Connection"] = "close"
        self._clients.append(client)
        return client

    def redis(self) -> Any:
        """Return a client of its broker (a ``redis.Redis`` that decodes)."""
        if self._redis is None:
            self._redis = redis.Redis.from_url(self.settings.broker_url, decode_responses=True, socket_timeout=5)
        return self._redis

    def task_id(self, request_id: str) -> str:
        """Return the id of the task that a request made; empty while there is none."""
        if request_id not in self._tasks:
            keys = list(self.redis().scan_iter("graycat:task:*", count=1000))
            with self.redis().pipeline() as pipe:
                for key in keys:
                    pipe.hget(key, "request_id")
                self._tasks |= zip(pipe.execute(), (key.rpartition(":")[2] for key in keys), strict=True)
        return self._tasks.get(request_id, "")

    def record(self, request_id: str) -> dict[str, str]:
        """Return the record of the task that a request made; empty while there is none."""
        task_id = self.task_id(request_id)
        return self.redis().hgetall(f"graycat:task:{task_id}") if task_id else {}

    def live(self) -> list[dict[str, str]]:
        """Return the records of the tasks that have not ended."""
        found = []
        for family in BY_NAME:
            for name in self.redis().zrange(f"graycat:live.{family}", 0, -1):
                found.append(self.redis().hgetall(f"graycat:task:{name}"))
        return found

    def slots(self) -> list[dict[str, Any]]:
        """Return the engine's slots. Asked often, they keep a plain call from noticing a hang-up."""
        found: list[dict[str, Any]] = requests.get(f"{self.llm_url}/slots", timeout=REQUEST_S).json()
        return found

    def busy(self) -> int:
        """Return how many of the engine's slots are at work."""
        return sum(slot["is_processing"] for slot in self.slots())

    def command_lines(self) -> dict[int, str]:
        """Return the command lines of its living processes by process id, whatever their parents are."""
        marks = (f"GRAYCAT_HOME={self.home}\0", str(self.home), str(self.settings.broker_socket))
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            # The process is gone since it was listed, or belongs to another user.
            with contextlib.suppress(OSError):
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                environ = (folder / "environ").read_bytes().decode(errors="replace") + "\0"
                # Valkey writes over its environment.
                if line and (marks[0] in environ or marks[1] in line or marks[2] in line):
                    found[int(folder.name)] = line
        return found

    def processes(self) -> dict[str, int]:
        """Return the ids of the Procfile's processes by name, and that of ``up``."""
        family = self.command_lines()
        found = {}
        for name, command in {**self.commands, "up": "graycat up"}.items():
            same = [pid for pid, line in family.items() if line.endswith(f"/{command}")]
            # Children that were forked look like their parent.
            first = [pid for pid in same if parent_of(pid) not in same]
            if first:
                found[name] = first[0]
        return found

    def _pid_of(self, words: str) -> int | None:
        return next((pid for pid, line in self.command_lines().items() if words in line), None)

    def engine_pid(self) -> int | None:
        """Return the text engine's process id; None when it does not run."""
        return self._pid_of(" -m graycat.engines.embedded ")

    def server_pid(self) -> int | None:
        """Return the process id of the broker's Valkey; None when it does not run."""
        return self._pid_of("valkey-server")

    def kill(self, name: str) -> None:
        """Kill one process with SIGKILL; returns when it is gone."""
        self.send_signal(name, signal.SIGKILL)

    def send_signal(self, name: str, number: int) -> None:
        """Send one process a signal. After SIGKILL, returns when the process is gone."""
        pid = self._popen[name].pid if name in self._popen else self.processes()[name]
        os.kill(pid, number)
        if number == signal.SIGKILL:
            if name in self._popen:
                self._popen[name].wait(STOP_S)
            eventually(lambda: pid not in self.command_lines(), STOP_S)

    def interrupt(self) -> int:
        """Stop it as Ctrl-C in a terminal does; return the exit status of the last to end."""
        for process in self._popen.values():
            with contextlib.suppress(ProcessLookupError):
                # A terminal signals the whole foreground group; each of ours leads one.
                os.killpg(process.pid, signal.SIGINT)
        return [process.wait(STOP_S) for process in self._popen.values()][-1]

    def alive(self, name: str) -> bool:
        """Return whether a separate process was started and runs."""
        return name in self._popen and self._popen[name].poll() is None

    def wait(self, name: str, timeout_s: float) -> int:
        """Return the exit status of one process, once it has ended by itself."""
        return self._popen[name].wait(timeout_s)

    def stop(self) -> None:
        """Stop it as Ctrl-C does. Raises AssertionError if one of its processes is left."""
        for client in self._clients:
            client.session.close()
        # An exception keeps its response, and so a connection, for which the web process would wait.
        gc.collect()
        if self._redis is not None:
            self._redis.close()
        self.interrupt()
        eventually(lambda: not self.command_lines(), STOP_S)

    def kill_all(self) -> None:
        """Kill all that is left of it, and what starts meanwhile."""

        def none_left() -> bool:
            for pid in self.command_lines():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not self.command_lines()

        eventually(none_left, STOP_S)
        self.close()

    def close(self) -> None:
        """Release the processes, which have ended, and their pipes."""
        for process in self._popen.values():
            process.wait(STOP_S)
        for output in self._outputs:
            output.close(STOP_S)


S = TypeVar("S", bound=Stack)


@contextlib.contextmanager
def running(stack: S) -> Iterator[S]:
    """Start a stack for the block; no process of it is left in any case."""
    try:
        stack.start()
        yield stack
        stack.stop()
    finally:
        stack.kill_all()
