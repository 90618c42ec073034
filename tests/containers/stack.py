"""The stack of docker/, in a copy of the checkout, by the commands of its README."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.containers.engine import Docker
from tests.support.ports import free_ports
from tests.support.processes import eventually
from tests.support.stack import ROOT

#: Seconds that a command of the README gets; the first build installs everything.
COMMAND_S = 1800.0
#: Seconds in which a container that was started again is healthy, and ``/ready`` says 200.
RECOVERY_S = 300.0
PROJECT = "graycat-check"


def copy_checkout(target: Path) -> None:
    """Copy what git knows or would add; an operator's own files (.env) stay out."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


def code_blocks(text: str) -> list[str]:
    """Return the commands of each code block of a README."""
    return re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class ContainerStack:
    """A stack of containers. Its ports, names and images are its own, so that it runs beside another one."""

    def __init__(self, docker: Docker, folder: Path) -> None:
        self._docker = docker
        self.source = folder / "source"
        if self.source.exists():
            shutil.rmtree(self.source)
        copy_checkout(self.source)
        self.folder = self.source / "docker"
        self.port, self.flower_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        self._override = folder / "override.yml"
        self._env = docker.env | {
            "COMPOSE_PROJECT_NAME": PROJECT, "COMPOSE_FILE": f"compose.yml:{self._override}",
            "GRAYCAT_VERSION": "check", "PORT": str(self.port), "FLOWER_PORT": str(self.flower_port),
        }  # fmt: skip
        self._write_override()
        first, calls, update, trouble = code_blocks((self.folder / "README.md").read_text())
        #: The README's commands: the start, the first calls, an update, and what to do in trouble.
        self.first, self.calls, self.update, self.trouble = first, calls, update, trouble
        #: What the edge's README writes into ``.env``, and its commands.
        self.edge_settings, self.edge_commands = code_blocks((self.folder / "edge" / "README.md").read_text())

    def _write_override(self) -> None:
        override: dict[str, Any] = {"networks": {"graycat": {"name": PROJECT}}}
        if self._docker.standins:
            # Containers of such a Docker reach nothing outside.
            override["services"] = {"web": {"build": {"network": "host"}}}
        self._override.write_text(yaml.safe_dump(override))

    def shell(self, commands: str) -> str:
        """Run commands of the README as a reader would, at the first line's place; return what they print.

        Raises RuntimeError with their output if one fails.
        """
        here = self.source if commands.startswith("cd docker\n") else self.folder
        commands = commands.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        commands = commands.replace("-f compose.yml -f edge/", f"-f compose.yml -f {self._override} -f edge/")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands], cwd=here, env=self._env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=COMMAND_S, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{commands}\n{done.stdout[-6000:]}")
        return done.stdout

    def compose(self, *words: str, timeout_s: float = 300.0, check: bool = True) -> str:
        """Run ``docker compose``."""
        done = subprocess.run(
            ["docker", "compose", *words], cwd=self.folder, env=self._env, capture_output=True, text=True,
            timeout=timeout_s, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"docker compose {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def use_edge(self, settings: str) -> None:
        """Add settings to ``.env``, and have Compose know the container of docker/edge from now on."""
        with (self.folder / ".env").open("a") as file:
            file.write(settings)
        self._env["COMPOSE_FILE"] = f"compose.yml:{self._override}:edge/compose.yml"

    @property
    def variables(self) -> dict[str, str]:
        """Return what ``.env`` holds."""
        lines = (self.folder / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    @property
    def token(self) -> str:
        """Return the game's API token."""
        return self.variables["API_TOKENS"].removeprefix("game:")

    def check_variants(self) -> None:
        """Have Compose read what cannot run here: with a GPU, with the journal, with an exporter; and monitoring/."""
        own = ["--file", "compose.yml"]
        gpu = [*own, "--file", "compose.gpu.yml"]
        for options in (gpu, [*own, "--file", "compose.journald.yml"], [*own, "--profile", "exporter"]):
            self._config(self.folder, *options)
        self._config(self.source / "monitoring", "--env-file", ".env.example", "--profile", "gpu")

    def _config(self, folder: Path, *options: str) -> None:
        values = {"MODEL_URL": "hf://OWNER/REPO/FILE.gguf", "COMPOSE_FILE": "compose.yml", "CELERY_BROKER_URL": "x"}
        values |= dict.fromkeys(("GRAFANA_USER", "GRAFANA_PASSWORD", "BROKER_PASSWORD"), "x")
        command = ["docker", "compose", *options, "config", "--quiet"]
        env = self._env | values
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")

    def services(self) -> list[str]:
        """Return the names of the services that run."""
        return sorted(self.compose("ps", "--services").split())

    def state(self, service: str) -> dict[str, Any]:
        """Return the state of a service's container, as ``docker inspect`` has it."""
        container = self.compose("ps", "--all", "--quiet", service).split()[0]
        found: dict[str, Any] = json.loads(self._docker.run("inspect", "--format", "{{json .State}}", container))
        return found

    def kill(self, service: str) -> None:
        """Kill a container's first process, as a lack of memory would: Docker starts it again by itself."""
        os.kill(int(self.state(service)["Pid"]), signal.SIGKILL)

    def is_healthy(self, service: str) -> bool:
        """Return whether Docker calls a service's container healthy."""
        state = self.state(service)
        return bool(state["Running"]) and state["Health"]["Status"] == "healthy"

    def is_ready(self) -> bool:
        """Return whether ``/ready`` says 200."""
        try:
            return requests.get(f"{self.url}/ready", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def flower(self, path: str) -> requests.Response:
        """Ask Flower with its password."""
        password = b64encode(f"graycat:{self.variables['GRAYCAT_FLOWER_PASSWORD']}".encode()).decode()
        headers = {"Authorization": f"Basic {password}"}
        return requests.get(f"http://127.0.0.1:{self.flower_port}{path}", headers=headers, timeout=30)

    def dangling(self) -> list[str]:
        """Return the images of graycat that have no name."""
        label = "label=org.opencontainers.image.title=graycat"
        return self._docker.run("images", "--quiet", "--filter", "dangling=true", "--filter", label).split()

    def remove(self) -> None:
        """Remove the containers, volumes, networks and images of this stack."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "30", check=False)
        self._docker.run("image", "rm", "--force", "graycat:check", check=False)

    def explain(self) -> str:
        """Return what the containers say of themselves, for who looks why something failed."""
        listing = self.compose("ps", "--all", check=False)
        try:
            ready = requests.get(f"{self.url}/ready", timeout=5).text
        except requests.RequestException as error:
            ready = type(error).__name__
        logs = self.compose("logs", "--tail=100", "--no-color", "--no-log-prefix", "llm", check=False)
        return f"{listing}\n/ready: {ready}\n{self.compose('logs', '--tail=15', '--no-color', check=False)}\n{logs}"


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = RECOVERY_S) -> float:
    """Return the seconds until a condition holds. Raises RuntimeError naming it if it does not in time."""
    begin = time.monotonic()
    try:
        eventually(condition, timeout_s, every_s=0.5)
    except AssertionError:
        raise RuntimeError(f"not in {timeout_s:.0f} s: {what}") from None
    return time.monotonic() - begin
